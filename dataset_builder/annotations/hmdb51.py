"""HMDB51: a folder of `CLASS_test_splitN.txt`, lines `NAME.avi D` with D = 1 training, 2 test, 0 neither."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dataset_builder.annotations.rows import Annotation, Format, Row, first_line, lines, wrong_format
from pipeline.config import TargetConfig

EXPECTED = "HMDB51: a folder with files CLASS_test_splitN.txt of lines `NAME.avi D`, D being 0, 1 or 2"
FILES = "*_test_split{fold}.txt"
SPLITS = {"0": "neither", "1": "train", "2": "test"}
_FILE = re.compile(r"(?P<label>.+)_test_split\d+\.txt")
_LINE = re.compile(r"(?P<name>[^/\s][^/]*)\.\w+\s+(?P<use>[012])")


def recognise(text: str) -> bool:
    return bool(_LINE.fullmatch(first_line(text)))


def read(text: str, path: str, config: TargetConfig) -> Iterator[Row]:
    file = _FILE.fullmatch(path.rsplit("/", 1)[-1])
    if not file or not recognise(text):
        raise wrong_format(path, EXPECTED, text)
    return (_annotation(line, file["label"]) for line in lines(text))


def _annotation(line: str, label: str) -> Row:
    found = _LINE.fullmatch(line)
    if not found:
        return "broken_row"
    return Annotation({"name": found["name"], "label": label}, (label,), split=SPLITS[found["use"]])


FORMAT = Format("hmdb51", EXPECTED, recognise, read, ("{label}/{name}", "{name}"))
