"""Moments in Time: no first line, rows `path,label` and after them how many annotators agreed, which is not used."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dataset_builder.annotations.rows import Annotation, Format, Row, first_line, is_broken, parsed, wrong_format
from pipeline.config import TargetConfig

EXPECTED = (
    "Moments: rows `path,label[,agreeing[,disagreeing]]` without a first line of names, path being that of a video"
)
_LINE = re.compile(r'"?[^",]+\.(mp4|avi|webm|mkv|mov)"?\s*,\s*[^,]+(\s*,\s*\d+)*', re.IGNORECASE)


def recognise(text: str) -> bool:
    return bool(_LINE.fullmatch(first_line(text)))


def read(text: str, path: str, config: TargetConfig) -> Iterator[Row]:
    if not recognise(text):
        raise wrong_format(path, EXPECTED, text)
    return map(_annotation, parsed(text, path))


def _annotation(row: list[str]) -> Row:
    path, label = (*row, "", "")[:2]
    if is_broken(path, label):
        return "broken_row"
    if not path or not label:
        return "incomplete_row"
    stem = path.rpartition(".")[0] or path
    return Annotation({"path": stem, "label": label, "name": stem.rpartition("/")[2]}, (label,))


FORMAT = Format(
    "moments", EXPECTED, recognise, read, ("{path}", "training/{path}", "validation/{path}", "{label}/{path}")
)
