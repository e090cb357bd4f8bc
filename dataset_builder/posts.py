"""Posts tables (Parquet, JSON lines, CSV) → parts that can be read apart."""

from __future__ import annotations

import csv
import glob
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import fsspec

from dataset_builder.read_posts import (
    COLUMNS,
    COMPRESSIONS,
    READ_ERRORS,
    PostsPart,
    delimiter,
    open_file,
    open_parquet,
    parse_line,
    suffix,
)
from pipeline import storage
from pipeline.config import ConfigError, SourceConfig

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
}
PART_BYTES = 64 << 20  # of JSON lines
HASHED_BYTES = 1 << 30  # of local files; of more only the ends are hashed
_END_BYTES = 64 << 10
_THREADS = 32  # planning waits for storage
_T = TypeVar("_T")


def list_posts(posts: str) -> list[str]:
    """Files of the posts table, absolute, sorted; ConfigError when there is none."""
    if not posts:
        raise ConfigError("no posts: set --source.posts to a Parquet, JSON lines or CSV file, folder or glob")
    paths = _files(posts)
    if not paths:
        raise ConfigError(
            f"no posts found at '{posts}' (--source.posts): it must be a file, a folder or a glob of "
            f"{', '.join(FORMATS)} files"
        )
    for path in paths:
        if suffix(path) not in FORMATS:
            raise ConfigError(f"posts file '{path}' is none of {', '.join(FORMATS)}: convert or rename it")
    return [os.path.abspath(path) if storage.is_local(path) else path for path in paths]


def _files(posts: str) -> list[str]:
    filesystem, inner = fsspec.core.url_to_fs(posts)
    if filesystem.isdir(inner):
        folder = posts.rstrip("/")
        found = storage.listing((glob.escape(folder) if storage.is_local(posts) else folder) + "/*")
        return [p for p in found if suffix(p) in FORMATS and not os.path.basename(p).startswith(("_", "."))]
    return [posts] if filesystem.isfile(inner) else storage.listing(posts)


def posts_digest(paths: list[str]) -> str:
    """Digest of the files' names, sizes and (local ones) contents: whole, or the ends of each if there is much of it."""
    sizes = _of_each(file_size, paths)
    whole = sum(sizes) <= HASHED_BYTES
    contents = _of_each(lambda path: _content_digest(path, whole) if storage.is_local(path) else b"", paths)
    digest = hashlib.sha256()
    for path, size, content in zip(paths, sizes, contents, strict=True):
        digest.update(f"{os.path.basename(path)}\0{size}\0".encode() + content)
    return digest.hexdigest()[:16]


def _content_digest(path: str, whole: bool) -> bytes:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if whole or size <= 2 * _END_BYTES:
            return hashlib.file_digest(file, "sha256").digest()
        ends = file.read(_END_BYTES)
        file.seek(-_END_BYTES, os.SEEK_END)  # a Parquet file's last bytes tell places and ranges of all its pages
        return hashlib.sha256(ends + file.read()).digest()


def file_size(path: str) -> int:
    """Bytes; StorageError names a file that is not there."""
    try:
        if storage.is_local(path):
            return os.path.getsize(path)
        filesystem, inner = fsspec.core.url_to_fs(path)
        return int(filesystem.size(inner) or 0)
    except OSError as error:
        raise storage.StorageError(f"cannot read '{path}': {error.strerror or error}") from error


def _of_each(function: Callable[[str], _T], paths: Iterable[str]) -> list[_T]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(function, paths))


def plan_parts(paths: list[str], source: SourceConfig) -> list[PostsPart]:
    """Parts of all files in order; ConfigError names a file that is empty or lacks a column."""
    return list(itertools.chain.from_iterable(_of_each(lambda path: _parts_of(path, source), paths)))


def _parts_of(path: str, source: SourceConfig) -> list[PostsPart]:
    kind = FORMATS[suffix(path)]
    found, num_groups = _columns(path, kind)
    columns = _checked_columns(path, found, source)
    if kind == "parquet":
        return [PostsPart(path, kind, columns, group) for group in range(num_groups)]
    if kind == "jsonl" and not path.endswith(COMPRESSIONS):
        starts = range(0, file_size(path), PART_BYTES)
        return [PostsPart(path, kind, columns, start, start + PART_BYTES) for start in starts]
    return [PostsPart(path, kind, columns)]


def _columns(path: str, kind: str) -> tuple[list[str], int]:
    """Column names of a file, and its row groups (Parquet)."""
    try:
        if kind == "parquet":
            with open_parquet(path) as parquet:
                return parquet.schema_arrow.names, parquet.num_row_groups
        with open_file(path) as file:
            head = file.readline().decode("utf-8-sig") if kind == "csv" else _first_object(file)
    except READ_ERRORS as error:
        raise ConfigError(f"posts file '{path}' cannot be read as {kind}: {error}") from error
    if not head:
        what = "is empty" if kind == "csv" or not file_size(path) else "holds no JSON object a line"
        raise ConfigError(f"posts file '{path}' {what}: it must hold the columns post_id, video_uri, ...")
    if kind == "csv":
        return next(csv.reader([head], delimiter=delimiter(path))), 0
    return list(head), 0


def _first_object(file: Any) -> dict[str, Any]:
    """Union of the keys of the first well-formed lines of a JSON lines file."""
    keys: dict[str, Any] = {}
    for line in itertools.islice(file, 1000):
        row = parse_line(line)
        keys |= row or {}
    return keys


def _checked_columns(path: str, found: list[str], source: SourceConfig) -> tuple[str, ...]:
    if twice := [name for name in COLUMNS if found.count(name) > 1]:
        raise ConfigError(f"posts file '{path}' has several columns {' and several columns '.join(twice)}: keep one")
    text = ("caption", "hashtags") if source.caption_hashtags else ("hashtags",)
    missing = [name for name in ("post_id", "video_uri") if name not in found]
    if not any(name in found for name in text):
        missing.append(" or ".join(text))
    if missing:
        raise ConfigError(
            f"posts file '{path}' has no column {' and no column '.join(missing)}; it has: {', '.join(found)}. "
            "Rename its columns to post_id, video_uri, caption, hashtags, duration_s"
        )
    unused = set() if source.caption_hashtags else {"caption"}
    return tuple(name for name in COLUMNS if name in found and name not in unused)
