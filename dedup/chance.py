"""How many videos are removed by chance: a rate seen on some videos, with its interval, for all of them."""

from __future__ import annotations

import math
from typing import Any

Z_95 = 1.959964


def estimate(flagged: int, compared: int, num_videos: int) -> dict[str, Any]:
    """{compared, flagged, estimate, interval} of the videos removed by chance among `num_videos`.

    Nobody uploads videos upside down, so the share of videos that are flagged upside down is the share flagged by chance.
    `interval` is Wilson's, at 95 %: with none flagged it still says how many there may be.
    """
    low, high = wilson(flagged, compared)
    return {
        "compared": compared,
        "flagged": flagged,
        "estimate": round(flagged / max(1, compared) * num_videos, 2),
        "interval": [round(low * num_videos, 2), round(high * num_videos, 2)],
    }


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); 0 to 1 without trials."""
    if not trials:
        return 0.0, 1.0
    share, weight = successes / trials, Z_95**2 / trials
    centre = (share + weight / 2) / (1 + weight)
    half = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return max(0.0, centre - half), min(1.0, centre + half)
