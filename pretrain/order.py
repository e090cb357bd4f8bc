"""Sample = f(seed, position): which video comes when, without any state. docs/data-order.md tells it in words.

A pass has as many slots as the videos' weights add up to. `Slots` says whose slot is whose; `_Pass` shuffles them, shard
by shard. N samples, S shards.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from pretrain import draws

UNIT = 1 << 20
"""Steps into which a slot is divided; weights are exact to one of them."""
GOLDEN = 648_055
"""UNIT times the golden ratio's fraction, odd: multiples of it, modulo UNIT, fill a slot as evenly as can be."""
PIECE = 256
"""Samples whose weights are added up when one of them is looked for."""


class Slots:
    """Whose slot is slot 0, 1, … of a pass.

    The weights lie one after the other on a line, scaled to a whole number of slots; slots are points on it at a distance
    of 1, a slot belongs to the sample on whose piece it lies. So of a scaled weight w a pass has ⌊w⌋ or ⌈w⌉ slots: whole
    weights are exact. As each pass moves the points by the golden ratio, the slots of P passes differ from P·w by 2 at
    most when P is a Fibonacci number (Denjoy–Koksma) and by O(log P) always. One rounding for all passes would be off by
    up to P/2, one drawn anew for each by the square root of P; neither is cheaper.

    Args:
        weights: float [N], not all 0. Kept, not copied.
        seed: of the recipe.
        cuts: increasing sample numbers, from 0 to N: slots before them can be counted (`before_cuts`).
    """

    def __init__(self, weights: np.ndarray, seed: int, cuts: np.ndarray) -> None:
        self.weights = weights
        self.starts = np.union1d(np.arange(0, len(weights), PIECE), cuts)
        sums = np.cumsum(np.add.reduceat(weights, self.starts[:-1], dtype=np.float64))
        if not (np.isfinite(sums[-1]) and sums[-1] > 0):
            raise ValueError("the weights of the samples must be finite and not all 0")
        self.num = max(1, round(sums[-1]))
        ends = np.rint(sums * (self.num * UNIT / sums[-1])).astype(np.int64)
        self.edges = np.concatenate([[0], ends])
        self.edges_of_cuts = self.edges[np.searchsorted(self.starts, cuts)]
        self.first_point = int(draws.below(UNIT, seed, "slots", 0))

    def point(self, number: int) -> int:
        """Where slot 0 of a pass lies, in 0 … UNIT − 1."""
        return (self.first_point + number * GOLDEN) % UNIT

    def before_cuts(self, number: int) -> np.ndarray:
        """int64 [len(cuts)]: slots of a pass that belong to samples before each cut."""
        return -((self.point(number) - self.edges_of_cuts) // UNIT)

    def sample(self, number: int, slot: int) -> int:
        """The sample that owns a slot of a pass."""
        point = slot * UNIT + self.point(number)
        piece = int(self.edges.searchsorted(point, "right")) - 1
        begin, end = self.starts[piece], self.starts[piece + 1]
        ends = np.cumsum(self.weights[begin:end], dtype=np.float64)
        share = (point - self.edges[piece]) / (self.edges[piece + 1] - self.edges[piece])
        return int(begin + ends.searchsorted(share * ends[-1], "right"))


class SampleOrder:
    """position (0, 1, 2, …, without end) → sample number.

    Args:
        weights: float [N], slots of each sample in a pass.
        seed: of the recipe.
        shards: int [N], the shard of each sample; needed where `block` is not 0.
        block: shards whose slots are shuffled together, at most; 0 shuffles the slots of all samples.
    """

    def __init__(self, weights: np.ndarray, seed: int, shards: np.ndarray | None = None, block: int = 0) -> None:
        self.seed, self.rows, cuts = seed, None, np.array([0, len(weights)])
        self.shards = np.array([0])
        if block:
            if (shards[1:] < shards[:-1]).any():
                self.rows = np.argsort(shards, kind="stable")
                weights, shards = weights[self.rows], shards[self.rows]
            cuts = np.concatenate([[0], np.flatnonzero(shards[1:] != shards[:-1]) + 1, [len(weights)]])
            self.shards = shards[cuts[:-1]]
        self.slots = Slots(weights, seed, cuts)
        self.num_slots = self.slots.num
        self.block = block or 1
        self._latest = _Pass(self, 0)

    def __call__(self, position: int) -> int:
        number, place = divmod(position, self.num_slots)
        return self._sample(number, place)

    def instead(self, position: int, attempt: int) -> int:
        """Another sample for a position whose own cannot be read: of a slot drawn from those it was shuffled with."""
        number, place = divmod(position, self.num_slots)
        begin, end = self._pass(number).block_at(place)
        drawn = draws.below(end - begin, self.seed, f"instead {attempt}", position)
        return self._sample(number, begin + int(drawn))

    def blocks(self, position: int) -> Iterator[tuple[int, np.ndarray]]:
        """From the block that holds a position on, without end: a block's first position, and int [block] its shards.

        For those who fetch shards before they are asked for. With `block` 0 all samples count as shard 0.
        """
        first, place = divmod(position, self.num_slots)
        for number in itertools.count(first):
            one = _Pass(self, number)
            begin = int(one.blocks.searchsorted(place, "right")) - 1 if number == first else 0
            for block in range(begin, len(one.bounds) - 1):
                shards = one.shards[one.bounds[block] : one.bounds[block + 1]]
                yield number * self.num_slots + int(one.blocks[block]), self.shards[shards]

    def _sample(self, number: int, place: int) -> int:
        row = self.slots.sample(number, self._pass(number).slot(place))
        return row if self.rows is None else int(self.rows[row])

    def _pass(self, number: int) -> "_Pass":
        latest = self._latest  # threads may ask for different passes: each works on the one it holds
        if latest.number != number:
            latest = self._latest = _Pass(self, number)
        return latest


class _Pass:
    """place → slot within one pass: the shards in an order of its own, cut into blocks, slots shuffled in each block."""

    def __init__(self, order: SampleOrder, number: int) -> None:
        self.number, self.seed = number, order.seed
        before = order.slots.before_cuts(number)
        num_shards = len(before) - 1
        keys = draws.bits(order.seed, f"shards of pass {number}", np.arange(num_shards))
        self.shards = np.argsort(keys, kind="stable")
        self.first_slots = before[self.shards]
        self.places = np.concatenate([[0], np.cumsum(before[self.shards + 1] - self.first_slots)])
        num_blocks = -(-num_shards // order.block)
        self.bounds = np.arange(num_blocks + 1) * num_shards // num_blocks
        self.blocks = self.places[self.bounds]
        self._latest = (-1, 0, None)

    def block_at(self, place: int) -> tuple[int, int]:
        """Places of the block that holds one: from, to."""
        number = int(self.blocks.searchsorted(place, "right"))
        return int(self.blocks[number - 1]), int(self.blocks[number])

    def slot(self, place: int) -> int:
        begin, permutation = self._block(place)
        shuffled = begin + permutation(place - begin)
        shard = int(self.places.searchsorted(shuffled, "right")) - 1
        return int(self.first_slots[shard]) + shuffled - int(self.places[shard])

    def _block(self, place: int) -> tuple[int, draws.Permutation]:
        """First place of the block that holds one, and how its slots are shuffled."""
        begin, end, permutation = self._latest
        if not begin <= place < end:
            begin, end = self.block_at(place)
            permutation = draws.Permutation(end - begin, self.seed, f"pass {self.number} from {begin}")
            self._latest = begin, end, permutation
        return begin, permutation
