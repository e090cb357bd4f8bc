"""What every format's reader gives, and what it reads with: text, CSV records, numbers and times."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from pipeline import storage
from pipeline.config import ConfigError, TargetConfig

FOUND_CHARS = 120  # of a file's first line, in messages


@dataclass(frozen=True)
class Annotation:
    """One usable row."""

    fields: dict[str, str | int]
    """What the path of the video is made of, by name; see the format's `templates`."""
    labels: tuple[str, ...]
    start_s: float | None = None
    end_s: float | None = None
    group: str | None = None
    """Videos that belong together (one source, one person): cross-validation leaves out whole groups."""
    split: str | None = None
    """Where one table holds several."""
    uid: str = ""
    """Tells apart rows that are samples of their own though they show the same span."""


Row = Annotation | str
"""What becomes of a row: an annotation, or the reason why it is dropped."""


@dataclass(frozen=True)
class Format:
    name: str
    expected: str
    """How its files look, for messages."""
    recognise: Callable[[str], bool]
    """Whether this can be the text of such a file; used by `auto`, so it errs on the side of no."""
    read: Callable[[str, str, TargetConfig], Iterator[Row]]
    """(text, path, config) → its rows, every one; ConfigError (`wrong_format`) when the text is something else."""
    templates: tuple[str, ...] = ("{path}",)
    """Paths of the video within --videos, without suffix, tried in order."""
    reads_classes: bool = False
    """Whether `read` makes its labels of --classes; else they are the list of labels to keep."""


def read_text(path: str, what: str) -> str:
    """Text of an annotation file, its lines ended by a line feed; ConfigError names what cannot be read."""
    try:
        return storage.read_bytes(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the target table '{path}' ({what}): {error}") from error


def first_line(text: str) -> str:
    return next((line.strip() for line in io.StringIO(text) if line.strip()), "")


def lines(text: str) -> Iterator[str]:
    """Lines with something on them, stripped."""
    return (line for line in map(str.strip, io.StringIO(text)) if line)


def wrong_format(path: str, expected: str, text: str) -> ConfigError:
    found = first_line(text)[:FOUND_CHARS]
    return ConfigError(
        f"target table '{path}': expected {expected}; found {f'the first line {found!r}' if found else 'nothing'}"
    )


def columns(text: str) -> list[str]:
    """Column names of a CSV or TSV, in lower case."""
    line = first_line(text)
    try:
        names = next(csv.reader([line], delimiter=_delimiter(line), skipinitialspace=True), [])
    except csv.Error:
        return []
    return [name.strip().lower() for name in names]


def _delimiter(line: str) -> str:
    return max(",\t;", key=line.count) if line else ","


def records(text: str, path: str, needed: Sequence[str], expected: str) -> Iterator[dict[str, str]]:
    """Rows of a CSV or TSV by column name (lower case), white space stripped, "" for what is not there.

    Raises: ConfigError when one of the `needed` columns is missing or stands there twice, or a row cannot be parsed.
    """
    names = columns(text)
    if missing := [name for name in needed if name not in names]:
        raise ConfigError(
            f"target table '{path}' has no column {' and no column '.join(missing)}; it has: "
            f"{', '.join(names) or 'nothing'}. Expected: {expected}"
        )
    if twice := [name for name in needed if names.count(name) > 1]:
        raise ConfigError(f"target table '{path}' has more than one column {twice[0]}")
    start = next(i for i, line in enumerate(io.StringIO(text)) if line.strip())
    delimiter = _delimiter(first_line(text))
    for row in parsed(text, path, delimiter, skip_lines=start + 1):
        yield dict(zip(names, chain(row, [""] * len(names)), strict=False))


def parsed(text: str, path: str, delimiter: str = ",", *, skip_lines: int = 0) -> Iterator[list[str]]:
    """Rows of values, stripped; blank lines are no rows."""
    file = io.StringIO(text)
    for _ in range(skip_lines):
        file.readline()
    reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
    try:
        yield from ([value.strip() for value in row] for row in reader if any(map(str.strip, row)) or len(row) > 1)
    except csv.Error as error:
        raise ConfigError(f"target table '{path}', line {skip_lines + reader.line_num}: {error}") from error


def is_broken(*values: str) -> bool:
    """Whether values run over lines: a quotation mark was not closed."""
    return any("\n" in value for value in values)


def number(value: str) -> float | None:
    """A finite number that is not negative, or None."""
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) and found >= 0 else None


def clock(value: str) -> float | None:
    """Seconds of [[HH:]MM:]SS[.sss], or None."""
    parts = [number(part) for part in value.split(":")]
    if None in parts or len(parts) > 3:
        return None
    return math.fsum(part * 60**i for i, part in enumerate(reversed(parts)))


def span(start: str, end: str, read: Callable[[str], float | None] = clock) -> tuple[float | None, float | None] | None:
    """(start_s, end_s), None for what is not written; None when one is no time or nothing lies between them."""
    start_s, end_s = (read(value) if value else None for value in (start, end))
    if (start and start_s is None) or (end and end_s is None):
        return None
    return None if end_s is not None and end_s <= (start_s or 0.0) else (start_s, end_s)


def spans_of(row: dict[str, Any], names: Sequence[tuple[str, str]]) -> tuple[float | None, float | None] | None:
    """`span` of the first pair of columns (start, end) of which one is there."""
    start, end = next((pair for pair in names if pair[0] in row or pair[1] in row), ("", ""))
    return span(row.get(start, ""), row.get(end, ""))
