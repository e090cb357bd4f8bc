"""Posts tables (Parquet, JSON lines, CSV) → parts that can be read apart, and their rows."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from dataset_builder.post_rows import as_tags, in_one_form
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
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
COLUMNS = ("post_id", "video_uri", "caption", "hashtags", "duration_s")
PART_BYTES = 64 << 20  # of JSON lines, in one part
BATCH_ROWS = 1 << 17
HASHED_BYTES = 64 << 20  # larger files are known by name and size only


@dataclass(frozen=True)
class PostsPart:
    """What one task reads: a row group, a byte range of JSON lines, or a whole CSV file."""

    path: str
    format: str
    columns: tuple[str, ...]
    """Those of `COLUMNS` that the file has."""
    first: int = 0
    """Row group, or first byte."""
    end: int | None = None
    """Byte after the last one at which a line may start."""


# -------------------------------------------------------------------------------------------------- planning


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
        if _suffix(path) not in FORMATS:
            raise ConfigError(f"posts file '{path}' is none of {', '.join(FORMATS)}: convert or rename it")
    return [os.path.abspath(path) if storage.is_local(path) else path for path in paths]


def _files(posts: str) -> list[str]:
    filesystem, inner = fsspec.core.url_to_fs(posts)
    if filesystem.isdir(inner):
        folder = posts.rstrip("/")
        found = storage.listing((glob.escape(folder) if storage.is_local(posts) else folder) + "/*")
        return [p for p in found if _suffix(p) in FORMATS and not os.path.basename(p).startswith(("_", "."))]
    return [posts] if filesystem.isfile(inner) else storage.listing(posts)


def _suffix(path: str) -> str:
    for compression in COMPRESSIONS:
        path = path.removesuffix(compression)
    return os.path.splitext(path)[1].lower()


def posts_digest(paths: list[str]) -> str:
    """Digest of the files' names, sizes and (local ones up to `HASHED_BYTES`) contents."""
    digest = hashlib.sha256()
    for path in paths:
        size = file_size(path)
        digest.update(f"{os.path.basename(path)}\0{size}\0".encode())
        if storage.is_local(path) and size <= HASHED_BYTES:
            digest.update(hashlib.sha256(storage.read_bytes(path)).digest())
    return digest.hexdigest()[:16]


def file_size(path: str) -> int:
    filesystem, inner = fsspec.core.url_to_fs(path)
    return int(filesystem.size(inner) or 0)


def plan_parts(paths: list[str], source: SourceConfig) -> list[PostsPart]:
    """Parts of all files in order; ConfigError names a file that is empty or lacks a column."""
    return [part for path in paths for part in _parts_of(path, source)]


def _parts_of(path: str, source: SourceConfig) -> list[PostsPart]:
    kind = FORMATS[_suffix(path)]
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
            with _open(path) as file:
                parquet = pq.ParquetFile(file)
                return parquet.schema_arrow.names, parquet.num_row_groups
        with _open(path) as file:
            head = file.readline().decode("utf-8-sig") if kind == "csv" else _first_object(file)
    except (OSError, ValueError) as error:  # Arrow's own errors are of these two kinds
        raise ConfigError(f"posts file '{path}' cannot be read as {kind}: {error}") from error
    if not head:
        what = "is empty" if kind == "csv" or not file_size(path) else "holds no JSON object a line"
        raise ConfigError(f"posts file '{path}' {what}: it must hold the columns post_id, video_uri, ...")
    if kind == "csv":
        return next(csv.reader([head], delimiter=_delimiter(path))), 0
    return list(head), 0


def _first_object(file: Any) -> dict[str, Any]:
    """Union of the keys of the first well-formed lines of a JSON lines file."""
    keys: dict[str, Any] = {}
    for line in itertools.islice(file, 1000):
        row = _parse_line(line)
        keys |= row or {}
    return keys


def _checked_columns(path: str, found: list[str], source: SourceConfig) -> tuple[str, ...]:
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


# --------------------------------------------------------------------------------------------------- reading


def _open(path: str) -> Any:
    return fsspec.open(path, "rb", compression="infer").open()


def read_part(part: PostsPart) -> Iterator[tuple[pa.Table, int]]:
    """(rows as `POSTS`, malformed rows left out) batch by batch."""
    reader = {"parquet": _read_parquet, "jsonl": _read_jsonl, "csv": _read_csv}[part.format]
    for table, malformed in reader(part):
        yield in_one_form(table), malformed


def _read_parquet(part: PostsPart) -> Iterator[tuple[pa.Table, int]]:
    with _open(part.path) as file:
        batches = pq.ParquetFile(file).iter_batches(
            BATCH_ROWS, row_groups=[part.first], columns=list(part.columns), use_threads=False
        )
        for batch in batches:
            yield pa.Table.from_batches([batch]), 0


def _read_csv(part: PostsPart) -> Iterator[tuple[pa.Table, int]]:
    malformed = 0

    def skip(_: Any) -> str:
        nonlocal malformed
        malformed += 1
        return "skip"

    options = pa.csv.ConvertOptions(
        include_columns=list(part.columns),
        column_types=dict.fromkeys(part.columns, pa.binary()),
        strings_can_be_null=True,
    )
    try:
        with _open(part.path) as file:
            reading = pa.csv.ReadOptions(use_threads=False, block_size=PART_BYTES // 4)
            for batch in pa.csv.open_csv(file, reading, _csv_options(part.path, skip), options):
                yield pa.Table.from_batches([batch]), 0
    except pa.ArrowInvalid as error:
        raise ConfigError(f"posts file '{part.path}' is not readable CSV: {error}") from error
    if malformed:
        yield pa.table({name: pa.array([], pa.string()) for name in part.columns}), malformed


def _csv_options(path: str, invalid_row_handler: Any = None) -> pa.csv.ParseOptions:
    return pa.csv.ParseOptions(
        delimiter=_delimiter(path), newlines_in_values=True, invalid_row_handler=invalid_row_handler
    )


def _delimiter(path: str) -> str:
    return "\t" if _suffix(path) == ".tsv" else ","


def _read_jsonl(part: PostsPart) -> Iterator[tuple[pa.Table, int]]:
    with _open(part.path) as file:
        if part.first:
            file.seek(part.first - 1)
            file.readline()  # the line that began before this part is the previous part's
        while part.end is None or file.tell() < part.end:
            size = PART_BYTES // 4 if part.end is None else min(PART_BYTES // 4, part.end - file.tell())
            data = file.read(size)
            if not data:
                return
            if not data.endswith(b"\n"):
                data += file.readline()
            yield _parse_lines(data, part.columns)


def _parse_lines(data: bytes, columns: tuple[str, ...]) -> tuple[pa.Table, int]:
    """Whole lines at once where they are well-formed and of one type; else line by line."""
    types = {"caption": [pa.string()], "video_uri": [pa.string()], "duration_s": [pa.float64(), pa.string()]}
    types |= {"post_id": [pa.string(), pa.int64()], "hashtags": [pa.list_(pa.string()), pa.string()]}
    if data.isascii() or _is_utf8(data):
        for choice in itertools.product(*(types[name] for name in columns)):
            options = pa.json.ParseOptions(
                explicit_schema=pa.schema(zip(columns, choice, strict=True)), unexpected_field_behavior="ignore"
            )
            reading = pa.json.ReadOptions(use_threads=False, block_size=max(1 << 20, len(data)))
            try:
                return pa.json.read_json(io.BytesIO(data), reading, options), 0
            except (pa.ArrowInvalid, UnicodeDecodeError):
                continue
    return _parse_each_line(data, columns)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _parse_each_line(data: bytes, columns: tuple[str, ...]) -> tuple[pa.Table, int]:
    lines = [line for line in data.split(b"\n") if line.strip()]
    rows = [row for line in lines if (row := _parse_line(line)) is not None]
    as_text = {name: [_text(row.get(name)) for row in rows] for name in columns if name != "hashtags"}
    table = pa.table({name: pa.array(values, pa.string()) for name, values in as_text.items()})
    if "hashtags" in columns:
        values = [row.get("hashtags") for row in rows]
        texts = as_tags(pa.array([_text(value) for value in values], pa.string())).to_pylist()
        tags = [
            _tag_list(value) if isinstance(value, list) else text for value, text in zip(values, texts, strict=True)
        ]
        table = table.append_column("hashtags", pa.array(tags, pa.list_(pa.string())))
    return table, len(lines) - len(rows)


def _parse_line(line: bytes) -> dict[str, Any] | None:
    """A JSON object, or None for anything else; a surrogate that no UTF-8 can hold becomes "?"."""
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, list | dict):
        return None
    return str(value).encode("utf-8", "replace").decode()


def _tag_list(values: list[Any]) -> list[str]:
    return [text for value in values if (text := _text(value)) is not None]
