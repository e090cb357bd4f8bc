"""Random numbers as a pure function of (seed, purpose, index): any part of the world can be made on any worker."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What the numbers are for. The values are part of the world: changing one changes every world."""

    LABEL_RANKS = 1
    POST = 2
    POST_TEXT = 3
    SOURCE_VIDEO = 4
    TARGET_VIDEO = 5
    DUPLICATE = 6
    HOST_VIDEO = 7
    BROKEN = 8


def generator(seed: int, purpose: Purpose, index: int = 0, part: int = 0) -> np.random.Generator:
    """The generator for one purpose at one index; `part` separates independent uses of the same."""
    return np.random.default_rng([seed, int(purpose), index, part])
