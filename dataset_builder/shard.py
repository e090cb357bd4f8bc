"""Manifest part → shard: every video is read once, checked, re-encoded small and fingerprinted in one pass.

A shard is four files: the tar (KEY.mp4 + KEY.json), the signatures, the index of every attempted video, and the sidecar,
written last, whose existence means that the others are whole. Nothing in a video ends the run: it is quarantined by reason.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dataset_builder.manifest import manifest_part
from dataset_builder.tar import TarWriter
from dedup import census
from pipeline import artifacts, execute, storage, video
from pipeline.artifacts import DatasetFiles
from pipeline.config import ConfigError, ExecutionConfig, StorageConfig
from pipeline.video import VideoError

MAX_SOURCE_BYTES = 2 << 30  # of a local upload: it is held in memory whole
READ_ATTEMPTS = 3
MIN_FPS = 1.0
URL_SCHEMES = frozenset(
    "s3 s3a gs gcs az abfs abfss adl oci hdfs http https hf file local memory".split()  # noqa: SIM905  (reads better)
)


@dataclass(frozen=True)
class ShardJob:
    files: DatasetFiles
    label_names: list[str]
    storage: StorageConfig


@dataclass(frozen=True)
class StoredVideo:
    """What one pass over an upload yields."""

    mp4: bytes
    fps: float
    num_frames: int
    height: int
    width: int
    signature: census.Signature

    @property
    def duration_s(self) -> float:
        return self.num_frames / self.fps


def write_shards(job: ShardJob, num_shards: int, execution: ExecutionConfig) -> list[dict[str, Any]]:
    """Write all shards of a dataset; returns their sidecars. Shards that have one are skipped."""
    return execute.run_parts(write_shard, range(num_shards), execution, desc="shards", shared=job)


def write_shard(index: int, job: ShardJob) -> dict[str, Any]:
    """Write shard `index` from manifest part `index`; returns its sidecar."""
    path = job.files.shard(index)
    if storage.exists(path + ".json") and storage.exists(path + ".tar"):
        return storage.read_json(path + ".json")
    entries, signatures = [], []
    with TarWriter(path + ".tar") as tar:
        for row in storage.read_parquet(manifest_part(job.files, index)).to_pylist():
            entry, signature = _attempt(row, job, tar)
            entries.append(entry)
            signatures += [] if signature is None else [census.signature_row(row["video_id"], signature)]
    storage.write_parquet(path + ".sig.parquet", pa.Table.from_pylist(signatures, artifacts.SIGNATURES))
    storage.write_parquet(path + ".parquet", pa.Table.from_pylist(entries, artifacts.SHARD_INDEX))
    sidecar = _sidecar(entries, tar)
    storage.write_json(path + ".json", sidecar)
    return sidecar


def _attempt(row: dict[str, Any], job: ShardJob, tar: TarWriter) -> tuple[dict[str, Any], census.Signature | None]:
    """(index entry, signature or None) of one manifest row; its members are in the tar when it could be stored."""
    entry = {"key": row["video_id"], "label_ids": row["label_ids"], "status": "ok"}
    try:
        data = read_upload(row["uri"])
        entry["source_sha256"] = hashlib.sha256(data).hexdigest()
        stored = transcode(data, job.storage, start_s=row["start_s"], end_s=row["end_s"])
    except VideoError as error:
        return {**entry, "status": "quarantined", "reason": error.reason}, None
    entry |= {
        "fps": stored.fps,
        "num_frames": stored.num_frames,
        "width": stored.width,
        "height": stored.height,
        "duration_s": stored.duration_s,
    }
    described = _describe(entry, [job.label_names[i] for i in row["label_ids"]])
    entry |= {
        "video_offset": tar.add(f"{row['video_id']}.mp4", stored.mp4),
        "video_size": len(stored.mp4),
        "json_offset": tar.add(f"{row['video_id']}.json", described),
        "json_size": len(described),
    }
    return entry, stored.signature


def _describe(entry: dict[str, Any], labels: list[str]) -> bytes:
    """KEY.json: what a reader of the tar alone needs to know."""
    names = ("fps", "num_frames", "width", "height", "duration_s", "source_sha256")
    content = {"id": entry["key"], "label_ids": entry["label_ids"], "labels": labels, **{n: entry[n] for n in names}}
    return json.dumps(content, ensure_ascii=False).encode()


def _sidecar(entries: list[dict[str, Any]], tar: TarWriter) -> dict[str, Any]:
    """attempted = written + quarantined by reason; label_counts are of the written videos."""
    written = [entry for entry in entries if entry["status"] == "ok"]
    reasons = Counter(entry["reason"] for entry in entries if entry["status"] != "ok")
    label_counts = Counter(label for entry in written for label in entry["label_ids"])
    return {
        "attempted": len(entries),
        "written": len(written),
        "quarantined": dict(sorted(reasons.items())),
        "bytes": tar.size,
        "sha256": tar.sha256,
        "duration_s": sum(entry["duration_s"] for entry in written),
        "label_counts": {str(label): count for label, count in sorted(label_counts.items())},
    }


# --------------------------------------------------------------------------------------------------- one video


def read_upload(uri: str) -> bytes:
    """Bytes of a video; VideoError `missing`, `unreadable`, `too_large` or `refused_uri` (chained or unknown URLs)."""
    scheme = uri.split("://", 1)[0] if "://" in uri else ""
    if "::" in uri or (scheme and scheme not in URL_SCHEMES):
        raise VideoError("refused_uri", uri)
    if not scheme and os.path.isfile(uri) and os.path.getsize(uri) > MAX_SOURCE_BYTES:
        raise VideoError("too_large", f"{os.path.getsize(uri)} bytes")
    for attempt in range(READ_ATTEMPTS):
        try:
            return storage.read_bytes(uri)
        except (storage.StorageError, ValueError, ImportError) as error:
            missing = isinstance(error.__cause__, FileNotFoundError)
            raise VideoError("missing" if missing else "unreadable", str(error)) from error
        except Exception as error:  # what remote file systems raise when they stumble is not one class
            if attempt == READ_ATTEMPTS - 1:
                raise VideoError("unreadable", str(error)) from error
            time.sleep(attempt + 1)
    raise AssertionError("unreachable")


def transcode(
    data: bytes, config: StorageConfig, *, start_s: float | None = None, end_s: float | None = None
) -> StoredVideo:
    """Decode an upload once: stored form and signature of its frames between `start_s` and `end_s`.

    Raises: VideoError; whatever else a decoder or encoder throws at a strange file becomes the reason `failed`.
    """
    upload = video.Upload(data, max_pixels=config.max_pixels, max_duration_s=config.max_duration_s)
    try:
        return _one_pass(upload, config, start_s or 0.0, float("inf") if end_s is None else end_s)
    except VideoError:
        raise
    except Exception as error:
        raise VideoError("failed", f"{type(error).__name__}: {error}") from error
    finally:
        upload.close()


def _one_pass(upload: video.Upload, config: StorageConfig, start_s: float, end_s: float) -> StoredVideo:
    frames = _segment(upload, start_s, end_s)
    first = next(frames, None)
    if first is None:
        raise VideoError("no_frames", f"none between {start_s} and {end_s} s")
    height, width = video.short_side_size(*video.upright_size(first[1]), config.short_side_px)
    fps = max(MIN_FPS, min(upload.fps, config.max_fps))
    encoder = video.Encoder(height, width, fps, gop=config.gop, crf=config.crf, preset=config.preset)
    luma: list[np.ndarray] = []
    side = census.SIDE_PX
    stored, sampled = video.Scaler(), video.Scaler()
    outputs = [
        _Output(encoder.fps, lambda frame: stored.upright(frame, height, width), encoder.write),
        _Output(census.SIGNATURE_FPS, lambda frame: sampled.gray(frame, side, side), luma.append),
    ]
    for time_s, frame in _chain(first, frames):
        for output in outputs:
            output.push(time_s, frame)
    for output in outputs:
        output.finish()
    mp4 = encoder.finish()
    return StoredVideo(mp4, encoder.fps, encoder.num_frames, height, width, census.signature(np.stack(luma)))


def _segment(upload: video.Upload, start_s: float, end_s: float) -> Iterator[tuple[float, Any]]:
    """(seconds since `start_s`, frame) of the frames that begin within the segment."""
    for time_s, frame in upload.frames():
        if time_s >= end_s:
            return
        if time_s >= start_s:
            yield time_s - start_s, frame


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


class _Output:
    """Frames at one constant rate, scaled only when due, once each, and handed on."""

    def __init__(self, fps: float, scale: Callable[[Any], Any], write: Callable[[Any], None]) -> None:
        self._resampler, self._scale, self._write = video.Resampler(fps), scale, write
        self._frame: Any = None
        self._scaled: Any = None

    def push(self, time_s: float, frame: Any) -> None:
        self._hand_on(self._resampler.push(time_s, frame))

    def finish(self) -> None:
        self._hand_on(self._resampler.finish())

    def _hand_on(self, due: Iterator[Any]) -> None:
        for frame in due:
            if frame is not self._frame:
                self._frame, self._scaled = frame, self._scale(frame)
            self._write(self._scaled)


# ------------------------------------------------------------------------------------------------- the dataset


def describe_dataset(job: ShardJob, kind: str, sidecars: list[dict[str, Any]]) -> dict[str, Any]:
    """Content of dataset.json from the sidecars; ConfigError when no video could be stored."""
    quarantined, label_counts = Counter(), Counter()
    for sidecar in sidecars:
        quarantined.update(sidecar["quarantined"])
        label_counts.update(sidecar["label_counts"])
    if not any(sidecar["written"] for sidecar in sidecars):
        raise ConfigError(
            f"dataset '{job.files.name}': none of the videos could be stored ({dict(quarantined)}). "
            "Check video_uri in the posts (--source.uri-prefix) or path in the target's tables, and build again with --force"
        )
    shards = [
        {
            "path": f"shards/{job.files.name}-{i:06d}",
            "num_videos": s["written"],
            "bytes": s["bytes"],
            "sha256": s["sha256"],
        }
        for i, s in enumerate(sidecars)
    ]
    labels = [{"id": i, "name": name, "num_videos": label_counts[str(i)]} for i, name in enumerate(job.label_names)]
    return {
        "name": job.files.name,
        "kind": kind,
        "num_videos": sum(s["written"] for s in sidecars),
        "minutes": round(sum(s["duration_s"] for s in sidecars) / 60, 3),
        "num_bytes": sum(s["bytes"] for s in sidecars),
        "labels": labels,
        "quarantined": dict(sorted(quarantined.items())),
        "shards": shards,
    }
