"""The order of samples against arithmetic: what each pass must hold, how far apart, and from how many shards at a time."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dataset_builder.sampling import square_root_weights
from pretrain.order import UNIT, SampleOrder


def in_pass(order: SampleOrder, number: int) -> list[int]:
    first = number * order.num_slots
    return [order(position) for position in range(first, first + order.num_slots)]


def slots_in_pass(order: SampleOrder, number: int, num_samples: int) -> np.ndarray:
    """int64 [N]: slots of each sample in a pass, in the order of the slots."""
    return np.bincount([order.slots.sample(number, slot) for slot in range(order.num_slots)], minlength=num_samples)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int, int]:
    """(weights, shards, block, seed): shards of any sizes, in or out of order, some of weight 0."""
    num_samples = draw(st.integers(1, 40))
    weights = draw(
        st.lists(st.sampled_from([0.0, 0.25, 1.0, 1.0, 1.5, 2.0, 3.7]), min_size=num_samples, max_size=num_samples)
    )
    weights[draw(st.integers(0, num_samples - 1))] = 1.0
    shards = draw(st.lists(st.integers(0, 9), min_size=num_samples, max_size=num_samples))
    if draw(st.booleans()):
        shards.sort()
    return np.array(weights, np.float32), np.array(shards, np.int32), draw(st.integers(0, 12)), draw(st.integers(0, 99))


@settings(max_examples=60)
@given(layouts(), st.integers(0, 50))
def test_every_slot_of_a_pass_is_served_once_whatever_the_block(layout, number):
    weights, shards, block, seed = layout
    order = SampleOrder(weights, seed, shards, block)
    served = Counter(in_pass(order, number))
    assert served.total() == order.num_slots == max(1, round(float(weights.sum(dtype=np.float64))))
    scale = order.num_slots / weights.sum(dtype=np.float64)
    for sample, weight in enumerate(weights * scale):
        assert abs(served[sample] - weight) < 1 + 2 / UNIT
        assert weight > 0 or not served[sample]


@settings(max_examples=30)
@given(layouts())
def test_whole_weights_are_exact_in_every_pass(layout):
    weights, shards, block, seed = layout
    order = SampleOrder(np.ceil(weights), seed, shards, block)
    for number in (0, 1, 7):
        assert np.array_equal(np.bincount(in_pass(order, number), minlength=len(weights)), np.ceil(weights))


@settings(max_examples=20)
@given(layouts(), st.integers(0, 10**9))
def test_an_order_that_begins_anywhere_goes_on_as_one_that_came_there(layout, position):
    weights, shards, block, seed = layout
    came, begins = (SampleOrder(weights, seed, shards, block) for _ in range(2))
    positions = range(position, position + 2 * came.num_slots)
    for before in (0, position // 2, position + came.num_slots):
        came(before)
    assert [begins(p) for p in positions] == [came(p) for p in positions]


@pytest.mark.parametrize("num_passes", [21, 34, 55, 89])  # Fibonacci numbers
def test_fractions_of_weights_are_served_over_passes_to_within_two_slots(num_passes):
    """Denjoy–Koksma: of F_n points a golden section apart, those in an arc differ from its share of them by at most 2."""
    weights = np.random.default_rng(0).uniform(0, 3, 300)
    order = SampleOrder(weights, seed=5)
    served = sum(slots_in_pass(order, number, 300) for number in range(num_passes))
    expected = weights * order.num_slots / weights.sum() * num_passes
    assert np.abs(served - expected).max() <= 2 + 4 * num_passes / UNIT
    # one rounding for all passes would miss by half a slot a pass, one drawn for each pass by the root of their number
    assert np.abs(served - expected).max() < 3 * np.sqrt(num_passes / 4) < num_passes / 2


def test_over_seeds_a_fraction_is_served_as_often_as_its_weight():
    weights = np.array([0.3, 1.3, 1.0, 0.4])
    first = np.array([slots_in_pass(SampleOrder(weights, seed), 0, 4) for seed in range(800)])
    assert np.abs(first.mean(axis=0) - weights).max() < 4 * np.sqrt(0.25 / 800)


def test_a_virtual_pass_shows_labels_by_the_square_root_of_their_videos():
    """Of videos with one label each. With several, a video weighs what its rarest label asks for, so labels that share
    videos with rarer ones are seen more often than their own square root says."""
    counts = np.array([9000, 3000, 900, 250, 60])
    labels = np.repeat(np.arange(5), counts)
    weights = square_root_weights(labels, np.arange(len(labels) + 1), counts)
    expected = np.sqrt(counts) / np.sqrt(counts).sum()
    order = SampleOrder(weights, seed=1)
    slots = np.sqrt(counts.max() * counts)  # n videos of sqrt(n_max / n) slots each
    assert abs(order.num_slots - slots.sum()) <= 0.5
    whole = np.bincount(labels[[order.slots.sample(0, slot) for slot in range(order.num_slots)]])
    assert np.abs(whole - slots).max() < 1.01  # a label's videos lie side by side on the line
    num_clips = 4000
    seen = np.bincount(labels[[order(position) for position in range(num_clips)]], minlength=5)
    assert stats.chisquare(seen, expected * num_clips).pvalue > 1e-3
    assert stats.chisquare(seen, counts / counts.sum() * num_clips).pvalue < 1e-6


def test_passes_and_seeds_have_orders_of_their_own():
    shards = np.repeat(np.arange(10), 10)
    for block in (0, 3):
        orders = [SampleOrder(np.ones(100), seed, shards, block) for seed in (0, 1)]
        sequences = {tuple(in_pass(order, number)) for order in orders for number in range(10)}
        assert len(sequences) == 20


def test_the_place_of_a_sample_is_uniform_over_passes():
    shards = np.repeat(np.arange(12), 5)
    order = SampleOrder(np.ones(60), 0, shards, 3)
    places = [in_pass(order, number).index(17) for number in range(600)]
    assert stats.chisquare(np.bincount(places, minlength=60)).pvalue > 1e-3


@pytest.mark.parametrize("block", [0, 64, 256, 1000])
def test_a_batch_draws_from_as_many_shards_as_are_shuffled_together(block):
    """1,000 shards of 1,000 samples, batches of 2,048. Blocks are of equal size, n = 1,000 / ⌈1,000 / block⌉ shards, so
    a batch within one sees n·(1 − (1 − 1/n)^2048) of them, and one across a border those of two."""
    num_shards, batch = 1000, 2048
    order = SampleOrder(np.ones(num_shards * 1000), 0, np.repeat(np.arange(num_shards), 1000), block)
    size = num_shards / -(-num_shards // (block or num_shards))
    expected = size * (1 - (1 - 1 / size) ** batch)
    starts = range(0, order.num_slots - batch, order.num_slots // 8)
    distinct = [len({order(p) // 1000 for p in range(start, start + batch)}) for start in starts]
    assert min(distinct) > expected - 4 * np.sqrt(expected)
    assert np.median(distinct) < expected + 1 + 4 * np.sqrt(size - expected + 0.25)


@pytest.mark.parametrize("num_shards", [20, 23])
def test_a_pass_reads_its_shards_block_by_block_and_none_again(num_shards):
    shards = np.random.default_rng(0).integers(0, num_shards, 400) * 3  # in no order, some numbers not there
    order = SampleOrder(np.ones(400), 0, shards, block=4)
    ahead = list(itertools.islice(order.blocks(400 + 7), 13))
    ends = [begin for begin, _ in ahead[1:]]
    assert ahead[0][0] == 400
    assert sum(begin < 800 for begin, _ in ahead) == -(-num_shards // 4)
    for (begin, block), end in zip(ahead, ends, strict=False):
        assert {shards[order(position)] for position in range(begin, end)} == set(block)
        assert len(set(block)) == len(block) <= 4
    one_pass = np.concatenate([block for begin, block in ahead if begin < 800])
    assert sorted(one_pass) == sorted(set(shards))


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, np.nan], [np.inf, 1.0]])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(ValueError, match="finite and not all 0"):
        SampleOrder(np.array(weights), 0)
