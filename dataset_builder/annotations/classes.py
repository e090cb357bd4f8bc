"""A list of the labels that count: one a line, numbered or not, or the keys of a JSON object."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from dataset_builder.annotations.rows import lines, read_text
from pipeline.config import ConfigError

_LINE = re.compile(r"(?:\d+[\s,]+)?(?P<name>.+?)(?:,\s*\d+)?")  # `1 ApplyEyeMakeup` (UCF101), `clapping,0` (Moments)


def class_list(paths: Sequence[str]) -> frozenset[str]:
    """Labels of all the files; ConfigError when there is none."""
    names = frozenset(name for path in paths for name in _names(read_text(path, "--classes"), path))
    if not names:
        raise ConfigError(f"--classes {' '.join(paths)}: no label in it")
    return names


def _names(text: str, path: str) -> Iterable[str]:
    if not path.lower().endswith(".json"):
        return (_LINE.fullmatch(line)["name"] for line in lines(text))
    try:
        names = [*json.loads(text)]
    except (ValueError, TypeError) as error:
        raise ConfigError(f"--classes '{path}' is no JSON object of labels: {error}") from error
    return map(str, names)
