"""Sampling: exact sizes, nested subsets, caps, and the square-root law."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dataset_builder.sampling import (
    hash_ranks,
    label_counts,
    random_subset,
    square_root_weights,
    tail_preserving_order,
    tail_preserving_subset,
    within_budget,
)


def ids(num_videos):
    return np.array([f"{i:020x}" for i in range(num_videos)], dtype="S20")


def lists(labels_of_videos):
    """[[labels], ...] → (label_ids, offsets)"""
    offsets = np.concatenate([[0], np.cumsum([len(labels) for labels in labels_of_videos])]).astype(np.int64)
    return np.array([label for labels in labels_of_videos for label in labels], dtype=np.int32), offsets


def zipf_videos(num_videos, num_labels, seed=0):
    weights = 1 / np.arange(1, num_labels + 1)
    drawn = np.random.default_rng(seed).choice(num_labels, num_videos, p=weights / weights.sum())
    return lists([[label] for label in drawn])


labelled = st.lists(st.sets(st.integers(0, 5), min_size=1, max_size=3).map(sorted), min_size=1, max_size=60)


def test_hash_ranks_are_uniform_and_differ_by_seed():
    ranks = hash_ranks(ids(20_000), seed=7)
    counts = np.bincount((ranks >> np.uint64(58)).astype(int), minlength=64)
    assert stats.chisquare(counts).pvalue > 1e-4
    assert stats.spearmanr(ranks, hash_ranks(ids(20_000), seed=8)).pvalue > 1e-4
    assert len(np.unique(ranks)) == 20_000


def test_hash_ranks_depend_on_the_id_alone_not_on_the_width_of_the_array():
    assert hash_ranks(np.array([b"ab"], "S2"), 1) == hash_ranks(np.array([b"ab"], "S8"), 1)


@given(st.integers(0, 80), st.integers(0, 80), st.integers(0, 3))
def test_random_subsets_are_exact_and_nested(small, large, seed):
    small, large = sorted((small, large))
    inner, outer = (random_subset(ids(60), n, seed) for n in (small, large))
    assert (len(inner), len(outer)) == (min(small, 60), min(large, 60))
    assert set(inner) <= set(outer)


@given(labelled, st.integers(0, 70), st.integers(0, 70), st.integers(0, 3))
def test_tail_preserving_subsets_are_exact_and_nested(labels, small, large, seed):
    small, large = sorted((small, large))
    inner, outer = (tail_preserving_subset(ids(len(labels)), *lists(labels), n, seed) for n in (small, large))
    assert (len(inner), len(outer)) == (min(small, len(labels)), min(large, len(labels)))
    assert set(inner) <= set(outer)


@given(labelled, st.integers(1, 60), st.integers(0, 3))
def test_every_label_keeps_all_its_videos_or_as_many_as_any_other(labels, num_videos, seed):
    label_ids, offsets = lists(labels)
    chosen = tail_preserving_subset(ids(len(labels)), label_ids, offsets, num_videos, seed)
    before = label_counts(label_ids, 6)
    after = label_counts(lists([labels[i] for i in chosen])[0], 6)
    # The cap: what the most thinned label keeps at least. Labels not thinned keep everything.
    thinned = after < before
    if thinned.any():
        one_label = [labels[i][0] for i in chosen if len(labels[i]) == 1]
        alone = np.bincount(one_label, minlength=6) if one_label else np.zeros(6, int)
        assert alone.max() <= after[thinned].min() + 1


@given(labelled, st.data())
def test_the_order_is_that_of_queues_which_let_in_one_video_each_in_turn(labels, data):
    """The definition, word for word; ranks that collide are told apart by the place of the video."""
    ranks = data.draw(st.lists(st.integers(0, 9), min_size=len(labels), max_size=len(labels)))
    videos = sorted(range(len(labels)), key=lambda i: (ranks[i], i))
    queues = [[i for i in videos if label in labels[i]] for label in range(6)]
    expected = []
    for place in range(len(labels)):
        heads = {queue[place] for queue in queues if len(queue) > place} - set(expected)
        expected += sorted(heads, key=lambda i: (ranks[i], i))
    label_ids, offsets = lists(labels)
    found = tail_preserving_order(np.array(ranks, np.uint64), label_ids, np.diff(offsets))
    assert found.tolist() == expected


def test_sizes_of_the_papers_ratios_are_nested():
    label_ids, offsets = zipf_videos(6000, 40)
    sizes = (500, 1000, 5000)
    for subset in (
        lambda size: random_subset(ids(6000), size, 2),
        lambda size: tail_preserving_subset(ids(6000), label_ids, offsets, size, 2),
    ):
        chosen = [set(subset(size).tolist()) for size in sizes]
        assert [len(some) for some in chosen] == list(sizes)
        assert chosen[0] < chosen[1] < chosen[2]


def test_a_budget_ends_with_the_first_video_that_would_exceed_it():
    durations = np.array([10, 20, 40, 1, 1], np.float32)
    assert [within_budget(durations, budget) for budget in (9.9, 10, 29, 30, 69, 70, 72, 100)] == [
        0,
        1,
        1,
        2,
        2,
        3,
        5,
        5,
    ]


def test_tail_labels_stay_whole_and_head_labels_share_one_cap():
    label_ids, offsets = zipf_videos(20_000, 50)
    before = label_counts(label_ids, 50)
    chosen = tail_preserving_subset(ids(20_000), label_ids, offsets, 8_000, seed=3)
    after = label_counts(label_ids[chosen], 50)
    assert after.sum() == 8_000
    cap = after.max()
    assert set(after[before > cap]) <= {cap, cap - 1}
    assert (after[before < cap] == before[before < cap]).all()
    assert (before > cap).sum() >= 5
    assert (before < cap).sum() >= 10


def test_the_rest_of_a_head_label_is_a_random_draw():
    label_ids, offsets = lists([[0]] * 1000)
    chosen = tail_preserving_subset(ids(1000), label_ids, offsets, 500, seed=1)
    assert stats.kstest(chosen / 1000, "uniform").pvalue > 1e-3


def test_square_root_weights_draw_labels_by_the_square_root_of_their_videos():
    label_ids, offsets = zipf_videos(30_000, 20)
    counts = label_counts(label_ids, 20)
    weights = square_root_weights(label_ids, offsets, counts).astype(float)
    assert weights.min() == 1
    drawn = np.random.default_rng(5).choice(len(weights), 50_000, p=weights / weights.sum())
    expected = np.sqrt(counts) / np.sqrt(counts).sum() * 50_000
    assert stats.chisquare(np.bincount(label_ids[drawn], minlength=20), expected).pvalue > 1e-3
    in_proportion = counts / counts.sum() * 50_000
    assert stats.chisquare(np.bincount(label_ids[drawn], minlength=20), in_proportion).pvalue < 1e-6


def test_a_video_with_several_labels_weighs_what_its_rarest_label_does():
    label_ids, offsets = lists([[0]] * 8 + [[1]] + [[0, 1]])
    weights = square_root_weights(label_ids, offsets, label_counts(label_ids, 2))
    assert weights == pytest.approx([1] * 8 + [np.sqrt(9 / 2)] * 2)
