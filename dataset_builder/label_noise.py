"""Wrong labels on purpose: how much noise pretraining can bear is measured by adding some (not in the paper).

Which videos get one, and which, follows their hash rank: with one seed the noisy videos of a lower rate are among those of
a higher one, and nothing else about the dataset changes.
"""

from __future__ import annotations

import numpy as np

from dataset_builder.label_space import list_offsets
from dataset_builder.sampling import uniform


def replace_labels(
    ranks: np.ndarray, label_ids: np.ndarray, offsets: np.ndarray, label_counts: np.ndarray, rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """(label_ids, offsets) after a share of N videos has lost its labels for one that it did not have.

    The wrong label is drawn in proportion to the videos of each label in the dataset, so that frequent labels stay frequent.
    A video that has every label keeps them.

    Args:
        ranks: uint64 [N], see `hash_ranks`.
        label_ids: int32 [M], the labels of one video after the other.
        offsets: int64 [N + 1].
        label_counts: int64 [K], videos of each label in the whole dataset, before any label is replaced.
        rate: share of the videos, 0 to 1.
    """
    wrong = _other_labels(uniform(ranks, stream=1), label_ids, offsets, label_counts)
    noisy = (uniform(ranks, stream=0) < rate) & (wrong >= 0)
    sizes = np.where(noisy, 1, np.diff(offsets))
    new_offsets = list_offsets(sizes)
    replaced = np.empty(new_offsets[-1], dtype=label_ids.dtype)
    replaced[new_offsets[:-1][noisy]] = wrong[noisy]
    replaced[np.repeat(~noisy, sizes)] = label_ids[np.repeat(~noisy, np.diff(offsets))]
    return replaced, new_offsets


def _other_labels(
    shares: np.ndarray, label_ids: np.ndarray, offsets: np.ndarray, label_counts: np.ndarray
) -> np.ndarray:
    """int64 [N]: for each video the label at `shares` (float64 [N]) of the mass of those it does not have, or -1."""
    ends, sizes = np.cumsum(label_counts), np.diff(offsets)
    label_ids = label_ids[np.lexsort((label_ids, np.repeat(np.arange(len(sizes)), sizes)))]
    own = list_offsets(label_counts[label_ids])[offsets]
    rest = ends[-1] - np.diff(own)
    place = np.floor(shares * rest).astype(np.int64)
    for number in range(sizes.max(initial=0)):  # step over its own labels, the lowest first
        videos = np.flatnonzero(sizes > number)
        label = label_ids[offsets[videos] + number]
        place[videos] += np.where(place[videos] >= ends[label] - label_counts[label], label_counts[label], 0)
    return np.where(rest > 0, np.searchsorted(ends, place, side="right"), -1)
