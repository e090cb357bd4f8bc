"""Seed labels: the user's text file, one label a line, or the list shipped for a kind of label space."""

from __future__ import annotations

from importlib import resources
from itertools import product

from dataset_builder.hashtags import normalise
from pipeline import progress, storage
from pipeline.config import ConfigError


def seed_labels(path: str, kind: str) -> list[str]:
    """Labels of the file `path`, or with an empty path those shipped for `kind` (paper, Section 3.1.1; docs/label-spaces.md)."""
    return read_seed_labels(path) if path else shipped_labels(kind)


def shipped_labels(kind: str) -> list[str]:
    """The shipped list of `kinetics`, `noun` or `verb`, sorted; `verb_noun`: every verb with every noun, "burn candle"."""
    if kind == "verb_noun":
        return [f"{verb} {noun}" for verb, noun in product(shipped_labels("verb"), shipped_labels("noun"))]
    text = (resources.files("dataset_builder") / "label_sets" / f"{kind}.txt").read_text(encoding="utf-8")
    return [line.split("\t")[0] for line in text.splitlines() if not line.startswith("#")]


def read_seed_labels(path: str) -> list[str]:
    """Labels in file order, white space trimmed, blank lines skipped; spellings that normalise alike count once.

    A line that begins with "#" and white space is a comment; "#surfing" is the label surfing.

    Raises: ConfigError when the file cannot be read, holds no label, or has a line without a letter or digit.
    """
    try:
        text = storage.read_bytes(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the seed labels '{path}' (--source.seed-labels): {error}") from error
    labels: dict[str, str] = {}
    repeated = 0
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0] == "#":
            continue
        label = " ".join(words)
        key = normalise(label)
        if not key:
            raise ConfigError(f"'{path}' line {number}: seed label {label!r} has no letter or digit")
        repeated += key in labels
        labels.setdefault(key, label)
    if not labels:
        raise ConfigError(f"'{path}' holds no seed label: write one a line")
    if repeated:
        progress.say(f"seed labels: {repeated:,} repeated lines left out")
    return list(labels.values())
