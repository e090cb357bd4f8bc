"""Means, intervals and gains against closed forms and printed tables."""

from __future__ import annotations

import math

import pytest

from pipeline.report import estimates


def test_interval_over_seeds_is_students_t() -> None:
    found = estimates.estimate([0.5, 0.6, 0.7], [])
    assert found.sd == pytest.approx(0.1)
    assert found.over_seeds == pytest.approx((0.6 - 4.302653 * 0.1 / math.sqrt(3), 0.6 + 4.302653 * 0.1 / math.sqrt(3)))
    assert estimates.estimate([0.5, 0.6], [(0.4, 0.7), (0.5, 0.8)]).interval == pytest.approx((0.45, 0.75))


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 12.706), (30, 2.042), (40, 2.021), (60, 2.000), (120, 1.980)])
def test_t_quantiles_are_those_of_the_printed_tables(degrees: int, quantile: float) -> None:
    assert estimates.t_975(degrees) == pytest.approx(quantile, abs=5e-4)


def test_p_value_is_that_of_a_squared_t() -> None:
    # t(1) is Cauchy's distribution: beyond 1 lies a quarter on either side
    assert estimates.p_value(1.0, 1) == pytest.approx(0.5)
    assert estimates.p_value(estimates.t_975(7) ** 2, 7) == pytest.approx(0.05)
