"""Differences between results of equal seeds: pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.report.estimates import MIN_SEEDS, Interval, t_975


@dataclass(frozen=True)
class Paired:
    """One thing minus another over the seeds that both have; all values are differences of shares."""

    by_seed: dict[int, float]
    """In order of seeds."""
    mean: float
    interval: Interval | None
    """95 %, Student's t on the differences; None below MIN_SEEDS."""


def paired(better: Mapping[int, float], base: Mapping[int, float]) -> Paired | None:
    """`better` minus `base`, each {seed: share}; None where no seed is in both.

    What a seed decides for both, such as which videos are drawn and held out, falls out of the differences, so their
    interval is the narrower one wherever that matters.
    """
    by_seed = {seed: better[seed] - base[seed] for seed in sorted(better.keys() & base.keys())}
    if not by_seed:
        return None
    differences = list(by_seed.values())
    mean = math.fsum(differences) / len(differences)
    if len(differences) < MIN_SEEDS:
        return Paired(by_seed, mean, None)
    half = t_975(len(differences) - 1) * float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
    return Paired(by_seed, mean, (mean - half, mean + half))
