"""Metrics against scikit-learn, against arithmetic, and against real resampling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from finetune.metrics import bootstrap_interval, class_accuracies, mean_class_accuracy, summarise, top_k_correct


def random_scores(seed: int, num_videos: int, num_labels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((num_videos, num_labels)), rng.integers(0, num_labels, num_videos)


@pytest.mark.filterwarnings("ignore::UserWarning")  # scikit-learn, of k = K and of a single label
@given(seed=st.integers(0, 10_000), num_videos=st.integers(1, 80), num_labels=st.integers(3, 12), k=st.integers(1, 5))
def test_top_k_and_class_means_agree_with_scikit_learn(seed, num_videos, num_labels, k):
    scores, labels = random_scores(seed, num_videos, num_labels)
    correct = top_k_correct(scores, labels, k)
    k_there = min(k, num_labels)
    assert correct.mean() == pytest.approx(top_k_accuracy_score(labels, scores, k=k_there, labels=range(num_labels)))
    first = top_k_correct(scores, labels, 1)
    present = np.unique(labels)
    if np.isin(scores.argmax(axis=1), present).all():  # else scikit-learn warns of predicted labels without videos
        expected = balanced_accuracy_score(labels, scores.argmax(axis=1))
        assert mean_class_accuracy(first, labels, num_labels) == pytest.approx(expected)


def test_ties_and_missing_numbers_count_against_the_label():
    scores = np.array([[0.5, 0.5, 0.0], [np.nan, 0.4, 0.6], [0.2, np.nan, 0.8]])
    labels = np.array([0, 0, 2])
    assert top_k_correct(scores, labels, 1).tolist() == [False, False, False]
    assert top_k_correct(scores, labels, 2).tolist() == [True, False, True]
    assert top_k_correct(scores, labels, 5).all()


def test_rare_labels_weigh_as_much_as_common_ones():
    labels = np.array([0] * 9 + [1])
    correct = np.array([True] * 9 + [False])
    assert mean_class_accuracy(correct, labels, 3) == 0.5  # label 2 has no videos and no say
    accuracies, counts = class_accuracies(correct, labels, 3)
    assert counts.tolist() == [9, 1, 0]
    assert np.isnan(accuracies[2])


def test_interval_is_what_resampling_converges_to():
    correct = np.arange(200) < 130
    rng = np.random.default_rng(0)
    means = correct[rng.integers(0, 200, (20_000, 200))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    assert bootstrap_interval(correct) == pytest.approx((low, high), abs=0.006)  # one video is 0.005


@given(num_correct=st.integers(0, 50))
def test_interval_holds_the_accuracy(num_correct):
    correct = np.arange(50) < num_correct
    low, high = bootstrap_interval(correct)
    assert 0 <= low <= correct.mean() <= high <= 1
    assert (low == high) == (num_correct in (0, 50))


def test_summary_names_every_label():
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    result = summarise(scores, np.array([0, 1, 1]), ["dive", "jump", "run"])
    assert result["top1"] == pytest.approx(2 / 3)
    assert result["top5"] == 1.0
    assert result["mean_class_accuracy"] == pytest.approx(0.75)
    assert result["num_videos"] == 3
    assert result["per_class"] == {
        "dive": {"accuracy": 1.0, "num_videos": 1},
        "jump": {"accuracy": 0.5, "num_videos": 2},
        "run": {"accuracy": None, "num_videos": 0},
    }
