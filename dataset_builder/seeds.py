"""Seed labels: a text file, one label a line."""

from __future__ import annotations

from dataset_builder.hashtags import normalise
from pipeline import progress, storage
from pipeline.config import ConfigError


def read_seed_labels(path: str) -> list[str]:
    """Labels in file order, white space trimmed, blank lines skipped; spellings that normalise alike count once.

    Raises: ConfigError when the file cannot be read, holds no label, or has a line without a letter or digit.
    """
    if not path:
        raise ConfigError("no seed labels: set --source.seed-labels to a text file with one label a line")
    try:
        text = storage.read_bytes(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the seed labels '{path}' (--source.seed-labels): {error}") from error
    labels: dict[str, str] = {}
    repeated = 0
    for number, line in enumerate(text.splitlines(), start=1):
        label = " ".join(line.split())
        if not label:
            continue
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
