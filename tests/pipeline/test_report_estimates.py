"""Means, intervals, gains and the fit against closed forms and printed tables."""

from __future__ import annotations

import math

import pytest

from pipeline.report import estimates
from tests.pipeline.synthetic_sweep import Outline


def test_fit_recovers_the_planted_line() -> None:
    sizes = [2**k for k in (3, 5, 6, 10)]
    fit = estimates.fit_log2(sizes, [0.25 + 0.03125 * math.log2(n) for n in sizes])
    assert (fit.slope, fit.intercept, fit.r_squared) == (0.03125, 0.25, 1.0)
    assert fit.slope_interval == (0.03125, 0.03125)


def test_fit_slope_stands_on_the_page(full: tuple[str, str]) -> None:
    text = Outline(full[1]).text
    # the missing seed 2 of fc_only at 1M moves only that protocol's means
    assert "hmdb, full_ft 4 +3.00 +3.00 to +3.00 1.000" in text


def test_fit_is_honest_about_few_sizes() -> None:
    assert estimates.fit_log2([8], [0.5]) is None
    two = estimates.fit_log2([8, 16], [0.5, 0.6])
    assert (two.slope_interval, two.r_squared) == (None, None)
    assert two.slope == pytest.approx(0.1)


def test_fit_interval_matches_the_closed_form() -> None:
    # x = 0, 1, 2; y = 0, 1, 0: slope 0, residual sum 2/3, s² = 2/3, standard error sqrt(1/3), t(1) = 12.706
    fit = estimates.fit_log2([1, 2, 4], [0.0, 1.0, 0.0])
    assert fit.slope == pytest.approx(0)
    assert fit.slope_interval[1] == pytest.approx(12.706 * math.sqrt(1 / 3))


def test_interval_over_seeds_is_students_t() -> None:
    found = estimates.estimate([0.5, 0.6, 0.7], [])
    assert found.sd == pytest.approx(0.1)
    assert found.over_seeds == pytest.approx((0.6 - 4.303 * 0.1 / math.sqrt(3), 0.6 + 4.303 * 0.1 / math.sqrt(3)))
    assert estimates.estimate([0.5, 0.6], [(0.4, 0.7), (0.5, 0.8)]).interval == pytest.approx((0.45, 0.75))


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 12.706), (30, 2.042), (40, 2.021), (60, 2.000), (120, 1.980)])
def test_t_quantiles_are_those_of_the_printed_tables(degrees: int, quantile: float) -> None:
    assert estimates.t_975(degrees) == pytest.approx(quantile, abs=2e-3)
