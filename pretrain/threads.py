"""Reading ahead with threads: decoders, checksums and file systems release the interpreter's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")


def read_ahead(read: Callable[[Item], Result], items: Iterable[Item], num_threads: int) -> Iterator[Result]:
    """`map(read, items)`, in order, with the next few results being made by threads."""
    with ThreadPoolExecutor(num_threads) as pool:
        pending = deque()
        try:
            for item in items:
                pending.append(pool.submit(read, item))
                if len(pending) > 2 * num_threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
