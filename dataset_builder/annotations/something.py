"""Something-Something: v1 lines `id;template`, v2 JSON with id, label and template. The class is the template."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from dataset_builder.annotations.rows import Annotation, Format, Row, first_line, is_broken, lines, wrong_format
from pipeline.config import TargetConfig

EXPECTED = 'Something-Something: lines `id;template` (v1), or a JSON list of {"id", "label", "template"} (v2)'
_LINE = re.compile(r"\d+(;.*)?")


def recognise(text: str) -> bool:
    return bool(re.fullmatch(r"\d+;.+", first_line(text))) or bool(_items(text))


def read(text: str, path: str, config: TargetConfig) -> Iterator[Row]:
    items = _items(text)
    if items is None and not _LINE.fullmatch(first_line(text)):
        raise wrong_format(path, EXPECTED, text)
    return map(_of_line, lines(text)) if items is None else map(_of_item, items)


def _items(text: str) -> list[dict[str, Any]] | None:
    """Entries of a v2 file, or None for what is none."""
    if not text.lstrip().startswith("["):
        return None
    try:
        items = json.loads(text)
    except ValueError:
        return None
    return items if isinstance(items, list) and items and isinstance(items[0], dict) and "id" in items[0] else None


def _of_line(line: str) -> Row:
    video, _, template = line.partition(";")
    return _annotation(video.strip(), template)


def _of_item(item: Any) -> Row:
    if not isinstance(item, dict):
        return "broken_row"
    template = item.get("template")
    return _annotation(str(item.get("id", "")), template if isinstance(template, str) else "")


def _annotation(video: str, template: str) -> Row:
    if is_broken(video, template):
        return "broken_row"
    if not video:
        return "incomplete_row"
    label = template.replace("[", "").replace("]", "").strip()
    return Annotation({"id": video}, (label,)) if label else "no_label"


FORMAT = Format("something", EXPECTED, recognise, read, ("{id}",))
