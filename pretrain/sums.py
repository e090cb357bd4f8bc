"""Sums over the virtual workers of a step, on any number of processes: in whatever order is fastest, or in a fixed one.

Both are used alike. `begin` a step; for each microbatch write its terms, added to what is there, to `flat` and call
`close_term`; after `finish`, `flat` is the sum over all workers, on every process.
"""

from itertools import chain

import torch
from torch import Tensor

from pretrain.distributed import World
from pretrain.tree import Tree, subtrees
from pretrain.virtual_workers import share


class FlatSum:
    """One buffer, one all-reduce; the order of additions, hence rounding, depends on the number of processes.

    Args:
        numel: length of `flat`, float32.
        world: the processes that add.
    """

    def __init__(self, numel: int, world: World) -> None:
        self.world = world
        self.flat = torch.zeros(numel, device=world.device)

    def begin(self, num_workers: int) -> None:
        self.flat.zero_()

    def close_term(self) -> None:
        """Nothing to do: terms add up in `flat`."""

    def finish(self) -> None:
        self.world.sum_(self.flat)


class TreeSum:
    """The sum in one binary tree over the workers (`pretrain.tree`): the same bits for any number of processes.

    A process adds up the largest subtrees of its share: one, where the share is aligned, and never more than
    2·log2(V). Then every process gets its segment of all subtrees of all processes, adds up what is left of the tree,
    and hands the segment of the sum round. The traffic is that of a ring all-reduce, 2·numel per process; with shares
    that are not aligned, numel more for each further subtree.

    Memory: log2(V / processes) buffers beside `flat`, at least one, and for the time of the exchange, when activations
    are gone, one more; shares that are not aligned take some more of both. Args as of `FlatSum`.
    """

    def __init__(self, numel: int, world: World) -> None:
        self.world = world
        self.padded = torch.zeros(-(-numel // world.size) * world.size, device=world.device)  # whole segments
        self.flat = self.padded[:numel]
        self.free: list[Tensor] = []

    def begin(self, num_workers: int) -> None:
        self.padded.zero_()
        self.num_workers, self.tree = num_workers, Tree(num_workers, self._add)
        self.leaf = share(num_workers, self.world.rank, self.world.size).start

    def close_term(self) -> None:
        """Move what is in `flat` to the tree."""
        self.tree.push(range(self.leaf, self.leaf + 1), self.padded)
        self.leaf += 1
        if self.tree.values[-1] is self.padded:
            buffer = self.free.pop() if self.free else torch.empty_like(self.padded)
            self.tree.values[-1] = buffer.copy_(self.padded)
        self.padded.zero_()

    def finish(self) -> None:
        num_workers, size = self.num_workers, self.world.size
        spans = [subtrees(share(num_workers, rank, size), num_workers) for rank in range(size)]
        assert self.tree.spans == spans[self.world.rank], "one term for each virtual worker of this process"
        segments = [value.view(size, -1) for value in self.tree.values]
        parts = torch.stack(segments, dim=1) if len(segments) > 1 else segments[0].unsqueeze(1)  # one: without a copy
        tree = Tree(num_workers, Tensor.add_)
        for span, segment in zip(chain(*spans), self.world.exchange(parts, [len(one) for one in spans]), strict=True):
            tree.push(span, segment)
        self.world.gather_(self.padded, tree.values[0])
        self.free += self.tree.values

    def _add(self, left: Tensor, right: Tensor) -> Tensor:
        if right is not self.padded:
            self.free.append(right)
        return left.add_(right)
