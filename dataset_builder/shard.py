"""Manifest part → shard: every video is read once, checked, re-encoded small and fingerprinted in one pass.

A shard is four files: the tar (KEY.mp4 + KEY.json), the signatures, the index of every attempted video, and the sidecar,
written last, whose existence means that the others are whole. Nothing in a video ends the run: it is quarantined by reason.

Trying the quarantined videos of a finished shard again gives what a fresh build would, without decoding the others: the four
files are written anew under another name, and take the old ones' places once all of them are whole. A kill at any moment
leaves the old shard or the new one, or a new one that only has to be moved into place.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from dataset_builder.decoder import decode, decode_segments
from dataset_builder.manifest import manifest_part
from dataset_builder.tar import TarWriter
from dataset_builder.transcode import Request, StoredVideo
from dataset_builder.uploads import read_upload, source_of_segments
from dedup import census
from pipeline import artifacts, execute, storage
from pipeline.artifacts import DatasetFiles
from pipeline.config import ExecutionConfig, StorageConfig
from pipeline.members import checksum, read_member
from pipeline.storage import StorageError
from pipeline.video import VideoError

PARTS = (".tar", ".sig.parquet", ".parquet", ".json")  # of a shard; the last one says that the others are whole
NEXT = ".next"  # between the name of a shard and the suffixes of what will replace it
DESCRIBED = ("fps", "num_frames", "width", "height", "duration_s", "source_sha256")


@dataclass(frozen=True)
class ShardJob:
    files: DatasetFiles
    label_names: list[str]
    storage: StorageConfig
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    """Who runs the parts, limits of the process that decodes, and whether private addresses may be read."""
    retry_failed: bool = False
    """Try the quarantined videos of finished shards again."""
    of_target: bool = False
    """The videos are of a target set: what overlaps them is searched for, see `dedup.census`."""


@dataclass(frozen=True)
class Sample:
    """One attempted video: its row of the index and, if it could be stored, what else the shard holds of it."""

    entry: dict[str, Any]
    """A row of SHARD_INDEX, without offsets."""
    mp4: bytes = b""
    described: bytes = b""
    """KEY.json."""
    signature: dict[str, Any] | None = None
    """A row of SIGNATURES."""
    copied: bool = False
    """Whether `mp4` is the upload itself; only known of videos that were read just now."""

    @property
    def is_stored(self) -> bool:
        return self.entry["status"] == "ok"


def write_shards(job: ShardJob, num_shards: int) -> list[dict[str, Any]]:
    """Write all shards of a dataset; returns their sidecars, `label_counts` as `LabelCounts`. Whole shards are skipped.

    Raises: StorageError when workers wrote where this process does not look.
    """
    sidecars = execute.run_parts(write_and_pack, range(num_shards), job.execution, desc="shards", shared=job)
    there = {os.path.basename(path) for path in storage.names_in(job.files.shards, "*.json")}
    paths = map(job.files.shard, range(num_shards))
    if missing := [path for path in paths if f"{os.path.basename(path)}.json" not in there]:
        raise StorageError(
            f"{len(missing):,} of {num_shards:,} shards were written, but are not here, e.g. '{missing[0]}.tar': --root must be "
            "a folder or URL that every node sees as the same (a shared file system, an object store)"
        )
    return sidecars


def write_and_pack(index: int, job: ShardJob) -> dict[str, Any]:
    """A sidecar for the driver, which keeps tens of thousands: a dict of a thousand labels would take 100 bytes for each."""
    sidecar = write_shard(index, job)
    counts = sidecar["label_counts"]
    return {
        **sidecar,
        "label_counts": (np.array([*map(int, counts)], np.int32), np.array([*counts.values()], np.int32)),
    }


def write_shard(index: int, job: ShardJob) -> dict[str, Any]:
    """Write shard `index` from manifest part `index`; returns its sidecar."""
    path = job.files.shard(index)
    _finish_moving(path)
    is_whole = storage.exists(path + ".json") and storage.exists(path + ".tar")
    sidecar = storage.read_json(path + ".json") if is_whole else None
    if sidecar is not None and not (job.retry_failed and sidecar["quarantined"]):
        return sidecar
    rows = storage.read_parquet(manifest_part(job.files, index)).to_pylist()
    if sidecar is not None:
        return _retry(path, rows, sidecar, job)
    return _write(path, _attempts(rows, job))


def _write(path: str, samples: Iterable[Sample], *, copied_before: int = 0) -> dict[str, Any]:
    """Write the four files of a shard; returns the sidecar."""
    entries, signatures, num_copied = [], [], copied_before
    with TarWriter(path + ".tar") as tar:
        for sample in samples:
            entries.append(_add(sample, tar))
            signatures += [] if sample.signature is None else [sample.signature]
            num_copied += sample.copied
    index = pa.Table.from_pylist(entries, artifacts.SHARD_INDEX)
    storage.write_parquet(path + ".sig.parquet", pa.Table.from_pylist(signatures, artifacts.SIGNATURES))
    storage.write_parquet(path + ".parquet", index)
    sidecar = _sidecar(index.to_pylist(), tar, num_copied)
    storage.write_json(path + ".json", sidecar)
    return sidecar


def _add(sample: Sample, tar: TarWriter) -> dict[str, Any]:
    """Put a sample's members into the tar; returns its row of the index with their offsets."""
    entry, key = sample.entry, sample.entry["key"]
    if not sample.is_stored:
        return entry
    return entry | {
        "video_offset": tar.add(f"{key}.mp4", sample.mp4),
        "video_size": len(sample.mp4),
        "video_crc32": checksum(sample.mp4),
        "json_offset": tar.add(f"{key}.json", sample.described),
        "json_size": len(sample.described),
    }


def _sidecar(entries: list[dict[str, Any]], tar: TarWriter, num_copied: int) -> dict[str, Any]:
    """attempted = written + quarantined by reason; label_counts are of the written videos."""
    written = [entry for entry in entries if entry["status"] == "ok"]
    reasons = Counter(entry["reason"] for entry in entries if entry["status"] != "ok")
    label_counts = Counter(label for entry in written for label in entry["label_ids"])
    return {
        "attempted": len(entries),
        "written": len(written),
        "copied": num_copied,
        "quarantined": dict(sorted(reasons.items())),
        "bytes": tar.size,
        "sha256": tar.sha256,
        "duration_s": sum(entry["duration_s"] for entry in written),
        "label_counts": {str(label): count for label, count in sorted(label_counts.items())},
    }


# --------------------------------------------------------------------------------------------------- one video


def _attempts(rows: list[dict[str, Any]], job: ShardJob) -> Iterator[Sample]:
    """Read and decode the uploads of manifest rows, in their order; neighbouring segments of one share a pass over it."""
    for uri, group in groupby(rows, key=lambda row: row["uri"]):
        same = [
            (row, Request(row["video_id"], job.storage, row["start_s"], row["end_s"], job.of_target)) for row in group
        ]
        samples: dict[str, Sample] = {}
        for are_segments in (False, True):
            chosen = [(row, request) for row, request in same if request.is_segment == are_segments]
            if chosen:
                sha256, results = _decoded(uri, [request for _, request in chosen], are_segments, job.execution)
                made = (_sample(row, sha256, result, job) for (row, _), result in zip(chosen, results, strict=True))
                samples |= {sample.entry["key"]: sample for sample in made}
        yield from (samples[row["video_id"]] for row, _ in same)


def _decoded(
    uri: str, requests: Sequence[Request], are_segments: bool, execution: ExecutionConfig
) -> tuple[str | None, list[StoredVideo | VideoError]]:
    """(SHA-256 of the upload, what becomes of each request)."""
    sha256 = None
    try:
        if are_segments:
            source, sha256 = source_of_segments(uri, private_urls=execution.private_urls)
            return sha256, decode_segments(source, requests, execution)
        data = read_upload(uri, private_urls=execution.private_urls)
        sha256 = hashlib.sha256(data).hexdigest()
        return sha256, [_whole_or_error(data, request, execution) for request in requests]
    except VideoError as error:
        return sha256, [error] * len(requests)


def _whole_or_error(data: bytes, request: Request, execution: ExecutionConfig) -> StoredVideo | VideoError:
    try:
        return decode(data, request, execution)
    except VideoError as error:
        return error


def _sample(row: dict[str, Any], sha256: str | None, stored: StoredVideo | VideoError, job: ShardJob) -> Sample:
    entry = {"key": row["video_id"], "label_ids": row["label_ids"], "status": "ok", "source_sha256": sha256}
    if isinstance(stored, VideoError):
        return Sample({**entry, "status": "quarantined", "reason": stored.reason})
    entry |= {name: getattr(stored, name) for name in DESCRIBED if name != "source_sha256"}
    described = _describe(entry, [job.label_names[i] for i in row["label_ids"]])
    signature = census.signature_row(row["video_id"], stored.signature)
    return Sample(entry, stored.mp4, described, signature, stored.copied)


def _describe(entry: dict[str, Any], labels: list[str]) -> bytes:
    """KEY.json: what a reader of the tar alone needs to know."""
    content = {
        "id": entry["key"],
        "label_ids": entry["label_ids"],
        "labels": labels,
        **{n: entry[n] for n in DESCRIBED},
    }
    return json.dumps(content, ensure_ascii=False).encode()


# ------------------------------------------------------------------------------------------------- once more


def _retry(path: str, rows: list[dict[str, Any]], sidecar: dict[str, Any], job: ShardJob) -> dict[str, Any]:
    """Try the quarantined videos of a whole shard again; it stays as it is, to the byte, unless one can be stored now."""
    entries = {entry["key"]: entry for entry in storage.read_parquet(path + ".parquet").to_pylist()}
    failed = [row for row in rows if entries[row["video_id"]]["status"] != "ok"]
    again = {sample.entry["key"]: sample for sample in _attempts(failed, job)}
    if not any(sample.is_stored for sample in again.values()):
        return sidecar
    signatures = {row["video_id"]: row for row in storage.read_parquet(path + ".sig.parquet").to_pylist()}
    samples = (again.get(key) or _stored(path, entry, signatures[key]) for key, entry in entries.items())
    written = _write(path + NEXT, samples, copied_before=sidecar["copied"])
    _finish_moving(path)
    return written


def _stored(path: str, entry: dict[str, Any], signature: dict[str, Any]) -> Sample:
    """A sample of a whole shard, as it is stored."""
    return Sample(entry, read_member(path, entry, "video"), read_member(path, entry, "json"), signature)


def _finish_moving(path: str) -> None:
    """Put a shard that was written anew, if there is a whole one, in the place of the old one. May be repeated."""
    if storage.exists(path + NEXT + ".json"):
        storage.remove(path + ".json")  # from here on, until it is back, the shard does not count as whole
        for part in PARTS:
            storage.move(path + NEXT + part, path + part)
    elif storage.exists(path + NEXT + ".tar"):  # the first to be written: there may be more
        for part in PARTS:
            storage.remove(path + NEXT + part)
