"""Posts × seed labels → matches: which videos carry a relevant hashtag, and for which labels (paper, Section 3.1).

Two rounds over parts: each part of the posts is matched against one table of hashtags and spilled by buckets of video_id;
then each bucket unites the posts that show the same video. Both rounds are Arrow and NumPy over whole batches.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataset_builder import post_rows
from dataset_builder.posts import PostsPart, file_size, list_posts, plan_parts, posts_digest, read_part
from dataset_builder.seeds import seed_labels
from dataset_builder.tag_table import TagTable, find_labels, make_tag_table
from pipeline import artifacts, execute, progress, storage
from pipeline.artifacts import SourceFiles
from pipeline.config import BuildConfig, ConfigError, SourceConfig

BUCKET_BYTES = 1 << 30  # of posts, per bucket of matches
MAX_LISTED = 1000  # shared hashtags named in source.json; the table holds them all
ID_DIGITS = 20
_SPILL = pa.schema(
    [
        ("bucket", pa.int32()),
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("duration_s", pa.float32()),
        ("post_id", pa.string()),
        ("label_ids", pa.list_(pa.int32())),
    ]
)


def video_id(uri: str) -> str:
    """Identity of a video: the first 20 hex digits of the SHA-256 of its resolved URI."""
    return hashlib.sha256(uri.encode("utf-8", "replace")).hexdigest()[:ID_DIGITS]


# ------------------------------------------------------------------------------------------- round 1: matching


@dataclass(frozen=True)
class MatchJob:
    table: TagTable
    uri_prefix: str
    num_buckets: int
    spill: str
    """Folder of the first round's files, removed at the end."""


def match_part(part: tuple[int, PostsPart], job: MatchJob) -> dict[str, int]:
    """Match one part of the posts; writes its spill, then its counts (a part that has counts is done)."""
    index, posts_part = part
    path = storage.join(job.spill, f"{index:06d}")
    if storage.exists(path + ".json"):
        return storage.read_json(path + ".json")
    counts: Counter[str] = Counter(posts=0)
    tables = []
    for posts, malformed in read_part(posts_part):
        counts.update(posts=posts.num_rows + malformed, malformed=malformed)
        tables.append(_match_batch(posts, post_rows.folder_of(posts_part.path), job, counts))
    spilled = pa.concat_tables([_SPILL.empty_table(), *tables])
    _write_spill(path + ".parquet", spilled.sort_by("bucket"))
    storage.write_json(path + ".json", dict(counts))
    return dict(counts)


def _match_batch(posts: pa.Table, folder: str, job: MatchJob, counts: Counter[str]) -> pa.Table:
    tags, rows = post_rows.all_tags(posts)
    positions, label_ids = find_labels(tags, job.table)
    num_labels = len(job.table.labels)
    pairs = np.unique(rows[positions] * num_labels + label_ids)  # (post, label), each once
    has_uri = pc.fill_null(pc.greater(pc.binary_length(pc.utf8_trim_whitespace(posts["video_uri"])), 0), False)
    has_uri = has_uri.combine_chunks().to_numpy(zero_copy_only=False)
    tagged = np.bincount(rows, minlength=posts.num_rows) > 0
    relevant = np.bincount(pairs // num_labels, minlength=posts.num_rows) > 0
    counts.update(
        missing_video_uri=int((~has_uri).sum()),
        no_hashtags=int((has_uri & ~tagged).sum()),
        no_relevant_hashtag=int((has_uri & tagged & ~relevant).sum()),
    )
    return _spill_rows(posts, pairs[has_uri[pairs // num_labels]], folder, job)


def _spill_rows(posts: pa.Table, pairs: np.ndarray, folder: str, job: MatchJob) -> pa.Table:
    """Rows of `_SPILL` from sorted (post × K + label) pairs."""
    num_labels = len(job.table.labels)
    rows, starts = np.unique(pairs // num_labels, return_index=True)
    matched = posts.take(pa.array(rows))
    uris = post_rows.resolve_uris(matched["video_uri"], job.uri_prefix or folder)
    ids = [video_id(uri) for uri in uris]
    buckets = np.array([int(name[:8], 16) * job.num_buckets >> 32 for name in ids], dtype=np.int32)
    offsets = np.append(starts, len(pairs)).astype(np.int32)
    label_ids = pa.ListArray.from_arrays(pa.array(offsets), pa.array((pairs % num_labels).astype(np.int32)))
    columns = [pa.array(buckets), ids, uris, matched["duration_s"], matched["post_id"], label_ids]
    return pa.table([pa.array(c) if isinstance(c, list) else c for c in columns], schema=_SPILL)


def _write_spill(path: str, table: pa.Table) -> None:
    """Row groups that hold few buckets each, so that a bucket's reader skips the others."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=1 << 16, compression="zstd")
    storage.write_bytes(path, sink.getvalue().to_pybytes())


# -------------------------------------------------------------------------------------------- round 2: uniting


@dataclass(frozen=True)
class UniteJob:
    labels: list[str]
    spill: str
    matches: str
    num_parts: int


def unite_bucket(bucket: int, job: UniteJob) -> dict[str, Any]:
    """Write matches/part-{bucket}: one row per video, labels and posts of all its posts united, sorted by video_id."""
    paths = [storage.join(job.spill, f"{index:06d}.parquet") for index in range(job.num_parts)]
    tables = [_read_bucket(path, bucket) for path in paths]
    table = pa.concat_tables([_SPILL.empty_table(), *tables]).sort_by(
        [("video_id", "ascending"), ("post_id", "ascending"), ("duration_s", "ascending")]
    )
    matches, repeated = _unite(table, job.labels)
    storage.write_parquet(storage.join(job.matches, f"part-{bucket:05d}.parquet"), matches, artifacts.MATCHES)
    flat = pc.list_flatten(matches["labels"]).value_counts().to_pylist()
    per_label = {entry["values"]: entry["counts"] for entry in flat}
    return {"videos": matches.num_rows, "duplicate_post_id": repeated, "label_counts": per_label}


def _read_bucket(path: str, bucket: int) -> pa.Table:
    return pq.read_table(pa.BufferReader(storage.read_bytes(path)), filters=[("bucket", "=", bucket)], schema=_SPILL)


def _unite(table: pa.Table, labels: list[str]) -> tuple[pa.Table, int]:
    """(rows as `MATCHES`, posts that repeat an earlier post of the same video); `table` is sorted by video_id."""
    videos, starts = _runs(table["video_id"])
    video_of_row = np.repeat(np.arange(len(videos)), np.diff(np.append(starts, table.num_rows)))
    lists = table["label_ids"].combine_chunks()
    label_rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    pairs = np.unique(video_of_row[label_rows] * len(labels) + pc.list_flatten(lists).to_numpy(zero_copy_only=False))
    posts, repeated = _distinct_posts(table["post_id"], video_of_row)
    united = {
        "video_id": videos,
        "uri": table["uri"].take(pa.array(starts)),
        "duration_s": _longest(table["duration_s"], starts),
        "labels": _lists(pairs // len(labels), pa.array(labels).take(pa.array(pairs % len(labels))), len(videos)),
        "post_ids": _lists(video_of_row[~repeated], posts, len(videos)),
    }
    return pa.table(united, schema=artifacts.MATCHES), int(repeated.sum())


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


# ------------------------------------------------------------------------------------------------- the stage


def match_posts(config: BuildConfig) -> dict[str, Any]:
    """Write the source: hashtags.parquet, matches/, source.json; returns the marker's content. Skips what is whole."""
    source, files = config.source, artifacts.source_files(config.root, config.source.name)
    labels = sorted(seed_labels(source.seed_labels, source.kind))
    paths = list_posts(source.posts)
    digests = {
        "posts": posts_digest(paths),
        "seed_labels": hashlib.sha256("\n".join(labels).encode()).hexdigest()[:16],
    }
    parts = plan_parts(paths, source)  # checks the columns before the source's folder is begun
    sealed = _open_source(files, source, digests, config.force)
    if sealed is None:
        sealed = _write_source(config, files, parts, make_tag_table(labels, source.kind))
    counts = sealed["counts"]
    progress.say_counts("posts", counts["in"], counts["kept"], counts["dropped"])
    return sealed


def _open_source(
    files: SourceFiles, source: SourceConfig, digests: dict[str, str], force: bool
) -> dict[str, Any] | None:
    """As `open_stage`; `force` discards a source only if it is another one, because datasets share sources."""
    try:
        return artifacts.open_stage(files.folder, files.marker, source, digests)
    except ConfigError:
        if not force:
            raise
        storage.remove(files.folder)
        return artifacts.open_stage(files.folder, files.marker, source, digests)


def _write_source(config: BuildConfig, files: SourceFiles, parts: list[PostsPart], table: TagTable) -> dict[str, Any]:
    storage.write_parquet(files.hashtags, table.rows(), artifacts.HASHTAGS)
    spill = storage.join(files.folder, "spill")
    num_buckets = int(np.clip(sum(map(file_size, {part.path for part in parts})) // BUCKET_BYTES, 1, 256))
    job = MatchJob(table, config.source.uri_prefix.rstrip("/"), num_buckets, spill)
    matched = execute.run_parts(match_part, list(enumerate(parts)), config.execution, desc="match", shared=job)
    united = execute.run_parts(
        unite_bucket,
        range(num_buckets),
        config.execution,
        desc="unite",
        shared=UniteJob(table.labels, spill, files.matches, len(parts)),
    )
    if not sum(counts["posts"] for counts in matched):
        raise ConfigError(f"the posts at '{config.source.posts}' (--source.posts) hold no row")
    sealed = artifacts.seal(
        files.folder, files.marker, _count(matched, united), **_describe(config.source, table, united)
    )
    storage.remove(spill)
    return sealed


def _count(matched: list[dict[str, int]], united: list[dict[str, Any]]) -> dict[str, Any]:
    """Posts: in = kept + dropped by reason."""
    totals: Counter[str] = Counter()
    for counts in matched:
        totals.update(counts)
    posts = totals.pop("posts", 0)
    totals["duplicate_post_id"] = sum(counts["duplicate_post_id"] for counts in united)
    dropped = {reason: count for reason, count in sorted(totals.items()) if count}
    videos = sum(counts["videos"] for counts in united)
    return {"in": posts, "kept": posts - sum(dropped.values()), "dropped": dropped, "videos": videos}


def _describe(source: SourceConfig, table: TagTable, united: list[dict[str, Any]]) -> dict[str, Any]:
    per_label: Counter[str] = Counter()
    for counts in united:
        per_label.update(counts["label_counts"])
    shared = table.shared()
    return {
        "name": source.name,
        "kind": source.kind,
        "num_hashtags": len(table.hashtags),
        "labels": [{"name": label, "num_videos": per_label[label]} for label in sorted(table.labels)],
        "unused_labels": sorted(label for label in table.labels if not per_label[label]),
        "num_shared_hashtags": len(shared),
        "shared_hashtags": shared[:MAX_LISTED],
        "labels_matched_without_table": sorted(table.long_labels.labels),
    }
