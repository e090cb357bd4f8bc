"""Scores and labels → the numbers of a result. Pure functions of arrays; N videos, K labels.

Labels are int [N], one a video, or bool [N, K], several a video (multi-label). A tie counts against the label: a model
that says the same for everything must not look right by its label order. In rankings of videos (average precision) those
of equal scores share a place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.bootstrap import (
    RESAMPLES,
    AveragePrecisions,
    ClassShares,
    Statistic,
    bootstrap_interval,
    mean_over_labels,
    moved_interval,
    resampled,
)

TITLES = {"top1": "top-1", "top5": "top-5", "mean_class_accuracy": "mean class accuracy", "map": "mAP"}
"""Name in results → name for people."""


@dataclass(frozen=True)
class Confusion:
    """Videos of one label taken for another."""

    true: str
    predicted: str
    count: int
    share: float
    """Of the videos of the true label."""


def is_multi_label(labels: np.ndarray) -> bool:
    return labels.ndim == 2


def headline_name(labels: np.ndarray) -> str:
    """Of the metric that a target is judged by: "top1", or "map" where videos have several labels."""
    return "map" if is_multi_label(labels) else "top1"


def headline(scores: np.ndarray, labels: np.ndarray) -> float:
    """The headline metric without its interval."""
    if is_multi_label(labels):
        return mean_average_precision(scores, labels)
    return float(top_k_correct(scores, labels, 1).mean())


def one_hot(labels: np.ndarray, num_labels: int) -> np.ndarray:
    """bool [N, K] of either kind of labels."""
    return labels if is_multi_label(labels) else labels[:, None] == np.arange(num_labels)


def top_k_correct(scores: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Is a video's label among its k highest scores? Of several labels: is any one?

    scikit-learn and torchmetrics let the order of the labels decide ties, in opposite ways; here ties are not hits.

    Args:
        scores: float [N, K]; a score that is not a number counts as higher than every other one, and as no hit.
        labels: int [N] or bool [N, K]; a video without labels is never right.
        k: places; with k >= K every other video is right.

    Returns: bool [N].
    """
    own = one_hot(labels, scores.shape[1])
    best = np.where(own & ~np.isnan(scores), scores, -np.inf).max(axis=1, keepdims=True)
    num_others_not_below = (~own & ~(scores < best)).sum(axis=1)
    return own.any(axis=1) & (num_others_not_below < k)


def class_accuracies(correct: np.ndarray, labels: np.ndarray, num_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Per label: share of its videos that are right, float [K] (NaN without videos), and number of videos, int [K]."""
    shares = ClassShares(correct, labels, num_labels)(_unweighted(labels))
    return shares[:, 0], np.bincount(labels, minlength=num_labels)


def mean_class_accuracy(correct: np.ndarray, labels: np.ndarray, num_labels: int) -> float:
    """Mean of the accuracies of the labels that have videos: every label counts alike, however common."""
    return float(mean_over_labels(class_accuracies(correct, labels, num_labels)[0]))


def average_precisions(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Per label, of the ranking of all videos by its score: sum over places of precision · gain in recall, float [K].

    No interpolation; videos of equal scores share a place, as in scikit-learn and torchmetrics. A label without videos
    is NaN and has no say in the mean (scikit-learn, and torchmetrics where videos have several labels, count it as 0).
    """
    return AveragePrecisions(scores, one_hot(labels, scores.shape[1]))(_unweighted(labels))[:, 0]


def mean_average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean of the average precisions of the labels that have videos ("macro"); NaN if none has."""
    return float(mean_over_labels(average_precisions(scores, labels)))


def predicted(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int [N], the label that each video is taken for: its own where that is right, else the first highest other one."""
    others = np.where(one_hot(labels, scores.shape[1]), -np.inf, np.nan_to_num(scores, nan=np.inf))
    return np.where(top_k_correct(scores, labels, 1), labels, others.argmax(axis=1))


def confusion_matrix(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int64 [K, K]: videos by label (row) and by what they are taken for (column); `labels` int [N]."""
    num_labels = scores.shape[1]
    cells = labels * num_labels + predicted(scores, labels)
    return np.bincount(cells, minlength=num_labels**2).reshape(num_labels, num_labels)


def most_confused(scores: np.ndarray, labels: np.ndarray, names: list[str], limit: int | None = 20) -> list[Confusion]:
    """The pairs of labels with the most videos of one taken for the other, most first, then those with the larger share of
    the true label's; `labels` int [N]. A `limit` of None gives all."""
    found, num_videos = predicted(scores, labels), np.bincount(labels, minlength=len(names))
    is_wrong = found != labels
    pairs, counts = np.unique(np.stack([labels, found])[:, is_wrong], axis=1, return_counts=True)
    first = np.lexsort((num_videos[pairs[0]], -counts))[:limit]
    return [
        Confusion(names[true], names[other], int(count), float(count / num_videos[true]))
        for true, other, count in zip(*pairs[:, first], counts[first], strict=True)
    ]


def summarise(
    scores: np.ndarray, labels: np.ndarray, names: list[str], num_resamples: int = RESAMPLES
) -> dict[str, Any]:
    """All metrics of a set of scored videos, with 95 % intervals over the choice of videos.

    top1 and top5 have closed intervals; mean_class_accuracy and map are resampled, a label without videos in a resample
    having no say in it. With several labels a video, top1 and top5 ask for any one of them, and the accuracies of labels
    are None.

    Args:
        scores: float [N, K], N > 0.
        labels: int [N] or bool [N, K].
        names: of the K labels.
        num_resamples: stated in the result; the seed is fixed, so that equal scores have equal intervals.

    Returns: {headline: {name, value, interval}; top1, top5, mean_class_accuracy, map, and NAME_interval: [low, high] of
    each; num_videos, num_resamples; per_class: {name: {accuracy, average_precision, num_videos}}}. What is not defined
    (without videos) is None.
    """
    first, name = top_k_correct(scores, labels, 1), headline_name(labels)
    own = one_hot(labels, len(names))
    values: dict[str, Any] = {}
    for k in (1, 5):
        correct = top_k_correct(scores, labels, k)
        values |= {f"top{k}": float(correct.mean()), f"top{k}_interval": list(bootstrap_interval(correct))}
    shares = None if is_multi_label(labels) else ClassShares(first, labels, len(names))
    accuracies = _mean_with_interval(values, "mean_class_accuracy", shares, own, num_resamples)
    precisions = _mean_with_interval(values, "map", AveragePrecisions(scores, own), own, num_resamples)
    return {
        "headline": {"name": name, "value": values[name], "interval": values[f"{name}_interval"]},
        **values,
        "num_videos": len(labels),
        "num_resamples": num_resamples,
        "per_class": {
            name: {"accuracy": _number(accuracy), "average_precision": _number(precision), "num_videos": int(count)}
            for name, accuracy, precision, count in zip(names, accuracies, precisions, own.sum(axis=0), strict=True)
        },
    }


def _mean_with_interval(
    values: dict[str, Any], name: str, of_labels: Statistic | None, own: np.ndarray, num_resamples: int
) -> np.ndarray:
    """Add the mean over labels of a statistic, and its interval, to `values`; returns what each label has, float [K]."""
    if of_labels is None:
        values |= {name: None, f"{name}_interval": None}
        return np.full(own.shape[1], np.nan)
    found = of_labels(_unweighted(own))[:, 0]
    mean = mean_over_labels(found)
    drawn = resampled({name: lambda weights_NR: mean_over_labels(of_labels(weights_NR))}, len(own), num_resamples)
    values |= {name: _number(mean), f"{name}_interval": [*map(_number, moved_interval(drawn[name], mean))]}
    return found


def sentence(summary: dict[str, Any]) -> str:
    """The headline of a summary with its interval, then the other means, for a person."""
    first = summary["headline"]
    low, high = map(_percent, first["interval"])
    parts = [f"{TITLES[first['name']]} {_percent(first['value'])} ({low} to {high})"]
    others = [name for name in TITLES if name != first["name"] and summary[name] is not None]
    return ", ".join(parts + [f"{TITLES[name]} {_percent(summary[name])}" for name in others])


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.1%}"


def _unweighted(labels: np.ndarray) -> np.ndarray:
    """float32 [N, 1]: each video once."""
    return np.ones((len(labels), 1), np.float32)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
