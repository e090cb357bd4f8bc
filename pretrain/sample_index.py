"""The table of a dataset's samples as one artefact: columns in files of their own, mapped into memory instead of read.

A dataset of 65 million videos in 65,000 shards has as many Parquet files, too many to read whenever a process starts. So
the first process that opens a large dataset gathers them once into `index/{digest}/`: one .npy file a column, and
index.json, which is written last. The digest is that of the dataset and of its exclusions: a stale index is never read.
Processes of a machine share the mapped pages; opening takes the same time for any number of samples. A small dataset is
gathered anew each time, in memory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pipeline import artifacts, locks, progress, storage
from pipeline import config as configs
from pipeline.artifacts import DatasetFiles
from pipeline.config import ConfigError
from pretrain.sample_rows import Rows, RowsJob, read_rows
from pretrain.threads import read_ahead

MAPPED_FROM_SHARDS = 64
"""A dataset of fewer shards is gathered in less than half a second."""
READING_THREADS = 16  # of small files, perhaps in an object store

Arrays = dict[str, np.ndarray]
"""The columns of `artifacts.SAMPLE_INDEX`."""


@dataclass
class Summary:
    """What index.json says of the rows: in = kept + dropped by reason."""

    total: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    unchecked: int = 0
    """Kept videos without a checksum."""

    def add(self, rows: Rows) -> None:
        self.total += rows.total
        self.kept += len(rows)
        self.dropped = {reason: self.dropped.get(reason, 0) + count for reason, count in rows.dropped.items()}
        self.unchecked += int((rows.columns["video_crc32"] < 0).sum())


def open_arrays(files: DatasetFiles, job: RowsJob, digests: dict[str, str], scratch: str) -> tuple[Arrays, Summary]:
    """The columns of all samples of a dataset; mapped from its index, which is made if need be, or in memory.

    Args:
        digests: of the dataset and of its exclusions.
        scratch: local folder for the index of a dataset whose own folder cannot be written to; "" takes the system's.
    """
    if len(job.shards) < MAPPED_FROM_SHARDS:
        return gather_in_memory(read_rows(job, piece) for piece in job.pieces)
    digest = configs.digest(digests)
    place = _place(files, digest, scratch)
    folder = storage.join(place, digest)
    if not storage.exists(marker_path(folder)):
        with locks.held(storage.join(place, "lock")):  # one process gathers, the others wait
            if not storage.exists(marker_path(folder)):
                progress.say(f"gathering the index of '{files.name}' ({len(job.shards):,} shards), once: {folder}")
                pieces = progress.bar(job.pieces, desc="index", unit="shard")
                write(folder, read_ahead(lambda piece: read_rows(job, piece), pieces, READING_THREADS), digests)
    return open_mapped(folder)


def _place(files: DatasetFiles, digest: str, scratch: str) -> str:
    """Folder that holds, or is to hold, the index."""
    is_there = storage.exists(marker_path(storage.join(files.index, digest)))
    if storage.is_local(files.folder) and (is_there or os.access(files.folder, os.W_OK)):
        return files.index
    user = os.getuid() if hasattr(os, "getuid") else 0
    return storage.join(scratch or tempfile.gettempdir(), f"tagreel-index-{user}-{configs.digest([files.folder])}")


# ------------------------------------------------------------------------------------------------------ gathering


def gather(pieces: Iterable[Rows], append: Callable[[str, np.ndarray], None]) -> Summary:
    """Give every column's values, piece by piece, to `append(name, values)`."""
    summary, ends = Summary(), {"label_offsets": 0, "key_offsets": 0}
    for name in ends:
        append(name, np.zeros(1, np.int64))
    for rows in pieces:
        summary.add(rows)
        for name, values in rows.columns.items():
            append(name, values)
        for name, sizes in (("label_offsets", rows.label_sizes), ("key_offsets", rows.key_sizes)):
            append(name, ends[name] + np.cumsum(sizes, dtype=np.int64))
            ends[name] += int(sizes.sum())
        append("label_ids", rows.label_ids)
        append("key_bytes", rows.key_bytes)
    if not summary.kept:
        raise ConfigError(f"the dataset has no video to train on: {summary.total} = 0 kept + {summary.dropped}")
    return summary


def gather_in_memory(pieces: Iterable[Rows]) -> tuple[Arrays, Summary]:
    """The columns as arrays of their own."""
    parts: dict[str, list[np.ndarray]] = defaultdict(list)
    summary = gather(pieces, lambda name, values: parts[name].append(values))
    return {name: np.concatenate(values) for name, values in parts.items()}, summary


# ---------------------------------------------------------------------------------------------------- the artefact


def marker_path(folder: str) -> str:
    return storage.join(folder, "index.json")


def write(folder: str, pieces: Iterable[Rows], digests: dict[str, str]) -> None:
    """Write the index `folder`, whole or not at all, in place of whatever index its dataset had before."""
    unfinished = f"{folder}{storage.UNFINISHED}"
    shutil.rmtree(unfinished, ignore_errors=True)
    os.makedirs(unfinished)
    columns = {name: ColumnFile(column_path(unfinished, name), kind) for name, kind in artifacts.SAMPLE_INDEX.items()}
    try:
        summary = gather(pieces, lambda name, values: columns[name].append(values))
        for column in columns.values():
            column.close()
        storage.write_json(marker_path(unfinished), {"input_digests": digests, **asdict(summary)})
        os.replace(unfinished, folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    storage.sync_folder(os.path.dirname(folder))
    _remove_others(folder)


def _remove_others(folder: str) -> None:
    """Indices of the dataset before its last dedup; processes that have one mapped keep it."""
    parent = os.path.dirname(folder)
    for name in os.listdir(parent):
        other = os.path.join(parent, name)
        if os.path.isdir(other) and not os.path.samefile(other, folder):
            shutil.rmtree(other, ignore_errors=True)


def open_mapped(folder: str) -> tuple[Arrays, Summary]:
    """Columns of a whole index, read-only; StorageError when its files are not those that were written."""
    marker: dict[str, Any] = storage.read_json(marker_path(folder))
    summary = Summary(**{key: value for key, value in marker.items() if key != "input_digests"})
    arrays = {name: _map(column_path(folder, name), kind) for name, kind in artifacts.SAMPLE_INDEX.items()}
    lengths = dict.fromkeys(arrays, summary.kept) | {
        "label_offsets": summary.kept + 1,
        "key_offsets": summary.kept + 1,
        "label_ids": int(arrays["label_offsets"][-1]),
        "key_bytes": int(arrays["key_offsets"][-1]),
    }
    if wrong := [name for name, values in arrays.items() if len(values) != lengths[name]]:
        raise storage.StorageError(f"'{column_path(folder, wrong[0])}' is damaged: remove '{folder}', it is made anew")
    return arrays, summary


def _map(path: str, kind: str) -> np.ndarray:
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise storage.StorageError(
            f"cannot read '{path}': {error}; remove '{os.path.dirname(path)}', it is made anew"
        ) from error
    return np.asarray(mapped).astype(kind, copy=False)  # a plain array over the same pages: faster to index


def column_path(folder: str, name: str) -> str:
    return storage.join(folder, f"{name}.npy")


class ColumnFile:
    """A .npy file of one dimension that grows: its header has room for the final length."""

    def __init__(self, path: str, kind: str) -> None:
        self.kind, self.length = np.dtype(kind), 0
        self._file = open(path, "xb")  # noqa: SIM115  (lives as long as the object)
        self._write_header()

    def append(self, values: np.ndarray) -> None:
        self._file.write(values.astype(self.kind, casting="same_kind", copy=False).tobytes())
        self.length += len(values)

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self.kind),
            "fortran_order": False,
            "shape": (self.length,),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
