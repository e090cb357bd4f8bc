"""Files by path or fsspec URL: read, list, and write so that whatever has a final name is whole."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq


class StorageError(OSError):
    """A file is missing, unreadable or not what it should be; the message names it."""


def is_local(path: str) -> bool:
    return "://" not in path


def join(folder: str, *names: str) -> str:
    """`folder`/`name`/…, for local paths and URLs alike."""
    *folders, last = (folder, *names)
    return "/".join([*(part.rstrip("/") for part in folders), last])


def exists(path: str) -> bool:
    if is_local(path):
        return os.path.exists(path)
    filesystem, inner = fsspec.core.url_to_fs(path)
    return filesystem.exists(inner)


def listing(pattern: str) -> list[str]:
    """Sorted paths that match a glob, in the same form (local or URL) as the pattern."""
    filesystem, inner = fsspec.core.url_to_fs(pattern)
    return sorted(path if is_local(pattern) else filesystem.unstrip_protocol(path) for path in filesystem.glob(inner))


def read_bytes(path: str) -> bytes:
    """Whole file; StorageError names the path when it is not there."""
    try:
        if is_local(path):
            with open(path, "rb") as file:
                return file.read()
        filesystem, inner = fsspec.core.url_to_fs(path)
        return filesystem.cat_file(inner)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise StorageError(f"cannot read '{path}': {error.strerror or error}") from error


def read_range(path: str, offset: int, size: int) -> bytes:
    """`size` bytes from `offset`; a shorter answer is an error."""
    if is_local(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            data = os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)
    else:
        filesystem, inner = fsspec.core.url_to_fs(path)
        data = filesystem.cat_file(inner, start=offset, end=offset + size)
    if len(data) != size:
        raise StorageError(f"'{path}' ends early: {len(data)} of {size} bytes at offset {offset}")
    return data


def write_bytes(path: str, data: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    if is_local(path):
        with whole_file(path) as file:
            file.write(data)
        return
    filesystem, inner = fsspec.core.url_to_fs(path)
    filesystem.pipe_file(inner, data)  # object stores publish an object only when its upload is complete


@contextmanager
def whole_file(path: str) -> Iterator[BinaryIO]:
    """A file to write to, that has its name when the block ends without an error, and leaves nothing when it does not.

    It is written under another name beside it, flushed to disk and renamed; for an object store it is written to the
    local folder for temporary files and uploaded.
    """
    folder = (os.path.dirname(path) or ".") if is_local(path) else tempfile.gettempdir()
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f"{os.path.basename(path)}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if is_local(path):
            os.replace(temporary, path)
            sync_folder(folder)
        else:
            filesystem, inner = fsspec.core.url_to_fs(path)
            filesystem.put_file(temporary, inner)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def sync_folder(folder: str) -> None:
    """Make renames inside a local folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: str) -> None:
    """Delete a file or a whole folder; a missing one is fine."""
    filesystem, inner = fsspec.core.url_to_fs(path)
    if filesystem.exists(inner):
        filesystem.rm(inner, recursive=True)


def read_json(path: str) -> Any:
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:
        raise StorageError(f"'{path}' is not valid JSON: {error}") from error


def write_json(path: str, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def read_parquet(path: str, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(io.BytesIO(read_bytes(path)), columns=columns)
    except pa.ArrowInvalid as error:
        raise StorageError(f"'{path}' is not readable Parquet: {error}") from error


def write_parquet(path: str, table: pa.Table, schema: pa.Schema | None = None) -> None:
    """Write a table; with `schema`, first cast to it (a missing column or a lossy cast raises)."""
    if schema is not None:
        table = table.select(schema.names).cast(schema)
    buffer = io.BytesIO()
    # One row group and no pandas or writer metadata beyond Arrow's own: equal tables give equal bytes.
    pq.write_table(table, buffer, compression="zstd", row_group_size=max(1, table.num_rows))
    write_bytes(path, buffer.getvalue())


def read_parquet_parts(folder: str, columns: list[str] | None = None) -> pa.Table:
    """All `part-*.parquet` of a folder as one table, in name order."""
    paths = listing(join(folder, "part-*.parquet"))
    if not paths:
        raise StorageError(f"no part-*.parquet in '{folder}'")
    return pa.concat_tables([read_parquet(path, columns) for path in paths])
