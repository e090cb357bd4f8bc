"""The manifest: which videos become samples, in which shard, with which weight (paper, Sections 3.1.1 and 4.1.1).

Rows are in order of video_id. Ids are hashes, so neighbours are a random mixture of labels, and no shuffle is needed:
training takes its own order. A part of the manifest begins inside one part of the candidates, whose worker writes it;
where it ends in a later one, the worker reads that one too.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from dataset_builder import sampling
from dataset_builder.choose import Choice, Stages
from dataset_builder.label_space import LabelledVideos, concat_videos
from pipeline import artifacts, execute, progress, storage
from pipeline.artifacts import DatasetFiles
from pipeline.config import ExecutionConfig


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says; it is written after the last part, so without it there is no manifest, however many parts."""

    num_parts: int
    num_videos: int
    label_counts: list[int]
    """Videos of each label of the label space."""
    account_counts: list[int] | None
    """Videos by label of account, where a duration was asked for: the numbers that are equal in short, long, long_center."""
    counts: Stages


@dataclass(frozen=True)
class WriteJob:
    files: DatasetFiles
    choice: Choice
    bounds: np.ndarray
    """int64 [parts of the manifest + 1]: rows before each, and in all."""
    square_root: bool


def manifest_part(files: DatasetFiles, index: int) -> str:
    return storage.join(files.manifest, f"part-{index:06d}.parquet")


def read_manifest(files: DatasetFiles) -> Manifest | None:
    """None when it is not whole."""
    return Manifest(**storage.read_json(files.manifest_marker)) if storage.exists(files.manifest_marker) else None


def equal_parts(num_rows: int, rows_per_part: int) -> np.ndarray:
    """Bounds (int64 [parts + 1]) of parts of `rows_per_part` rows, the last one shorter."""
    return np.append(np.arange(0, num_rows, rows_per_part), num_rows)


def write_chosen(
    files: DatasetFiles,
    choice: Choice,
    stages: Stages,
    bounds: np.ndarray,
    square_root: bool,
    execution: ExecutionConfig,
) -> tuple[Manifest, list[float]]:
    """Write manifest/part-*.parquet of the chosen videos, each where it is read, and then manifest.json.

    Args:
        bounds: int64 [parts + 1], see `WriteJob`.

    Returns: the manifest, and the seconds of video in the parts that begin in each part of the candidates.
    """
    job = WriteJob(files, choice, bounds, square_root)
    parts = range(choice.eligible.candidates.num_parts)
    durations_s = execute.run_parts(write_rows, parts, execution, desc="manifest", shared=job)
    accounts = choice.account_counts
    manifest = Manifest(
        num_parts=len(bounds) - 1,
        num_videos=len(choice),
        label_counts=choice.label_counts.tolist(),
        account_counts=None if accounts is None else accounts.tolist(),
        counts=stages,
    )
    storage.write_json(files.manifest_marker, asdict(manifest))
    return manifest, durations_s


def write_manifest(files: DatasetFiles, videos: LabelledVideos, weights: np.ndarray, *, rows_per_part: int) -> int:
    """Write videos that are in memory, in their order (weights: float32 [N]); returns the number of parts."""
    bounds = equal_parts(len(videos), rows_per_part)
    for index, (start, end) in enumerate(itertools.pairwise(bounds)):
        write_part(files, index, videos.slice(start, end), weights[start:end])
    return len(bounds) - 1


def say_stages(stages: Stages) -> None:
    for stage, counts in stages.items():
        progress.say_counts(stage.replace("_", " "), counts["in"], counts["kept"], counts["dropped"])


def write_rows(part: int, job: WriteJob) -> float:
    """Write the parts of the manifest that begin in this part of the candidates; returns their seconds of video."""
    first, last = np.searchsorted(job.bounds[:-1], job.choice.ends[part : part + 2])
    if first == last:
        return 0.0
    videos = _rows(part, job.choice, job.bounds[first], job.bounds[last])
    weights = video_weights(videos, job.choice.label_counts, job.square_root)
    bounds = job.bounds[first : last + 1] - job.bounds[first]
    for index, (start, end) in enumerate(itertools.pairwise(bounds), first):
        write_part(job.files, index, videos.slice(start, end), weights[start:end])
    return float(np.nansum(videos.durations_s, dtype=np.float64))


def _rows(part: int, choice: Choice, start: int, end: int) -> LabelledVideos:
    """Rows `start` … `end` − 1 of the manifest; the first of them is in `part`."""
    pieces = []
    for number in range(part, len(choice.ends) - 1):
        begins, ends = choice.ends[number : number + 2]
        if begins >= end:
            break
        if ends > begins:
            pieces.append(choice.read(number).slice(max(start, begins) - begins, min(end, ends) - begins))
    return concat_videos(pieces)


def write_part(files: DatasetFiles, index: int, videos: LabelledVideos, weights: np.ndarray) -> None:
    label_ids = pa.ListArray.from_arrays(pa.array(videos.offsets.astype(np.int32)), pa.array(videos.label_ids))
    table = videos.table.append_column("label_ids", label_ids).append_column("weight", pa.array(weights))
    if "group" not in table.column_names:
        table = table.append_column("group", pa.nulls(len(videos), pa.string()))
    storage.write_parquet(manifest_part(files, index), table, artifacts.MANIFEST)


def video_weights(videos: LabelledVideos, label_counts: np.ndarray, square_root: bool) -> np.ndarray:
    """float32 [N]: slots of each video in one virtual pass; 1 without square-root sampling.

    Args:
        label_counts: int64 [K], videos of each label in the whole dataset.
    """
    if not square_root:
        return np.ones(len(videos), dtype=np.float32)
    return sampling.square_root_weights(videos.label_ids, videos.offsets, label_counts)
