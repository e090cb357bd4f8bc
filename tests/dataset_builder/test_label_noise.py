"""Wrong labels on purpose: as many as asked for, never one's own, as frequent as before, nested in the rate."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_builder.label_noise import replace_labels
from dataset_builder.label_space import list_offsets
from dataset_builder.sampling import hash_ranks, label_counts


def videos(num_videos: int, num_labels: int, seed: int = 0):
    """(ranks, label_ids, offsets, counts) of videos with one to three labels, some labels far commoner than others."""
    rng = np.random.default_rng(seed)
    share = np.arange(1, num_labels + 1) / np.arange(1, num_labels + 1).sum()
    sizes = rng.integers(1, min(4, num_labels + 1), num_videos)
    labels = [rng.choice(num_labels, size, replace=False, p=share) for size in sizes]
    label_ids = np.concatenate(labels).astype(np.int32)
    ranks = hash_ranks(np.array([f"v{i:07d}" for i in range(num_videos)], "S"), seed)
    return ranks, label_ids, list_offsets(sizes), label_counts(label_ids, num_labels)


def lists(label_ids, offsets):
    return [tuple(label_ids[start:end]) for start, end in itertools.pairwise(offsets)]


@given(st.integers(1, 60), st.integers(2, 6), st.floats(0, 1), st.integers(0, 1000))
def test_a_replaced_video_has_one_label_that_it_did_not_have(num_videos, num_labels, rate, seed):
    ranks, label_ids, offsets, counts = videos(num_videos, num_labels, seed)
    before, after = lists(label_ids, offsets), lists(*replace_labels(ranks, label_ids, offsets, counts, rate))
    for old, new in zip(before, after, strict=True):
        assert new == old or (len(new) == 1 and new[0] not in old and counts[new[0]])


@given(st.integers(1, 60), st.floats(0, 1), st.floats(0, 1))
def test_noisy_videos_of_a_lower_rate_are_noisy_at_a_higher_one_with_the_same_label(num_videos, one, other):
    ranks, label_ids, offsets, counts = videos(num_videos, 5)
    low, high = (lists(*replace_labels(ranks, label_ids, offsets, counts, rate)) for rate in sorted((one, other)))
    assert all(b == a for b, a, old in zip(high, low, lists(label_ids, offsets), strict=True) if a != old)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_as_many_as_asked_for(rate):
    ranks, label_ids, offsets, counts = videos(20_000, 8)
    after = lists(*replace_labels(ranks, label_ids, offsets, counts, rate))
    changed = np.mean([a != b for a, b in zip(after, lists(label_ids, offsets), strict=True)])
    assert changed == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / 20_000))


def test_labels_stay_about_as_frequent_as_they_were():
    ranks, label_ids, _, _ = videos(20_000, 8)
    label_ids = label_ids[: len(ranks)]  # one label each
    offsets = np.arange(len(ranks) + 1)
    counts = label_counts(label_ids, 8)
    replaced, _ = replace_labels(ranks, label_ids, offsets, counts, 1.0)
    share = counts / counts.sum()
    expected = sum(share[own] * np.where(np.arange(8) == own, 0, share) / (1 - share[own]) for own in range(8))
    assert label_counts(replaced, 8) / len(ranks) == pytest.approx(expected, abs=0.02)


def test_a_video_with_every_label_keeps_them():
    ranks = hash_ranks(np.array([b"a", b"b"]), 0)
    replaced, offsets = replace_labels(ranks, np.array([0, 1, 1], np.int32), np.array([0, 2, 3]), np.array([1, 2]), 1.0)
    assert lists(replaced, offsets) == [(0, 1), (0,)]
