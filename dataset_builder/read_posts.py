"""Rows of a part of the posts, batch by batch: memory follows the batch, whatever the size of the part."""

from __future__ import annotations

import io
import itertools
import json
import lzma
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from dataset_builder.post_rows import as_tags, in_one_form
from pipeline import storage
from pipeline.config import ConfigError

COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
COLUMNS = ("post_id", "video_uri", "caption", "hashtags", "duration_s")
BATCH_ROWS = 1 << 15  # what is computed of more does not stay in the processor's cache
BATCH_BYTES = 64 << 20  # as stored, of Parquet
_BLOCK_BYTES = 16 << 20  # of text
_READ_AHEAD = 1 << 20  # bytes of each column
READ_ERRORS = (OSError, ValueError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)
"""What files and decompressors raise for a file that is damaged, gone or of another kind."""


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


def suffix(path: str) -> str:
    """What the name ends with before the compression: ".csv" of posts.csv.gz."""
    for compression in COMPRESSIONS:
        path = path.removesuffix(compression)
    return os.path.splitext(path)[1].lower()


def open_file(path: str) -> Any:
    return fsspec.open(path, "rb", compression="infer").open()


@contextmanager
def open_parquet(path: str) -> Iterator[pq.ParquetFile]:
    """A Parquet file that reads its columns page by page: a row group may be larger than memory."""
    if storage.is_local(path) and not path.endswith(COMPRESSIONS):
        with pq.ParquetFile(path, buffer_size=_READ_AHEAD, pre_buffer=False) as parquet:
            yield parquet
    else:
        with open_file(path) as file:
            yield pq.ParquetFile(file, buffer_size=_READ_AHEAD, pre_buffer=False)


def read_part(part: PostsPart) -> Iterator[tuple[pa.Table, int]]:
    """(rows as `POSTS`, malformed rows left out) batch by batch.

    Raises: StorageError that names a file that is damaged or gone, ConfigError for a column of a type that cannot be meant.
    """
    reader = {"parquet": _read_parquet, "jsonl": _read_jsonl, "csv": _read_csv}[part.format]
    batches = reader(part)
    while True:
        try:
            if (batch := next(batches, None)) is None:
                return
            posts = in_one_form(batch[0])
        except pa.ArrowNotImplementedError as error:
            raise ConfigError(f"posts file '{part.path}' has a column of a type that is not read: {error}") from error
        except READ_ERRORS as error:
            raise storage.StorageError(f"cannot read the posts '{part.path}': {error}") from error
        yield posts, batch[1]


def _read_parquet(part: PostsPart) -> Iterator[tuple[pa.Table, int]]:
    with open_parquet(part.path) as file:
        group = file.metadata.row_group(part.first)
        rows = max(1, min(BATCH_ROWS, group.num_rows * BATCH_BYTES // max(1, group.total_byte_size)))
        for batch in file.iter_batches(rows, row_groups=[part.first], columns=list(part.columns), use_threads=False):
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
    with open_file(part.path) as file:
        reading = pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES)
        for batch in pa.csv.open_csv(file, reading, _csv_options(part.path, skip), options):
            yield pa.Table.from_batches([batch]), 0
    if malformed:
        yield pa.table({name: pa.array([], pa.string()) for name in part.columns}), malformed


def _csv_options(path: str, invalid_row_handler: Any = None) -> pa.csv.ParseOptions:
    return pa.csv.ParseOptions(
        delimiter=delimiter(path), newlines_in_values=True, invalid_row_handler=invalid_row_handler
    )


def delimiter(path: str) -> str:
    return "\t" if suffix(path) == ".tsv" else ","


def _read_jsonl(part: PostsPart) -> Iterator[tuple[pa.Table, int]]:
    with open_file(part.path) as file:
        if part.first:
            file.seek(part.first - 1)
            file.readline()  # the line that began before this part is the previous part's
        while part.end is None or file.tell() < part.end:
            size = _BLOCK_BYTES if part.end is None else min(_BLOCK_BYTES, part.end - file.tell())
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
    rows = [row for line in lines if (row := parse_line(line)) is not None]
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


def parse_line(line: bytes) -> dict[str, Any] | None:
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
