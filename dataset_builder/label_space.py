"""Label space: the seed labels that have enough videos, and the videos that keep a label (paper, Section 3.1 and footnote 2)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset_builder.sampling import label_counts
from pipeline import storage
from pipeline.artifacts import DatasetFiles, SourceFiles
from pipeline.config import ConfigError

VIDEOS = pa.schema(
    [("video_id", pa.string()), ("uri", pa.string()), ("start_s", pa.float32()), ("end_s", pa.float32())]
)


def take_lists(offsets: np.ndarray, values: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lists `index` of a list column (offsets int64 [N + 1], values [M]), as another such pair."""
    sizes = (offsets[1:] - offsets[:-1])[index]
    taken = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    within = np.arange(taken[-1]) - np.repeat(taken[:-1], sizes)
    return taken, values[np.repeat(offsets[:-1][index], sizes) + within]


@dataclass(frozen=True)
class LabelledVideos:
    """N videos; video i has the labels `label_ids[offsets[i]:offsets[i + 1]]`, ascending."""

    table: pa.Table
    """Columns of `VIDEOS`."""
    label_ids: np.ndarray
    """int32 [M]."""
    offsets: np.ndarray
    """int64 [N + 1]."""

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def ids(self) -> np.ndarray:
        """Video ids as bytes [N] (numpy dtype S)."""
        return np.array(self.table["video_id"].to_pylist(), dtype="S") if len(self) else np.zeros(0, "S20")

    def take(self, index: np.ndarray) -> LabelledVideos:
        offsets, label_ids = take_lists(self.offsets, self.label_ids, index)
        return LabelledVideos(self.table.take(pa.array(index, pa.int64())), label_ids, offsets)


def labelled_videos(table: pa.Table, lists: pa.Array, names: list[str]) -> LabelledVideos:
    """Videos whose labels come as names: list<string> [N]; names must all be in `names`."""
    index = pc.index_in(pc.list_flatten(lists), value_set=pa.array(names, pa.string()))
    sizes = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return LabelledVideos(table, index.to_numpy(zero_copy_only=False).astype(np.int32), offsets)


def read_matches(files: SourceFiles, names: list[str]) -> LabelledVideos:
    """All matched videos of a source, in order of video_id, labels numbered as in `names`."""
    matches = storage.read_parquet_parts(files.matches, ["video_id", "uri", "labels"])
    whole = pa.nulls(matches.num_rows, pa.float32())
    table = pa.table([matches["video_id"], matches["uri"], whole, whole], schema=VIDEOS)
    return labelled_videos(table, matches["labels"].combine_chunks(), names)


@dataclass(frozen=True)
class LabelSpace:
    name: str
    kind: str
    min_videos: int
    labels: list[dict[str, Any]]
    """[{id, name, num_videos}] in order of id, which is the order of the names; videos counted before sampling."""
    dropped: list[dict[str, Any]]
    """[{name, num_videos}]"""

    @property
    def names(self) -> list[str]:
        return [label["name"] for label in self.labels]


def make_label_space(
    videos: LabelledVideos, names: list[str], min_videos: int, *, name: str, kind: str
) -> tuple[LabelSpace, LabelledVideos]:
    """Labels with at least `min_videos` videos, renumbered by name, and the videos that keep one of them.

    A video counts for each of its labels. Raises ConfigError with the counts of the best labels when no label remains.
    """
    counts = label_counts(videos.label_ids, len(names))
    kept = sorted((n for n, count in zip(names, counts, strict=True) if count >= min_videos))
    count_of = {n: int(count) for n, count in zip(names, counts, strict=True)}
    if not kept:
        best = sorted(count_of.items(), key=lambda item: (-item[1], item[0]))[:5]
        raise ConfigError(
            f"no label has {min_videos} videos; best: {', '.join(f'{n!r} {count:,}' for n, count in best) or 'none'}. "
            "Lower --sampling.min-videos, or give more posts or other seed labels"
        )
    space = LabelSpace(
        name=name,
        kind=kind,
        min_videos=min_videos,
        labels=[{"id": i, "name": n, "num_videos": count_of[n]} for i, n in enumerate(kept)],
        dropped=[{"name": n, "num_videos": count_of[n]} for n in sorted(set(names) - set(kept))],
    )
    return space, _renumbered(videos, names, kept)


def _renumbered(videos: LabelledVideos, names: list[str], kept: list[str]) -> LabelledVideos:
    new_id_of = {name: i for i, name in enumerate(kept)}
    new_id = np.array([new_id_of.get(name, -1) for name in names], dtype=np.int32)
    label_ids = new_id[videos.label_ids]
    video_of_label = np.repeat(np.arange(len(videos)), np.diff(videos.offsets))
    stays = label_ids >= 0
    order = np.lexsort((label_ids[stays], video_of_label[stays]))
    sizes = np.bincount(video_of_label[stays], minlength=len(videos))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return replace(videos, label_ids=label_ids[stays][order], offsets=offsets).take(np.flatnonzero(sizes))


def write_label_space(files: DatasetFiles, space: LabelSpace) -> None:
    storage.write_json(files.label_space, asdict(space))


def read_label_space(files: DatasetFiles) -> LabelSpace:
    return LabelSpace(**storage.read_json(files.label_space))
