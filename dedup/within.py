"""The same video posted twice: a dataset compared with itself.

No index holds 1e10 codes, so the dataset is cut into blocks. Block i is indexed and the parts of every block j ≥ i run over it:
each pair of blocks is one task of bounded memory, and nothing is left out, so what lies within the radius is found as surely
as by one index. Tasks, and with them the cost, grow with the square of the dataset.

Two videos are the same when each has at least so much of its informative frames in the other. A part of a longer video, or a
compilation, is not the same video. Being the same is not transitive, so there are no clusters of chains: videos are taken
longest first (by frames, then by video_id); each one that is still there is kept and stands for the videos that are the same
as it and still there. So no two kept videos are the same, and every dropped one is the same as the one that stands for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dedup import overlap, tables
from dedup.lsh import CodeIndex
from dedup.overlap import PLAIN, Frames, Pairs
from dedup.search import Part, Rule, group_by_size, merge, read_parts, read_source
from pipeline import storage
from pipeline.config import ExecutionConfig
from pipeline.execute import run_parts

BLOCK_FRAMES = 20_000_000  # indexed at a time: about 3 GB
Side = dict[str, np.ndarray]
FLOOR = 0.5  # pairs that overlap less, on either side, are not written

SAME = pa.schema([*tables.PAIRS, ("target_num_frames", pa.int32())])  # the longer video in place of the target's


@dataclass(frozen=True)
class Task:
    path: str  # of its output
    indexed: tuple[Part, ...]
    queried: tuple[Part, ...]


@dataclass(frozen=True)
class _Videos:
    names: list[tuple[str, str]]  # video_id, shard
    frames: Frames


@dataclass(frozen=True)
class Within:
    """What every task needs."""

    rule: Rule
    wanted: frozenset[str] | None


def search_within(
    folder: str, parts: Sequence[Part], num_frames: float, within: Within, execution: ExecutionConfig
) -> pa.Table:
    """Rows of `SAME`: every pair of videos that overlap by at least `FLOOR` on both sides, once.

    Args:
        folder: where the tasks' results are kept.
        num_frames: of the dataset, about.
    """
    tasks = make_tasks(folder, parts, num_frames)
    run_parts(search_task, tasks, execution, desc="dedup within", shared=within)
    return read_parts(task.path for task in tasks).sort_by(
        [("video_id", "ascending"), ("target_video_id", "ascending")]
    )


def make_tasks(folder: str, parts: Sequence[Part], num_frames: float) -> list[Task]:
    """A task for every two blocks of consecutive parts, and for every block with itself."""
    blocks = group_by_size(parts, np.full(len(parts), num_frames / len(parts)), BLOCK_FRAMES)
    return [
        Task(storage.join(folder, f"blocks-{i:05d}-{j:05d}.parquet"), blocks[i], blocks[j])
        for i in range(len(blocks))
        for j in range(i, len(blocks))
    ]


def search_task(task: Task, within: Within) -> None:
    """Compare the videos of a block with those of a later one, or with one another."""
    if storage.exists(task.path):
        return
    block = [_read_part(part, within) for part in task.indexed]
    videos, frames = [video for part, _ in block for video in part], merge([frames for _, frames in block])
    index, found = CodeIndex(frames.codes, within.rule.radius), [SAME.empty_table()]
    first = 0
    for number, part in enumerate(task.queried):
        same_block = task.indexed == task.queried
        queried = block[number] if same_block else _read_part(part, within)
        pairs = overlap.compare(queried[1], frames, index, PLAIN, within.rule.max_fine_distance)
        later = pairs.source + first > pairs.target if same_block else np.ones(len(pairs.source), bool)
        found.append(_rows(pairs, np.flatnonzero(later), _Videos(*queried), _Videos(videos, frames)))
        first += len(queried[0])
    storage.write_parquet(task.path, pa.concat_tables(found), SAME)


def _read_part(part: Part, within: Within) -> tuple[list[tuple[str, str]], Frames]:
    """((video_id, shard) of each video, frames)."""
    found = {(v, s): signature for s in part.shards for v, signature in read_source(s, within.wanted).items()}
    return list(found), overlap.gather(found.values())


def _rows(pairs: Pairs, wanted: np.ndarray, queried: _Videos, indexed: _Videos) -> pa.Table:
    """Rows of `SAME` for the pairs, of the wanted ones, that overlap enough on both sides; the longer video second."""
    one = _side(queried, pairs.source, pairs.matched, pairs.span, pairs.best_s[:, 0])
    other = _side(indexed, pairs.target, pairs.target_matched, pairs.target_span, pairs.best_s[:, 1])
    enough = np.minimum(one["valid_overlap"][wanted], other["valid_overlap"][wanted]) >= FLOOR
    rows = wanted[enough]
    one, other = ({name: column[rows] for name, column in side.items()} for side in (one, other))
    one_stays = np.array([_rank(one, i) < _rank(other, i) for i in range(len(rows))], bool)
    longer = {name: np.where(one_stays, one[name], other[name]) for name in one}
    shorter = {name: np.where(one_stays, other[name], one[name]) for name in one}
    columns = {
        **{name: shorter[name] for name in tables.PAIRS.names if name in shorter},
        "target": [tables.WITHIN] * len(rows),
        "target_split": [""] * len(rows),
        "target_video_id": longer["video_id"],
        "target_overlap": longer["valid_overlap"],
        "min_distance": pairs.min_distance[rows],
        "target_start_s": longer["start_s"],
        "target_end_s": longer["end_s"],
        "mirrored": np.zeros(len(rows), bool),
        "target_time_s": longer["source_time_s"],
        "target_shard": longer["source_shard"],
        "decoy": np.zeros(len(rows), bool),
        "target_num_frames": longer["num_frames"],
    }
    return pa.table({name: columns[name] for name in SAME.names}).cast(SAME, safe=False)


def _side(videos: _Videos, rows: np.ndarray, matched: np.ndarray, span: np.ndarray, best_s: np.ndarray) -> Side:
    """What a pair's row says of one of its videos, as columns [M] named like those of a source video."""
    names = np.array(videos.names, object).reshape(-1, 2)[rows]
    num_frames, num_valid = videos.frames.num_frames[rows], videos.frames.num_valid[rows]
    return {
        "video_id": names[:, 0],
        "overlap": matched / num_frames,
        "valid_overlap": matched / num_valid,
        "matched_frames": matched,
        "start_s": span[:, 0],
        "end_s": span[:, 1],
        "valid_frames": num_valid,
        "source_time_s": best_s,
        "source_shard": names[:, 1],
        "num_frames": num_frames,
    }


def _rank(side: Side, row: int) -> tuple[int, str]:
    """Which of the same videos is kept: the least in this order."""
    return -int(side["num_frames"][row]), side["video_id"][row]


# ------------------------------------------------------------------------------------------------------ choice


def choose_duplicates(same: pa.Table, min_overlap: float, min_frames: int, gone: Collection[str]) -> pa.Table:
    """Rows of tables.PAIRS, by video_id: each video that another one stands for, that one as its target.

    Args:
        same: rows of `SAME`.
        gone: videos that are excluded anyway: they stand for none and need none.
    """
    enough = same.filter(pa.array(_is_same(same, min_overlap, min_frames)))
    shorter: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in enough.to_pylist():
        if row["video_id"] not in gone and row["target_video_id"] not in gone:
            shorter.setdefault((-row["target_num_frames"], row["target_video_id"]), []).append(row)
    dropped: dict[str, dict[str, Any]] = {}
    for rank in sorted(shorter):
        if rank[1] not in dropped:
            for row in shorter[rank]:
                dropped.setdefault(row["video_id"], row)
    return pa.Table.from_pylist([dropped[video] for video in sorted(dropped)], tables.PAIRS)


def _is_same(same: pa.Table, min_overlap: float, min_frames: int) -> np.ndarray:
    """bool [M]: overlaps at these thresholds on both sides."""
    matched, valid = (same[name].to_numpy() for name in ("matched_frames", "valid_frames"))
    both = same["target_overlap"].to_numpy() >= np.float32(min_overlap)
    return overlap.is_overlap(matched, valid, min_overlap, min_frames) & both
