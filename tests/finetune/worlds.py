"""Worlds of several processes, played by threads: what a process does for its peers, without starting any."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from torch import Tensor

from pretrain.distributed import World
from tests.patience import PATIENCE_S

Result = TypeVar("Result")


@dataclass(frozen=True)
class ThreadWorld(World):
    """A rank whose peers are threads that share `room`."""

    room: list = field(default_factory=list)
    meet: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))

    def sum_(self, tensor: Tensor) -> Tensor:
        parts = self._exchange(tensor)
        return tensor.copy_(sum(parts[1:], parts[0]))

    def broadcast_(self, tensor: Tensor) -> Tensor:
        return tensor.copy_(self._exchange(tensor)[0])

    def _exchange(self, tensor: Tensor) -> list[Tensor]:
        self.room[self.rank] = tensor.clone()
        self.meet.wait(PATIENCE_S)
        parts = list(self.room)
        self.meet.wait(PATIENCE_S)
        return parts


def in_threads(size: int, run: Callable[[World], Result]) -> list[Result]:
    """`run` on each rank of a world; an error of one ends all."""
    room, meet = [None] * size, threading.Barrier(size)

    def rank(number: int) -> Result:
        try:
            return run(ThreadWorld(number, size, room=room, meet=meet))
        except BaseException:
            meet.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(rank, range(size)))
