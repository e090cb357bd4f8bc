"""The manifest: which videos become samples, in which shard, with which weight (paper, Sections 3.1.1 and 4.1.1)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from dataset_builder import sampling
from dataset_builder.label_space import LabelledVideos
from pipeline import artifacts, progress, storage
from pipeline.artifacts import DatasetFiles
from pipeline.config import ConfigError, SamplingConfig


def choose_videos(videos: LabelledVideos, config: SamplingConfig) -> LabelledVideos:
    """The `num_videos` videos of the dataset by the configured strategy; all of them, and a line that says so, if fewer."""
    wanted = len(videos) if config.num_videos is None else config.num_videos
    if wanted < 1:
        raise ConfigError(f"--sampling.num-videos must be at least 1, not {wanted}")
    if wanted > len(videos):
        progress.say(f"sampling: {wanted:,} videos asked for, only {len(videos):,} qualify: all of them are kept")
    if wanted >= len(videos):
        return videos
    if config.strategy == "random":
        return videos.take(sampling.random_subset(videos.ids, wanted, config.seed))
    chosen = sampling.tail_preserving_subset(videos.ids, videos.label_ids, videos.offsets, wanted, config.seed)
    return videos.take(chosen)


def video_weights(videos: LabelledVideos, num_labels: int, square_root: bool) -> np.ndarray:
    """float32 [N]: slots of each video in one virtual pass; 1 without square-root sampling."""
    if not square_root:
        return np.ones(len(videos), dtype=np.float32)
    counts = sampling.label_counts(videos.label_ids, num_labels)
    return sampling.square_root_weights(videos.label_ids, videos.offsets, counts)


def manifest_part(files: DatasetFiles, index: int) -> str:
    return storage.join(files.manifest, f"part-{index:06d}.parquet")


def write_manifest(
    files: DatasetFiles, videos: LabelledVideos, weights: np.ndarray, *, seed: int, rows_per_part: int
) -> int:
    """Write manifest/part-*.parquet, rows in order of their hash rank; part i lists what shard i attempts.

    Returns the number of parts.
    """
    if rows_per_part < 1:
        raise ConfigError(f"--storage.samples-per-shard must be at least 1, not {rows_per_part}")
    order = sampling.rank_order(videos.ids, seed)
    starts = range(0, len(order), rows_per_part)
    for index, start in enumerate(starts):
        rows = order[start : start + rows_per_part]
        part = videos.take(rows)
        label_ids = pa.ListArray.from_arrays(pa.array(part.offsets.astype(np.int32)), pa.array(part.label_ids))
        table = part.table.append_column("label_ids", label_ids).append_column("weight", pa.array(weights[rows]))
        storage.write_parquet(manifest_part(files, index), table, artifacts.MANIFEST)
    return len(starts)
