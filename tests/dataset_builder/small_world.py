"""A few tiny videos and the posts that show them."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa

from dataset_builder.label_space import VIDEOS, labelled_videos
from dataset_builder.manifest import write_manifest
from dataset_builder.match import video_id
from dataset_builder.shard import ShardJob
from pipeline import artifacts, video
from pipeline.config import BuildConfig, ExecutionConfig, SamplingConfig, SourceConfig, StorageConfig

SEED_LABELS = ["catching a fish", "burning candle", "surfing"]
TAGS = ["CatchFish", "candleburning", "surf"]
HERE = ExecutionConfig(backend="process", num_workers=1)
LABEL_NAMES = ["run", "walk"]
TINY_STORAGE = StorageConfig(samples_per_shard=4, short_side_px=32)


def write_mp4(
    path: Path, *, seed: int = 0, num_frames: int = 12, fps: float = 12, height: int = 48, width: int = 64
) -> None:
    """Blocks of random colour that move to the right, 8 px a frame; every seed is another picture."""
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    picture = np.kron(blocks, np.ones((8, 8, 1), np.uint8))
    encoder = video.Encoder(height, width, fps)
    for i in range(num_frames):
        frame = av.VideoFrame.from_ndarray(np.roll(picture, 8 * i, axis=1), format="rgb24")
        encoder.write(frame.reformat(format="yuv420p"))
    path.write_bytes(encoder.finish())


def write_posts(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_world(folder: Path, num_videos: int) -> Path:
    """Videos 0.mp4, 1.mp4, ... of which video i shows label i % 3; posts.jsonl and seeds.txt beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(num_videos):
        write_mp4(folder / f"{i}.mp4", seed=i)
    rows = [{"post_id": f"p{i}", "video_uri": f"{i}.mp4", "hashtags": [TAGS[i % 3], "love"]} for i in range(num_videos)]
    write_posts(folder / "posts.jsonl", rows)
    (folder / "seeds.txt").write_text("\n".join(SEED_LABELS))
    return folder


def build_config(world: Path, root: Path, dataset: str = "d", **changes) -> BuildConfig:
    config = BuildConfig(
        root=str(root),
        dataset=dataset,
        source=SourceConfig(posts=str(world / "posts.jsonl"), seed_labels=str(world / "seeds.txt")),
        sampling=SamplingConfig(min_videos=1),
        storage=TINY_STORAGE,
        execution=HERE,
    )
    return replace(config, **changes)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def make_job(folder: Path | str, uris: list[str], storage: StorageConfig = TINY_STORAGE, **changes: Any) -> ShardJob:
    """A dataset of one shard whose manifest lists `uris`, the first of which has both labels."""
    files = artifacts.DatasetFiles(str(folder), "d")
    nulls = pa.nulls(len(uris), pa.float32())
    table = pa.table([pa.array([video_id(uri) for uri in uris]), pa.array(uris), nulls, nulls], schema=VIDEOS)
    lists = [LABEL_NAMES if i == 0 else [LABEL_NAMES[i % 2]] for i in range(len(uris))]
    videos = labelled_videos(table, pa.array(lists, pa.list_(pa.string())), LABEL_NAMES)
    write_manifest(files, videos, np.ones(len(uris), np.float32), rows_per_part=1000)
    return ShardJob(files, storage=storage, **{"label_names": LABEL_NAMES, "execution": HERE, **changes})
