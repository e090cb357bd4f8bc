"""Scores and labels → the numbers of a result. Pure functions of arrays; N videos, K labels.

A tie counts against the label: a model that says the same for everything must not look right by its label order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import bdtr

CONFIDENCE = 0.95


def top_k_correct(scores: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Is a video's label among its k highest scores?

    Args:
        scores: float [N, K]; a score that is not a number counts as higher than every other one.
        labels: int [N].
        k: places; with k >= K every video is right.

    Returns: bool [N].
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    num_not_below = (~(scores < own)).sum(axis=1)  # counts the label itself
    return num_not_below <= k


def class_accuracies(correct: np.ndarray, labels: np.ndarray, num_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Per label: share of its videos that are right, float [K] (NaN without videos), and number of videos, int [K]."""
    num_videos = np.bincount(labels, minlength=num_labels)
    num_correct = np.bincount(labels, weights=correct, minlength=num_labels)
    return np.divide(num_correct, num_videos, out=np.full(num_labels, np.nan), where=num_videos > 0), num_videos


def mean_class_accuracy(correct: np.ndarray, labels: np.ndarray, num_labels: int) -> float:
    """Mean of the accuracies of the labels that have videos: every label counts alike, however common."""
    accuracies, _ = class_accuracies(correct, labels, num_labels)
    return float(np.nanmean(accuracies))


def bootstrap_interval(correct: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `correct`, bool [N], in closed form.

    N draws with replacement from zeros and ones of mean p have a binomial(N, p) sum, so the quantiles that resampling
    would estimate are known exactly: nothing is drawn. It covers which test videos were picked, not the training.
    """
    tail, num_videos = (1 - confidence) / 2, len(correct)
    cumulative = bdtr(np.arange(num_videos + 1), num_videos, correct.mean())  # P(at most k right)
    low, high = np.searchsorted(cumulative, [tail, 1 - tail]) / num_videos
    return float(low), float(high)


def summarise(scores: np.ndarray, labels: np.ndarray, names: list[str]) -> dict[str, Any]:
    """All metrics of a set of scored videos.

    Args:
        scores: float [N, K], N > 0.
        labels: int [N].
        names: of the K labels.

    Returns: {top1, top5, mean_class_accuracy, top1_interval: [low, high], num_videos, per_class: {name: {accuracy,
    num_videos}}}; a label without videos has accuracy None.
    """
    correct = top_k_correct(scores, labels, 1)
    accuracies, num_videos = class_accuracies(correct, labels, len(names))
    return {
        "top1": float(correct.mean()),
        "top5": float(top_k_correct(scores, labels, 5).mean()),
        "mean_class_accuracy": mean_class_accuracy(correct, labels, len(names)),
        "top1_interval": list(bootstrap_interval(correct)),
        "num_videos": len(labels),
        "per_class": {
            name: {"accuracy": float(accuracy) if count else None, "num_videos": int(count)}
            for name, accuracy, count in zip(names, accuracies, num_videos, strict=True)
        },
    }
