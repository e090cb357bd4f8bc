"""Duration bands: equal numbers of videos per label, proportions under a budget, and the middle of long videos."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_builder.duration import center_span, in_band, labels_of_account, quota_order

offers = st.lists(st.integers(0, 12), min_size=1, max_size=5).map(np.array)


def stock(offered, extra, seed):
    """(ranks, accounts) of a band that has `extra` more videos of each label than it offers, in random order."""
    accounts = np.repeat(np.arange(len(offered)), offered + np.asarray(extra)).astype(np.int32)
    draws = np.random.default_rng(seed)
    draws.shuffle(accounts)
    return draws.integers(0, 1000, len(accounts)).astype(np.uint64), accounts


def test_bands_have_both_ends_and_unknown_durations_are_in_none():
    durations = np.array([0.9, 1, 5, 5.1, 54.9, 55, 60, 60.1, np.nan], np.float32)
    assert np.flatnonzero(in_band(durations, "short")).tolist() == [1, 2]
    assert np.flatnonzero(in_band(durations, "long")).tolist() == [5, 6]
    assert np.flatnonzero(in_band(durations, "any")).tolist() == list(range(8))


def test_the_center_is_four_seconds_around_the_middle():
    start_s, end_s = center_span(np.array([55.0, 60.0]))
    assert start_s.tolist() == [25.5, 28.0]
    assert end_s.tolist() == [29.5, 32.0]


def test_the_label_of_account_is_the_rarest_and_of_equally_rare_ones_the_first():
    label_ids, offsets = np.array([0, 1, 1, 2, 0, 3, 2, 3]), np.array([0, 2, 4, 6, 8])
    assert labels_of_account(label_ids, offsets, np.array([9, 5, 7, 7])).tolist() == [1, 1, 3, 2]


@given(offers, st.integers(0, 3), st.sampled_from(["random", "tail_preserving"]), st.data())
def test_two_bands_with_the_same_offers_take_the_same_number_of_each_label(offered, seed, strategy, data):
    orders = []
    for band in (0, 1):
        extra = data.draw(st.lists(st.integers(0, 4), min_size=len(offered), max_size=len(offered)))
        ranks, accounts = stock(offered, extra, seed + 10 * band)
        order = quota_order(ranks, accounts, offered, strategy)
        assert len(order) == offered.sum() == len(set(order.tolist()))
        for label in range(len(offered)):  # of each label, those of least rank come, and in order of rank
            mine = ranks[order[accounts[order] == label]]
            assert mine.tolist() == sorted(ranks[accounts == label])[: offered[label]]
        orders.append(accounts[order].tolist())
    assert orders[0] == orders[1]  # so every prefix, of any size, has equally many of each label


@given(offers.filter(lambda offered: offered.sum() > 0), st.integers(0, 3))
def test_caps_are_common_to_all_labels_at_every_size(offered, seed):
    ranks, accounts = stock(offered, np.zeros(len(offered), int), seed)
    order = quota_order(ranks, accounts, offered, "tail_preserving")
    for size in range(1, len(order) + 1):
        taken = np.bincount(accounts[order[:size]], minlength=len(offered))
        cut = taken < offered
        assert not cut.any() or taken.max() <= taken[cut].min() + 1


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6).map(np.array), st.integers(0, 3))
def test_proportions_are_kept_at_every_size_and_no_video_is_taken_back(offered, seed):
    ranks, accounts = stock(offered, np.zeros(len(offered), int), seed)
    order = quota_order(ranks, accounts, offered, "random")
    for size in range(1, len(order) + 1):
        taken = np.bincount(accounts[order[:size]], minlength=len(offered))
        # Webster's criterion: no label has a better claim, (taken − 1/2) / offered, than one that waits.
        waiting = taken < offered
        claims = (taken + 0.5) / offered
        last = (taken - 0.5)[taken > 0] / offered[taken > 0]
        assert not waiting.any() or last.max() <= claims[waiting].min() + 1e-12


def test_large_orders_are_within_a_rounding_of_the_largest_remainder():
    offered = np.array([7000, 2000, 900, 90, 10])
    ranks, accounts = stock(offered, np.zeros(5, int), 0)
    order = quota_order(ranks, accounts, offered, "random")
    for size in (100, 1000, 1234, 9999):
        exact = offered * size / offered.sum()
        assert np.abs(np.bincount(accounts[order[:size]], minlength=5) - exact).max() <= 1


@pytest.mark.parametrize("strategy", ["random", "tail_preserving"])
def test_nothing_offered_is_nothing_taken(strategy):
    ranks, accounts = stock(np.array([3, 0]), [0, 2], 0)
    order = quota_order(ranks, accounts, np.array([0, 0]), strategy)
    assert len(order) == 0
