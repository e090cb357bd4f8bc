"""Protocol evaluate: which output of the weights' own final layer is which label of the target.

K outputs of the network. By name where the weights carry names; else both are taken to be in alphabetical order, as the
published weights are, if their numbers agree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from finetune.start import Start
from pipeline.config import ConfigError

REMEDY = "A target with the labels of the weights would fit, or a protocol that learns the target's: fc_only, full_ft"
SHOWN = 5


class FinalLayer(NamedTuple):
    """The order in which outputs are used."""

    columns: list[int]
    """[K], outputs of the network: first those of the target's labels, then the others'."""
    labels: tuple[str, ...]
    """[K], their names; a label that the target does not have keeps competing."""
    remark: str
    """How they were matched, for the person at the terminal."""


def match(start: Start, target: str, labels: Sequence[str]) -> FinalLayer:
    """The outputs in the order of the target's labels.

    Raises:
        ConfigError: a label of the target is not among the weights', or, without names, their numbers differ.
    """
    if start.num_labels is None:
        raise ConfigError(
            "protocol evaluate tests the final layer that weights bring, and random weights bring none that was trained: "
            "name a finished run, or a file of weights with --run-from"
        )
    if start.labels is None:
        return by_alphabet(start, target, labels)
    if len(start.labels) != start.num_labels:
        raise ConfigError(
            f"{start.description} names {len(start.labels)} labels, and its final layer has {start.num_labels}"
        )
    return by_name(start, target, labels)


def by_alphabet(start: Start, target: str, labels: Sequence[str]) -> FinalLayer:
    """Output i is the i-th of the target's labels in alphabetical order."""
    if len(labels) != start.num_labels:
        raise ConfigError(
            f"{start.description} has {start.num_labels} labels without names, and target '{target}' has {len(labels)}: "
            f"which is which cannot be told. {REMEDY}"
        )
    place = {name: number for number, name in enumerate(sorted(labels))}
    remark = (
        f"the weights do not name their labels; taken as the {len(labels)} labels of '{target}' in alphabetical order: "
        f"{', '.join(map(repr, sorted(labels)[:3]))}, …"
    )
    return FinalLayer([place[name] for name in labels], tuple(labels), remark)


def by_name(start: Start, target: str, labels: Sequence[str]) -> FinalLayer:
    """Each label's output is the one of the same name; case, spaces and punctuation count only where they must."""
    exact = {name: number for number, name in enumerate(start.labels)}
    loose = {_plain(name): number for number, name in enumerate(start.labels)}
    is_loose = (
        not exact.keys() >= set(labels) and len(loose) == len(exact) and len({*map(_plain, labels)}) == len(labels)
    )
    found = [loose.get(_plain(name)) if is_loose else exact.get(name) for name in labels]
    if missing := [name for name, number in zip(labels, found, strict=True) if number is None]:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise ConfigError(
            f"{len(missing)} of the {len(labels)} labels of target '{target}' are not among the {len(start.labels)} of "
            f"{start.description}: {', '.join(map(repr, missing[:SHOWN]))}{more}. {REMEDY}"
        )
    others = sorted(set(range(len(start.labels))) - set(found))
    remark = f"the {len(labels)} labels of '{target}' are matched by name"
    if others:
        remark += f"; {len(others)} labels of the weights that it does not have compete as well"
    return FinalLayer(found + others, (*labels, *(start.labels[number] for number in others)), remark)


def _plain(name: str) -> str:
    return " ".join(re.findall(r"\w+", name.casefold().replace("_", " ")))
