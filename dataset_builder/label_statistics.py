"""How videos spread over the labels of a dataset: pure functions of counts (paper, Section 4.2.1 and Figure 3).

`counts` is int [K], videos per label in any order; a label without a video stands as 0, and at least one count is more than 0. A
video counts for each of its labels, so the sum of the counts is the number of video–label pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LabelStatistics:
    """One dataset's labels in numbers; shares are of the video–label pairs."""

    num_labels: int
    labels_without_video: int
    num_pairs: int
    fewest: int
    median: float
    mean: float
    most: int
    head_share_1: float
    """Share of the 1 % of the labels that have most videos (rounded up to a whole label)."""
    head_share_10: float
    """... of the 10 %."""
    tail_share_50: float
    """Share of the half of the labels that have fewest videos (rounded down)."""
    entropy_bits: float
    normalised_entropy: float | None
    """Entropy over that of equal labels: 1 when all labels have the same number of videos; None for one label."""
    effective_labels: float
    """2 to the entropy: so many equal labels would be as diverse."""
    gini: float


def label_statistics(counts: np.ndarray) -> LabelStatistics:
    entropy = entropy_bits(counts)
    return LabelStatistics(
        num_labels=len(counts),
        labels_without_video=int((counts == 0).sum()),
        num_pairs=int(counts.sum()),
        fewest=int(counts.min()),
        median=float(np.median(counts)),
        mean=float(counts.mean()),
        most=int(counts.max()),
        head_share_1=head_share(counts, 0.01),
        head_share_10=head_share(counts, 0.1),
        tail_share_50=1 - head_share(counts, 0.5),
        entropy_bits=entropy,
        normalised_entropy=entropy / math.log2(len(counts)) if len(counts) > 1 else None,
        effective_labels=2**entropy,
        gini=gini(counts),
    )


def cumulative_distribution(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Figure 3: (share of the labels, share of the pairs they have), both float [K + 1] from 0 to 1, head labels first."""
    summed = np.concatenate([[0], np.cumsum(np.sort(counts)[::-1])])
    return np.arange(len(summed)) / len(counts), summed / summed[-1]


def head_share(counts: np.ndarray, share: float) -> float:
    """Share of the pairs that belong to the `share` of the labels with most videos, at least one label."""
    num_head = math.ceil(round(share * len(counts), 9))  # 0.1 × 30 is a little more than 3
    return float(np.sort(counts)[::-1][:num_head].sum() / counts.sum())


def entropy_bits(counts: np.ndarray) -> float:
    """Entropy of the label of a pair drawn at random, in bits."""
    shares = counts[counts > 0] / counts.sum()
    return float(np.abs((shares * np.log2(shares)).sum()))  # abs: one label gives -0.0


def gini(counts: np.ndarray) -> float:
    """Gini coefficient: 0 for equal labels, (K - 1) / K when one label has everything."""
    ascending, num_labels = np.sort(counts), len(counts)
    ranks = np.arange(1, num_labels + 1)
    return float(((2 * ranks - num_labels - 1) * ascending).sum() / (num_labels * counts.sum()))
