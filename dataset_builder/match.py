"""Posts × seed labels → matches: which videos carry a relevant hashtag, and for which labels (paper, Section 3.1).

Two rounds over parts: each part of the posts is matched against one table of hashtags, batch by batch, and what matched is
spilled; then each bucket, a range of video_id, unites the posts that show the same video. Both rounds are Arrow and NumPy
over whole batches, and neither holds more than a batch or a bucket in memory.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dataset_builder import post_rows, spill
from dataset_builder.posts import list_posts, plan_parts, posts_digest
from dataset_builder.read_posts import PostsPart, read_part
from dataset_builder.seeds import seed_labels
from dataset_builder.tag_table import TagTable, find_labels, make_tag_table
from dataset_builder.unite import UniteJob, read_label_counts, unite_bucket
from pipeline import artifacts, execute, progress, storage
from pipeline.artifacts import SourceFiles
from pipeline.config import BuildConfig, ConfigError, SourceConfig

BUCKET_BYTES = 128 << 20  # of matched rows in memory, in one bucket of video_id; uniting takes four times as much
MAX_LISTED = 1000  # names in each of source.json's lists but `labels`, which is whole
ID_DIGITS = 20
_ID_BYTES = ID_DIGITS // 2


def video_id(uri: str) -> str:
    """Identity of a video: the first 20 hex digits of the SHA-256 of its resolved URI."""
    return hashlib.sha256(uri.encode("utf-8", "replace")).hexdigest()[:ID_DIGITS]


def video_ids(uris: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """(first 32 bits: uint32 [N], `video_id`: string [N]) of resolved URIs."""
    digests = b"".join([hashlib.sha256(uri).digest()[:_ID_BYTES] for uri in uris.cast(pa.binary()).to_pylist()])
    digits = digests.hex().encode()
    offsets = np.arange(0, len(digits) + 1, ID_DIGITS, dtype=np.int32)
    ids = pa.StringArray.from_buffers(len(uris), pa.py_buffer(offsets), pa.py_buffer(digits))
    return np.ndarray(len(uris), ">u4", digests, strides=(_ID_BYTES,)).astype(np.uint32), ids


# ------------------------------------------------------------------------------------------- round 1: matching


@dataclass(frozen=True)
class MatchJob:
    table: TagTable
    uri_prefix: str
    spill: str
    """Folder of what stands between the rounds, removed at the end."""


def match_part(part: tuple[int, PostsPart], job: MatchJob) -> dict[str, int]:
    """Match one part of the posts; writes its spill, then its counts (a part that has counts is done)."""
    index, posts_part = part
    path = spill.path(job.spill, index)
    if storage.exists(path + ".json"):
        return storage.read_json(path + ".json")
    counts: Counter[str] = Counter(posts=0)
    with storage.whole_file(path) as file:
        counts["spilled_bytes"] = spill.write(file, _match_batches(posts_part, job, counts))
    storage.write_json(path + ".json", dict(counts))
    return dict(counts)


def _match_batches(part: PostsPart, job: MatchJob, counts: Counter[str]) -> Iterator[pa.Table]:
    for posts, malformed in read_part(part):
        counts.update(posts=posts.num_rows + malformed, malformed=malformed)
        yield _match_batch(posts, post_rows.folder_of(part.path), job, counts)


def _match_batch(posts: pa.Table, folder: str, job: MatchJob, counts: Counter[str]) -> pa.Table:
    num_labels = len(job.table.labels)
    tagged, found = np.zeros(posts.num_rows, dtype=bool), []
    for lists in post_rows.tag_lists(posts):
        positions, label_ids = find_labels(lists.tags, job.table)
        found.append(lists.posts_of(positions) * num_labels + label_ids)
        tagged |= np.diff(lists.offsets) > 0
    pairs = np.unique(np.concatenate(found))  # (post, label), each once
    has_uri = post_rows.has_text(post_rows.whole(posts["video_uri"]))
    relevant = np.zeros(posts.num_rows, dtype=bool)
    relevant[pairs // num_labels] = True
    counts.update(
        missing_video_uri=int((~has_uri).sum()),
        no_hashtags=int((has_uri & ~tagged).sum()),
        no_relevant_hashtag=int((has_uri & tagged & ~relevant).sum()),
    )
    return _spill_rows(posts, pairs[has_uri[pairs // num_labels]], folder, job)


def _spill_rows(posts: pa.Table, pairs: np.ndarray, folder: str, job: MatchJob) -> pa.Table:
    """Rows of `spill.SCHEMA` from sorted (post × K + label) pairs."""
    num_labels = len(job.table.labels)
    rows, starts = np.unique(pairs // num_labels, return_index=True)
    matched = posts.select(["video_uri", "duration_s", "post_id"]).take(pa.array(rows))
    uris = post_rows.resolve_uris(post_rows.whole(matched["video_uri"]), job.uri_prefix or folder)
    prefixes, ids = video_ids(uris)
    offsets = np.append(starts, len(pairs)).astype(np.int32)
    label_ids = pa.ListArray.from_arrays(pa.array(offsets), pa.array((pairs % num_labels).astype(np.int32)))
    columns = [prefixes, ids, uris, matched["duration_s"], matched["post_id"], label_ids]
    return pa.table(columns, schema=spill.SCHEMA)


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
    folder = storage.join(files.folder, "spill")
    job = MatchJob(table, config.source.uri_prefix.rstrip("/"), folder)
    matched = execute.run_parts(match_part, list(enumerate(parts)), config.execution, desc="match", shared=job)
    num_buckets = -(-sum(counts["spilled_bytes"] for counts in matched) // BUCKET_BYTES) or 1
    uniting = UniteJob(table.labels, folder, files.matches, len(parts), num_buckets)
    united = execute.run_parts(unite_bucket, range(num_buckets), config.execution, desc="unite", shared=uniting)
    if not sum(counts["posts"] for counts in matched):
        raise ConfigError(f"the posts at '{config.source.posts}' (--source.posts) hold no row")
    described = _describe(config.source, table, read_label_counts(uniting))
    sealed = artifacts.seal(files.folder, files.marker, _count(matched, united), **described)
    storage.remove(folder)
    return sealed


def _count(matched: list[dict[str, int]], united: list[dict[str, int]]) -> dict[str, Any]:
    """Posts: in = kept + dropped by reason."""
    totals: Counter[str] = Counter()
    for counts in [*matched, *united]:
        totals.update(counts)
    posts, videos, _ = (totals.pop(name, 0) for name in ("posts", "videos", "spilled_bytes"))
    dropped = {reason: count for reason, count in sorted(totals.items()) if count}
    return {"in": posts, "kept": posts - sum(dropped.values()), "dropped": dropped, "videos": videos}


def _describe(source: SourceConfig, table: TagTable, num_videos: np.ndarray) -> dict[str, Any]:
    """What source.json says of labels and hashtags: every label with a video, of all else the counts and the first names."""
    labels = table.labels.to_pylist()  # sorted
    used = [{"name": labels[i], "num_videos": int(num_videos[i])} for i in np.flatnonzero(num_videos)]
    unused = [labels[i] for i in np.flatnonzero(num_videos == 0)[:MAX_LISTED]]
    num_shared, shared = table.shared(MAX_LISTED)
    return {
        "name": source.name,
        "kind": source.kind,
        "num_hashtags": len(table.index.strings),
        "num_labels": len(labels),
        "labels": used,
        "num_unused_labels": len(labels) - len(used),
        "unused_labels": unused,
        "num_shared_hashtags": num_shared,
        "shared_hashtags": shared,
        "num_labels_matched_without_table": len(table.long_ids),
        "labels_matched_without_table": sorted(table.long_ids)[:MAX_LISTED],
    }
