"""The product's own decision on pairs of videos: signatures → which sources are copies of which targets, in every mode."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from dedup import find, overlap
from dedup.census import Signature
from dedup.lsh import CodeIndex
from dedup.overlap import FLIPPED, MIRRORED, PLAIN, TURNED, Frames
from dedup.tables import CONTAINED
from pipeline.config import DedupConfig

RULE = DedupConfig()


@dataclass(frozen=True)
class Found:
    """S sources against N targets."""

    share: np.ndarray  # float64 [S, N], matched frames / informative frames of the source; nan where it has none
    flagged: np.ndarray  # bool [S, N], would be excluded
    contains: np.ndarray  # bool [S, N], holds a good part of the target, whether or not it would be excluded


class Targets:
    """Target videos, ready to be searched.

    Args:
        signatures: of `census.target_signature`.
        crops: False leaves out the codes of parts of the picture.
    """

    def __init__(self, signatures: Iterable[Signature], *, crops: bool = True) -> None:
        self.frames = overlap.gather(signatures, crops=crops)
        self._index = {radius: CodeIndex(self.frames.codes, radius) for radius in {r for r, _ in find.MODES.values()}}

    def search(self, sources: Frames, mode: str = RULE.mode, *, upside_down: bool = False) -> Found:
        """As the dedup stage does it: plain and mirrored, with the default thresholds; or upside down, for chance."""
        radius, max_fine_distance = find.MODES[mode]
        matched = np.zeros((len(sources.num_frames), len(self.frames.num_frames)), np.int64)
        flagged, contains = np.zeros(matched.shape, bool), np.zeros(matched.shape, bool)
        for view in (FLIPPED, TURNED) if upside_down else (PLAIN, MIRRORED):
            pairs = overlap.compare(sources, self.frames, self._index[radius], view, max_fine_distance)
            at = pairs.source, pairs.target
            valid = sources.num_valid[pairs.source]
            matched[at] = np.maximum(matched[at], pairs.matched)
            flagged[at] |= overlap.is_overlap(pairs.matched, valid, RULE.min_overlap, RULE.min_frames)
            enough = overlap.is_overlap(pairs.matched, valid, 0, RULE.min_frames)
            contains[at] |= enough & (pairs.target_matched >= CONTAINED * self.frames.num_valid[pairs.target])
        valid = np.where(sources.num_valid > 0, sources.num_valid, np.nan)
        return Found(matched / valid[:, None], flagged, contains)


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share, in percent."""
    if not trials:
        return 0.0, 100.0
    share, spread = successes / trials, z * z / trials
    middle, half = share + spread / 2, z * math.sqrt((share * (1 - share) + spread / 4) / trials)
    return tuple(round(100 * bound / (1 + spread), 1) for bound in (middle - half, middle + half))


def percent(values: np.ndarray | Sequence[bool]) -> float | None:
    """Mean of shares or truths in percent, nan left out; None of nothing."""
    values = np.asarray(values, float)
    return round(100 * float(np.nanmean(values)), 1) if len(values) and not np.isnan(values).all() else None


def false_flags(flagged: np.ndarray) -> int:
    """Flags off the diagonal of bool [N, N]."""
    return int(flagged.sum() - np.trace(flagged))
