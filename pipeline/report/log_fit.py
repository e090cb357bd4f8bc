"""The log-linear fit: accuracy = a + b · log2(videos), whether it bends, and what the next doubling is to bring.

All that is asked is a linear function of the accuracies at the K sizes: a slope, a curvature, a value of the fit. What one
seed runs is not independent: its subsets are nested, and a target's held-out videos are the same. So from MIN_SEEDS seeds on,
each of the S seeds answers by itself, and Student's t over the answers holds whatever the correlation within a seed.
With fewer, the means' scatter about the fit is all there is to go by. Neither knows of the choice of the test videos,
which all points share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.report.estimates import MIN_SEEDS, Interval, mean, p_value, t_975

SIGNIFICANT = 0.05
_ROUNDING = 1e-9
"""Shares that are closer than this differ by rounding alone: no test set has a billion videos."""


@dataclass(frozen=True)
class Runs:
    """Accuracies (shares) of one curve."""

    sizes: tuple[int, ...]
    """Videos, ascending."""
    values_SK: np.ndarray
    """float64, one row per seed that has a result at every size; one row of means where there is none."""
    whole_seeds: bool
    """Whether rows are seeds, not means."""
    runs_per_value: float
    """1, or of means the (harmonic) mean number of runs."""
    left_out: tuple[int, ...]
    """Seeds that lack a size: a seed's level must not pass for an effect of the size."""

    @property
    def over_seeds(self) -> bool:
        return len(self.values_SK) >= MIN_SEEDS

    @property
    def means_K(self) -> np.ndarray:
        return self.values_SK.mean(axis=0)

    @property
    def doublings_K(self) -> np.ndarray:
        """From the largest size: negative, the last one 0."""
        return np.log2(np.asarray(self.sizes, float) / self.sizes[-1])


def gather(found: Mapping[int, Mapping[int, float]]) -> Runs:
    """From {videos: {seed: accuracy}}, at least one accuracy per size."""
    sizes = sorted(found)
    seeds = sorted({seed for values in found.values() for seed in values})
    whole = [seed for seed in seeds if all(seed in found[size] for size in sizes)]
    if whole:
        values = [[found[size][seed] for size in sizes] for seed in whole]
        return Runs(tuple(sizes), np.array(values), True, 1.0, tuple(seed for seed in seeds if seed not in whole))
    means = [mean(found[size].values()) for size in sizes]
    return Runs(tuple(sizes), np.array([means]), False, 1 / mean(1 / len(found[size]) for size in sizes), ())


@dataclass(frozen=True)
class Answer:
    """An estimated number, its standard error and the degrees of freedom of that; None where nothing tells the error."""

    value: float
    error: float | None
    degrees: float | None

    @property
    def interval(self) -> Interval | None:
        """95 %, Student's t."""
        if self.error is None:
            return None
        half = t_975(self.degrees) * self.error
        return self.value - half, self.value + half

    @property
    def p(self) -> float | None:
        """Two-sided, of the value being 0."""
        if self.error is None:
            return None
        if abs(self.value) < _ROUNDING:
            return 1.0
        return 0.0 if self.error < _ROUNDING else p_value((self.value / self.error) ** 2, self.degrees)


@dataclass(frozen=True)
class Prediction:
    """Accuracy of one new run on the same test videos: with a new seed where the fit is over seeds, else with one at hand."""

    num_videos: int
    accuracy: float
    interval: Interval | None
    """95 % prediction interval: the fit's uncertainty and run-to-run variation. Clipped to 0 … 1, like the accuracy."""
    gain: float
    """What the fit gains on its value at the largest size."""


@dataclass(frozen=True)
class Model:
    """A polynomial in the doublings from the largest size, least squares over the means of the seeds."""

    runs: Runs
    degree: int

    @cached_property
    def _design(self) -> np.ndarray:
        return _powers(self.runs.doublings_K, self.degree)

    @property
    def fitted_K(self) -> np.ndarray:
        return self._design @ np.linalg.pinv(self._design) @ self.runs.means_K

    @property
    def residuals_K(self) -> np.ndarray:
        return self.runs.means_K - self.fitted_K

    @property
    def _spare(self) -> int:
        """Degrees of freedom that the fit leaves to the means."""
        return len(self.runs.sizes) - self.degree - 1

    @property
    def _scatter(self) -> float:
        """Variance of a mean about the fit."""
        return float((self.residuals_K**2).sum()) / self._spare

    def ask(self, *question: float) -> Answer:
        """Estimate `question · coefficients`; coefficients are those of 1, doublings, doublings² …"""
        weights = np.asarray(question) @ np.linalg.pinv(self._design)
        values = self.runs.values_SK @ weights
        if self.runs.over_seeds:
            return Answer(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)), len(values) - 1)
        if not self._spare:
            return Answer(float(values.mean()), None, None)
        return Answer(float(values.mean()), math.sqrt(self._scatter * float(weights @ weights)), self._spare)

    def at(self, doublings: float) -> Answer:
        """Value of the fit, so many doublings from the largest size."""
        return self.ask(*_powers(np.array([doublings]), self.degree)[0])

    def next_doubling(self) -> Prediction:
        fit = self.at(1.0)
        interval = None
        if fit.interval:  # each part with its own quantile (MOVER), so that it is never narrower than that of the fit
            half = math.hypot(fit.interval[1] - fit.value, self._of_a_run())
            interval = _share(fit.value - half), _share(fit.value + half)
        gain = fit.value - self.at(0.0).value
        return Prediction(2 * self.runs.sizes[-1], _share(fit.value), interval, gain)

    def _of_a_run(self) -> float:
        """Half of the 95 % range of one run about the expectation of its size.

        Over seeds: from the variance within sizes, its parts (seeds' levels; the rest) weighed by Satterthwaite. Otherwise
        from the scatter of the means, which does not see how seeds differ in level.
        """
        values = self.runs.values_SK
        num_seeds, num_sizes = values.shape
        if not self.runs.over_seeds:
            return t_975(self._spare) * math.sqrt(self._scatter * num_seeds * self.runs.runs_per_value)
        deviations = values - values.mean(axis=0)
        levels = deviations.mean(axis=1, keepdims=True)
        between = float((levels**2).sum()) / (num_seeds - 1)
        rest = float(((deviations - levels) ** 2).sum()) / ((num_seeds - 1) * num_sizes)
        spread = between**2 / (num_seeds - 1) + rest**2 / ((num_seeds - 1) * (num_sizes - 1))
        degrees = (between + rest) ** 2 / spread if spread else num_seeds - 1
        return t_975(degrees) * math.sqrt(between + rest)

    @cached_property
    def lack_of_fit(self) -> float | None:
        """p of the sizes' expectations lying on the fit; None without replicates or sizes to spare.

        F of the contrasts that the fit leaves over, against their own variance over seeds, with the degrees of freedom
        that hold under any correlation within a seed (Box, 1954): 1 and S - 1.
        """
        if not self.runs.over_seeds or self._spare < 1:
            return None
        leftover = np.linalg.qr(self._design, mode="complete")[0][:, self.degree + 1 :]
        contrasts = self.runs.values_SK @ leftover
        found, noise = float((contrasts.mean(axis=0) ** 2).sum()), float(contrasts.var(axis=0, ddof=1).sum())
        if math.sqrt(found) < _ROUNDING:
            return 1.0
        return 0.0 if math.sqrt(noise) < _ROUNDING else p_value(len(contrasts) * found / noise, len(contrasts) - 1)


def _powers(doublings: np.ndarray, degree: int) -> np.ndarray:
    return np.vander(doublings, degree + 1, increasing=True)


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))


@dataclass(frozen=True)
class Bend:
    """Whether the curve bends: the quadratic term's test, and the plain gains on both sides of a middle size."""

    change: Answer
    """By which the slope changes with each doubling."""
    sizes: tuple[int, int, int]
    """The first, a middle and the last size."""
    before: float
    """Accuracy per doubling from the first size to the middle one, as observed."""
    after: float
    """From the middle one to the last."""

    @property
    def significant(self) -> bool:
        return self.change.p is not None and self.change.p < SIGNIFICANT


@dataclass(frozen=True)
class LogFit:
    runs: Runs
    slope: Answer
    """Accuracy per doubling of the videos, of the line."""
    r_squared: float | None
    """Of the line and the means of the sizes; None for two sizes (always 1) and for equal means (undefined)."""
    bend: Bend | None
    """None below three sizes."""
    model: Model
    """The line, or the curve where the bend is significant."""
    other: Model | None
    """The one of both that is not taken; None where there is no telling whether it bends."""
    prediction: Prediction
    """The model's, of the next doubling."""

    @property
    def line(self) -> Model:
        return self.other if self.curved else self.model

    @property
    def curved(self) -> bool:
        return self.model.degree > 1

    @property
    def off_model(self) -> bool:
        """Whether the sizes are off the model by more than runs differ."""
        lack = self.model.lack_of_fit
        return lack is not None and lack < SIGNIFICANT


def fit(found: Mapping[int, Mapping[int, float]]) -> LogFit | None:
    """Fit the line to {videos: {seed: accuracy}} and test it; None with fewer than two sizes."""
    if len(found) < 2:
        return None
    runs = gather(found)
    line, bend = Model(runs, 1), _bend(runs)
    model, other = line, Model(runs, 2) if bend and bend.change.p is not None else None
    if bend and bend.significant:
        model, other = other, line
    return LogFit(runs, line.ask(0, 1), _r_squared(line), bend, model, other, model.next_doubling())


def _r_squared(line: Model) -> float | None:
    means = line.runs.means_K
    total = float(((means - means.mean()) ** 2).sum())
    if len(means) < 3 or math.sqrt(total) < _ROUNDING:
        return None
    return 1 - float((line.residuals_K**2).sum()) / total


def _bend(runs: Runs) -> Bend | None:
    if len(runs.sizes) < 3:
        return None
    doublings, means = runs.doublings_K, runs.means_K
    middle = 1 + int(np.abs(doublings[1:-1] - doublings[0] / 2).argmin())
    before = (means[middle] - means[0]) / (doublings[middle] - doublings[0])
    after = (means[-1] - means[middle]) / (doublings[-1] - doublings[middle])
    sizes = (runs.sizes[0], runs.sizes[middle], runs.sizes[-1])
    return Bend(Model(runs, 2).ask(0, 0, 2), sizes, float(before), float(after))
