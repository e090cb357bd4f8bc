"""Hyper-parameters chosen on training videos held out at random; the test split has no part in it (paper, Section 4).

N videos, K labels. A grid, one share of videos held out, and one rule for ties: with a target of sixty videos a tenth is
six, so equal accuracies are common and the loss on the same videos decides. Values are judged by what the target is judged by:
top-1 accuracy, or the mean average precision where videos have several labels.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from finetune import metrics
from finetune.losses import log_loss
from pipeline.config import ConfigError
from pipeline.progress import say
from pretrain.models import VideoResNet

Unit = tuple[bool, str]  # what is held out whole: (it is a group, its name or the video's key)


@dataclass(frozen=True)
class Trial:
    """One value of the grid and how it did on the held-out videos."""

    value: float
    score: float
    """The headline metric (`metrics.headline`)."""
    loss: float
    """Mean over videos of the loss of their averaged probabilities (`losses.log_loss`)."""


class Remembered(Protocol):
    """Finished trials of an interrupted search, by value."""

    def get(self, value: float) -> Trial | None: ...

    def add(self, trial: Trial) -> None: ...


class Fitted(NamedTuple):
    """What a protocol hands over for the test."""

    model: VideoResNet
    chosen: float | None
    """Of the grid; None without one."""
    trials: list[Trial]
    account: dict[str, Any]
    """How the final training went, for the result."""


def held_out(
    keys: Sequence[str],
    labels: Sequence[int] | Sequence[Sequence[int]],
    share: float,
    seed: int,
    groups: Sequence[str | None] | None = None,
) -> np.ndarray:
    """Which videos are held out: bool [N], a pure function of the arguments, in any order of the videos.

    What is taken is a group whole: the videos of one `groups` entry, or a video that has none. Within a label the groups
    are ranked by hash(seed, name); the one that ends at the r-th of the label's n videos has quantile r / n (a group of
    several labels: the mean over its videos). The lowest quantiles are held out, as far as that brings their number nearer
    to the share. So every label gives its share as nearly as whole groups allow, groups of one size are equally likely,
    and the last group of a label is never taken.

    Args:
        keys: [N], names of the videos.
        labels: [N], a label or the labels of each.
        share: of the videos.
        seed: of the hash.
        groups: [N], names of what must stay together.
    """
    labels_of = [np.atleast_1d(of_video).tolist() for of_video in labels]
    members: dict[Unit, list[int]] = {}
    for index, key in enumerate(keys):
        group = groups[index] if groups is not None else None
        members.setdefault((group is not None, key if group is None else group), []).append(index)
    hashes = {unit: hashlib.sha256(f"{seed}/held out/{unit[1]}".encode()).digest() for unit in members}
    contents = {unit: Counter(label for i in members[unit] for label in labels_of[i]) for unit in members}
    left = Counter(label for of_video in labels_of for label in of_video)
    quantiles = _quantiles(contents, left, hashes)
    wanted, taken = max(1, round(share * len(keys))), []
    for unit in sorted(members, key=lambda unit: (quantiles[unit], hashes[unit])):
        missing = wanted - len(taken)
        if missing <= 0:
            break
        is_nearer = not taken or len(members[unit]) - missing <= missing
        if is_nearer and all(left[label] > count for label, count in contents[unit].items()):
            taken += members[unit]
            left.subtract(contents[unit])
    mask = np.zeros(len(keys), dtype=bool)
    mask[taken] = True
    return mask


def _quantiles(contents: dict[Unit, Counter[int]], sizes: Counter[int], hashes: dict[Unit, bytes]) -> dict[Unit, float]:
    passed, quantiles = Counter(), {}
    for unit in sorted(contents, key=lambda unit: hashes[unit]):
        passed.update(contents[unit])
        ends = sum(count * passed[label] / sizes[label] for label, count in contents[unit].items())
        quantiles[unit] = ends / contents[unit].total()
    return quantiles


def search(
    name: str,
    values: Sequence[float],
    labels: np.ndarray,
    scores_with: Callable[[float], np.ndarray],
    remembered: Remembered | None = None,
) -> tuple[float, list[Trial]]:
    """Try every value; the highest held-out headline metric wins, ties go to the lower loss, then to the earlier value.

    Args:
        name: of the hyper-parameter, for the screen.
        values: the grid; a single value is taken as it is, without a trial.
        labels: int [N] or bool [N, K], of the held-out videos.
        scores_with: value → probabilities of the held-out videos, float [N, K], from training on the others.
        remembered: trials that need not be made again; new ones are added.

    Returns: the chosen value and all trials, in the order of the grid.
    """
    if not values:
        raise ConfigError(f"'{name}' is empty: give at least one value")
    if len(values) == 1:
        return values[0], []
    if not len(labels):
        raise ConfigError(
            "no label has two training videos (or groups of them), so none can be held out: give a single value of "
            f"'{name}'"
        )
    if labels.ndim == 2 and not labels.any():
        raise ConfigError(f"no held-out video has a label: raise held_out, or give a single value of '{name}'")
    title, trials = metrics.TITLES[metrics.headline_name(labels)], []
    for value in values:
        known = None if remembered is None else remembered.get(value)
        trial = known or _trial(value, scores_with(value), labels)
        trials.append(trial)
        if known is None and remembered is not None:
            remembered.add(trial)
        say(
            f"  {name} {value:g}: held-out {title} {trial.score:.1%} of {len(labels)} videos, "
            f"loss {trial.loss:.3f}" + (" (known)" if known else "")
        )
    return min(trials, key=lambda trial: (-trial.score, trial.loss)).value, trials


def _trial(value: float, scores: np.ndarray, labels: np.ndarray) -> Trial:
    return Trial(float(value), metrics.headline(scores, labels), log_loss(scores, labels))
