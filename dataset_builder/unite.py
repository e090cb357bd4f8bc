"""Round 2 of matching: the spilled rows of one range of video_id → one row per video, its posts united."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset_builder import spill
from pipeline import artifacts, storage


@dataclass(frozen=True)
class UniteJob:
    labels: pa.Array
    """string [K]."""
    spill: str
    matches: str
    num_parts: int
    num_buckets: int


def unite_bucket(bucket: int, job: UniteJob) -> dict[str, int]:
    """Write matches/part-{bucket}: one row per video, labels and posts of all its posts united, sorted by video_id.

    Then its counts, with those of each label (`read_label_counts`); a bucket that has counts is done.
    """
    if storage.exists(_counts_path(bucket, job)):
        return storage.read_json(_counts_path(bucket, job))["counts"]
    paths = [spill.path(job.spill, part) for part in range(job.num_parts)]
    table = spill.read_bucket(paths, bucket, job.num_buckets).sort_by(
        [("video_id", "ascending"), ("post_id", "ascending"), ("duration_s", "ascending")]
    )
    matches, label_ids, repeated = _unite(table, job.labels)
    storage.write_parquet(storage.join(job.matches, f"part-{bucket:05d}.parquet"), matches, artifacts.MATCHES)
    counts = {"videos": matches.num_rows, "duplicate_post_id": repeated}
    used, videos = np.unique(label_ids, return_counts=True)
    per_label = {"label_ids": used.tolist(), "videos": videos.tolist()}
    storage.write_json(_counts_path(bucket, job), {"counts": counts, **per_label})
    return counts


def _counts_path(bucket: int, job: UniteJob) -> str:
    return storage.join(job.spill, f"united-{bucket:05d}.json")


def read_label_counts(job: UniteJob) -> np.ndarray:
    """Videos of each label: int64 [K]."""
    total = np.zeros(len(job.labels), np.int64)
    for bucket in range(job.num_buckets):
        content = storage.read_json(_counts_path(bucket, job))
        total[np.array(content["label_ids"], np.int64)] += np.array(content["videos"], np.int64)
    return total


def _unite(table: pa.Table, labels: pa.Array) -> tuple[pa.Table, np.ndarray, int]:
    """(rows as `MATCHES`, their label numbers, posts that repeat another of the same video) of rows in order of video_id."""
    videos, starts = _runs(table["video_id"])
    video_of_row = np.repeat(np.arange(len(videos)), np.diff(np.append(starts, table.num_rows)))
    lists = table["label_ids"].combine_chunks()
    label_rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    pairs = np.unique(video_of_row[label_rows] * len(labels) + pc.list_flatten(lists).to_numpy(zero_copy_only=False))
    label_ids = pairs % len(labels)
    posts, repeated = _distinct_posts(table["post_id"], video_of_row)
    united = {
        "video_id": videos,
        "uri": table["uri"].take(pa.array(starts)),
        "duration_s": _longest(table["duration_s"], starts),
        "labels": _lists(pairs // len(labels), labels.take(pa.array(label_ids)), len(videos)),
        "post_ids": _lists(video_of_row[~repeated], posts, len(videos)),
    }
    return pa.table(united, schema=artifacts.MATCHES), label_ids, int(repeated.sum())


def _runs(column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """(distinct values, row where each begins) of a sorted column."""
    codes = column.combine_chunks().dictionary_encode()
    starts = np.flatnonzero(np.diff(codes.indices.to_numpy(zero_copy_only=False), prepend=-1))
    return codes.dictionary, starts


def _distinct_posts(post_ids: pa.ChunkedArray, video_of_row: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    """Posts without repeats, and bool [rows] of the repeats: the same post_id on the same video (sorted, hence adjacent).

    One post with several videos stands in several rows of the input and is no repeat; posts without an id are kept.
    """
    codes = post_ids.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    repeated = np.zeros(len(codes), dtype=bool)
    repeated[1:] = (codes[1:] == codes[:-1]) & (video_of_row[1:] == video_of_row[:-1]) & (codes[1:] >= 0)
    return post_ids.combine_chunks().fill_null("").filter(pa.array(~repeated)), repeated


def _longest(durations: pa.ChunkedArray, starts: np.ndarray) -> pa.Array:
    """Longest stated duration of each run of rows; null where no row states one."""
    if not len(starts):
        return pa.array([], pa.float32())
    longest = np.fmax.reduceat(durations.fill_null(float("nan")).to_numpy(), starts)
    return pa.array(longest, pa.float32(), mask=np.isnan(longest))


def _lists(rows: np.ndarray, values: pa.Array, num_rows: int) -> pa.Array:
    offsets = np.searchsorted(rows, np.arange(num_rows + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)
