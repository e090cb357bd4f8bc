"""A CSV with the columns path,label: the format for one's own videos; several labels, segments, splits and groups if wanted."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dataset_builder.annotations.rows import Annotation, Format, Row, columns, is_broken, records, spans_of
from pipeline.config import ConfigError, TargetConfig

EXPECTED = (
    "a first line with the columns path and label (or labels, separated by | or ;), and if wanted start_s, end_s, split, "
    "group"
)
SPANS = (("start_s", "end_s"), ("start", "end"), ("start_time", "end_time"))


def recognise(text: str) -> bool:
    names = columns(text)
    return "path" in names and ("label" in names or "labels" in names)


def read(text: str, path: str, config: TargetConfig) -> Iterator[Row]:
    names = columns(text)
    if "label" in names and "labels" in names:
        raise ConfigError(f"target table '{path}' has both a column label and a column labels: leave one out")
    needed = ("path", "labels" if "labels" in names else "label")
    return map(_annotation, records(text, path, needed, EXPECTED))


def _annotation(row: dict[str, str]) -> Row:
    labels = _labels(row)
    if is_broken(row["path"], *labels):
        return "broken_row"
    if not row["path"] or not labels:
        return "incomplete_row"
    times = spans_of(row, SPANS)
    if times is None:
        return "bad_times"
    group, split = row.get("group") or None, row.get("split") or None
    return Annotation({"path": row["path"]}, labels, *times, group=group, split=split)


def _labels(row: dict[str, str]) -> tuple[str, ...]:
    listed = re.split(r"[|;]", row["labels"]) if "labels" in row else [row["label"]]
    return tuple(dict.fromkeys(label.strip() for label in listed if label.strip()))


FORMAT = Format("csv", EXPECTED, recognise, read)
