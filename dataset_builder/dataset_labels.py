"""What the build wrote about a dataset's label space, gathered from beside the shards; no tar is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset_builder.label_statistics import LabelStatistics, label_statistics
from pipeline import artifacts, storage
from pipeline.artifacts import DatasetFiles
from pipeline.config import ConfigError


@dataclass(frozen=True)
class DatasetLabels:
    """What is known of one dataset's label space; every count of videos is of those in the shards unless it says otherwise."""

    name: str
    kind: str
    base: str
    """The dataset built from posts that this one was drawn from; its own name when it is one."""
    num_videos: int
    min_videos: int
    labels: dict[str, int]
    """Label → videos."""
    statistics: LabelStatistics
    labels_per_video: dict[int, int]
    """Labels of a video → videos with so many."""
    label_space: dict[str, Any]
    """Labels: in = kept + dropped by reason."""
    dropped: dict[str, int]
    """Label that the label space left out → videos that it had."""
    num_unused_labels: int | None
    """Seed labels that no video of the source matched; None where the source is gone or another one."""
    unused_labels: list[str] | None
    """The first of them."""
    num_shared_hashtags: int | None
    shared_hashtags: dict[str, list[str]]
    """Hashtag → the labels that own it, for hashtags with several owners; a long list is cut by the source."""
    quarantined: dict[str, int]
    """Videos of the base that could not be stored, by reason."""


def read_dataset(root: str, dataset: str) -> DatasetLabels:
    """Raises ConfigError for a dataset that is not finished, StorageError when its files contradict each other."""
    files = artifacts.dataset_files(root, dataset)
    marker, space = _marker(root, dataset), storage.read_json(files.label_space)
    base = marker
    while base.get("base"):
        base = _marker(root, base["base"])
    source = _source(root, base)
    counts = {label["name"]: label["num_videos"] for label in marker["labels"]}
    if not any(counts.values()):
        raise ConfigError(f"dataset '{dataset}' holds no video: there is no label distribution to report on")
    dropped = {label["name"]: label["num_videos"] for label in space["dropped"]}
    return DatasetLabels(
        name=dataset,
        kind=marker["kind"],
        base=base["name"],
        num_videos=marker["num_videos"],
        min_videos=space["min_videos"],
        labels=counts,
        statistics=label_statistics(np.array(list(counts.values()), np.int64)),
        labels_per_video=_labels_per_video(files, marker),
        label_space=_label_space_counts(space),
        dropped=dropped,
        num_unused_labels=source.get("num_unused_labels"),
        unused_labels=source.get("unused_labels"),
        num_shared_hashtags=source.get("num_shared_hashtags"),
        shared_hashtags={entry["hashtag"]: entry["labels"] for entry in source.get("shared_hashtags", ())},
        quarantined=base["quarantined"],
    )


def _marker(root: str, dataset: str) -> dict[str, Any]:
    remedy = f"build the dataset first (tagreel build --dataset {dataset})"
    return artifacts.read_marker(artifacts.dataset_files(root, dataset).marker, remedy)


def _source(root: str, base: dict[str, Any]) -> dict[str, Any]:
    """source.json of what a dataset was built from; empty where it is gone, or another source has its name by now."""
    path = artifacts.source_files(root, base["config"]["source"]["name"]).marker
    source = storage.read_json(path) if storage.exists(path) else {}
    return source if source.get("digest") == base["input_digests"]["source"] else {}


def _label_space_counts(space: dict[str, Any]) -> dict[str, Any]:
    """in = kept + dropped by reason."""
    reasons = Counter(label["reason"] for label in space["dropped"])
    if space["num_unused"]:
        reasons["no_video"] = space["num_unused"]
    kept = len(space["labels"])
    return {"in": kept + reasons.total(), "kept": kept, "dropped": dict(sorted(reasons.items()))}


def _labels_per_video(files: DatasetFiles, marker: dict[str, Any]) -> dict[int, int]:
    found: Counter[int] = Counter()
    for lists in _label_lists(files, marker):
        sizes = pc.value_counts(pc.list_value_length(lists)).to_pylist()
        found.update({entry["values"]: entry["counts"] for entry in sizes})
    pairs = sum(size * count for size, count in found.items())
    stated = sum(label["num_videos"] for label in marker["labels"])
    if (found.total(), pairs) != (marker["num_videos"], stated):
        raise storage.StorageError(
            f"'{files.marker}' counts {marker['num_videos']:,} videos with {stated:,} labels, the tables beside it "
            f"{found.total():,} with {pairs:,}: build the dataset again with --force"
        )
    return dict(sorted(found.items()))


def _label_lists(files: DatasetFiles, marker: dict[str, Any]) -> Iterator[pa.ChunkedArray]:
    """Label ids of the videos in the shards, part by part: a subset's manifest lists just these, a base's tries others too."""
    if marker.get("base"):
        for path in storage.parts_in(files.manifest):
            yield storage.read_parquet(path, ["label_ids"])["label_ids"]
    else:
        for shard in artifacts.shard_paths(files, marker):
            table = storage.read_parquet(shard + ".parquet", ["label_ids", "status"])
            yield table.filter(pc.equal(table["status"], "ok"))["label_ids"]


def read_target(root: str, target: str) -> list[str]:
    """Label names of a target; its splits share them."""
    remedy = f"make the target first (tagreel target --target {target})"
    marker = artifacts.read_marker(artifacts.target_files(root, target, "train").marker, remedy)
    return [label["name"] for label in marker["labels"]]
