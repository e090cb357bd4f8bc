"""A target whose labels are colours, written the way `artifacts` describes it: real H.264 in plain tars."""

import io
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
import torch

import pretrain.distributed
from pipeline import artifacts, storage
from pipeline.config import ClipConfig, ModelConfig, TransferConfig
from pipeline.video import Encoder

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 220), "yellow": (220, 200, 40)}
GARBAGE = "garbage"  # stored, but not a video
QUARANTINED = "quarantined"  # refused when the target was made


def coloured_frames(label: int, number: int) -> np.ndarray:
    """6 to 15 frames, uint8 [T, 40, 48, 3]: the label's colour under noise that changes from frame to frame."""
    rng = np.random.default_rng((label, number))
    noise = np.stack(
        [np.kron(rng.integers(-40, 40, (5, 6, 3)), np.ones((8, 8, 1), int)) for _ in range(6 + number % 10)]
    )
    return np.clip(np.array(list(COLOURS.values())[label]) + noise, 0, 255).astype(np.uint8)


def encoded(frames_THWC: np.ndarray) -> bytes:
    """The stored form of a video, at 16 frames a second."""
    encoder = Encoder(*frames_THWC.shape[1:3], 16.0)
    for pixels in frames_THWC:
        encoder.write(av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p"))
    return encoder.finish()


def add_video(tar: tarfile.TarFile, key: str, label: int, frames_THWC: np.ndarray, fault: str | None) -> dict:
    """Append a video to a tar; its row of the shard index."""
    row = {"key": key, "label_ids": [label], "status": "ok"}
    if fault == QUARANTINED:
        return {**row, "status": "quarantined", "reason": "not_a_video"}
    data = b"\0" * 500 if fault == GARBAGE else encoded(frames_THWC)
    member = tarfile.TarInfo(f"{key}.mp4")
    member.size = len(data)
    place = {"video_offset": tar.offset + 512, "video_size": len(data), "video_crc32": zlib.crc32(data)}
    tar.addfile(member, io.BytesIO(data))
    about = {"num_frames": len(frames_THWC), "height": frames_THWC.shape[1], "width": frames_THWC.shape[2]}
    return {**row, **place, **about, "fps": 16.0, "duration_s": len(frames_THWC) / 16}


def write_split(
    root: Path,
    part: str,
    per_label: int,
    faults: dict[int, str] | None = None,
    render: Callable[[int, int], np.ndarray] = coloured_frames,
) -> None:
    """`per_label` videos of each colour in one shard; `faults` by running number, `render` from label and number."""
    files = artifacts.target_files(str(root), "colours", part)
    shard = Path(files.shard(0))
    shard.parent.mkdir(parents=True)
    with tarfile.open(f"{shard}.tar", "w") as tar:
        rows = [
            add_video(
                tar,
                f"{part}{n:03d}",
                n % len(COLOURS),
                render(n % len(COLOURS), n + (1000 if part == "test" else 0)),
                (faults or {}).get(n),
            )
            for n in range(per_label * len(COLOURS))
        ]
    storage.write_parquet(f"{shard}.parquet", pa.Table.from_pylist(rows, artifacts.SHARD_INDEX))
    manifest = [{"video_id": row["key"], "uri": "", "label_ids": row["label_ids"], "weight": 1.0} for row in rows]
    storage.write_parquet(f"{files.manifest}/part-00000.parquet", pa.Table.from_pylist(manifest, artifacts.MANIFEST))
    labels = [{"id": i, "name": name, "num_videos": per_label} for i, name in enumerate(COLOURS)]
    storage.write_json(files.label_space, {"name": files.name, "kind": "kinetics", "labels": labels})
    marker = {"digest": part * 3, "shards": [{"path": f"shards/{shard.name}"}], "labels": labels}
    storage.write_json(files.marker, marker)


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    """Threads of small operations wait for each other where tests share the cores; one is faster."""
    monkeypatch.setattr(pretrain.distributed, "available_cores", lambda: 1)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory) -> Path:
    """Target `colours`: 16 training videos; 23 test videos, of which one is garbage, and one more is quarantined."""
    folder = tmp_path_factory.mktemp("artefacts")
    write_split(folder, "train", 4)
    write_split(folder, "test", 6, {3: GARBAGE, 8: QUARANTINED})
    return folder


@pytest.fixture
def root(artefacts, tmp_path) -> Path:
    """A copy of the target for one test."""
    return shutil.copytree(artefacts, tmp_path / "root")


@pytest.fixture
def config(root) -> TransferConfig:
    """From random weights of the smallest network, on 4-frame clips of 32×32."""
    return TransferConfig(
        root=str(root),
        run="scratch",
        target="colours",
        model=ModelConfig("r2plus1d_10", 0.125),
        clip=ClipConfig(length=4, stride=2, size_hw=(36, 40), crop_px=32),
        num_clips=3,
        l2=(1e-2, 1e-1),
        held_out=0.25,
        learning_rates=(0.01, 0.02),
        passes=30,
        warmup_passes=4,
        decay_passes=(15,),
        batch=8,
        batch_per_gpu=8,
        cache_mb=64,
        seed=1,
    )
