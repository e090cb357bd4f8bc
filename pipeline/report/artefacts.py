"""What the report reads of the data behind the points: sources, the datasets drawn from them, their dedups, the targets.

A file that is not there is `None` or empty, never an error: the page says what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from pipeline import artifacts, storage
from pipeline.artifacts import DatasetFiles
from pipeline.config import ConfigError
from pipeline.report.inputs import read_marker
from pipeline.report.points import Plan, number, section, unique

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Labels:
    """Label distribution of a dataset: (name, videos), most videos first."""

    kept: list[tuple[str, int]]
    dropped: list[tuple[str, int]]
    """Those that the label space left out."""
    floor: int | None = None
    """Videos that a label must have."""


@dataclass(frozen=True)
class Dataset:
    """One dataset, or one split of a target."""

    files: DatasetFiles
    marker: dict[str, Any] | None

    @property
    def name(self) -> str:
        return self.files.name

    @property
    def base(self) -> str | None:
        """The dataset that it was drawn from."""
        return section(self.marker, "config").get("base")

    @property
    def num_videos(self) -> int | None:
        """Videos in its shards."""
        count = number((self.marker or {}).get("num_videos"))
        return None if count is None else int(count)

    @cached_property
    def labels(self) -> Labels:
        """From dataset.json (videos that are in the shards), else from label_space.json, which has what was dropped."""
        space = read_marker(self.files.label_space) or {}
        kept = _label_counts((self.marker or {}).get("labels")) or _label_counts(space.get("labels"))
        floor = number(space.get("min_videos"))
        return Labels(kept, _label_counts(space.get("dropped")), int(floor) if floor else None)


def _label_counts(entries: Any) -> list[tuple[str, int]]:
    good = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    pairs = [(str(e.get("name", e.get("id", ""))), int(number(e.get("num_videos")) or 0)) for e in good]
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


@dataclass(frozen=True)
class Dedup:
    """What a finished dedup left of a dataset."""

    dataset: Dataset
    marker: dict[str, Any]

    @property
    def is_stale(self) -> bool:
        """Whether the dataset has changed since."""
        used = section(self.marker, "input_digests").get("dataset")
        return bool(used and self.dataset.marker and used != self.dataset.marker.get("digest"))

    @cached_property
    def exclusions(self) -> pa.Table | None:
        return read_table(self.dataset.files.exclusions)

    @cached_property
    def pairs(self) -> pa.Table | None:
        """Every pair of videos that was listed, however weak, and those found upside down."""
        return read_table(storage.join(self.dataset.files.dedup, "pairs.parquet"))

    @cached_property
    def within(self) -> pa.Table | None:
        """Videos of the dataset that are the same as a longer one of it."""
        return read_table(storage.join(self.dataset.files.dedup, "within.parquet"))

    @cached_property
    def evidence(self) -> list[dict[str, Any]]:
        """Pairs with the pictures that the dedup took of them."""
        table = read_table(storage.join(self.dataset.files.dedup, "evidence.parquet"))
        return table.to_pylist() if table is not None else []


def read_table(path: str) -> pa.Table | None:
    try:
        return storage.read_parquet(path) if storage.exists(path) else None
    except storage.StorageError:
        return None


@dataclass(frozen=True)
class Run:
    """A pretraining run."""

    name: str
    dataset: str | None
    marker: dict[str, Any] | None


@dataclass(frozen=True)
class Source:
    """A dataset that was built from posts, and what was made of it."""

    dataset: Dataset
    matches: artifacts.SourceFiles | None
    """Of the posts; None where dataset.json does not name them."""
    matched: dict[str, Any] | None
    """source.json; None where it is gone, or other posts have its name by now."""
    dedup: Dedup | None
    is_dedup_planned: bool
    subsets: tuple[Dataset, ...]
    runs: tuple[Run, ...]
    """Those on the dataset and its subsets."""


def read_sources(plan: Plan, root: str) -> list[Source]:
    """Every source of the sweep in the order of the plan, each with its subsets."""
    planned = dict(_planned_datasets(plan))
    datasets = {name: _read_dataset(artifacts.dataset_files(root, name)) for name in planned}
    for dataset in list(datasets.values()):
        while (base := dataset.base) and base not in datasets:  # of a subset from an earlier sweep
            dataset = datasets[base] = _read_dataset(artifacts.dataset_files(root, base))
    bases = {name: dataset.base or planned.get(name) for name, dataset in datasets.items()}
    of_source = {name: _source_of(name, bases) for name in datasets}
    pretrained = {point.run: point.dataset for point in plan.points if point.kind != "scratch"}
    runs = [Run(run, name, read_marker(artifacts.run_files(root, run).marker)) for run, name in pretrained.items()]
    cleaned = {stage.get("marker") for stage in plan.stages if stage.get("kind") == "dedup"}
    return [
        _read_source(
            root,
            datasets[source],
            tuple(datasets[name] for name in datasets if of_source[name] == source != name),
            tuple(run for run in runs if of_source.get(run.dataset) == source),
            f"datasets/{source}/dedup/dedup.json" in cleaned,
        )
        for source in unique(list(of_source.values()))
    ]


def _planned_datasets(plan: Plan) -> Iterator[tuple[str, str | None]]:
    """(dataset, the one that it will be drawn from), bases first."""
    makes = {
        stage["name"]: stage["marker"].split("/")[1]
        for stage in plan.stages
        if stage.get("kind") in ("build", "dedup", "subset") and stage.get("marker")
    }
    for stage in plan.stages:
        if stage.get("kind") in ("build", "subset") and stage["name"] in makes:
            bases = [makes[need] for need in stage.get("needs") or () if need in makes]
            yield makes[stage["name"]], bases[0] if stage["kind"] == "subset" and bases else None
    if makes:
        baselines = unique([point.dataset for point in plan.points])
        yield from ((name, None) for name in baselines if name not in makes.values())
    else:
        yield from ((name, plan.base_dataset if name != plan.base_dataset else None) for name in plan.datasets)


def _source_of(name: str, bases: dict[str, str | None]) -> str:
    seen = {name}
    while (base := bases.get(name)) and base not in seen:
        seen.add(base)
        name = base
    return name


def _read_dataset(files: DatasetFiles) -> Dataset:
    return Dataset(files, read_marker(files.marker))


def _read_source(
    root: str, dataset: Dataset, subsets: tuple[Dataset, ...], runs: tuple[Run, ...], is_dedup_planned: bool
) -> Source:
    marker = read_marker(dataset.files.dedup_marker)
    dedup = Dedup(dataset, marker) if marker else None
    name = section(section(dataset.marker, "config"), "source").get("name")
    matches = artifacts.source_files(root, name) if name else None
    return Source(dataset, matches, _matched(matches, dataset), dedup, is_dedup_planned, subsets, runs)


def _matched(matches: artifacts.SourceFiles | None, dataset: Dataset) -> dict[str, Any] | None:
    found = read_marker(matches.marker) if matches else None
    used = section(dataset.marker, "input_digests").get("source")
    return found if found and used in (None, found.get("digest")) else None


# ------------------------------------------------------------------------------------------------------ targets


def read_targets(plan: Plan, root: str) -> dict[str, dict[str, Dataset]]:
    """{target: {split: what is there of it}} of the points' targets and of those that dedups keep out."""
    made = [stage["marker"].split("/")[1] for stage in plan.stages if stage.get("kind") == "target" and stage["marker"]]
    return {target: read_splits(root, target) for target in unique([*plan.targets, *made])}


def read_splits(root: str, target: str) -> dict[str, Dataset]:
    """Both splits of a target; none of a name that cannot be one."""
    try:
        return {split: _read_dataset(artifacts.target_files(root, target, split)) for split in SPLITS}
    except ConfigError:
        return {}
