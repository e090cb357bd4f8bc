"""Which candidates become a dataset, at any scale: workers read the parts, the driver merges counts and ranks.

1. Counts per label, merged, give the label space. 2. Each part returns a hash rank and labels, some 14 bytes per video, and
the pure functions of `sampling` and `duration` put the whole in sampling order. 3. Each part gets back one bit per video.
No string passes through the driver, and the choice is the same however the videos are cut into parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from dataset_builder import duration, sampling
from dataset_builder.candidates import Candidates
from dataset_builder.eligible import Eligible, Ranked, RankJob, count_part, merge_counts, rank_part
from dataset_builder.label_noise import replace_labels
from dataset_builder.label_space import LabelledVideos, LabelSpace, list_offsets, make_label_space
from pipeline import execute, progress
from pipeline.config import ConfigError, ExecutionConfig, SamplingConfig

Stages = dict[str, dict[str, Any]]
"""{stage: {in, kept, dropped}}: in = kept + dropped by reason."""


@dataclass(frozen=True)
class Choice:
    """The chosen videos, in order of video_id."""

    eligible: Eligible
    bits: list[np.ndarray] | None
    """uint8, packed: of the videos of each part that may be chosen, those that are; None where all are."""
    ends: np.ndarray
    """int64 [num_parts + 1]: chosen videos before each part, and in all."""
    drawn_counts: np.ndarray
    """int64 [K], chosen videos of each label as their posts name it."""
    label_counts: np.ndarray
    """int64 [K], chosen videos of each label; others than `drawn_counts` where labels are replaced."""
    account_counts: np.ndarray | None
    """int64 [K], chosen videos by label of account, where there are duration bands."""

    def __len__(self) -> int:
        return int(self.ends[-1])

    def read(self, part: int) -> LabelledVideos:
        """The chosen videos of one part."""
        videos = self.eligible.read(part)
        if self.bits is None:
            return videos
        chosen = videos.take(np.flatnonzero(np.unpackbits(self.bits[part], count=len(videos))))
        config = self.eligible.config
        if not config.label_noise:
            return chosen
        ranks = sampling.hash_ranks(chosen.ids, config.seed)
        labels = replace_labels(ranks, chosen.label_ids, chosen.offsets, self.drawn_counts, config.label_noise)
        return LabelledVideos(chosen.table, *labels)


def choose_videos(
    candidates: Candidates,
    config: SamplingConfig,
    execution: ExecutionConfig,
    *,
    name: str,
    kind: str,
    label_counts: np.ndarray | None = None,
) -> tuple[LabelSpace, Choice, Stages]:
    """The label space of a dataset and its videos: as many as the size asks for, by the configured strategy.

    Args:
        label_counts: int64 [K], videos of each of the candidates' labels, where that is known without reading them.

    Raises: ConfigError when no label has enough videos, or no video fits the budget.
    """
    eligible = Eligible(candidates, config)
    if label_counts is None or eligible.needs_durations:
        counts, stages = _count(eligible, execution)
    else:
        counts, stages = label_counts[None], {}
    space, new_ids = make_label_space(
        candidates.names, counts[0], config, name=name, kind=kind, floor_counts=counts.min(axis=0)
    )
    kept = np.flatnonzero(new_ids >= 0)
    counts = counts[:, kept[np.argsort(new_ids[kept])]]
    takes_all = config == replace(config, num_videos=None, minutes=None, duration="any", label_noise=0.0)
    job = RankJob(Eligible(candidates, config, new_ids), not takes_all, counts.sum(axis=0))
    parts = execute.run_parts(rank_part, range(candidates.num_parts), execution, desc="ranks", shared=job)
    sizes = np.array([part.num_videos for part in parts])
    stages["label_space"] = _label_stage(int(sizes.sum()), _total(part.dropped for part in parts), config)
    whole = Choice(job.eligible, None, list_offsets(sizes), counts[0], counts[0], None)
    choice = whole if takes_all else _choose(parts, job)
    stages["sampling"] = _stage(int(sizes.sum()), {"not_sampled": int(sizes.sum()) - len(choice)})
    return space, choice, stages


# --------------------------------------------------------------------------------------------------------- counts


def _count(eligible: Eligible, execution: ExecutionConfig) -> tuple[np.ndarray, Stages]:
    """(int64 [bands, K] videos of each label, the stages before the label space)."""
    candidates = eligible.candidates
    parts = execute.run_parts(count_part, range(candidates.num_parts), execution, desc="label counts", shared=eligible)
    counts = merge_counts((per_band for per_band, _ in parts), len(candidates.names))
    videos = _total(listed for _, listed in parts)
    stages, total = {}, videos["listed"]
    for stage, reasons in eligible.stages.items():
        stages[stage] = _stage(total, {reason: videos[reason] for reason in reasons})
        total = stages[stage]["kept"]
    if eligible.needs_durations and not total:
        unknown, other = stages["duration"]["dropped"].values()
        raise ConfigError(
            f"no video can be chosen by --sampling.duration {eligible.config.duration}: {other:,} have another duration, and of "
            f"{unknown:,} it is not known (posts state it in a column duration_s; of a --base it is always known)"
        )
    return counts, stages


def _label_stage(kept: int, dropped: Counter[str], config: SamplingConfig) -> dict[str, Any]:
    reasons = ["no_label_with_enough_videos", *(["label_not_drawn"] if config.num_labels is not None else [])]
    return _stage(kept + dropped.total(), {reason: dropped[reason] for reason in reasons})


def _total(counters: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def _stage(total: int, dropped: dict[str, int]) -> dict[str, Any]:
    return {"in": total, "kept": total - sum(dropped.values()), "dropped": dropped}


# --------------------------------------------------------------------------------------------------------- choice


def _choose(parts: list[Ranked], job: RankJob) -> Choice:
    """Choose among the videos of all parts; empties `parts`, which are as large as what they are merged into."""
    config, num_labels = job.eligible.config, len(job.rarity)
    ends = np.cumsum([part.num_videos for part in parts])
    offered = merge_counts((part.booked for part in parts), num_labels).min(axis=0, initial=np.iinfo(np.int64).max)
    pool = _merge(parts)
    parts.clear()
    accounts = None
    if config.duration != "any":
        accounts = duration.labels_of_account(pool.label_ids, list_offsets(pool.sizes), job.rarity)
    order = _sampling_order(pool, accounts, offered, config)
    chosen = np.zeros(ends[-1], dtype=bool)
    chosen[order[: _num_wanted(pool, order, config)]] = True
    per_part = np.split(chosen, ends[:-1])
    drawn = sampling.label_counts(pool.label_ids[np.repeat(chosen, pool.sizes)], num_labels)
    return Choice(
        job.eligible,
        bits=[np.packbits(part) for part in per_part],
        ends=list_offsets(np.array([part.sum() for part in per_part])),
        drawn_counts=drawn,
        label_counts=_counts_with_noise(pool, chosen, drawn, config.label_noise) if config.label_noise else drawn,
        account_counts=None if accounts is None else sampling.label_counts(accounts[chosen], num_labels),
    )


def _counts_with_noise(pool: Pool, chosen: np.ndarray, drawn: np.ndarray, rate: float) -> np.ndarray:
    """int64 [K]: videos of each label, once the labels of some are replaced (`Choice.read`)."""
    offsets = list_offsets(pool.sizes[chosen])
    label_ids = pool.label_ids[np.repeat(chosen, pool.sizes)]
    return sampling.label_counts(replace_labels(pool.ranks[chosen], label_ids, offsets, drawn, rate)[0], len(drawn))


@dataclass(frozen=True)
class Pool:
    """Columns of `Ranked`, of all parts in part order."""

    ranks: np.ndarray
    sizes: np.ndarray
    label_ids: np.ndarray
    durations_s: np.ndarray


def _merge(parts: list[Ranked]) -> Pool:
    return Pool(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Pool)))


def _sampling_order(pool: Pool, accounts: np.ndarray | None, offered: np.ndarray, config: SamplingConfig) -> np.ndarray:
    """The videos in the order in which a growing dataset takes them; all of them, where there are no duration bands."""
    if accounts is not None:
        return duration.quota_order(pool.ranks, accounts, offered, config.strategy)
    if config.strategy == "random":
        return sampling.random_order(pool.ranks)
    return sampling.tail_preserving_order(pool.ranks, pool.label_ids, pool.sizes)


def _num_wanted(pool: Pool, order: np.ndarray, config: SamplingConfig) -> int:
    """How many of the first in sampling order make the dataset."""
    if config.minutes is not None:
        fitting = sampling.within_budget(pool.durations_s[order], 60 * config.minutes)
        if not fitting:
            raise ConfigError(f"no video fits into --sampling.minutes {config.minutes}: the first is longer")
        if fitting == len(order):
            progress.say(f"sampling: all {fitting:,} videos that qualify fit into {config.minutes:,} minutes")
        return fitting
    if config.num_videos is not None and config.num_videos > len(order):
        progress.say(
            f"sampling: {config.num_videos:,} videos asked for, only {len(order):,} qualify: all of them are kept"
        )
    return len(order) if config.num_videos is None else config.num_videos
