"""Which videos, and how often: pure functions of ids, labels and counts (paper, Sections 3.1.1 and 4.1.1).

Labels of N videos are a pair (`label_ids`, `offsets`), int32 [M] and int64 [N + 1]: video i has
`label_ids[offsets[i]:offsets[i + 1]]`. Every choice follows one hash rank per video, so that with the same seed a smaller
subset lies within a larger one.
"""

from __future__ import annotations

import numpy as np


def hash_ranks(video_ids: np.ndarray, seed: int) -> np.ndarray:
    """uint64 [N]: a uniform hash of (seed, video_id), the same on every machine.

    Args:
        video_ids: bytes [N] (numpy dtype S, ASCII).
        seed: any integer.
    """
    width = -(-max(1, video_ids.dtype.itemsize) // 8)
    words = np.ascontiguousarray(video_ids.astype(f"S{width * 8}")).view("<u8").reshape(len(video_ids), width)
    state = _mix(np.full(len(video_ids), seed & 0xFFFFFFFFFFFFFFFF, dtype=np.uint64))
    for column in words.T:
        state = _mix(state ^ column)
    return state


def _mix(state: np.ndarray) -> np.ndarray:
    """splitmix64: one bijective scrambling step of uint64 values."""
    with np.errstate(over="ignore"):
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def rank_order(video_ids: np.ndarray, seed: int) -> np.ndarray:
    """int64 [N]: indices of the videos by hash rank, ties by id."""
    return np.lexsort((video_ids, hash_ranks(video_ids, seed)))


def random_subset(video_ids: np.ndarray, num_videos: int, seed: int) -> np.ndarray:
    """Sorted int64 [min(num_videos, N)]: the videos with the smallest hash ranks."""
    return np.sort(rank_order(video_ids, seed)[:num_videos])


def tail_preserving_subset(
    video_ids: np.ndarray, label_ids: np.ndarray, offsets: np.ndarray, num_videos: int, seed: int
) -> np.ndarray:
    """Sorted int64 [min(num_videos, N)]: every video of tail labels, head labels thinned to one common cap (Section 4.1.1).

    A video with several labels stands in the queue of each of them, ordered by hash rank, and is kept as soon as one of its
    labels reaches it. So with cap c every label keeps at least min(c, its videos): all videos of a label with at most c
    videos stay, and a head label exceeds c only by videos that another of their labels kept. The cap is the largest that
    keeps at most `num_videos`; the remainder comes from the next place of the queues, by hash rank. Subsets of different
    sizes with one seed are nested. Every video must have a label.
    """
    places = _queue_places(video_ids, label_ids, offsets, seed)
    return np.sort(np.lexsort((video_ids, hash_ranks(video_ids, seed), places))[:num_videos])


def _queue_places(video_ids: np.ndarray, label_ids: np.ndarray, offsets: np.ndarray, seed: int) -> np.ndarray:
    """int64 [N]: a video's earliest place (from 0) in the queues of its labels."""
    rank = np.empty(len(video_ids), dtype=np.int64)
    rank[rank_order(video_ids, seed)] = np.arange(len(video_ids))
    videos = np.repeat(np.arange(len(video_ids)), np.diff(offsets))
    queue = np.lexsort((rank[videos], label_ids))
    queued = label_ids[queue]
    starts = np.searchsorted(queued, queued, side="left")
    place = np.empty(len(label_ids), dtype=np.int64)
    place[queue] = np.arange(len(label_ids)) - starts
    return np.minimum.reduceat(place, offsets[:-1]) if len(video_ids) else place


def label_counts(label_ids: np.ndarray, num_labels: int) -> np.ndarray:
    """int64 [K]: videos of each label; a video counts once for each of its labels."""
    return np.bincount(label_ids, minlength=num_labels)


def square_root_weights(label_ids: np.ndarray, offsets: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """float32 [N]: slots of each video in one virtual pass, so that a label is drawn in proportion to sqrt(its videos).

    A video of label l weighs sqrt(n_max / n_l): all n_l of them together weigh sqrt(n_max * n_l), and videos of the largest
    label weigh 1. With several labels the largest factor (that of the rarest label) counts.

    Args:
        counts: int64 [K], videos per label within the same set of videos.
    """
    if not len(label_ids):
        return np.ones(len(offsets) - 1, dtype=np.float32)
    factors = np.sqrt(counts.max() / np.maximum(counts, 1))
    return np.maximum.reduceat(factors[label_ids], offsets[:-1]).astype(np.float32)
