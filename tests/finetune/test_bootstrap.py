"""Intervals against real resampling, against peers on resampled tables, and against simulated tests."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from finetune.bootstrap import (
    AveragePrecisions,
    ClassShares,
    bootstrap_interval,
    mean_over_labels,
    moved_interval,
    resampled,
    resamples,
)
from finetune.metrics import class_accuracies


def test_closed_interval_is_what_resampling_converges_to():
    correct = np.arange(200) < 130
    values = resampled({"mean": lambda weights_NR: correct @ weights_NR / 200}, 200, num_resamples=20_000)["mean"]
    expected = np.quantile(values, [0.025, 0.975])
    assert bootstrap_interval(correct) == pytest.approx(expected, abs=0.006)  # one video is 0.005


@given(num_correct=st.integers(0, 50))
def test_closed_interval_holds_the_accuracy(num_correct):
    correct = np.arange(50) < num_correct
    low, high = bootstrap_interval(correct)
    assert 0 <= low <= correct.mean() <= high <= 1
    assert (low == high) == (num_correct in (0, 50))


def test_a_resample_draws_as_many_videos_as_there_are_each_equally_likely():
    weights_NR = np.concatenate(list(resamples(40, 5_000, seed=3)), axis=1)
    assert weights_NR.shape == (40, 5_000)
    assert (weights_NR.sum(axis=0) == 40).all()
    assert weights_NR.mean(axis=1) == pytest.approx(np.ones(40), abs=0.08)  # standard deviation 0.014
    assert weights_NR.var() == pytest.approx(39 / 40, rel=0.03)  # binomial


@pytest.mark.filterwarnings("ignore::UserWarning")  # scikit-learn, of labels without videos
@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_weights_are_repeated_rows(seed):
    """Metrics of weights are those of a table in which each video stands as often as its weight says."""
    rng = np.random.default_rng(seed)
    scores, labels = np.floor(rng.random((20, 3)) * 6), rng.integers(0, 3, 20)
    correct, own_NK = rng.random(20) < 0.5, labels[:, None] == np.arange(3)
    weights_NR = next(resamples(20, 4, seed))
    shares = ClassShares(correct, labels, 3)(weights_NR)
    precisions = AveragePrecisions(scores, own_NK)(weights_NR)
    for resample, weights in enumerate(weights_NR.T.astype(int)):
        rows = np.repeat(np.arange(20), weights)
        expected, counts = class_accuracies(correct[rows], labels[rows], 3)
        assert shares[:, resample] == pytest.approx(expected, nan_ok=True)
        expected = average_precision_score(own_NK[rows], scores[rows], average=None)
        assert precisions[counts > 0, resample] == pytest.approx(expected[counts > 0])
        assert np.isnan(precisions[counts == 0, resample]).all()


def test_interval_is_moved_to_the_estimate_and_cut_where_values_end():
    values = np.array([np.linspace(0.4, 0.6, 1001), np.full(1001, np.nan), np.linspace(0.9, 1.0, 1001)])
    found = moved_interval(values, np.array([0.45, np.nan, 1.0]))
    assert found[0] == pytest.approx([0.355, 0.545])
    assert np.isnan(found[1]).all()
    assert found[2] == pytest.approx([0.9525, 1.0])


@pytest.mark.slow
@pytest.mark.parametrize(("per_label", "num_labels", "least"), [(3, 20, 0.85), (10, 20, 0.9), (10, 100, 0.88)])
def test_intervals_of_mean_average_precision_hold_the_expected_value(per_label, num_labels, least):
    """Of tests drawn from a model whose expected value is known from many of them; 95 % up to the sampling of 200."""
    rng, num_videos = np.random.default_rng(0), per_label * num_labels

    def draw() -> AveragePrecisions:
        own = np.eye(num_labels, dtype=bool)[rng.integers(0, num_labels, num_videos)]
        return AveragePrecisions(rng.normal(size=own.shape) + 2.5 * own, own)

    once = np.ones((num_videos, 1), np.float32)
    expected = np.mean([mean_over_labels(draw()(once))[0] for _ in range(300)])
    held = 0
    for _ in range(200):
        precisions = draw()
        values = resampled({"map": lambda weights_NR, of=precisions: mean_over_labels(of(weights_NR))}, num_videos, 300)
        low, high = moved_interval(values["map"], mean_over_labels(precisions(once))[0])
        held += low <= expected <= high
    assert held / 200 >= least
