"""Two results on the same test videos: what differs, and by how much more than the choice of videos explains.

N videos, K labels. The bootstrap is paired: both results are computed on the same resamples, so what is hard for both
cancels out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finetune.bootstrap import (
    RESAMPLES,
    AveragePrecisions,
    ClassShares,
    Statistic,
    mean_over_labels,
    moved_interval,
    resampled,
)
from finetune.metrics import class_accuracies, headline_name, top_k_correct
from finetune.predictions import Predictions
from pipeline.config import ConfigError


@dataclass(frozen=True)
class ClassDifference:
    """One label: accuracy, or average precision where videos have several labels."""

    name: str
    num_videos: int
    first: float
    second: float
    difference: float
    """second − first."""
    interval: tuple[float, float]
    """Of the difference, 95 %."""
    won: int | None
    """Videos that only the second result has right; None where videos have several labels."""
    lost: int | None
    """Videos that only the first result has right."""
    top5_difference: float | None
    """Of the share of videos whose label is among the five highest scores; None where videos have several labels."""


@dataclass(frozen=True)
class Comparison:
    """The second result against the first."""

    metric: str
    """The headline: "top1" or "map"."""
    difference: float
    interval: tuple[float, float]
    classes: list[ClassDifference]
    """Of the labels that have videos, largest gain first. Of K intervals of no difference at all, 5 % exclude zero."""
    num_videos: int
    """Scored in both."""
    only_first: int
    only_second: int
    num_resamples: int


def compare(first: Predictions, second: Predictions, num_resamples: int = RESAMPLES) -> Comparison:
    """Differences on the videos that both could score, over all and label by label, with paired 95 % intervals.

    Raises: ConfigError where the two are not of the same target.
    """
    keys = sorted(set(first.keys) & set(second.keys))
    _check(first, second, keys)
    both = first.take(keys), second.take(keys)
    per_label, overall = zip(*(_statistics(predictions) for predictions in both), strict=True)
    statistics = {"classes": _difference(*per_label), "headline": _difference(*overall)}
    drawn = resampled(statistics, len(keys), num_resamples)
    once = np.ones((len(keys), 1), np.float32)
    measured, whole = ([statistic(once)[..., 0] for statistic in each] for each in (per_label, overall))
    intervals = moved_interval(drawn["classes"], measured[1] - measured[0], lowest=-1.0)
    return Comparison(
        metric=headline_name(both[0].labels),
        difference=float(whole[1] - whole[0]),
        interval=tuple(moved_interval(drawn["headline"], whole[1] - whole[0], lowest=-1.0).tolist()),
        classes=_classes(both, measured, intervals),
        num_videos=len(keys),
        only_first=len(first.keys) - len(keys),
        only_second=len(second.keys) - len(keys),
        num_resamples=num_resamples,
    )


def _check(first: Predictions, second: Predictions, keys: list[str]) -> None:
    if first.names != second.names:
        raise ConfigError("the two results have different labels: only results on the same target can be compared")
    if not keys:
        raise ConfigError(
            "the two results have no scored video in common: only results on the same target can be compared"
        )
    if not np.array_equal(first.take(keys).labels, second.take(keys).labels):
        raise ConfigError("the two results disagree about the labels of a video: the target was changed between them")


def _statistics(predictions: Predictions) -> tuple[Statistic, Statistic]:
    """The metric of each label and the headline, as functions of weights."""
    if predictions.multi_label:
        precisions = AveragePrecisions(predictions.scores, predictions.labels)
        return precisions, lambda weights_NR: mean_over_labels(precisions(weights_NR))
    correct = predictions.correct
    shares = ClassShares(correct, predictions.labels, len(predictions.names))
    return shares, lambda weights_NR: correct.astype(np.float64) @ weights_NR / weights_NR.sum(axis=0)


def _difference(first: Statistic, second: Statistic) -> Statistic:
    return lambda weights_NR: second(weights_NR) - first(weights_NR)


def _classes(
    both: tuple[Predictions, Predictions], measured: list[np.ndarray], intervals: np.ndarray
) -> list[ClassDifference]:
    labels, num_labels, multi_label = both[0].labels, len(both[0].names), both[0].multi_label
    num_videos = labels.sum(axis=0) if multi_label else np.bincount(labels, minlength=num_labels)
    details = [(None, None, None)] * num_labels if multi_label else _won_lost_and_top5(both)
    found = [
        ClassDifference(
            name,
            int(num_videos[label]),
            float(measured[0][label]),
            float(measured[1][label]),
            float(measured[1][label] - measured[0][label]),
            tuple(intervals[label].tolist()),
            *details[label],
        )
        for label, name in enumerate(both[0].names)
        if num_videos[label]
    ]
    return sorted(found, key=lambda each: (-each.difference, each.name))


def _won_lost_and_top5(both: tuple[Predictions, Predictions]) -> list[tuple[int, int, float]]:
    """Of each label."""
    labels, num_labels = both[0].labels, len(both[0].names)
    first, second = (predictions.correct for predictions in both)
    won, lost = (np.bincount(labels[only], minlength=num_labels) for only in (second & ~first, first & ~second))
    first, second = (
        class_accuracies(top_k_correct(predictions.scores, labels, 5), labels, num_labels)[0] for predictions in both
    )
    return list(zip(won.tolist(), lost.tolist(), (second - first).tolist(), strict=True))
