"""What the product's loader gives: clips per second from synthetic shards on this machine, nothing being trained."""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import pyarrow as pa

from pipeline import artifacts, storage
from pipeline.config import ClipConfig, StorageConfig
from pipeline.video import Encoder
from pretrain.data import MicrobatchSampler, TrainingClips, microbatches
from pretrain.samples import open_samples
from pretrain.virtual_workers import VirtualWorkers

HEIGHT, WIDTH, FPS, SECONDS = 128, 170, 30.0, 5
BATCH = 16


def clips_per_s(cores: int, videos: int, seconds: float) -> dict[str, float | int]:
    """Clips of 8 frames per second with a loader process per core (0: in this process), from videos in the stored form."""
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(folder, videos)
        samples = open_samples(artifacts.dataset_files(folder, "synthetic"), "")
        workers = VirtualWorkers(1, BATCH)
        batches = microbatches(
            TrainingClips(samples, ClipConfig(), seed=0), MicrobatchSampler(workers, 0, 10**9), loader_workers=cores
        )
        for _ in range(2 * cores + 1):  # all processes have begun
            next(batches)
        began, count = time.perf_counter(), 0
        while count == 0 or time.perf_counter() - began < seconds:
            count += len(next(batches).labels)
        elapsed = time.perf_counter() - began
        del batches  # ends the loader's processes before their files go
    return {"clips_per_s": round(count / elapsed, 1), "loader_workers": cores, "videos": videos}


def write_dataset(root: str, num_videos: int) -> None:
    """One shard of `num_videos` videos as a build would store them."""
    files = artifacts.dataset_files(root, "synthetic")
    path = Path(files.shard(0))
    path.parent.mkdir(parents=True)
    rows = []
    with tarfile.open(f"{path}.tar", "w") as tar:
        for number in range(num_videos):
            data = encode(number)
            member = tarfile.TarInfo(f"v{number:04d}.mp4")
            member.size = len(data)
            place = {"video_offset": tar.offset + tarfile.BLOCKSIZE, "video_size": len(data)}
            tar.addfile(member, io.BytesIO(data))
            shape = {"num_frames": int(FPS * SECONDS), "fps": FPS, "width": WIDTH, "height": HEIGHT}
            rows.append({"key": f"v{number:04d}", "label_ids": [0], "status": "ok", **place, **shape})
    storage.write_parquet(f"{path}.parquet", pa.Table.from_pylist(rows, artifacts.SHARD_INDEX), artifacts.SHARD_INDEX)
    manifest = [{"video_id": row["key"], "uri": "", "label_ids": [0], "weight": 1.0} for row in rows]
    table = pa.Table.from_pylist(manifest, artifacts.MANIFEST)
    storage.write_parquet(f"{files.manifest}/part-00000.parquet", table, artifacts.MANIFEST)
    labels = [{"id": 0, "name": "label", "num_videos": num_videos}]
    storage.write_json(
        files.marker, {"digest": "0" * 16, "shards": [{"path": f"shards/{path.name}"}], "labels": labels}
    )


def encode(number: int) -> bytes:
    """A coarse picture that drifts, with grain: about as hard to decode as a stored upload."""
    rng = np.random.default_rng(number)
    scene = np.kron(rng.integers(30, 220, (24, 40, 3)), np.ones((16, 16, 1), int))
    settings = StorageConfig()
    encoder = Encoder(HEIGHT, WIDTH, FPS, gop=settings.gop, crf=settings.crf, preset=settings.preset)
    for frame in range(int(FPS * SECONDS)):
        window = scene[frame : frame + HEIGHT, 2 * frame % 300 :][:, :WIDTH] + rng.normal(0, 4, (HEIGHT, WIDTH, 1))
        picture = av.VideoFrame.from_ndarray(window.clip(0, 255).astype(np.uint8), format="rgb24")
        encoder.write(picture.reformat(format="yuv420p"))
    return encoder.finish()
