"""Held-out splits and the rule that picks a value."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.search import held_out, search
from pipeline.config import ConfigError

splits = st.lists(st.integers(0, 6), min_size=2, max_size=120).map(
    lambda labels: ([f"video{i}" for i in range(len(labels))], labels)
)


@given(split=splits, share=st.floats(0.02, 0.6), seed=st.integers(0, 99))
def test_no_label_loses_its_last_video_and_the_size_is_the_share(split, share, seed):
    keys, labels = split
    mask = held_out(keys, labels, share, seed)
    kept = {label for label, out in zip(labels, mask, strict=True) if not out}
    assert kept == set(labels)
    available = len(labels) - len(set(labels))
    assert mask.sum() == min(available, max(1, round(share * len(labels))))


@given(split=splits, seed=st.integers(0, 99), order_seed=st.integers(0, 99))
def test_a_video_is_held_out_whatever_the_order_of_the_table(split, seed, order_seed):
    keys, labels = split
    order = np.random.default_rng(order_seed).permutation(len(keys))
    mask = held_out(keys, labels, 0.1, seed)
    shuffled = held_out([keys[i] for i in order], [labels[i] for i in order], 0.1, seed)
    assert shuffled.tolist() == mask[order].tolist()


@given(per_label=st.integers(10, 40), num_labels=st.integers(2, 8), seed=st.integers(0, 99))
def test_every_label_gives_its_tenth(per_label, num_labels, seed):
    labels = [i % num_labels for i in range(per_label * num_labels)]
    mask = held_out([str(i) for i in range(len(labels))], labels, 0.1, seed)
    counts = Counter(label for label, out in zip(labels, mask, strict=True) if out)
    assert max(counts.values()) - min(counts[label] for label in range(num_labels)) <= 1


def test_another_seed_holds_out_others_and_all_are_equally_likely():
    keys, labels = [str(i) for i in range(40)], [i % 4 for i in range(40)]
    times = sum(held_out(keys, labels, 0.1, seed).astype(int) for seed in range(400))
    assert times.sum() == 4 * 400
    assert times.min() > 15  # expected 40, standard deviation 6
    assert times.max() < 70


def scores_of(confidences: list[float]) -> np.ndarray:
    return np.array([[value, 1 - value] for value in confidences])


def test_accuracy_first_then_loss_then_order():
    labels = np.array([0, 0])
    tables = {1.0: [0.9, 0.4], 2.0: [0.6, 0.6], 3.0: [0.8, 0.7], 4.0: [0.8, 0.7]}
    chosen, trials = search("rate", list(tables), labels, lambda value: scores_of(tables[value]))
    assert chosen == 3.0
    assert [trial.value for trial in trials] == list(tables)
    assert [trial.score for trial in trials] == [0.5, 1.0, 1.0, 1.0]
    assert trials[1].loss == pytest.approx(-np.log(0.6))


def test_training_that_diverged_is_not_chosen():
    tables = {1.0: [0.1, 0.1], 2.0: [np.nan, np.nan]}
    chosen, trials = search("rate", [2.0, 1.0], np.array([0, 0]), lambda value: scores_of(tables[value]))
    assert chosen == 1.0
    assert trials[0].score == 0.0
    assert trials[0].loss == np.inf


def test_a_single_value_needs_no_trial():
    def never(value: float) -> np.ndarray:
        raise AssertionError("nothing to search")

    assert search("rate", [0.1], np.array([], dtype=int), never) == (0.1, [])


@pytest.mark.parametrize("values", [[], [0.1, 0.2]])
def test_what_cannot_be_searched_is_refused_with_the_field(values):
    with pytest.raises(ConfigError, match="rate"):
        search("rate", values, np.array([], dtype=int), lambda value: np.zeros((0, 2)))
