"""Numbers of a label distribution against closed forms and peer libraries."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from dataset_builder.label_statistics import (
    cumulative_distribution,
    entropy_bits,
    gini,
    head_share,
    label_statistics,
)

COUNTS = st.lists(st.integers(0, 10**7), min_size=1, max_size=60).filter(any).map(np.array)


def zipf(num_labels: int) -> np.ndarray:
    """Exact 1/rank shares: multiples of the least common multiple."""
    return np.array([math.lcm(*range(1, num_labels + 1)) // rank for rank in range(1, num_labels + 1)])


def harmonic(number: int) -> float:
    return sum(1 / rank for rank in range(1, number + 1))


@pytest.mark.parametrize("num_labels", [1, 2, 30, 400])
def test_equal_labels(num_labels):
    found = label_statistics(np.full(num_labels, 70))
    assert found.entropy_bits == pytest.approx(math.log2(num_labels))
    assert found.normalised_entropy == (None if num_labels == 1 else pytest.approx(1))
    assert found.effective_labels == pytest.approx(num_labels)
    assert found.gini == 0
    assert found.head_share_10 == math.ceil(num_labels / 10) / num_labels
    assert (found.fewest, found.median, found.mean, found.most) == (70, 70, 70, 70)


def test_one_label_has_everything():
    found = label_statistics(np.array([0, 0, 9, 0]))
    assert (found.num_labels, found.labels_without_video, found.num_pairs) == (4, 3, 9)
    assert (found.entropy_bits, found.normalised_entropy, found.effective_labels) == (0, 0, 1)
    assert math.copysign(1, found.entropy_bits) == 1  # not minus zero
    assert found.gini == 3 / 4
    assert (found.head_share_1, found.tail_share_50) == (1, 0)


def test_zipf():
    counts, num_labels = zipf(40), 40
    shares = np.array([1 / rank / harmonic(num_labels) for rank in range(1, num_labels + 1)])
    assert head_share(counts, 0.1) == pytest.approx(harmonic(4) / harmonic(40))
    assert head_share(counts, 0.01) == pytest.approx(1 / harmonic(40))  # at least one label
    assert label_statistics(counts).tail_share_50 == pytest.approx(1 - harmonic(20) / harmonic(40))
    assert entropy_bits(counts) == pytest.approx(-(shares * np.log2(shares)).sum())
    # sum over ranks of (K + 1 - 2 r) / r is (K + 1) H - 2 K
    assert gini(counts) == pytest.approx(
        ((num_labels + 1) * harmonic(40) - 2 * num_labels) / (num_labels * harmonic(40))
    )


@given(COUNTS)
def test_entropy_is_scipys(counts):
    assert entropy_bits(counts) == pytest.approx(scipy.stats.entropy(counts, base=2), abs=1e-9)


@given(COUNTS)
def test_gini_is_half_the_relative_mean_difference(counts):
    differences = np.abs(counts[:, None] - counts[None, :]).mean()
    assert gini(counts) == pytest.approx(differences / (2 * counts.mean()), abs=1e-9)


@given(COUNTS)
def test_the_curve_rises_ever_slower_to_one_and_encloses_the_gini(counts):
    labels, videos = cumulative_distribution(counts)
    assert len(labels) == len(videos) == len(counts) + 1
    assert (labels[0], videos[0], labels[-1], videos[-1]) == (0, 0, 1, 1)
    steps = np.diff(videos)
    assert (steps >= -1e-12).all()
    assert (np.diff(steps) <= 1e-12).all()
    assert 2 * np.trapezoid(videos, labels) - 1 == pytest.approx(gini(counts), abs=1e-9)


@given(COUNTS, st.integers(1, 50), st.randoms())
def test_only_proportions_matter(counts, factor, random):
    order = random.sample(range(len(counts)), len(counts))
    for statistic in (entropy_bits, gini, lambda c: head_share(c, 0.1)):
        assert statistic(counts[order] * factor) == pytest.approx(statistic(counts), abs=1e-9)


@pytest.mark.parametrize(("num_labels", "num_head"), [(1, 1), (9, 1), (10, 1), (11, 2), (30, 3), (300, 30), (301, 31)])
def test_head_is_rounded_up_to_whole_labels(num_labels, num_head):
    assert head_share(np.ones(num_labels, int), 0.1) == pytest.approx(num_head / num_labels)
