"""Held-out splits and the rule that picks a value."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.data import groups_of
from finetune.search import Trial, held_out, search
from pipeline import artifacts, storage
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


grouped = st.lists(st.tuples(st.integers(0, 4), st.sampled_from([None, *"abcdefgh"])), min_size=2, max_size=80)


@given(videos=grouped, share=st.floats(0.02, 0.6), seed=st.integers(0, 99), order=st.randoms())
def test_a_group_is_held_out_whole_or_not_at_all_whatever_the_order(videos, share, seed, order):
    rows = [(f"video{i}", label, group) for i, (label, group) in enumerate(videos)]
    mask = dict(zip(rows, held_out(*_columns(rows, share, seed)), strict=True))
    for group in {group for _, group in videos} - {None}:
        assert len({mask[row] for row in rows if row[2] == group}) == 1
    assert {row[1] for row in rows if not mask[row]} == {label for label, _ in videos}
    order.shuffle(rows)
    assert [mask[row] for row in rows] == held_out(*_columns(rows, share, seed)).tolist()


def _columns(rows, share, seed):
    keys, labels, groups = zip(*rows, strict=True)
    return keys, labels, share, seed, groups


def test_groups_give_their_share_as_nearly_as_they_can():
    """UCF101: 101 labels, 25 groups of 4 to 7 clips each; two or three groups of each label are a tenth."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(4, 8, (101, 25))
    rows = [
        (label, f"{label} g{group}") for label in range(101) for group in range(25) for _ in range(sizes[label, group])
    ]
    labels, groups = zip(*rows, strict=True)
    mask = held_out([str(i) for i in range(len(rows))], labels, 0.1, 0, groups)
    assert abs(mask.mean() - 0.1) < 0.0005
    per_label = Counter(
        label for label, _ in {(label, group) for (label, group), m in zip(rows, mask, strict=True) if m}
    )
    assert {*per_label.values()} <= {1, 2, 3, 4}
    assert len(per_label) == 101


def test_segments_of_one_upload_belong_together_and_a_group_goes_before(tmp_path):
    files = artifacts.target_files(str(tmp_path), "t", "train")
    rows = [("a", "long.mp4", None), ("b", "long.mp4", None), ("c", "other.mp4", None), ("d", "long.mp4", "P01")]
    manifest = [{"video_id": key, "uri": uri, "group": group} for key, uri, group in rows]
    storage.write_parquet(f"{files.manifest}/part-00000.parquet", pa.Table.from_pylist(manifest))
    samples = SimpleNamespace(keys=pa.chunked_array([["d", "c", "a"]]))
    assert groups_of(files, samples) == ["P01", None, "long.mp4"]
    single = pa.table({"video_id": ["a", "b"], "uri": ["1.mp4", "2.mp4"]})
    storage.write_parquet(f"{files.manifest}/part-00000.parquet", single)
    assert groups_of(files, samples) is None


def test_several_labels_a_video():
    labels = [[0], [0, 1], [1], [2, 0], [2], [1, 2], [0, 1, 2], [0], [1], [2]]
    mask = held_out([str(i) for i in range(10)], labels, 0.5, 0)
    assert 1 <= mask.sum() <= 5
    assert {label for label_list, out in zip(labels, mask, strict=True) if not out for label in label_list} == {0, 1, 2}


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


def test_a_trial_that_is_remembered_is_not_made_again():
    memory = {1.0: Trial(1.0, 1.0, 0.25)}

    class Remembered:
        get = staticmethod(memory.get)

        def add(self, trial: Trial) -> None:
            memory[trial.value] = trial

    def scores_with(value: float) -> np.ndarray:
        assert value == 2.0
        return scores_of([0.6, 0.6])

    chosen, trials = search("rate", [2.0, 1.0], np.array([0, 0]), scores_with, Remembered())
    assert (chosen, trials[1]) == (1.0, Trial(1.0, 1.0, 0.25))
    assert memory[2.0] == trials[0]


@pytest.mark.parametrize("values", [[], [0.1, 0.2]])
def test_what_cannot_be_searched_is_refused_with_the_field(values):
    with pytest.raises(ConfigError, match="rate"):
        search("rate", values, np.array([], dtype=int), lambda value: np.zeros((0, 2)))


def test_several_labels_a_video_are_judged_by_mean_average_precision_then_loss():
    labels = np.array([[True, False], [True, True], [False, True]])
    right, wrong = labels * 0.8 + 0.1, labels * -0.8 + 0.9
    tables = {1.0: wrong, 2.0: right * 0.9, 3.0: right}
    chosen, trials = search("rate", list(tables), labels, tables.__getitem__)
    assert chosen == 3.0
    assert [trial.score for trial in trials] == [
        pytest.approx(2 / 3),
        1.0,
        1.0,
    ]  # its right videos share the second place
    assert trials[2].loss == pytest.approx(-2 * np.log(0.9))  # of two labels each
    assert trials[0].loss == pytest.approx(-2 * np.log(0.1))


def test_held_out_videos_without_any_label_cannot_judge():
    with pytest.raises(ConfigError, match="no held-out video has a label"):
        search("rate", [1.0, 2.0], np.zeros((3, 2), bool), lambda value: np.zeros((3, 2)))
