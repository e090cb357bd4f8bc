"""A small dataset artefact, written the way `artifacts` describes it: random pictures, real H.264, plain tars."""

import dataclasses
import functools
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline import artifacts, storage
from pipeline.config import ClipConfig, ModelConfig, PretrainConfig, RecipeConfig
from pipeline.video import Encoder
from pretrain import distributed

NUM_LABELS = 3
PER_SHARD = 10


@functools.cache
def encode(number: int, num_frames: int) -> bytes:
    """A 48×40 video of coarse noise, another for each number."""
    encoder = Encoder(40, 48, 16.0)
    rng = np.random.default_rng(number)
    for _ in range(num_frames):
        pixels = np.kron(rng.integers(0, 256, (5, 6, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
        encoder.write(av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p"))
    return encoder.finish()


def write_dataset(root: Path, name: str, num_videos: int = 24, weights: list[float] | None = None) -> None:
    """`num_videos` videos of 6 to 15 frames in shards of ten; video 5 is in no shard, and some have two labels."""
    files = artifacts.dataset_files(str(root), name)
    rows = []
    shards = []
    for first in range(0, num_videos, PER_SHARD):
        path = files.shard(first // PER_SHARD)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        rows_of_shard = []
        with tarfile.open(f"{path}.tar", "w") as tar:
            for number in range(first, min(first + PER_SHARD, num_videos)):
                rows_of_shard.append(add_video(tar, number, f"v{number:04d}"))
        index = pa.Table.from_pylist(rows_of_shard, artifacts.SHARD_INDEX)
        storage.write_parquet(f"{path}.parquet", index, artifacts.SHARD_INDEX)
        shards.append({"path": f"shards/{Path(path).name}"})
        rows += rows_of_shard
    manifest = [
        {"video_id": row["key"], "uri": "", "label_ids": row["label_ids"], "weight": weights[i] if weights else 1.0}
        for i, row in enumerate(rows)
    ]
    storage.write_parquet(f"{files.manifest}/part-00000.parquet", pa.Table.from_pylist(manifest, artifacts.MANIFEST))
    labels = [{"id": i, "name": f"label {i}", "num_videos": 1} for i in range(NUM_LABELS)]
    storage.write_json(files.marker, {"digest": "d" * 16, "shards": shards, "labels": labels})


def add_video(tar: tarfile.TarFile, number: int, key: str) -> dict:
    """Append a video to a tar; its row of the shard index."""
    num_frames = 6 + number % 10
    row = {"key": key, "label_ids": [number % NUM_LABELS] + ([2] if number % 6 == 0 else []), "status": "ok"}
    if number == 5:
        return {**row, "status": "quarantined", "reason": "decode_error"}
    data = encode(number, num_frames)
    member = tarfile.TarInfo(f"{key}.mp4")
    member.size = len(data)
    offset = tar.offset + 512
    tar.addfile(member, io.BytesIO(data))
    return {
        **row,
        "video_offset": offset,
        "video_size": len(data),
        "video_crc32": zlib.crc32(data),
        "num_frames": num_frames,
        "fps": 16.0,
        "width": 48,
        "height": 40,
        "duration_s": num_frames / 16,
    }


@pytest.fixture(scope="session")
def make_dataset() -> Callable:
    """`write_dataset`, for tests that want a dataset of their own."""
    return write_dataset


@pytest.fixture(scope="session")
def mp4() -> Callable[[int, int], bytes]:
    """`encode`: the bytes that each video of a dataset must have."""
    return encode


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    """A folder of artefacts with the dataset `tiny` in it."""
    folder = tmp_path_factory.mktemp("artefacts")
    write_dataset(folder, "tiny")
    return folder


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks spend their time waiting when threads share them, and float sums depend on how they do."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "available_cores", lambda: 1)
        yield
    torch.set_num_threads(num_threads)


@pytest.fixture
def config(tiny_config) -> PretrainConfig:
    return tiny_config


@pytest.fixture(scope="session")
def tiny_config(root) -> PretrainConfig:
    """Four steps of two virtual workers of four clips: 4 frames of 32×32, the smallest network."""
    return PretrainConfig(
        root=str(root),
        dataset="tiny",
        model=ModelConfig("r2plus1d_10", 0.125),
        clip=ClipConfig(length=4, stride=2, size_hw=(36, 40), crop_px=32),
        recipe=RecipeConfig(
            total_clips=32, virtual_workers=2, batch_per_gpu=4, lr_per_gpu=0.02, warmup_clips=8, num_decays=1, seed=3
        ),
        checkpoint_clips=16,
        tensorboard=False,
    )


@pytest.fixture
def named(config):
    """`named("run", total_clips=16)`: the config for another run, with changes to its recipe."""

    def make(run: str, **recipe) -> PretrainConfig:
        return dataclasses.replace(config, run=run, recipe=dataclasses.replace(config.recipe, **recipe))

    return make
