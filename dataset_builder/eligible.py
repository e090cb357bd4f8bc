"""What a worker knows of its part of the candidates: which videos may be chosen, and what the driver needs to choose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from dataset_builder import duration, sampling
from dataset_builder.candidates import Candidates
from dataset_builder.label_space import LabelledVideos, keep_labels
from pipeline.config import SamplingConfig


@dataclass(frozen=True)
class Eligible:
    """The candidates that may be chosen: of the asked duration, with a label of the label space."""

    candidates: Candidates
    config: SamplingConfig
    new_ids: np.ndarray | None = None
    """int32 [K], see `make_label_space`; None before there is a label space."""

    @property
    def needs_durations(self) -> bool:
        return self.config.duration != "any" or self.config.minutes is not None

    @property
    def bands(self) -> tuple[str, ...]:
        """The band that videos are drawn from, then the one whose distribution of labels must be the same."""
        own = duration.band_of(self.config.duration)
        return (own,) if own == "any" else (own, *(band for band in duration.BANDS if band != own))

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """{stage: its reasons to drop} of everything before the label space."""
        times = {"duration": ("unknown_duration", "other_duration")} if self.needs_durations else {}
        return self.candidates.stages | times

    def read_bands(self, part: int, uris: bool = False) -> tuple[list[LabelledVideos], Counter[str]]:
        """Videos of one part in each of the bands; how many it lists, and how many of these the first band lacks, by reason."""
        videos, dropped = self.candidates.read(part, uris)
        dropped["listed"] = len(videos) + dropped.total()
        if not self.needs_durations:
            return [videos], dropped
        durations_s = videos.durations_s
        bands = [videos.take(np.flatnonzero(duration.in_band(durations_s, band))) for band in self.bands]
        unknown = int(np.isnan(durations_s).sum())
        return bands, dropped + Counter(unknown_duration=unknown, other_duration=len(videos) - unknown - len(bands[0]))

    def read(self, part: int) -> LabelledVideos:
        """Videos of one part that may be chosen, with all that a manifest says of them."""
        bands, _ = self.read_bands(part, uris=True)
        videos, _ = keep_labels(bands[0], self.new_ids)
        return _centers(videos) if self.config.duration == "long_center" else videos


def _centers(videos: LabelledVideos) -> LabelledVideos:
    """The middle of each video, or of the span that it is already cut to."""
    before_s = videos.table["start_s"].fill_null(0.0).to_numpy()
    start_s, end_s = duration.center_span(videos.durations_s)
    spans = {"start_s": before_s + start_s, "end_s": before_s + end_s}
    columns = dict(zip(videos.table.column_names, videos.table.columns, strict=True))
    return replace(videos, table=pa.table({**columns, **spans, "duration_s": end_s - start_s}))


LabelCounts = tuple[np.ndarray, np.ndarray]
"""(label ids that occur, their videos): int32 each, sparse because a part meets few of the verb-noun pairs."""


def sparse_counts(label_ids: np.ndarray) -> LabelCounts:
    labels, counts = np.unique(label_ids, return_counts=True)
    return labels, counts.astype(np.int32)


def merge_counts(parts: Iterable[Sequence[LabelCounts]], num_labels: int) -> np.ndarray:
    """int64 [bands, K] from the bands' counts of each part; no band where the parts have none."""
    parts = list(parts)
    merged = np.zeros((len(parts[0]), num_labels), dtype=np.int64)
    for part in parts:
        for band, (labels, counts) in zip(merged, part, strict=True):
            band[labels] += counts
    return merged


def count_part(part: int, eligible: Eligible) -> tuple[list[LabelCounts], Counter[str]]:
    """Videos of each label in each band, and of the part by reason."""
    bands, dropped = eligible.read_bands(part)
    return [sparse_counts(videos.label_ids) for videos in bands], dropped


@dataclass(frozen=True)
class RankJob:
    eligible: Eligible
    columns: bool
    """Whether there is a choice to make; otherwise only the counts are wanted."""
    rarity: np.ndarray
    """int64 [K] of the label space: videos in all bands, by which a label of account is the rarest."""


@dataclass(frozen=True)
class Ranked:
    """What the driver must know of N videos to choose among them: about 14 bytes each."""

    num_videos: int
    dropped: Counter[str]
    ranks: np.ndarray
    """uint64 [N]."""
    sizes: np.ndarray
    """[N], labels of each video, in the smallest unsigned type that holds them."""
    label_ids: np.ndarray
    """int32 [sum of sizes]."""
    durations_s: np.ndarray
    """float32 [N] where minutes are budgeted, else empty."""
    booked: list[LabelCounts]
    """Videos by label of account in each band, where there are several."""


def rank_part(part: int, job: RankJob) -> Ranked:
    """The columns that one part gives the driver; empty ones where everything is kept."""
    eligible = job.eligible
    bands, _ = eligible.read_bands(part)
    kept = [keep_labels(band, eligible.new_ids) for band in bands]
    videos, dropped = kept[0]
    num_columns = len(videos) if job.columns else 0
    sizes = np.diff(videos.offsets)[:num_columns]
    return Ranked(
        num_videos=len(videos),
        dropped=dropped,
        ranks=sampling.hash_ranks(videos.ids[:num_columns], eligible.config.seed),
        sizes=sizes.astype(np.min_scalar_type(sizes.max(initial=0))),
        label_ids=videos.label_ids[: sizes.sum()],
        durations_s=_budgeted(videos, eligible.config),
        booked=[_book(band, job.rarity) for band, _ in kept] if len(kept) > 1 else [],
    )


def _budgeted(videos: LabelledVideos, config: SamplingConfig) -> np.ndarray:
    if config.minutes is None:
        return np.zeros(0, np.float32)
    durations_s = videos.durations_s
    return np.full_like(durations_s, duration.CENTER_S) if config.duration == "long_center" else durations_s


def _book(videos: LabelledVideos, rarity: np.ndarray) -> LabelCounts:
    return sparse_counts(duration.labels_of_account(videos.label_ids, videos.offsets, rarity))
