"""Means, intervals, gains and the log-linear fit: pure functions of numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Interval = tuple[float, float]

MIN_SEEDS = 3
"""Seeds from which an interval over seeds is given; two seeds would give one of ± 9 standard deviations."""

# 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom.
_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
          2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)  # fmt: skip


def t_975(degrees: int) -> float:
    """97.5 % quantile of Student's t (beyond 30 degrees: 1.96 + 2.4 / degrees, right to 0.003)."""
    return _T_975[degrees - 1] if degrees <= len(_T_975) else 1.96 + 2.4 / degrees


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
    mean = math.fsum(values) / len(values)
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    over_seeds = None
    if sd is not None and len(values) >= MIN_SEEDS:
        half = t_975(len(values) - 1) * sd / math.sqrt(len(values))
        over_seeds = (max(0.0, mean - half), min(1.0, mean + half))
    over_videos = tuple(math.fsum(ends) / len(ends) for ends in zip(*intervals, strict=True)) if intervals else None
    return Estimate(tuple(values), mean, sd, over_seeds, over_videos)


def gain(better: Estimate, base: Estimate) -> tuple[float, Interval | None]:
    """Difference of two means and its 95 % interval from the two intervals (MOVER: Zou & Donner, 2008)."""
    difference = better.mean - base.mean
    if better.interval is None or base.interval is None:
        return difference, None
    (low, high), (base_low, base_high) = better.interval, base.interval
    down = math.hypot(better.mean - low, base_high - base.mean)
    up = math.hypot(high - better.mean, base.mean - base_low)
    return difference, (difference - down, difference + up)


@dataclass(frozen=True)
class LogFit:
    """accuracy = intercept + slope · log2(videos), least squares over the means of the sizes."""

    intercept: float
    slope: float
    """Accuracy per doubling of the videos."""
    slope_interval: Interval | None
    """95 %, t with sizes - 2 degrees of freedom; None for two sizes."""
    r_squared: float | None
    """None for two sizes (always 1) and for a flat line (undefined)."""
    num_sizes: int
    residuals: tuple[float, ...]
    """Mean minus line, per size."""


def fit_log2(sizes: list[int], means: list[float]) -> LogFit | None:
    """None with fewer than two different sizes. `sizes` in videos, `means` as shares."""
    if len(set(sizes)) < 2:
        return None
    x, y = np.log2(np.asarray(sizes, float)), np.asarray(means, float)
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / spread)
    intercept = float(y.mean() - slope * x.mean())
    residuals = y - (intercept + slope * x)
    interval, r_squared, degrees = None, None, len(sizes) - 2
    if degrees:
        half = t_975(degrees) * math.sqrt(float((residuals**2).sum()) / degrees / spread)
        interval, total = (slope - half, slope + half), float(((y - y.mean()) ** 2).sum())
        r_squared = 1 - float((residuals**2).sum()) / total if total else None
    return LogFit(intercept, slope, interval, r_squared, len(sizes), tuple(map(float, residuals)))
