"""Files by path or fsspec URL: read, list, and write so that whatever has a final name is whole."""

from __future__ import annotations

import errno
import glob
import hashlib
import io
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

UNFINISHED = ".tmp"  # ends the name of a file that is being written
FULL = (errno.ENOSPC, errno.EDQUOT)


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
    with _remote("read", path) as (filesystem, inner):
        return filesystem.exists(inner)


def size(path: str) -> int:
    """Bytes of a file."""
    with _remote("read", path) as (filesystem, inner):
        return filesystem.size(inner)


def listing(pattern: str) -> list[str]:
    """Sorted paths that match a glob, in the same form (local or URL) as the pattern; unfinished files are not listed."""
    with _remote("list", pattern) as (filesystem, inner):
        paths = [path for path in filesystem.glob(inner) if not path.endswith(UNFINISHED)]
        return sorted(path if is_local(pattern) else filesystem.unstrip_protocol(path) for path in paths)


def names_in(folder: str, pattern: str) -> list[str]:
    """`listing` of the files in one folder whose names match; its own path is no pattern, whatever is in it."""
    return listing(join(glob.escape(folder), pattern))


def parts_in(folder: str) -> list[str]:
    """All `part-*.parquet` of a folder, in name order."""
    return names_in(folder, "part-*.parquet")


def _filesystem(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
    # What other processes wrote must be seen: no cache of what a folder held when it was last listed.
    return fsspec.core.url_to_fs(path, use_listings_cache=False)


def read_bytes(path: str) -> bytes:
    """Whole file; StorageError names the path when it cannot be read."""
    if is_local(path):
        with _named("read", path), open(path, "rb") as file:
            return file.read()
    with _remote("read", path) as (filesystem, inner):
        return filesystem.cat_file(inner)


def read_range(path: str, offset: int, size: int) -> bytes:
    """`size` bytes from `offset`; a shorter answer is an error."""
    data = _read_local_range(path, offset, size) if is_local(path) else _read_remote_range(path, offset, size)
    if len(data) != size:
        raise StorageError(f"'{path}' ends early: {len(data)} of {size} bytes at offset {offset}")
    return data


def _read_local_range(path: str, offset: int, size: int) -> bytes:
    with _named("read", path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)


def _read_remote_range(path: str, offset: int, size: int) -> bytes:
    with _remote("read", path) as (filesystem, inner):
        return filesystem.cat_file(inner, start=offset, end=offset + size)


def write_bytes(path: str, data: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part; StorageError names the path."""
    if is_local(path):
        with whole_file(path, len(data)) as file:
            file.write(data)
        return
    with _remote("write", path) as (filesystem, inner):
        filesystem.pipe_file(inner, data)  # object stores publish an object only when its upload is complete


@contextmanager
def whole_file(path: str, size: int | None = None) -> Iterator[BinaryIO]:
    """A file to write to, that has its name when the block ends without an error, and leaves nothing when it does not.

    It is written under another name beside it, flushed to disk and renamed; for an object store it is written to the
    local folder for temporary files and uploaded (in parts, completed at the end). What a killed process left of an
    earlier try is removed. `size` in bytes, where it is known, is what a full disk's StorageError asks for.
    """
    folder = (os.path.dirname(path) or ".") if is_local(path) else tempfile.gettempdir()
    stem = os.path.join(folder, os.path.basename(path) if is_local(path) else _spool_name(path))
    temporary = f"{stem}.{_writer(os.getpid())}{UNFINISHED}"
    needed = size or 0
    with _named("write", path, lambda: needed):
        os.makedirs(folder, exist_ok=True)
        remove_leftovers(stem)
        try:
            with open(temporary, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _publish(temporary, path)
        except BaseException:
            with suppress(OSError):
                needed = max(needed, os.path.getsize(temporary))
                os.unlink(temporary)
            raise
        if not is_local(path):
            os.unlink(temporary)


def _publish(temporary: str, path: str) -> None:
    if is_local(path):
        os.replace(temporary, path)
        sync_folder(os.path.dirname(path) or ".")
        return
    with _remote("write", path) as (filesystem, inner):
        filesystem.put_file(temporary, inner)


def _spool_name(url: str) -> str:
    return f"tagreel-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


def _writer(process: int | str) -> str:
    """A process among all machines that share a file system."""
    return f"{platform.node()}-{process}"


def remove_leftovers(stem: str) -> None:
    """Delete unfinished files of a path whose writer, on this machine, is this process in an earlier try, or is no more."""
    for path in glob.glob(f"{glob.escape(stem)}.{glob.escape(_writer(''))}*{UNFINISHED}"):
        writer = path.removeprefix(f"{stem}.{_writer('')}").removesuffix(UNFINISHED)
        if writer.isdigit() and (int(writer) == os.getpid() or not _is_alive(int(writer))):
            with suppress(FileNotFoundError):
                os.unlink(path)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@contextmanager
def _named(verb: str, path: str, size: Callable[[], int] | None = None) -> Iterator[None]:
    """Errors of the operating system become a StorageError that names the path, and what a full disk lacks."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in FULL and size is not None:
            reason += f": {size():,} bytes or more are needed; make room and run the same command again"
        raise StorageError(f"cannot {verb} '{path}': {reason}") from error


@contextmanager
def _remote(verb: str, path: str) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
    """The file system behind a URL and the path within; whatever its library raises becomes a StorageError."""
    try:
        yield _filesystem(path)
    except (StorageError, MemoryError):
        raise
    except Exception as error:  # what libraries of object stores raise is not one class
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise StorageError(f"cannot {verb} '{path}': {reason}") from error


def move(source: str, target: str) -> None:
    """Give a file another name, in the place of what has it; a source that is not there was moved already."""
    if not exists(source):
        return
    if is_local(source):
        with _named("write", target):
            os.replace(source, target)
            sync_folder(os.path.dirname(target) or ".")
        return
    with _remote("write", target) as (filesystem, inner):
        filesystem.mv(_filesystem(source)[1], inner)


def sync_folder(folder: str) -> None:
    """Make renames inside a local folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: str) -> None:
    """Delete a file or a whole folder; a missing one is fine."""
    with _remote("remove", path) as (filesystem, inner):
        if filesystem.exists(inner):
            filesystem.rm(inner, recursive=True)


def read_json(path: str) -> Any:
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:
        raise StorageError(f"'{path}' is not valid JSON: {error}") from error


def write_json(path: str, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def read_parquet(path: str, columns: list[str] | None = None, optional: Sequence[str] = ()) -> pa.Table:
    """A table, or some columns of it; of the `optional` ones, those that the file has."""
    try:
        file = io.BytesIO(read_bytes(path))
        if columns is not None and optional:
            columns = columns + [name for name in pq.read_schema(file).names if name in optional]
            file.seek(0)
        return pq.read_table(file, columns=columns)
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
    paths = parts_in(folder)
    if not paths:
        raise StorageError(f"no part-*.parquet in '{folder}'")
    return pa.concat_tables([read_parquet(path, columns) for path in paths])
