"""Two results side by side: paired, label by label."""

import numpy as np
import pyarrow as pa
import pytest

from finetune import metrics
from finetune import predictions as predictions_module
from finetune.comparison import compare
from finetune.predictions import Predictions, label_array
from pipeline import artifacts, storage
from pipeline.artifacts import TransferFiles
from pipeline.config import ConfigError

NAMES = ["dive", "jump", "run"]


def predictions(scores: np.ndarray, labels: np.ndarray, first_key: int = 0) -> Predictions:
    keys = [f"video{number}" for number in range(first_key, first_key + len(labels))]
    return Predictions(keys, labels, scores, NAMES, {})


def right_where(correct: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.eye(3)[np.where(correct, labels, (labels + 1) % 3)]


def test_gains_by_label_largest_first_with_the_videos_behind_them():
    labels = np.repeat([0, 1], [40, 20])
    first = right_where(np.r_[np.arange(40) < 20, np.arange(20) < 10], labels)
    second = right_where(np.r_[np.arange(40) < 18, np.arange(20) < 18], labels)
    found = compare(predictions(first, labels), predictions(second, labels))
    assert [(each.name, each.difference, each.won, each.lost) for each in found.classes] == [
        ("jump", pytest.approx(0.4), 8, 0),
        ("dive", pytest.approx(-0.05), 0, 2),
    ]
    assert found.metric == "top1"
    assert found.difference == pytest.approx(6 / 60)
    assert [each.top5_difference for each in found.classes] == [0.0, 0.0]  # of three labels all are among five
    jump, dive = found.classes
    assert 0 < jump.interval[0] < 0.4 < jump.interval[1]
    assert dive.interval[0] < -0.05 < dive.interval[1]


def test_pairing_makes_what_both_get_wrong_count_for_nothing():
    """Of d = second − first per video, in -1, 0, 1, the interval is that of a mean: normal, of standard deviation sd / √N."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 900)
    correct = rng.random(900) < 0.5
    gained = rng.random(900) < 0.1
    found = compare(
        *(predictions(right_where(right, labels), labels) for right in (correct, correct | gained)), num_resamples=4000
    )
    d = (correct | gained).astype(float) - correct
    expected = d.mean() + 1.96 * d.std() / 30 * np.array([-1, 1])
    assert found.interval == pytest.approx(expected, abs=0.002)
    unpaired = 1.96 * 0.5 / 30 * np.sqrt(2)
    assert found.interval[1] - found.interval[0] < unpaired


@pytest.mark.parametrize("several", [False, True])
def test_a_result_does_not_differ_from_itself_and_sides_can_be_swapped(several):
    rng = np.random.default_rng(1)
    labels = rng.random((50, 3)) < 0.4 if several else rng.integers(0, 3, 50)
    first, second = (predictions(rng.random((50, 3)), labels) for _ in range(2))
    same = compare(first, first)
    assert (same.difference, same.interval) == (0.0, (0.0, 0.0))
    assert {each.interval for each in same.classes} == {(0.0, 0.0)}
    one, other = compare(first, second), compare(second, first)
    assert one.metric == ("map" if several else "top1")
    assert one.difference == metrics.headline(second.scores, labels) - metrics.headline(first.scores, labels)
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]))


def test_only_videos_that_both_scored_count():
    labels = np.zeros(10, int)
    first = predictions(right_where(np.ones(10, bool), labels), labels)
    second = predictions(right_where(np.arange(10) < 5, labels), labels, first_key=2)
    found = compare(first, second)
    assert (found.num_videos, found.only_first, found.only_second) == (8, 2, 2)
    assert found.difference == pytest.approx(5 / 8 - 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["dive", "jump", "walk"]}, "different labels"),
        ({"keys": ["a", "b", "c", "d"]}, "no scored video in common"),
        ({"labels": np.array([0, 1, 2, 1])}, "disagree about the labels"),
    ],
)
def test_results_of_different_targets_are_refused(change, message):
    first = predictions(np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 0]))
    with pytest.raises(ConfigError, match=message):
        compare(first, Predictions(**{**vars(first), **change}))


def test_predictions_are_read_from_the_table_without_what_was_not_scored():
    rows = [
        {"key": "a", "labels": [1], "scores": [0.1, 0.9, 0.0]},
        {"key": "b", "labels": [0], "scores": None, "reason": "decode_error"},
        {"key": "c", "labels": [2], "scores": [0.2, 0.2, 0.6]},
    ]
    found = Predictions.from_table(pa.Table.from_pylist(rows, artifacts.PREDICTIONS), NAMES, multi_label=False)
    assert (found.keys, found.labels.tolist(), found.scores.shape) == (["a", "c"], [1, 2], (2, 3))
    assert (found.unscored, found.undecodable) == ({"b": "decode_error"}, {"decode_error": 1})
    rows[2]["labels"] = [0, 2]
    found = Predictions.from_table(pa.Table.from_pylist(rows, artifacts.PREDICTIONS), NAMES, multi_label=True)
    assert found.labels.tolist() == [[False, True, False], [True, False, True]]
    with pytest.raises(ConfigError, match="more than once"):
        Predictions.from_table(pa.Table.from_pylist(rows + rows, artifacts.PREDICTIONS), NAMES, multi_label=True)


def test_a_video_without_labels_has_a_row_of_its_own():
    assert label_array([[], [2, 0]], 3, multi_label=True).tolist() == [[False] * 3, [True, False, True]]


def test_of_several_trainings_one_is_read(tmp_path):
    rows = [
        {"key": key, "labels": [0], "scores": [score, 1 - score], "reason": None, "seed": seed}
        for seed, score in ((0, 0.9), (1, 0.1))
        for key in "pq"
    ]
    files = TransferFiles(str(tmp_path))
    storage.write_parquet(files.predictions, pa.Table.from_pylist(rows, artifacts.PREDICTIONS))
    marker = {"labels": ["a", "b"], "metrics": {"headline": {"name": "top1"}}}
    found = predictions_module.read(files, marker, seed=1)
    assert (found.keys, found.scores[:, 0].tolist()) == (["p", "q"], pytest.approx([0.1, 0.1]))
