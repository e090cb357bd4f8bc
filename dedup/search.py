"""Source shards × targets → the pairs of videos that share frames, in parts that are kept per target.

One index is made of the codes of all targets that are still to be compared; source shards are run over it in parts, as they
are and mirrored, some of them also upside down (chance). What is found is written per target, so a target that is added later
is compared alone. `{folder}/parts/part-*` of a target are put together to its `pairs.parquet`, `codes.parquet` and, last,
`target.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup import census, overlap, tables
from dedup.census import SIGNATURE_FPS
from dedup.lsh import CodeIndex
from dedup.overlap import FLIPPED, MIRRORED, PLAIN, TURNED, Frames
from pipeline import artifacts, mapped, storage
from pipeline.artifacts import DatasetFiles
from pipeline.config import ExecutionConfig
from pipeline.execute import run_parts

SPLITS = ("train", "test")
MIN_PART_FRAMES, MAX_PART_FRAMES = 100_000, 2_000_000  # less wastes the index's time, more only memory
WANTED_PARTS = 64  # between those bounds: enough for many workers, and little lost when one stops
DECOY_PARTS, MAX_DECOY_STRIDE = 100, 100  # so many parts, and one in so many, are also compared upside down


@dataclass(frozen=True)
class TargetVideo:
    target: str
    split: str
    video_id: str
    shard: str  # path without suffix


@dataclass(frozen=True)
class Target:
    """A target and where its results are kept; the folder's name changes with whatever they depend on."""

    name: str
    folder: str
    shards: tuple[tuple[str, str], ...]  # split, path without suffix

    @property
    def marker(self) -> str:
        return storage.join(self.folder, "target.json")


@dataclass(frozen=True)
class Rule:
    """What counts as a match, and which pairs are worth keeping."""

    radius: int  # of 64-bit codes
    max_fine_distance: int | None  # of 256-bit codes; None does without them
    floor: float  # pairs below this overlap are not written


@dataclass(frozen=True)
class Search:
    """What every part needs."""

    targets: tuple[Target, ...]
    frames: Frames  # of all of them
    videos: tuple[TargetVideo, ...]
    index: CodeIndex
    rule: Rule
    wanted: frozenset[str] | None  # videos of a subset of the shards; None takes all


@dataclass(frozen=True)
class Part:
    name: str
    shards: tuple[str, ...]
    decoy: bool

    def path(self, target: Target) -> str:
        """Of its outputs for one target, without suffix."""
        return storage.join(target.folder, "parts", self.name)


def make_parts(dataset: DatasetFiles, marker: dict[str, Any]) -> list[Part]:
    """Consecutive shards of about equal numbers of frames; they depend on the dataset alone, so any run can go on."""
    shards = artifacts.shard_paths(dataset, marker)
    videos = np.array([shard["num_videos"] for shard in marker["shards"]])
    frames = videos * num_frames(marker) / max(1, videos.sum())
    size = np.clip(frames.sum() / WANTED_PARTS, MIN_PART_FRAMES, MAX_PART_FRAMES)
    groups = group_by_size(shards, frames, size)
    stride = min(max(1, len(groups) // DECOY_PARTS), MAX_DECOY_STRIDE)
    return [Part(f"part-{i:06d}", group, i % stride == 0) for i, group in enumerate(groups)]


def num_frames(marker: dict[str, Any]) -> float:
    """Frames of a dataset's signatures, about."""
    return 60 * SIGNATURE_FPS * marker["minutes"]


def group_by_size(things: Sequence[Any], sizes: np.ndarray, wanted: float) -> list[tuple[Any, ...]]:
    """Consecutive things in groups that begin wherever the sizes so far pass another multiple of `wanted`."""
    number = (np.cumsum(sizes) - sizes) // wanted
    begins = np.flatnonzero(np.diff(number, prepend=-1))
    return [tuple(things[a:b]) for a, b in zip(begins, [*begins[1:], len(things)], strict=True)]


def search_targets(
    targets: Sequence[Target],
    parts: Sequence[Part],
    rule: Rule,
    wanted: frozenset[str] | None,
    execution: ExecutionConfig,
) -> None:
    """Compare the source with every target that is not whole yet."""
    missing = tuple(target for target in targets if not storage.exists(target.marker))
    if not missing:
        return
    search = _prepare(missing, rule, wanted)
    results = _search_parts(parts, search, execution)
    for target in missing:
        _put_together(target, parts, results, search)


def _search_parts(parts: Sequence[Part], search: Search, execution: ExecutionConfig) -> list[dict[str, Any]]:
    """Ray keeps one copy of the index per machine; processes of this machine map one file instead of having one each."""
    if execution.backend == "ray" or execution.num_workers == 1:
        return run_parts(search_part, parts, execution, desc="dedup", shared=search)
    with TemporaryDirectory(prefix="tagreel-") as folder:
        mapped.write(f"{folder}/search", search)
        return run_parts(search_part_mapped, parts, execution, desc="dedup", shared=f"{folder}/search")


def search_part_mapped(part: Part, path: str) -> dict[str, Any]:
    return search_part(part, _read_mapped(path))


_read_mapped = lru_cache(1)(mapped.read)


# ------------------------------------------------------------------------------------------------------ target


def _prepare(targets: tuple[Target, ...], rule: Rule, wanted: frozenset[str] | None) -> Search:
    """Read the targets' signatures and index their codes."""
    videos, frames = [], []
    for target in targets:
        by_shard = []
        for split, shard in target.shards:
            signatures = read_source(shard)
            videos += [TargetVideo(target.name, split, video_id, shard) for video_id in signatures]
            by_shard.append(overlap.gather(signatures.values(), crops=True))
        frames.append(merge(by_shard))
    stacked = stack(frames)  # a code of two targets is two rows, so that each target's results are its own
    return Search(targets, stacked, tuple(videos), CodeIndex(stacked.codes, rule.radius), rule, wanted)


def stack(parts: Sequence[Frames]) -> Frames:
    """Frames of several groups of videos one after the other; equal codes of different groups stay apart."""
    num_videos = np.cumsum([0, *(len(part.num_frames) for part in parts)])
    num_rows = np.cumsum([0, *(len(part.video) for part in parts)])
    columns = {field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Frames)}
    columns["video"] += np.repeat(num_videos[:-1], np.diff(num_rows))
    begins = [part.offsets[:-1] + rows for part, rows in zip(parts, num_rows, strict=False)]
    return Frames(**columns | {"offsets": np.concatenate([*begins, num_rows[-1:]])})


def merge(parts: Sequence[Frames]) -> Frames:
    """Frames of several groups of videos as `overlap.gather` of all of them would give them."""
    stacked = stack(parts)
    codes = np.repeat(stacked.codes, np.diff(stacked.offsets))
    order = np.argsort(codes, kind="stable")
    distinct, begins = np.unique(codes[order], return_index=True)
    by_code = {"codes": distinct, "offsets": np.append(begins, len(codes))}
    by_video = ("num_frames", "num_valid")
    rows = [field.name for field in fields(Frames) if field.name not in (*by_code, *by_video)]
    return replace(stacked, **by_code, **{name: getattr(stacked, name)[order] for name in rows})


# ------------------------------------------------------------------------------------------------------- parts


def search_part(part: Part, search: Search) -> dict[str, Any]:
    """Compare some shards with the targets.

    Writes, for each target that lacks it, {path}.pairs.parquet, .codes.parquet and, last, .json (returned).
    """
    missing = [target for target in search.targets if not storage.exists(f"{part.path(target)}.json")]
    if not missing:
        return storage.read_json(f"{part.path(search.targets[0])}.json")
    found = {(v, s): sig for s in part.shards for v, sig in read_source(s, search.wanted).items()}
    frames = overlap.gather(found.values())
    pairs, codes = _compare(part, search, frames, list(found))
    counts = {
        "videos": len(found),
        "decoy_videos": len(found) if part.decoy else 0,
        "undecidable": [v for (v, _), valid in zip(found, frames.num_valid, strict=True) if not valid],
    }
    for target in missing:
        path = part.path(target)
        for name, table in (("pairs", pairs), ("codes", codes)):
            storage.write_parquet(f"{path}.{name}.parquet", table.filter(pc.equal(table["target"], target.name)))
        storage.write_json(f"{path}.json", counts)
    return counts


def read_source(shard: str, wanted: frozenset[str] | None = None) -> dict[str, census.Signature]:
    """Signatures of a shard's videos; of a subset's only, if there is one."""
    found = census.read_signatures(storage.read_parquet(f"{shard}.sig.parquet"))
    return found if wanted is None else {v: signature for v, signature in found.items() if v in wanted}


def _compare(
    part: Part, search: Search, frames: Frames, source_videos: list[tuple[str, str]]
) -> tuple[pa.Table, pa.Table]:
    """(rows of tables.PAIRS, {target, code, num_videos} of the matched target codes)."""
    pair_tables = []
    for view in (PLAIN, MIRRORED, FLIPPED, TURNED) if part.decoy else (PLAIN, MIRRORED):
        pairs = overlap.compare(frames, search.frames, search.index, view, search.rule.max_fine_distance)
        pair_tables.append(
            tables.pair_table(
                pairs, frames, search.frames, source_videos, search.videos,
                mirrored=view in (MIRRORED, TURNED), decoy=view in (FLIPPED, TURNED), floor=search.rule.floor,
            )
        )  # fmt: skip
        if view is PLAIN:
            owners = [search.videos[video].target for video in search.frames.video[search.frames.offsets[pairs.code]]]
            columns = (pa.array(owners, pa.string()), search.frames.codes[pairs.code], pairs.code_videos)
            codes = pa.table(dict(zip(("target", "code", "num_videos"), columns, strict=True)))
    return pa.concat_tables(pair_tables), codes


# ----------------------------------------------------------------------------------------------------- results


def _put_together(target: Target, parts: Sequence[Part], results: list[dict[str, Any]], search: Search) -> None:
    """Write a target's pairs, stop codes and marker from its parts."""
    num_videos = sum(result["videos"] for result in results)
    pairs = tables.sort_pairs(read_parts(f"{part.path(target)}.pairs.parquet" for part in parts))
    counted = read_parts(f"{part.path(target)}.codes.parquet" for part in parts)
    stop_codes = tables.stop_code_table(counted, num_videos, search.frames, search.videos, target.name)
    blind = [
        f"{video.target}/{video.split}/{video.video_id}"
        for video, valid in zip(search.videos, search.frames.num_valid, strict=True)
        if not valid and video.target == target.name
    ]
    storage.write_parquet(storage.join(target.folder, "pairs.parquet"), pairs, tables.PAIRS)
    storage.write_parquet(storage.join(target.folder, "stop_codes.parquet"), stop_codes, tables.STOP_CODES)
    marker = {
        "videos": num_videos,
        "decoy_videos": sum(result["decoy_videos"] for result in results),
        "undecidable": sorted(video_id for result in results for video_id in result["undecidable"]),
        "undecidable_targets": blind,
    }
    storage.write_json(target.marker, marker)


def read_parts(paths: Iterable[str]) -> pa.Table:
    return pa.concat_tables([storage.read_parquet(path) for path in paths])
