"""Metrics against scikit-learn, torchmetrics and arithmetic."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    top_k_accuracy_score,
)
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multilabel_average_precision,
)

from finetune import metrics
from finetune.bootstrap import bootstrap_interval
from finetune.metrics import (
    Confusion,
    average_precisions,
    class_accuracies,
    mean_class_accuracy,
    summarise,
    top_k_correct,
)

tables = given(seed=st.integers(0, 10_000), num_videos=st.integers(1, 80), num_labels=st.integers(3, 12))


def random_scores(seed: int, num_videos: int, num_labels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((num_videos, num_labels)), rng.integers(0, num_labels, num_videos)


def coarse(scores: np.ndarray) -> np.ndarray:
    """The same scores with many ties."""
    return np.floor(scores * 4) / 4


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


@settings(max_examples=15)
@tables
def test_top_k_and_class_accuracies_agree_with_torchmetrics(seed, num_videos, num_labels):
    scores, labels = random_scores(seed, num_videos, num_labels)
    there = torch.from_numpy(scores), torch.from_numpy(labels)
    for k in (1, 3):
        expected = multiclass_accuracy(*there, num_classes=num_labels, top_k=k, average="micro")
        assert top_k_correct(scores, labels, k).mean() == pytest.approx(float(expected))
    accuracies, counts = class_accuracies(top_k_correct(scores, labels, 1), labels, num_labels)
    expected = multiclass_accuracy(*there, num_classes=num_labels, average="none").numpy()
    assert accuracies[counts > 0] == pytest.approx(expected[counts > 0])
    assert np.isnan(accuracies[counts == 0]).all()


@pytest.mark.filterwarnings("ignore::UserWarning")  # both, of labels without videos
@settings(max_examples=15)
@tables
@pytest.mark.parametrize("ties", [False, True])
def test_average_precisions_agree_with_both_peers_ties_included(ties, seed, num_videos, num_labels):
    scores, labels = random_scores(seed, num_videos, num_labels)
    scores = coarse(scores) if ties else scores
    several = np.random.default_rng(seed + 1).random(scores.shape) < 0.3
    for own, found in ((several, average_precisions(scores, several)), (labels, average_precisions(scores, labels))):
        own_NK = metrics.one_hot(own, num_labels)
        has_videos = own_NK.any(axis=0)
        assert np.isnan(found[~has_videos]).all()
        expected = average_precision_score(own_NK, scores, average=None)
        assert found[has_videos] == pytest.approx(expected[has_videos])
        there = torch.from_numpy(scores), torch.from_numpy(own_NK).int()
        expected = multilabel_average_precision(*there, num_labels=num_labels, average=None).numpy()
        assert found[has_videos] == pytest.approx(expected[has_videos], abs=1e-5)  # single precision
    expected = average_precision_score(own_NK[:, has_videos], scores[:, has_videos], average="macro")
    assert metrics.mean_average_precision(scores, labels) == pytest.approx(expected)


def test_peers_let_the_order_of_labels_decide_ties_and_these_do_not():
    scores = np.array([[0.5, 0.5, 0.0]] * 2)
    labels = np.array([0, 1])
    there = [float(top_k_accuracy_score(labels[i : i + 1], scores[:1], k=1, labels=range(3))) for i in (0, 1)]
    assert there == [0.0, 1.0]  # scikit-learn: the last of equals
    found = multiclass_accuracy(torch.from_numpy(scores), torch.from_numpy(labels), num_classes=3, average="none")
    assert found.tolist() == [1.0, 0.0, 0.0]  # torchmetrics: the first
    assert top_k_correct(scores, labels, 1).tolist() == [False, False]


def test_ties_and_missing_numbers_count_against_the_label():
    scores = np.array([[0.5, 0.5, 0.0], [np.nan, 0.4, 0.6], [0.2, np.nan, 0.8]])
    labels = np.array([0, 0, 2])
    assert top_k_correct(scores, labels, 1).tolist() == [False, False, False]
    assert top_k_correct(scores, labels, 2).tolist() == [True, False, True]
    assert top_k_correct(scores, labels, 5).all()


def test_a_score_that_is_missing_makes_a_ranking_as_bad_as_it_can_be():
    scores = np.array([[0.9], [0.5], [0.1]])
    labels = np.array([[True], [False], [False]])
    assert average_precisions(scores, labels) == [1.0]
    assert average_precisions(np.array([[np.nan], [0.5], [0.1]]), labels) == pytest.approx([1 / 3])
    assert average_precisions(np.array([[0.9], [np.nan], [0.1]]), labels) == [0.5]


@given(seed=st.integers(0, 10_000), k=st.integers(1, 6))
def test_of_several_labels_any_one_will_do_and_one_hot_is_one_label(seed, k):
    scores, labels = random_scores(seed, 30, 6)
    scores = coarse(scores)
    assert (top_k_correct(scores, labels, k) == top_k_correct(scores, metrics.one_hot(labels, 6), k)).all()
    several = np.random.default_rng(seed + 1).random(scores.shape) < 0.3
    scores = np.random.default_rng(seed + 2).random(scores.shape)
    ranked = np.take_along_axis(several, np.argsort(-scores, axis=1), axis=1)
    assert (top_k_correct(scores, several, k) == ranked[:, :k].any(axis=1)).all()


def test_rare_labels_weigh_as_much_as_common_ones():
    labels = np.array([0] * 9 + [1])
    correct = np.array([True] * 9 + [False])
    assert mean_class_accuracy(correct, labels, 3) == 0.5  # label 2 has no videos and no say
    accuracies, counts = class_accuracies(correct, labels, 3)
    assert counts.tolist() == [9, 1, 0]
    assert np.isnan(accuracies[2])


@settings(max_examples=15)
@tables
def test_confusions_are_scikit_learns_and_count_ties_as_the_accuracy_does(seed, num_videos, num_labels):
    scores, labels = random_scores(seed, num_videos, num_labels)
    expected = confusion_matrix(labels, scores.argmax(axis=1), labels=range(num_labels))
    assert (metrics.confusion_matrix(scores, labels) == expected).all()
    tied = metrics.confusion_matrix(coarse(scores), labels)
    assert np.trace(tied) == top_k_correct(coarse(scores), labels, 1).sum()
    assert (tied.sum(axis=1) == np.bincount(labels, minlength=num_labels)).all()


def test_most_confused_pairs_come_first_with_their_share_of_the_label():
    taken_for = {0: [0, 0, 1, 1], 1: [1, 2, 2, 2, 2], 2: [2]}
    labels = np.array([label for label, found in taken_for.items() for _ in found])
    scores = np.eye(3)[[found for of_label in taken_for.values() for found in of_label]]
    found = metrics.most_confused(scores, labels, ["dive", "jump", "run"])
    assert found == [Confusion("jump", "run", 4, 0.8), Confusion("dive", "jump", 2, 0.5)]
    assert metrics.most_confused(scores, labels, ["dive", "jump", "run"], limit=None) == found
    assert metrics.most_confused(scores, labels, ["dive", "jump", "run"], limit=1) == found[:1]
    assert metrics.most_confused(np.eye(3), np.arange(3), ["dive", "jump", "run"]) == []


def test_of_pairs_with_equally_many_videos_the_larger_share_comes_first():
    labels, taken_for = np.array([0, 0, 0, 1, 1]), np.array([1, 1, 0, 0, 0])
    found = metrics.most_confused(np.eye(2)[taken_for], labels, ["dive", "jump"])
    assert [(pair.true, pair.share) for pair in found] == [("jump", 1.0), ("dive", 2 / 3)]


def test_summary_names_every_label():
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    result = summarise(scores, np.array([0, 1, 1]), ["dive", "jump", "run"])
    assert result["top1"] == pytest.approx(2 / 3)
    assert result["top5"] == 1.0
    assert result["mean_class_accuracy"] == pytest.approx(0.75)
    assert result["map"] == 1.0
    assert result["num_videos"] == 3
    assert result["per_class"] == {
        "dive": {"accuracy": 1.0, "average_precision": 1.0, "num_videos": 1},
        "jump": {"accuracy": 0.5, "average_precision": 1.0, "num_videos": 2},
        "run": {"accuracy": None, "average_precision": None, "num_videos": 0},
    }
    interval = list(bootstrap_interval(np.array([True, True, False])))
    assert result["headline"] == {"name": "top1", "value": result["top1"], "interval": interval}


@pytest.mark.parametrize("several", [False, True])
def test_every_mean_has_an_interval_around_it_and_the_same_one_each_time(several):
    scores, labels = random_scores(0, 60, 5)
    labels = np.random.default_rng(1).random(scores.shape) < 0.3 if several else labels
    result = summarise(scores, labels, list("abcde"), num_resamples=200)
    assert result == summarise(scores, labels, list("abcde"), num_resamples=200)
    assert result["headline"]["name"] == ("map" if several else "top1")
    assert result["headline"]["value"] == metrics.headline(scores, labels)
    for name in ("top1", "top5", "map") if several else ("top1", "top5", "map", "mean_class_accuracy"):
        low, high = result[f"{name}_interval"]
        assert 0 <= low <= result[name] <= high <= 1
    assert (result["mean_class_accuracy"] is None) == several
    assert metrics.sentence(result).startswith("mAP " if several else "top-1 ")


def test_videos_without_any_label_have_no_mean_precision():
    result = summarise(np.full((2, 3), 0.5), np.zeros((2, 3), bool), ["a", "b", "c"])
    assert result["map"] is None
    assert result["headline"]["value"] is None
    assert result["top1"] == 0.0
    assert "mAP undefined" in metrics.sentence(result)
