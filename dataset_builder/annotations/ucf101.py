"""UCF101: lines `Class/v_Class_gNN_cNN.avi N` (training) or without the number (test). Clips of a group show one scene."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dataset_builder.annotations.rows import Annotation, Format, Row, first_line, lines, wrong_format
from pipeline.config import TargetConfig

EXPECTED = "UCF101: lines `Class/v_Class_gNN_cNN.avi N`, or without the number"
_LINE = re.compile(r"(?P<path>(?P<label>[^/\s]+)/(?P<name>v_\w+?_(?P<group>g\d+)_c\d+))\.\w+(\s+\d+)?")


def recognise(text: str) -> bool:
    return bool(_LINE.fullmatch(first_line(text)))


def read(text: str, path: str, config: TargetConfig) -> Iterator[Row]:
    if not recognise(text):
        raise wrong_format(path, EXPECTED, text)
    return map(_annotation, lines(text))


def _annotation(line: str) -> Row:
    found = _LINE.fullmatch(line)
    if not found:
        return "broken_row"
    label = found["label"]
    fields = {"path": found["path"], "label": label, "name": found["name"]}
    return Annotation(fields, (label,), group=f"{label} {found['group']}")


FORMAT = Format("ucf101", EXPECTED, recognise, read, ("{path}", "{name}"))
