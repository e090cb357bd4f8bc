"""EPIC-Kitchens-55 and -100: segments of long videos, each with a verb class and a noun class.

The labels of the challenge's test splits are not public. What papers test on instead is a part of the training table: the
participants named by `test_participants`, in the published ablations P26 to P31 (Baradel et al. 2018, whom the paper follows).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from dataset_builder.annotations.rows import (
    Annotation,
    Format,
    Row,
    clock,
    columns,
    is_broken,
    number,
    read_text,
    records,
    span,
)
from pipeline.config import ConfigError, TargetConfig

EXPECTED = (
    "EPIC-Kitchens: a first line with participant_id, video_id, start_timestamp and stop_timestamp (or start_frame and "
    "stop_frame), verb_class, noun_class"
)
CLOCK, FRAMES = ("start_timestamp", "stop_timestamp"), ("start_frame", "stop_frame")
FOLDERS = ("", "{participant}/", "{participant}/videos/", "train/{participant}/", "videos/train/{participant}/")
NAMES = ("{id}_{uid}", "{id}", "{uid}")


@dataclass(frozen=True)
class ClassNames:
    """Names by number, where --classes gives them."""

    verbs: dict[str, str]
    nouns: dict[str, str]

    def verb(self, number: str) -> str:
        return self.verbs.get(number, f"verb {number}")

    def noun(self, number: str) -> str:
        return self.nouns.get(number, f"noun {number}")


def recognise(text: str) -> bool:
    names = {*columns(text)}
    return {"participant_id", "video_id"} <= names and ({*CLOCK} <= names or {*FRAMES} <= names)


def read(text: str, path: str, config: TargetConfig) -> Iterator[Row]:
    has_clock = {*CLOCK} <= {*columns(text)}
    if not has_clock and {*FRAMES} <= {*columns(text)} and not (config.frame_rate or 0) > 0:
        raise ConfigError(
            f"target table '{path}' has frame numbers and no times: set --frame-rate to what they count at"
        )
    names, participants = class_names(config.classes), set()
    for row in records(text, path, ("participant_id", "video_id", *(CLOCK if has_clock else FRAMES)), EXPECTED):
        participants.add(row["participant_id"])
        yield _annotation(row, names, config, has_clock)
    if unknown := sorted({*config.test_participants} - participants):
        raise ConfigError(
            f"--test-participants {' '.join(unknown)}: not in '{path}', which has {', '.join(sorted(participants))}"
        )


def _annotation(row: dict[str, str], names: ClassNames, config: TargetConfig, has_clock: bool) -> Row:
    participant, video_id = row["participant_id"], row["video_id"]
    if is_broken(participant, video_id):
        return "broken_row"
    if not participant or not video_id:
        return "incomplete_row"
    labels = _labels(row, names, config.label_field)
    if not labels:
        return "no_label"
    times = span(row[CLOCK[0]], row[CLOCK[1]], clock) if has_clock else _frame_span(row, config.frame_rate)
    if times is None or None in times:
        return "bad_times"
    uid = row.get("narration_id") or row.get("uid") or ""
    split = ("test" if participant in config.test_participants else "train") if config.test_participants else None
    fields = {"id": video_id, "participant": participant, **({"uid": uid} if uid else {})}
    return Annotation(fields, labels, *times, group=participant, split=split, uid=uid)


def _frame_span(row: dict[str, str], frame_rate: float) -> tuple[float | None, float | None] | None:
    def seconds(value: str) -> float | None:
        frame = number(value)
        return None if frame is None else frame / frame_rate

    return span(row[FRAMES[0]], row[FRAMES[1]], seconds)


def _labels(row: dict[str, str], names: ClassNames, field: str) -> tuple[str, ...]:
    verb, noun = row.get("verb_class", ""), row.get("noun_class", "")
    if field == "all_nouns":
        return _all_nouns(row.get("all_noun_classes", ""), names)
    if field == "verb":
        return (names.verb(verb),) if verb else ()
    if field == "noun":
        return (names.noun(noun),) if noun else ()
    return (f"{names.verb(verb)} {names.noun(noun)}",) if verb and noun else ()


def _all_nouns(text: str, names: ClassNames) -> tuple[str, ...]:
    try:
        numbers = json.loads(text)
    except ValueError:
        return ()
    return tuple(dict.fromkeys(names.noun(str(n)) for n in numbers)) if isinstance(numbers, list) else ()


def class_names(paths: tuple[str, ...]) -> ClassNames:
    """Names of EPIC_verb_classes.csv, EPIC_100_noun_classes.csv and the like, told apart by the names of the files."""
    names: dict[str, dict[str, str]] = {"verb": {}, "noun": {}}
    for path in paths:
        kinds = [kind for kind in names if kind in path.rsplit("/", 1)[-1].lower()]
        if len(kinds) != 1:
            raise ConfigError(f"--classes '{path}': the name of the file must hold either 'verb' or 'noun'")
        names[kinds[0]] = _class_table(path, f"{kinds[0]}_id")
    return ClassNames(names["verb"], names["noun"])


def _class_table(path: str, id_column: str) -> dict[str, str]:
    text = read_text(path, "--classes")
    id_column, key_column = ("id", "key") if "id" in columns(text) else (id_column, "class_key")
    expected = f"columns {id_column} and {key_column}"
    found = {row[id_column]: row[key_column] for row in records(text, path, (id_column, key_column), expected)}
    if len({*found.values()}) != len(found):
        raise ConfigError(f"--classes '{path}' gives two classes the same name")
    return found


TEMPLATES = tuple(folder + name for name, folder in product(NAMES, FOLDERS))
FORMAT = Format("epic", EXPECTED, recognise, read, TEMPLATES, reads_classes=True)
