"""Hyper-parameters chosen on training videos held out at random; the test split has no part in it (paper, Section 4).

N videos, K labels. A grid, one share of videos held out, and one rule for ties: with a target of sixty videos a tenth is
six, so equal accuracies are common and the cross-entropy on the same videos decides.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from finetune.metrics import top_k_correct
from pipeline.config import ConfigError
from pipeline.progress import say
from pretrain.models import VideoResNet


@dataclass(frozen=True)
class Trial:
    """One value of the grid and how it did on the held-out videos."""

    value: float
    score: float
    """Top-1 accuracy."""
    loss: float
    """Mean cross-entropy of the videos' averaged probabilities."""


class Fitted(NamedTuple):
    """What a protocol hands over for the test."""

    model: VideoResNet
    chosen: float
    """Of the grid."""
    trials: list[Trial]
    account: dict[str, Any]
    """How the final training went, for the result."""


def held_out(keys: Sequence[str], labels: Sequence[int], share: float, seed: int) -> np.ndarray:
    """Which videos are held out: bool [N], a pure function of (keys, labels, share, seed), in any order of the videos.

    Within a label the videos are ranked by hash(seed, key); over labels the r-th of n counts as quantile r / n, and the
    lowest quantiles are held out. So every label gives its share as nearly as whole videos allow, every video of a label
    is equally likely, and the last one of a label is never taken.
    """
    hashes = [hashlib.sha256(f"{seed}/held out/{key}".encode()).digest() for key in keys]
    order = sorted(range(len(keys)), key=lambda index: (labels[index], hashes[index]))
    sizes, taken, quantiles = Counter(labels), Counter(), {}
    for index in order:
        taken[labels[index]] += 1
        quantiles[index] = taken[labels[index]] / sizes[labels[index]]
    candidates = sorted((quantiles[i], hashes[i], i) for i in order if quantiles[i] < 1)
    wanted = max(1, round(share * len(keys)))
    mask = np.zeros(len(keys), dtype=bool)
    mask[[index for _, _, index in candidates[:wanted]]] = True
    return mask


def search(
    name: str, values: Sequence[float], labels: np.ndarray, scores_with: Callable[[float], np.ndarray]
) -> tuple[float, list[Trial]]:
    """Try every value; the highest held-out accuracy wins, ties go to the lower loss, then to the earlier value.

    Args:
        name: of the hyper-parameter, for the screen.
        values: the grid; a single value is taken as it is, without a trial.
        labels: int [N], of the held-out videos.
        scores_with: value → probabilities of the held-out videos, float [N, K], from training on the others.

    Returns: the chosen value and all trials, in the order of the grid.
    """
    if not values:
        raise ConfigError(f"'{name}' is empty: give at least one value")
    if len(values) == 1:
        return values[0], []
    if not len(labels):
        raise ConfigError(f"no label has two training videos, so none can be held out: give a single value of '{name}'")
    trials = []
    for value in values:
        trials.append(_trial(value, scores_with(value), labels))
        say(
            f"  {name} {value:g}: held-out top-1 {trials[-1].score:.1%} of {len(labels)} videos, "
            f"cross-entropy {trials[-1].loss:.3f}"
        )
    return min(trials, key=lambda trial: (-trial.score, trial.loss)).value, trials


def _trial(value: float, scores: np.ndarray, labels: np.ndarray) -> Trial:
    own = scores[np.arange(len(labels)), labels].astype(np.float64)
    loss = -np.log(np.clip(own, 1e-12, None)).mean() if np.isfinite(scores).all() else np.inf
    return Trial(float(value), float(top_k_correct(scores, labels, 1).mean()), float(loss))
