"""The log-linear fit against textbook formulas, a peer library, and simulated sweeps whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from pipeline.report.log_fit import LogFit, fit

SWEEPS = 400
DOUBLINGS = np.array([0, 1, 2, 3.3, 4.3, 5.3])  # uneven, as the paper's sizes are
SLOPE = 0.02


def curve(values_SK: np.ndarray, doublings: np.ndarray = DOUBLINGS) -> dict[int, dict[int, float]]:
    """{videos: {seed: accuracy}}; each size is some doublings of a million."""
    sizes = [round(1_000_000 * 2.0**x) for x in doublings]
    return {size: dict(enumerate(map(float, column))) for size, column in zip(sizes, values_SK.T, strict=True)}


def noisy(num_seeds: int, num_sizes: int = 6, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.005, (num_seeds, num_sizes))
    return 0.4 + SLOPE * DOUBLINGS[:num_sizes] + noise


def log2_sizes(found: dict[int, dict[int, float]]) -> np.ndarray:
    return np.log2(np.array(list(found), float))


# ------------------------------------------------------------------------------------------------ closed forms


def test_slope_of_one_seed_is_that_of_linregress() -> None:
    found = curve(noisy(1))
    ours, peer = fit(found), scipy.stats.linregress(log2_sizes(found), [v[0] for v in found.values()])
    assert ours.slope.value == pytest.approx(peer.slope)
    assert ours.slope.error == pytest.approx(peer.stderr)
    assert ours.r_squared == pytest.approx(peer.rvalue**2)
    assert ours.slope.p == pytest.approx(peer.pvalue)


def test_slope_over_seeds_is_a_t_test_of_the_seeds_slopes() -> None:
    values = noisy(4)
    found = curve(values)
    slopes = [scipy.stats.linregress(log2_sizes(found), row).slope for row in values]
    assert fit(found).slope.interval == pytest.approx(scipy.stats.ttest_1samp(slopes, 0).confidence_interval(0.95))


def test_bend_over_seeds_is_a_t_test_of_the_seeds_quadratic_terms() -> None:
    values = noisy(4)
    found = curve(values)
    terms = [2 * np.polyfit(log2_sizes(found), row, 2)[0] for row in values]  # the slope's slope
    peer, ours = scipy.stats.ttest_1samp(terms, 0), fit(found).bend.change
    assert ours.interval == pytest.approx(peer.confidence_interval(0.95))
    assert ours.p == pytest.approx(peer.pvalue)


def test_bend_of_one_seed_is_an_f_test_of_nested_models() -> None:
    values = noisy(1)
    found = curve(values)
    left = [np.polyfit(log2_sizes(found), values[0], degree, full=True)[1][0] for degree in (1, 2)]
    spare = len(found) - 3
    assert fit(found).bend.change.p == pytest.approx(
        scipy.stats.f.sf((left[0] - left[1]) / (left[1] / spare), 1, spare)
    )


def test_prediction_interval_of_one_seed_is_the_textbooks() -> None:
    values = noisy(1)
    found = curve(values)
    x, y, ahead = log2_sizes(found), values[0], math.log2(2 * max(found))
    line = scipy.stats.linregress(x, y)
    s = math.sqrt(((y - line.intercept - line.slope * x) ** 2).sum() / (len(x) - 2))
    error = s * math.sqrt(1 + 1 / len(x) + (ahead - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum())
    half, centre = scipy.stats.t.ppf(0.975, len(x) - 2) * error, line.intercept + line.slope * ahead
    found_by_us = fit(found).line.next_doubling()
    assert found_by_us.accuracy == pytest.approx(centre)
    assert found_by_us.interval == pytest.approx((centre - half, centre + half))


def test_lack_of_fit_to_three_sizes_is_the_test_of_the_bend() -> None:
    found = fit(curve(noisy(5, 3), DOUBLINGS[:3]))
    assert found.line.lack_of_fit == pytest.approx(found.bend.change.p)


def test_exact_line_has_no_width_and_no_bend() -> None:
    """Rounding errors are not taken for a spread; levels of seeds are no noise of the slope."""
    doublings = np.arange(6.0)
    found = fit(curve(0.25 + 0.03125 * doublings + np.array([[-0.01], [0.0], [0.01]]), doublings))
    assert found.slope.interval == pytest.approx((0.03125, 0.03125))
    assert (found.bend.change.p, found.line.lack_of_fit, found.r_squared) == (1.0, 1.0, pytest.approx(1))
    # one more seed about the mean of three, sd 0.01 each: t(2) · sqrt(0.01² / 3 + 0.01²)
    half = 4.302653 * 0.01 * math.sqrt(4 / 3)
    predicted = 0.25 + 0.03125 * 6
    assert found.prediction.accuracy == pytest.approx(predicted)
    assert found.prediction.interval == pytest.approx((predicted - half, predicted + half))


def test_curve_predicts_by_its_parabola() -> None:
    def parabola(x: np.ndarray) -> np.ndarray:
        return 0.3 + 0.06 * x - 0.004 * x**2

    doublings = np.arange(7.0)
    found = fit(curve(parabola(doublings) + np.random.default_rng(0).normal(0, 1e-5, (3, 7)), doublings))
    assert found.curved
    assert found.bend.change.value == pytest.approx(-0.008, abs=1e-4)
    assert found.prediction.accuracy == pytest.approx(parabola(np.array(7.0)), abs=1e-4)
    assert found.line.next_doubling().accuracy > found.prediction.accuracy  # the line is an upper bound
    # 30, 44.4 and 51.6 % at 0, 3 and 6 doublings
    assert (found.bend.before, found.bend.after) == pytest.approx((0.048, 0.024), abs=1e-4)


def test_prediction_stays_a_share() -> None:
    found = fit(curve(np.array([[0.7, 0.8, 0.97, 0.99]]), DOUBLINGS[:4]))
    assert (found.prediction.accuracy, found.prediction.interval[1]) == (1.0, 1.0)


# ------------------------------------------------------------------------------------------ few sizes, few seeds


def test_what_cannot_be_known_is_not_given() -> None:
    assert fit({8: {0: 0.5}}) is None
    two = fit({8: {0: 0.5}, 16: {0: 0.6}})
    assert (two.slope.interval, two.r_squared, two.bend, two.prediction.interval) == (None,) * 4
    assert (two.slope.value, two.prediction.accuracy) == pytest.approx((0.1, 0.7))
    three = fit({8: {0: 0.5}, 16: {0: 0.6}, 32: {0: 0.6}})
    assert three.slope.interval is not None
    assert (three.bend.change.p, three.line.lack_of_fit, three.curved) == (None, None, False)


def test_two_sizes_with_three_seeds_have_an_interval() -> None:
    found = fit(curve(np.array([[0.5, 0.6], [0.5, 0.61], [0.5, 0.62]]), DOUBLINGS[:2]))
    assert found.slope.interval == pytest.approx(
        (0.11 - 4.302653 * 0.01 / math.sqrt(3), 0.11 + 4.302653 * 0.01 / 3**0.5)
    )


def test_seed_that_lacks_a_size_does_not_move_the_line() -> None:
    """A good seed that has only the largest size would pass for a gain of the data."""
    found = curve(np.array([[0.5, 0.52, 0.54, 0.56]]), np.arange(4.0))
    found[max(found)][7] = 0.9
    ours = fit(found)
    assert ours.runs.left_out == (7,)
    assert ours.slope.value == pytest.approx(0.02)


def test_without_a_whole_seed_the_means_are_fitted() -> None:
    ours = fit({10: {0: 0.5, 1: 0.6}, 20: {1: 0.6}, 40: {0: 0.7}})
    assert not ours.runs.whole_seeds
    assert ours.runs.means_K == pytest.approx([0.55, 0.6, 0.7])
    assert ours.runs.runs_per_value == pytest.approx(3 / (1 / 2 + 1 + 1))


# -------------------------------------------------------------------------------------------------- simulations


def sweeps(num_seeds: int, truth_K: np.ndarray, *, seed_sd: float = 0.004) -> list[tuple[LogFit, float]]:
    """Fits of simulated sweeps, each with what a new seed then had at the next doubling, the last of `truth_K`.

    Seeds differ in level (`seed_sd`), and in one seed neighbouring sizes err alike (correlation 0.6): their subsets are nested.
    """
    rng, places = np.random.default_rng(5), np.arange(len(truth_K))
    correlated = np.linalg.cholesky(0.6 ** abs(places[:, None] - places)).T
    found = []
    for _ in range(SWEEPS):
        noise = 0.004 * rng.normal(size=(num_seeds + 1, len(truth_K))) @ correlated
        values = truth_K + rng.normal(0, seed_sd, (num_seeds + 1, 1)) + noise
        found.append((fit(curve(values[:-1, :-1])), values[-1, -1]))
    return found


def likely(share: float) -> tuple[float, float]:
    """The counts among SWEEPS that an event of this probability has but once in 10,000 times."""
    return scipy.stats.binom.interval(0.9999, SWEEPS, share)


AHEAD = np.append(DOUBLINGS, DOUBLINGS[-1] + 1)


def test_intervals_over_seeds_hold_the_truth_and_the_test_of_the_bend_its_level() -> None:
    found = sweeps(3, 0.4 + SLOPE * AHEAD)
    low, high = likely(0.95)
    assert low <= sum(f.slope.interval[0] <= SLOPE <= f.slope.interval[1] for f, _ in found) <= high
    predicted = [f.line.next_doubling().interval for f, _ in found]
    assert low <= sum(p[0] <= new <= p[1] for p, (_, new) in zip(predicted, found, strict=True))
    low, high = likely(0.05)
    assert low <= sum(f.bend.significant for f, _ in found) <= high
    assert sum(f.off_model for f, _ in found) <= high  # conservative


def test_bend_that_matters_is_found() -> None:
    """The slope falls from 3.5 points a doubling to 0.5: of 100 such sweeps with three seeds, at least 90 say so."""
    found = sweeps(3, 0.4 + 0.035 * AHEAD - 0.03 / DOUBLINGS[-1] * AHEAD**2 / 2)
    assert sum(f.bend.significant and f.bend.change.value < 0 for f, _ in found) >= 0.9 * SWEEPS


def test_step_is_not_called_a_line() -> None:
    """Flat, a jump, flat: no bend to either side, and no line."""
    found = sweeps(5, np.array([0.4, 0.4, 0.4, 0.5, 0.5, 0.5, 0.5]))
    assert sum(f.bend.significant or f.off_model for f, _ in found) >= 0.95 * SWEEPS


def test_intervals_of_one_seed_hold_the_truth_where_runs_are_independent() -> None:
    rng, hits, slopes = np.random.default_rng(6), 0, 0
    for _ in range(SWEEPS):
        values = 0.4 + SLOPE * AHEAD + rng.normal(0, 0.004, (1, len(AHEAD)))
        found = fit(curve(values[:, :-1]))
        low, high = found.line.next_doubling().interval
        hits += low <= values[0, -1] <= high
        slopes += found.slope.interval[0] <= SLOPE <= found.slope.interval[1]
    low, high = likely(0.95)
    assert low <= hits <= high
    assert low <= slopes <= high
