"""Which videos, and how often: pure functions of ids, labels and counts (paper, Sections 3.1.1 and 4.1.1).

Labels of N videos are a pair (`label_ids`, `offsets`), int32 [M] and int64 [N + 1]: video i has
`label_ids[offsets[i]:offsets[i + 1]]`. Every choice follows one hash rank per video, so that with the same seed a smaller
subset lies within a larger one.
"""

from __future__ import annotations

import itertools

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


def uniform(ranks: np.ndarray, stream: int) -> np.ndarray:
    """float64 [N] in [0, 1): a number for each hash rank, independent of the ranks' order and of other streams."""
    words = _mix(ranks ^ _mix(np.full(len(ranks), stream + 1, dtype=np.uint64)))
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(state: np.ndarray) -> np.ndarray:
    """splitmix64: one bijective scrambling step of uint64 values."""
    with np.errstate(over="ignore"):
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def random_order(ranks: np.ndarray) -> np.ndarray:
    """uint32 [N]: the videos by hash rank (uint64 [N], N < 2^32), equal ranks by place in the array."""
    return np.argsort(ranks, kind="stable").astype(np.uint32)


def tail_preserving_order(ranks: np.ndarray, label_ids: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """uint32 [N]: the videos in the order in which the labels' queues let them in (Section 4.1.1).

    A video stands in the queue of each of its labels, and every queue is in order of hash rank. First come the heads of
    all queues, then all the second places, and so on; a video comes with its earliest place. Within a place the order is
    that of the hash ranks.

    Args:
        ranks: uint64 [N], N < 2^32.
        label_ids: int32 [M], the labels of one video after the other.
        sizes: [N], labels of each video, at least 1.
    """
    by_rank = random_order(ranks)
    return by_rank[np.argsort(_earliest_places(by_rank, label_ids, sizes), kind="stable")]


def _earliest_places(by_rank: np.ndarray, label_ids: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """uint32 [N], for the videos in order of rank: the earliest place (from 0) in the queues of their labels."""
    rank_of_video = np.empty_like(by_rank)
    rank_of_video[by_rank] = np.arange(len(by_rank), dtype=np.uint32)
    queues = label_ids.astype(np.uint64)  # (label, rank) in one word: sorted in place, without an index
    queues <<= np.uint64(32)
    queues |= np.repeat(rank_of_video, sizes)
    queues.sort()
    num_labels = int(label_ids.max()) + 1 if len(label_ids) else 0
    bounds = np.searchsorted(queues, np.arange(num_labels + 1, dtype=np.uint64) << np.uint64(32))
    places = np.full(len(by_rank), np.iinfo(np.uint32).max, dtype=np.uint32)
    for start, end in itertools.pairwise(bounds.tolist()):
        queue = (queues[start:end] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        places[queue] = np.minimum(places[queue], np.arange(end - start, dtype=np.uint32))
    return places


def random_subset(video_ids: np.ndarray, num_videos: int, seed: int) -> np.ndarray:
    """Sorted int64 [min(num_videos, N)]: the videos with the smallest hash ranks."""
    return np.sort(random_order(hash_ranks(video_ids, seed))[:num_videos]).astype(np.int64)


def tail_preserving_subset(
    video_ids: np.ndarray, label_ids: np.ndarray, offsets: np.ndarray, num_videos: int, seed: int
) -> np.ndarray:
    """Sorted int64 [min(num_videos, N)]: every video of tail labels, head labels thinned to one common cap (Section 4.1.1).

    The first videos of `tail_preserving_order`. So with cap c every label keeps at least min(c, its videos): all videos of
    a label with at most c videos stay, and a head label exceeds c only by videos that another of their labels kept. The
    cap is the largest that keeps at most `num_videos`; the remainder comes from the next place of the queues, by hash
    rank. Subsets of different sizes with one seed are nested. Every video must have a label.
    """
    order = tail_preserving_order(hash_ranks(video_ids, seed), label_ids, np.diff(offsets))
    return np.sort(order[:num_videos]).astype(np.int64)


def within_budget(durations_s: np.ndarray, budget_s: float) -> int:
    """How many of the first videos fit: the first one that would exceed the budget ends the choice (float [N], seconds)."""
    return int(np.searchsorted(np.cumsum(durations_s, dtype=np.float64), budget_s, side="right"))


def label_subset(names: list[str], num_labels: int, seed: int) -> list[str]:
    """The `num_labels` labels with the smallest hash ranks, sorted: with one seed, smaller sets lie in larger (Figure 4)."""
    ordered = sorted(names)
    encoded = np.array([name.encode() for name in ordered], dtype=np.bytes_)
    return [ordered[i] for i in random_subset(encoded, num_labels, seed)]


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
