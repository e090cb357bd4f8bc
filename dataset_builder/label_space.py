"""Label space: the seed labels that have enough videos, and the videos that keep a label (paper, Section 3.1 and footnote 2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset_builder import sampling
from pipeline import progress, storage
from pipeline.artifacts import DatasetFiles
from pipeline.config import ConfigError, SamplingConfig

VIDEOS = pa.schema(
    [("video_id", pa.string()), ("uri", pa.string()), ("start_s", pa.float64()), ("end_s", pa.float64())]
)
FEW_VIDEOS, NOT_DRAWN = -1, -2
"""What `make_label_space` says of a label that the space leaves out."""
REASONS = {FEW_VIDEOS: "few_videos", NOT_DRAWN: "not_drawn"}


def take_lists(offsets: np.ndarray, values: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lists `index` of a list column (offsets int64 [N + 1], values [M]), as another such pair."""
    sizes = (offsets[1:] - offsets[:-1])[index]
    taken = list_offsets(sizes)
    within = np.arange(taken[-1]) - np.repeat(taken[:-1], sizes)
    return taken, values[np.repeat(offsets[:-1][index], sizes) + within]


def list_offsets(sizes: np.ndarray) -> np.ndarray:
    """int64 [N + 1] from the sizes of N lists."""
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])


@dataclass(frozen=True)
class LabelledVideos:
    """N videos; video i has the labels `label_ids[offsets[i]:offsets[i + 1]]`."""

    table: pa.Table
    """Columns of `VIDEOS`; candidates for a choice also have duration_s (float32), and no uri until they are chosen; a
    target's videos also have group (string)."""
    label_ids: np.ndarray
    """int32 [M]."""
    offsets: np.ndarray
    """int64 [N + 1]."""

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def ids(self) -> np.ndarray:
        """Video ids as bytes [N] (numpy dtype S)."""
        return self.table["video_id"].to_numpy().astype(np.bytes_)

    @property
    def durations_s(self) -> np.ndarray:
        """float32 [N]; NaN where unknown."""
        return self.table["duration_s"].fill_null(float("nan")).to_numpy()

    def take(self, index: np.ndarray) -> LabelledVideos:
        offsets, label_ids = take_lists(self.offsets, self.label_ids, index)
        return LabelledVideos(self.table.take(pa.array(index, pa.int64())), label_ids, offsets)

    def slice(self, start: int, end: int) -> LabelledVideos:
        first, last = self.offsets[start], self.offsets[end]
        table = self.table.slice(start, end - start)
        return LabelledVideos(table, self.label_ids[first:last], self.offsets[start : end + 1] - first)


def concat_videos(videos: Sequence[LabelledVideos]) -> LabelledVideos:
    """One after the other; at least one."""
    return LabelledVideos(
        pa.concat_tables([v.table for v in videos]),
        np.concatenate([v.label_ids for v in videos]),
        list_offsets(np.concatenate([np.diff(v.offsets) for v in videos])),
    )


def labelled_videos(table: pa.Table, lists: pa.Array, names: Sequence[str]) -> LabelledVideos:
    """Videos whose labels come as names: list<string> [N]; names must all be in `names`."""
    index = pc.index_in(pc.list_flatten(lists), value_set=pa.array(names, pa.string()))
    sizes = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    return LabelledVideos(table, index.to_numpy(zero_copy_only=False).astype(np.int32), list_offsets(sizes))


@dataclass(frozen=True)
class LabelSpace:
    name: str
    kind: str
    min_videos: int
    labels: list[dict[str, Any]]
    """[{id, name, num_videos}] in order of id, which is the order of the names; videos counted before sampling."""
    dropped: list[dict[str, Any]]
    """[{name, num_videos, reason}] of the labels that have a video; `few_videos` or `not_drawn` (see `num_labels`)."""
    num_unused: int = 0
    """Seed labels without a video: a space of all verb-noun pairs has hundreds of thousands, which are not listed."""

    @property
    def names(self) -> list[str]:
        return [label["name"] for label in self.labels]


def make_label_space(
    names: Sequence[str],
    counts: np.ndarray,
    config: SamplingConfig,
    *,
    name: str,
    kind: str,
    floor_counts: np.ndarray | None = None,
) -> tuple[LabelSpace, np.ndarray]:
    """Labels with at least `min_videos` videos, of these the `num_labels` drawn, numbered by name.

    Args:
        names: K distinct labels.
        counts: int64 [K], videos of each; a video counts for each of its labels.
        floor_counts: int64 [K], what the floor looks at, where that is not `counts` (see `duration`).

    Returns: the space, and int32 [K]: each label's id in it, or `FEW_VIDEOS` or `NOT_DRAWN`.
    Raises: ConfigError with the counts of the best labels when no label remains.
    """
    floor_counts = counts if floor_counts is None else floor_counts
    enough = {name: row for row, name in enumerate(names) if floor_counts[row] >= config.min_videos}
    if not enough:
        raise ConfigError(_no_label(names, floor_counts, config.min_videos))
    drawn = _drawn_labels(list(enough), config)
    new_ids = np.full(len(names), FEW_VIDEOS, dtype=np.int32)
    new_ids[list(enough.values())] = NOT_DRAWN
    new_ids[[enough[n] for n in drawn]] = np.arange(len(drawn))
    left_out = sorted((names[row], row) for row in np.flatnonzero((new_ids < 0) & (counts > 0)))
    space = LabelSpace(
        name=name,
        kind=kind,
        min_videos=config.min_videos,
        labels=[{"id": i, "name": n, "num_videos": int(counts[enough[n]])} for i, n in enumerate(drawn)],
        dropped=[{"name": n, "num_videos": int(counts[r]), "reason": REASONS[int(new_ids[r])]} for n, r in left_out],
        num_unused=len(names) - len(drawn) - len(left_out),
    )
    return space, new_ids


def _drawn_labels(enough: list[str], config: SamplingConfig) -> list[str]:
    if config.num_labels is None:
        return sorted(enough)
    if config.num_labels > len(enough):
        progress.say(f"labels: {config.num_labels:,} asked for, only {len(enough):,} qualify: all of them are kept")
    return sampling.label_subset(enough, config.num_labels, config.seed)


def _no_label(names: Sequence[str], counts: np.ndarray, min_videos: int) -> str:
    best = sorted((-int(counts[row]), names[row]) for row in np.flatnonzero(counts))[:5]
    return (
        f"no label has {min_videos} videos; best: {', '.join(f'{n!r} {-count:,}' for count, n in best) or 'none'}. "
        "Lower --sampling.min-videos, or give more posts or other seed labels"
    )


def keep_labels(videos: LabelledVideos, new_ids: np.ndarray) -> tuple[LabelledVideos, Counter[str]]:
    """Videos that keep a label, their labels renumbered and ascending; and how many others there were, by reason.

    Args:
        new_ids: int32 [K], see `make_label_space`.
    """
    label_ids = new_ids[videos.label_ids]
    video_of_label = np.repeat(np.arange(len(videos)), np.diff(videos.offsets))
    stays = label_ids >= 0
    order = np.lexsort((label_ids[stays], video_of_label[stays]))
    sizes = np.bincount(video_of_label[stays], minlength=len(videos))
    kept = replace(videos, label_ids=label_ids[stays][order], offsets=list_offsets(sizes)).take(np.flatnonzero(sizes))
    not_drawn = np.unique(video_of_label[label_ids == NOT_DRAWN])
    num_not_drawn = int((sizes[not_drawn] == 0).sum())
    few_videos = len(videos) - len(kept) - num_not_drawn
    return kept, Counter(no_label_with_enough_videos=few_videos, label_not_drawn=num_not_drawn)


def write_label_space(files: DatasetFiles, space: LabelSpace) -> None:
    storage.write_json(files.label_space, asdict(space))


def read_label_space(files: DatasetFiles) -> LabelSpace:
    return LabelSpace(**storage.read_json(files.label_space))
