"""Means, intervals and gains: pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config import ConfigError

Interval = tuple[float, float]

MIN_SEEDS = 3
"""Seeds from which an interval over seeds is given; two seeds would give one of ± 9 standard deviations."""


def t_975(degrees: float) -> float:
    """97.5 % quantile of Student's t."""
    return float(_special().stdtrit(degrees, 0.975))


def p_value(f: float, degrees: float) -> float:
    """Probability of an F of 1 and `degrees` degrees of freedom above `f`: of a squared t, two-sided."""
    return float(_special().fdtrc(1, degrees, f))


def _special() -> Any:
    """scipy.special, when it is needed: stages that only make pages from this package do without."""
    try:
        import scipy.special
    except ImportError as error:
        raise ConfigError("the report's intervals need scipy: pip install 'tagreel[report]'") from error
    return scipy.special


def mean(values: Iterable[float]) -> float:
    values = list(values)
    return math.fsum(values) / len(values)


@dataclass(frozen=True)
class Estimate:
    """Accuracy of one size (or of no pretraining) under one protocol, over its seeds; all values are shares."""

    values: tuple[float, ...]
    """One per seed, in seed order."""
    mean: float
    sd: float | None
    """Standard deviation over seeds; None for one seed."""
    over_seeds: Interval | None
    """95 % t interval of the mean over seeds; None below MIN_SEEDS."""
    over_videos: Interval | None
    """95 % bootstrap interval over test videos, ends averaged over seeds."""

    @property
    def interval(self) -> Interval | None:
        """Over seeds when there are enough of them, else over test videos."""
        return self.over_seeds or self.over_videos


def estimate(values: list[float], intervals: list[Interval]) -> Estimate:
    """`intervals`: each seed's own bootstrap interval over test videos, those that are known."""
    centre = mean(values)
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    over_seeds = None
    if sd is not None and len(values) >= MIN_SEEDS:
        half = t_975(len(values) - 1) * sd / math.sqrt(len(values))
        over_seeds = (max(0.0, centre - half), min(1.0, centre + half))
    over_videos = tuple(mean(ends) for ends in zip(*intervals, strict=True)) if intervals else None
    return Estimate(tuple(values), centre, sd, over_seeds, over_videos)


def gain(better: Estimate, base: Estimate) -> tuple[float, Interval | None]:
    """Difference of two means and its 95 % interval from the two intervals (MOVER: Zou & Donner, 2008)."""
    difference = better.mean - base.mean
    if better.interval is None or base.interval is None:
        return difference, None
    (low, high), (base_low, base_high) = better.interval, base.interval
    down = math.hypot(better.mean - low, base_high - base.mean)
    up = math.hypot(high - better.mean, base.mean - base_low)
    return difference, (difference - down, difference + up)
