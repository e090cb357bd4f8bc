"""What a shard's files say: the tar read once from end to end, its sidecar and its index, and whether they agree.

Nothing is unpacked to disk. The tar alone is enough; sidecar and index add what was attempted and not written, and whether
the tar as a whole and each of its videos are the bytes that were written.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, BinaryIO

import fsspec

from pipeline import storage
from pipeline.members import checksum
from pipeline.storage import StorageError

CHUNK = 1 << 20
MAX_JSON_BYTES = 1 << 20
DESCRIBED = ("labels", "fps", "num_frames", "width", "height", "duration_s")


@dataclass(frozen=True)
class StoredSample:
    """One KEY.mp4 + KEY.json of a shard."""

    key: str
    offset: int
    """Of the video's bytes within the tar."""
    size: int
    crc32: int
    labels: list[str]
    fps: float
    num_frames: int
    width: int
    height: int
    duration_s: float


@dataclass(frozen=True)
class ShardContents:
    path: str
    """Path or URL of the shard without its suffix."""
    num_bytes: int
    sha256: str
    samples: list[StoredSample]
    sidecar: dict[str, Any] | None
    quarantined: dict[str, list[str]] | None
    """Reason → keys of the videos that could not be stored; None where there is no index."""

    def video(self, sample: StoredSample) -> bytes:
        return storage.read_range(self.path + ".tar", sample.offset, sample.size)


def read_shard(path: str) -> ShardContents:
    """Read and check a shard.

    Args:
        path: path or URL of the tar, with or without its suffix.

    Raises: StorageError when the tar is missing, damaged or not one that a build wrote, or contradicts its sidecar or index.
    """
    path = path.removesuffix(".tar")
    samples, num_bytes, sha256 = _read_tar(path + ".tar")
    sidecar = storage.read_json(path + ".json") if storage.exists(path + ".json") else None
    rows = _read_index(path) if storage.exists(path + ".parquet") else None
    damaged = "" if rows is None else _damaged(path, samples, rows)
    if sidecar:
        _check_sidecar(path, sidecar, len(samples), sha256, damaged)
    if damaged:
        raise StorageError(f"'{path}.tar' is not what was written: {damaged}; copy it again, or build it again")
    return ShardContents(path, num_bytes, sha256, samples, sidecar, None if rows is None else _quarantined(rows))


# ------------------------------------------------------------------------------------------------------ the tar


class _Hashed:
    """A file that hashes and counts the bytes that are read from it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256, self.num_bytes = file, hashlib.sha256(), 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        self.num_bytes += len(data)
        return data


def _read_tar(path: str) -> tuple[list[StoredSample], int, str]:
    """(samples in the order of the tar, bytes, sha256)."""
    try:
        with fsspec.open(path, "rb") as file:
            hashed = _Hashed(file)
            with tarfile.open(fileobj=hashed, mode="r|", bufsize=CHUNK) as tar:
                samples = _read_members(path, tar)
            while hashed.read(CHUNK):  # what follows the end-of-archive mark
                pass
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        reason = f"{error.strerror or error}: name a shard's tar, DATASET/shards/DATASET-000000.tar"
        raise StorageError(f"cannot read '{path}': {reason}") from error
    except (tarfile.TarError, EOFError) as error:
        raise StorageError(f"'{path}' is not a whole tar: {error}") from error
    return samples, hashed.num_bytes, hashed.sha256.hexdigest()


def _read_members(path: str, tar: tarfile.TarFile) -> list[StoredSample]:
    videos: dict[str, tuple[int, int, int]] = {}
    described: dict[str, dict[str, Any]] = {}
    for member in tar:
        key, _, suffix = member.name.rpartition(".")
        if member.isfile() and suffix == "mp4":
            videos[key] = (member.offset_data, member.size, checksum(tar.extractfile(member).read()))
        elif member.isfile() and suffix == "json" and member.size <= MAX_JSON_BYTES:
            described[key] = _parse(f"{path}: {member.name}", tar.extractfile(member).read())
        else:
            raise StorageError(f"'{path}' is not a shard that a build wrote: it holds {member.name!r}")
    if odd := sorted(videos.keys() ^ described.keys()):
        raise StorageError(f"'{path}' is not a shard that a build wrote: {odd[0]!r} lacks its .mp4 or its .json")
    return [StoredSample(key, *place, **described[key]) for key, place in videos.items()]


def _parse(where: str, data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
        if content["num_frames"] < 1:
            raise ValueError("it has no frames")
        return {name: content[name] for name in DESCRIBED}
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"'{where}' does not describe a video: {type(error).__name__} {error}") from error


# -------------------------------------------------------------------------------------------- what stands beside


def _check_sidecar(path: str, sidecar: dict[str, Any], num_samples: int, sha256: str, damaged: str) -> None:
    if sidecar["sha256"] != sha256:
        raise StorageError(
            f"'{path}.tar' has the sha256 {sha256}, but its sidecar '{path}.json' says {sidecar['sha256']}"
            f"{f' ({damaged})' if damaged else ''}: copy both again, or remove both and run the same build once more"
        )
    if sidecar["written"] != num_samples:
        raise StorageError(f"'{path}.tar' holds {num_samples} videos, but '{path}.json' says {sidecar['written']}")


def _read_index(path: str) -> list[dict[str, Any]]:
    columns = ["key", "video_offset", "video_size", "status", "reason"]
    return storage.read_parquet(path + ".parquet", columns, optional=["video_crc32"]).to_pylist()


def _damaged(path: str, samples: list[StoredSample], rows: list[dict[str, Any]]) -> str:
    """Which videos have other checksums than the index says, or ""; StorageError when it leads readers elsewhere."""
    indexed = {row["key"]: row for row in rows if row["status"] == "ok"}
    places = {(key, row["video_offset"], row["video_size"]) for key, row in indexed.items()}
    if wrong := sorted(places ^ {(sample.key, sample.offset, sample.size) for sample in samples}):
        raise StorageError(f"'{path}.parquet' and '{path}.tar' disagree on where '{wrong[0][0]}' is")
    keys = [sample.key for sample in samples if indexed[sample.key].get("video_crc32") not in (None, sample.crc32)]
    return f"{len(keys):,} of its {len(samples):,} videos are damaged, e.g. '{keys[0]}'" if keys else ""


def _quarantined(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Keys by reason."""
    quarantined: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row["status"] != "ok":
            quarantined[row["reason"]].append(row["key"])
    return dict(sorted(quarantined.items()))
