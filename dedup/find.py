"""signatures of a dataset × signatures of targets → exclusions: which source videos overlap a target video.

One index is made of the distinct codes of all target frames; source shards are run over it in parts, as they are and
mirrored. A video is excluded when enough of its informative frames match one target video. Besides the exclusions the stage
writes every weaker pair it saw, what other thresholds would have removed, how many removals are likely to be chance, target
frames that match suspiciously many videos, and pictures of some removals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dedup import census, evidence, overlap, tables
from dedup.lsh import CodeIndex
from dedup.overlap import FLIPPED, MIRRORED, PLAIN, TURNED, Frames
from pipeline import artifacts, progress, storage
from pipeline.artifacts import DatasetFiles
from pipeline.cli import run_stage
from pipeline.config import ConfigError, DedupConfig
from pipeline.execute import run_parts

MODES = {"paper": (3, None), "default": (7, 64), "paranoid": (7, None)}  # radius, largest distance of 256-bit codes
SPLITS = ("train", "test")
SHARDS_PER_PART = 8  # about 1e6 codes at once: what the join likes
DECOY_PARTS, MAX_DECOY_STRIDE = 100, 100  # so many parts, and one in so many, are also compared upside down


@dataclass(frozen=True)
class TargetVideo:
    target: str
    split: str
    video_id: str
    shard: str  # path without suffix


@dataclass(frozen=True)
class Search:
    """What every part needs."""

    frames: Frames  # of all targets
    videos: tuple[TargetVideo, ...]
    index: CodeIndex
    max_fine_distance: int | None
    floor: float  # pairs below this overlap are not written
    wanted: frozenset[str] | None  # videos of a subset of the shards; None takes all


@dataclass(frozen=True)
class Part:
    path: str  # of its outputs, without suffix
    shards: tuple[str, ...]
    decoy: bool


def find(config: DedupConfig) -> dict[str, Any]:
    """Run the stage, or skip it when it is whole; returns the marker."""
    _check(config)
    dataset = artifacts.dataset_files(config.root, config.dataset)
    source = artifacts.read_marker(dataset.marker, f"run `tagreel build --dataset {config.dataset}` first")
    targets = _target_markers(config)
    inputs = {"dataset": source["digest"]} | {
        f"{target}/{split}": m["digest"] for (target, split), m in targets.items()
    }
    if done := artifacts.open_stage(dataset.dedup, dataset.dedup_marker, config, inputs):
        progress.say(f"dedup of {config.dataset}: already done")
        return done

    parts = _make_parts(dataset, source)
    search = _prepare(config, targets, _subset(dataset, source))
    results = run_parts(search_part, parts, config.execution, desc="dedup", shared=search)
    pairs = tables.sort_pairs(pa.concat_tables([storage.read_parquet(f"{part.path}.pairs.parquet") for part in parts]))
    undecidable = sorted(video_id for result in results for video_id in result["undecidable"])
    num_videos, num_turned = (sum(result[name] for result in results) for name in ("videos", "decoy_videos"))

    overlaps = tables.choose_exclusions(pairs, config.min_overlap, config.min_frames)
    dropped = tables.count_by_target(overlaps)
    exclusions = overlaps
    if config.undecidable == "drop":
        exclusions = pa.concat_tables([overlaps, tables.undecidable_rows(undecidable)])
        dropped[tables.UNDECIDABLE] = len(undecidable)
    kept = num_videos - len(set(exclusions["video_id"].to_pylist()))
    progress.say_counts(f"dedup of {config.dataset}", num_videos, kept, dropped)

    stop_codes = _stop_codes(parts, search, num_videos)
    findings = {
        "chance": _chance(pairs, num_videos, num_turned, config),
        "undecidable": undecidable,
        "undecidable_targets": _undecidable_targets(search),
        "contain_target": tables.contained_targets(pairs, exclusions, config.min_frames),
        "stop_codes": stop_codes.num_rows,
        "thresholds": tables.threshold_table(pairs),
    }
    for remark in _remarks(config, findings):
        progress.say(f"  {remark}")
    pages = evidence.exclusion_pages(overlaps)
    storage.write_parquet(storage.join(dataset.dedup, "pairs.parquet"), pairs, tables.PAIRS)
    storage.write_parquet(storage.join(dataset.dedup, "stop_codes.parquet"), stop_codes, tables.STOP_CODES)
    storage.write_parquet(storage.join(dataset.dedup, "evidence.parquet"), pages, evidence.EVIDENCE)
    storage.write_parquet(dataset.exclusions, exclusions, artifacts.EXCLUSIONS)
    counts = {"videos": num_videos, "kept": kept, "dropped": dropped, "undecidable": len(undecidable)}
    return artifacts.seal(dataset.dedup, dataset.dedup_marker, counts, **findings)


# ------------------------------------------------------------------------------------------------------ inputs


def _check(config: DedupConfig) -> None:
    if not config.targets:
        raise ConfigError("dedup needs --targets: names of targets made by `tagreel target`")
    if not 0 < config.min_overlap <= 1:
        raise ConfigError(f"min_overlap must be above 0 and at most 1, not {config.min_overlap}")
    if config.min_frames < 1:
        raise ConfigError(f"min_frames must be at least 1, not {config.min_frames}")


def _target_markers(config: DedupConfig) -> dict[tuple[str, str], dict[str, Any]]:
    """Markers of every split of every target; one that is not there or not finished raises."""
    return {
        (target, split): artifacts.read_marker(
            artifacts.target_files(config.root, target, split).marker, f"run `tagreel target --target {target}` first"
        )
        for target in config.targets
        for split in SPLITS
    }


def _subset(dataset: DatasetFiles, marker: dict[str, Any]) -> frozenset[str] | None:
    """The videos of a dataset that was drawn from another one, whose shards hold more than these."""
    if marker["config"].get("base") is None:
        return None
    return frozenset(storage.read_parquet_parts(dataset.manifest, ["video_id"])["video_id"].to_pylist())


def _make_parts(dataset: DatasetFiles, marker: dict[str, Any]) -> list[Part]:
    shards = artifacts.shard_paths(dataset, marker)
    groups = [tuple(shards[i : i + SHARDS_PER_PART]) for i in range(0, len(shards), SHARDS_PER_PART)]
    stride = min(max(1, len(groups) // DECOY_PARTS), MAX_DECOY_STRIDE)
    folder = storage.join(dataset.dedup, "parts")
    return [Part(storage.join(folder, f"part-{i:06d}"), group, i % stride == 0) for i, group in enumerate(groups)]


def _prepare(
    config: DedupConfig, markers: dict[tuple[str, str], dict[str, Any]], wanted: frozenset[str] | None
) -> Search:
    """Read all target signatures and index their codes."""
    videos, signatures = [], []
    for (target, split), marker in markers.items():
        for shard in artifacts.shard_paths(artifacts.target_files(config.root, target, split), marker):
            found = census.read_signatures(storage.read_parquet(f"{shard}.sig.parquet"))
            videos += [TargetVideo(target, split, video_id, shard) for video_id in found]
            signatures += found.values()
    radius, max_fine_distance = MODES[config.mode]
    frames = overlap.gather(signatures, crops=True)
    floor = min(config.min_overlap, tables.THRESHOLD_OVERLAPS[0])
    return Search(frames, tuple(videos), CodeIndex(frames.codes, radius), max_fine_distance, floor, wanted)


# ------------------------------------------------------------------------------------------------------- parts


def search_part(part: Part, search: Search) -> dict[str, Any]:
    """Compare some shards with all targets; writes {path}.pairs.parquet, .codes.parquet and, last, .json (returned)."""
    done = f"{part.path}.json"
    if storage.exists(done):
        return storage.read_json(done)
    found = {(v, s): sig for s in part.shards for v, sig in _read_source(s, search.wanted).items()}
    frames = overlap.gather(found.values())
    pair_tables = []
    for view in (PLAIN, MIRRORED, FLIPPED, TURNED) if part.decoy else (PLAIN, MIRRORED):
        pairs = overlap.compare(frames, search.frames, search.index, view, search.max_fine_distance)
        pair_tables.append(
            tables.pair_table(
                pairs, frames, search.frames, list(found), search.videos,
                mirrored=view in (MIRRORED, TURNED), decoy=view in (FLIPPED, TURNED), floor=search.floor,
            )
        )  # fmt: skip
        if view is PLAIN:
            codes = pa.table({"code": pairs.code, "num_videos": pairs.code_videos})
    storage.write_parquet(f"{part.path}.pairs.parquet", pa.concat_tables(pair_tables), tables.PAIRS)
    storage.write_parquet(f"{part.path}.codes.parquet", codes)
    counts = {
        "videos": len(found),
        "decoy_videos": len(found) if part.decoy else 0,
        "undecidable": [v for (v, _), valid in zip(found, frames.num_valid, strict=True) if not valid],
    }
    storage.write_json(done, counts)
    return counts


def _read_source(shard: str, wanted: frozenset[str] | None) -> dict[str, census.Signature]:
    found = census.read_signatures(storage.read_parquet(f"{shard}.sig.parquet"))
    return found if wanted is None else {v: signature for v, signature in found.items() if v in wanted}


# ----------------------------------------------------------------------------------------------------- results


def _stop_codes(parts: Sequence[Part], search: Search, num_videos: int) -> pa.Table:
    """Target codes that match so many source videos that they are more likely logos or title cards than copies."""
    num_matched = np.zeros(len(search.frames.codes), np.int64)
    for part in parts:
        codes = storage.read_parquet(f"{part.path}.codes.parquet")
        num_matched[codes["code"].to_numpy()] += codes["num_videos"].to_numpy()
    return tables.stop_code_table(num_matched, num_videos, search.frames, search.videos)


def _chance(pairs: pa.Table, num_videos: int, num_turned: int, config: DedupConfig) -> dict[str, Any]:
    """Videos that the same rule would have removed upside down: an estimate of those removed by chance."""
    flagged = tables.count_flagged(pairs, config.min_overlap, config.min_frames, decoy=True)
    return {"compared": num_turned, "flagged": flagged, "estimate": round(flagged * num_videos / max(1, num_turned), 2)}


def _undecidable_targets(search: Search) -> list[str]:
    """Target videos without an informative frame, as target/split/video_id: copies of these cannot be found."""
    blind = [video for video, valid in zip(search.videos, search.frames.num_valid, strict=True) if not valid]
    return [f"{video.target}/{video.split}/{video.video_id}" for video in blind]


def _remarks(config: DedupConfig, findings: dict[str, Any]) -> Iterator[str]:
    """What the person at the terminal should know besides the counts."""
    chance = findings["chance"]
    yield (
        f"removed by chance (estimate): {chance['estimate']:,}"
        f" (upside down, {chance['flagged']:,} of {chance['compared']:,} videos were flagged)"
    )
    if count := len(findings["undecidable"]):
        what = "dropped" if config.undecidable == "drop" else "kept"
        yield f"{count:,} videos have no informative frame (black, uniform) and cannot be compared: {what}"
    if count := len(findings["undecidable_targets"]):
        yield f"{count:,} target videos have none either: copies of them cannot be found"
    if count := len(findings["contain_target"]):
        yield (
            f"{count:,} kept videos hold half or more of a target video, in less than {config.min_overlap:.0%} of their"
            " own frames: see dedup/pairs.parquet, or lower min_overlap"
        )
    if count := findings["stop_codes"]:
        yield f"{count:,} target frames match unusually many videos: see dedup/stop_codes.parquet"


def main(argv: Sequence[str] | None = None) -> None:
    """`tagreel dedup`."""
    run_stage(DedupConfig, find, argv)


if __name__ == "__main__":
    main()
