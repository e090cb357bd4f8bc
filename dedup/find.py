"""signatures of a dataset × signatures of targets → exclusions: which source videos overlap a target video.

A video is excluded when enough of its informative frames match one target video. Besides the exclusions the stage writes
every weaker pair it saw, what other thresholds would have removed, how many removals are likely to be chance, target frames
that match suspiciously many videos, and pictures of some removals. Videos of the dataset that are the same as one another
are listed apart.

What was compared is kept per target: with another list of targets, or other thresholds, only what is missing is compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from dedup import chance, evidence, tables, within
from dedup.search import SPLITS, Part, Rule, Target, make_parts, num_frames, read_parts, search_targets
from pipeline import artifacts, progress, storage
from pipeline import config as configs
from pipeline.artifacts import DatasetFiles
from pipeline.cli import run_stage
from pipeline.config import ConfigError, DedupConfig

MODES = {"paper": (3, None), "default": (7, 64), "paranoid": (7, None)}  # radius, largest distance of 256-bit codes
COMPARED_WITH = ("config.dataset", "config.mode", "input_digests.dataset")  # the rest follows from pairs at hand


def find(config: DedupConfig) -> dict[str, Any]:
    """Run the stage, or skip it when it is whole; returns the marker."""
    _check(config)
    dataset = artifacts.dataset_files(config.root, config.dataset)
    source = artifacts.read_marker(dataset.marker, f"run `tagreel build --dataset {config.dataset}` first")
    target_markers = _target_markers(config)
    digests = {f"{target}/{split}": marker["digest"] for (target, split), marker in target_markers.items()}
    if done := _open(config, dataset, {"dataset": source["digest"], **digests}):
        progress.say(f"dedup of {config.dataset}: already done")
        return done

    # 1. Compare: the dataset with each target that it was not compared with yet, and with itself.
    parts, wanted = make_parts(dataset, source), _subset(dataset, source)
    rule = Rule(*MODES[config.mode], min(config.min_overlap, tables.THRESHOLD_OVERLAPS[0]))
    targets = [_target(name, dataset, source, config, target_markers, rule) for name in config.targets]
    search_targets(targets, parts, rule, wanted, config.execution)
    same = _search_within(config, dataset, source, parts, within.Within(rule, wanted))

    # 2. Exclude, from the pairs of all targets asked for.
    found = [storage.read_json(target.marker) for target in targets]
    pairs = tables.sort_pairs(read_parts(storage.join(target.folder, "pairs.parquet") for target in targets))
    overlaps = tables.choose_exclusions(pairs, config.min_overlap, config.min_frames)
    dropped, groups = tables.count_by_target(overlaps), [overlaps]
    undecidable = found[0]["undecidable"]
    if config.undecidable == "drop":
        groups.append(tables.undecidable_rows(undecidable))
        dropped[tables.UNDECIDABLE] = len(undecidable)
    gone = {video_id for group in groups for video_id in group["video_id"].to_pylist()}
    duplicates = within.choose_duplicates(same, config.within_overlap, config.min_frames, gone)
    if config.within == "drop":
        groups.append(duplicates)
        dropped[tables.WITHIN] = duplicates.num_rows
    exclusions, num_videos = pa.concat_tables(groups), found[0]["videos"]
    kept = num_videos - len(set(exclusions["video_id"].to_pylist()))
    progress.say_counts(f"dedup of {config.dataset}", num_videos, kept, dropped)

    # 3. Report, and write.
    stop_codes = read_parts(storage.join(target.folder, "stop_codes.parquet") for target in targets)
    flagged = tables.count_flagged(pairs, config.min_overlap, config.min_frames, decoy=True)
    findings = {
        "chance": chance.estimate(flagged, found[0]["decoy_videos"], num_videos),
        "undecidable": undecidable,
        "undecidable_targets": [video for target in found for video in target["undecidable_targets"]],
        "contain_target": tables.contained_targets(pairs, exclusions, config.min_frames),
        "stop_codes": stop_codes.num_rows,
        "thresholds": tables.threshold_table(pairs),
    }
    for remark in _remarks(config, findings, duplicates.num_rows):
        progress.say(f"  {remark}")
    written = {
        "pairs": pairs.cast(tables.PAIRS),
        "stop_codes": stop_codes,
        "within": duplicates,
        "evidence": evidence.exclusion_pages(overlaps, duplicates),
    }
    for name, table in written.items():
        storage.write_parquet(storage.join(dataset.dedup, f"{name}.parquet"), table)
    storage.write_parquet(dataset.exclusions, exclusions, artifacts.EXCLUSIONS)
    counts = {"videos": num_videos, "kept": kept, "dropped": dropped, "undecidable": len(undecidable)}
    if config.within != "off":
        counts["within"] = duplicates.num_rows
    return artifacts.seal(dataset.dedup, dataset.dedup_marker, counts, **findings)


# ------------------------------------------------------------------------------------------------------ inputs


def _check(config: DedupConfig) -> None:
    if not config.targets:
        raise ConfigError("dedup needs --targets: names of targets made by `tagreel target`")
    if len(set(config.targets)) < len(config.targets):
        raise ConfigError(f"a target is named twice in --targets {' '.join(config.targets)}")
    if not 0 < config.min_overlap <= 1:
        raise ConfigError(f"min_overlap must be above 0 and at most 1, not {config.min_overlap}")
    if not within.FLOOR <= config.within_overlap <= 1:
        raise ConfigError(f"within_overlap must be {within.FLOOR} to 1, not {config.within_overlap}")
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


def _open(config: DedupConfig, dataset: DatasetFiles, inputs: dict[str, str]) -> dict[str, Any] | None:
    """`artifacts.open_stage`, but other targets and thresholds begin the stage again instead of being refused."""
    begun = storage.join(dataset.dedup, "config.json")
    if not config.force and storage.exists(begun):
        was, asked = storage.read_json(begun), {"config": configs.determining(config), "input_digests": inputs}
        changed = configs.differences({key: was[key] for key in asked}, asked)
        refused = [change for change in changed if change.partition(": ")[0] in COMPARED_WITH]
        if refused:
            raise ConfigError(
                f"the dedup of '{config.dataset}' was made otherwise:\n  "
                + "\n  ".join(refused)
                + "\nEvery video has to be compared anew: pass --force. (Targets and thresholds may change without it.)"
            )
        if changed:
            for change in changed:
                progress.say(f"dedup of {config.dataset}: {change}")
            for path in (dataset.dedup_marker, begun):  # in this order: between them the dedup is begun, not finished
                storage.remove(path)
    return artifacts.open_stage(dataset.dedup, dataset.dedup_marker, config, inputs)


def _target(
    name: str,
    dataset: DatasetFiles,
    source: dict[str, Any],
    config: DedupConfig,
    markers: dict[tuple[str, str], dict[str, Any]],
    rule: Rule,
) -> Target:
    files = {split: artifacts.target_files(config.root, name, split) for split in SPLITS}
    digests = {split: markers[name, split]["digest"] for split in SPLITS}
    digest = configs.digest({"dataset": source["digest"], **digests, "mode": config.mode, "floor": rule.floor})
    shards = [(split, shard) for split in SPLITS for shard in artifacts.shard_paths(files[split], markers[name, split])]
    return Target(name, storage.join(dataset.dedup, "targets", f"{name}-{digest}"), tuple(shards))


def _search_within(
    config: DedupConfig, dataset: DatasetFiles, source: dict[str, Any], parts: list[Part], job: within.Within
) -> pa.Table:
    if config.within == "off":
        return within.SAME.empty_table()
    return within.search_within(storage.join(dataset.dedup, "within"), parts, num_frames(source), job, config.execution)


# ----------------------------------------------------------------------------------------------------- results


def _remarks(config: DedupConfig, findings: dict[str, Any], num_duplicates: int) -> Iterator[str]:
    """What the person at the terminal should know besides the counts."""
    estimate = findings["chance"]
    low, high = estimate["interval"]
    yield (
        f"removed by chance (estimate): {estimate['estimate']:,} (95%: {low:,} to {high:,};"
        f" upside down, {estimate['flagged']:,} of {estimate['compared']:,} videos were flagged)"
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
    if config.within != "off":
        what = "dropped" if config.within == "drop" else "kept"
        yield f"{num_duplicates:,} videos are the same as a longer one of the dataset: {what}, see dedup/within.parquet"


def main(argv: Sequence[str] | None = None) -> None:
    """`tagreel dedup`."""
    run_stage(DedupConfig, find, argv)


if __name__ == "__main__":
    main()
