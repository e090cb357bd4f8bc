"""One binary tree over leaves 0 … V − 1: in which pairs they are added, whoever adds them.

A node covers leaves i·2^l … (i + 1)·2^l − 1, those beyond V left out; a node of two halves is left + right. So the tree
of seven leaves is ((0 + 1) + (2 + 3)) + ((4 + 5) + 6). A rank that holds neighbouring leaves can add up the largest
subtrees among them, and no more, without leaving the tree.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Tree(Generic[Value]):
    """Adds up neighbouring leaves or subtrees that come from left to right, each pair as soon as both are there.

    `spans` and `values` are the largest subtrees of what came so far: range(first leaf, last leaf + 1) and sum of each.
    After all V leaves there is one. Between the leaves of a rank's share it takes log2(their number) + 1 values at most.

    Args:
        num_leaves: V.
        add: (left, right) → their sum; it may use either up.
    """

    def __init__(self, num_leaves: int, add: Callable[[Value, Value], Value]) -> None:
        self.num_leaves, self.add = num_leaves, add
        self.spans: list[range] = []
        self.values: list[Value] = []

    def push(self, span: range, value: Value) -> None:
        """Take the next leaf, range(v, v + 1), or the next subtree."""
        while self.spans and self._are_halves(self.spans[-1], span):
            span = range(self.spans.pop().start, span.stop)
            value = self.add(self.values.pop(), value)
        self.spans.append(span)
        self.values.append(value)

    def _are_halves(self, left: range, right: range) -> bool:
        """Whether two neighbouring subtrees make up a larger one. A left one has all its leaves, 2^l of them."""
        size = 2 * len(left)
        return left.start % size == 0 and right.stop == min(left.start + size, self.num_leaves)


def subtrees(leaves: range, num_leaves: int) -> list[range]:
    """The largest subtrees among neighbouring leaves, from left to right."""
    tree: Tree[None] = Tree(num_leaves, lambda left, right: None)
    for leaf in leaves:
        tree.push(range(leaf, leaf + 1), None)
    return tree.spans
