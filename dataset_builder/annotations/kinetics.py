"""Kinetics-400/600/700: label,youtube_id,time_start,time_end,split. Tables of test videos may lack the label."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from dataset_builder.annotations.rows import Annotation, Format, Row, columns, is_broken, number, records, span
from pipeline.config import TargetConfig

NEEDED = ("youtube_id", "time_start", "time_end")
EXPECTED = "Kinetics: a first line with the columns label,youtube_id,time_start,time_end,split"
FOLDERS = ("", "{split}/", "{label}/", "{label_}/", "{split}/{label}/", "{split}/{label_}/")
NAMES = ("{id}_{start:06d}_{end:06d}", "{id}_{start}_{end}", "{id}")


def recognise(text: str) -> bool:
    return {*NEEDED} <= {*columns(text)}


def read(text: str, path: str, config: TargetConfig) -> Iterator[Row]:
    return map(_annotation, records(text, path, NEEDED, EXPECTED))


def _annotation(row: dict[str, str]) -> Row:
    youtube_id, label, split = row["youtube_id"], row.get("label", ""), row.get("split", "")
    if is_broken(youtube_id, label):
        return "broken_row"
    if not youtube_id:
        return "incomplete_row"
    if not label:
        return "no_label"
    times = span(row["time_start"], row["time_end"], number)
    if times is None or None in times:
        return "bad_times"
    start, end = map(int, times)
    fields = {"id": youtube_id, "label": label, "label_": label.replace(" ", "_"), "split": split}
    return Annotation({**fields, "start": start, "end": end}, (label,), *times, split=split or None)


TEMPLATES = tuple(folder + name for name, folder in product(NAMES, FOLDERS))
FORMAT = Format("kinetics", EXPECTED, recognise, read, TEMPLATES)
