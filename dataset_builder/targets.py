"""Annotation files → a target: the same artefacts as a dataset, training and test split apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dataset_builder.annotations.agreement import agree
from dataset_builder.annotations.samples import Collected
from dataset_builder.annotations.splits import SPLITS, read_splits
from dataset_builder.checks import check
from dataset_builder.dataset import describe_shards, reopened, say_whole, seal_dataset
from dataset_builder.label_space import VIDEOS, LabelledVideos, LabelSpace, labelled_videos, write_label_space
from dataset_builder.manifest import write_manifest
from dataset_builder.sampling import label_counts
from dataset_builder.shard import ShardJob, write_shards
from pipeline import artifacts, progress
from pipeline.cli import run_stage
from pipeline.config import TargetConfig


@dataclass(frozen=True)
class Labelling:
    """What both splits have in common."""

    names: list[str]
    """Labels; their places are the label ids."""
    multi_label: bool
    only_in_test: list[dict[str, Any]]
    """[{name, num_samples}] of labels that no training sample has."""
    digests: dict[str, str]


def build_target(config: TargetConfig) -> dict[str, dict[str, Any]]:
    """Build both splits of `config.target`; returns their dataset.json by split."""
    check(config)
    splits, digests = read_splits(config)
    names, only_in_test = agree(splits)
    several = any(len(sample.labels) > 1 for split in splits.values() for sample in split.samples.values())
    labelling = Labelling(names, several, only_in_test, digests)
    return {split: _build_split(config, split, splits[split], labelling) for split in SPLITS}


def _build_split(config: TargetConfig, split: str, collected: Collected, labelling: Labelling) -> dict[str, Any]:
    files = artifacts.target_files(config.root, config.target, split)
    done = artifacts.open_stage(files.folder, files.marker, config, labelling.digests)
    if done := reopened(files, done, config.retry_failed):
        return say_whole(files, done)
    videos = _labelled(collected, labelling.names)
    space = _label_space(files.name, videos, labelling.names)
    write_label_space(files, space)
    weights = np.ones(len(videos), dtype=np.float32)
    num_shards = write_manifest(files, videos, weights, rows_per_part=config.storage.samples_per_shard)
    job = ShardJob(files, labelling.names, config.storage, config.execution, config.retry_failed, of_target=True)
    described = describe_shards(files, space.kind, labelling.names, write_shards(job, num_shards))
    described |= {"multi_label": labelling.multi_label, "labels_only_in_test": labelling.only_in_test}
    shards = {"in": len(videos), "kept": described["num_videos"], "dropped": described["quarantined"]}
    counts = {"rows": collected.counts, "shards": shards}
    for stage, count in counts.items():
        progress.say_counts(f"{files.name} {stage}", count["in"], count["kept"], count["dropped"])
    return say_whole(files, seal_dataset(files, config, counts, described))


def _labelled(collected: Collected, names: list[str]) -> LabelledVideos:
    """Samples in order of video_id, those of one video side by side."""
    samples = [collected.samples[video_id] for video_id in sorted(collected.samples)]
    columns = [
        pa.array([getattr(sample, name) for sample in samples], VIDEOS.field(name).type) for name in VIDEOS.names
    ]
    table = pa.table(columns, schema=VIDEOS)
    table = table.append_column("group", pa.array([sample.group for sample in samples], pa.string()))
    return labelled_videos(table, pa.array([sorted(s.labels) for s in samples], pa.list_(pa.string())), names)


def _label_space(name: str, videos: LabelledVideos, names: list[str]) -> LabelSpace:
    counts = label_counts(videos.label_ids, len(names))
    labels = [{"id": i, "name": label, "num_videos": int(counts[i])} for i, label in enumerate(names)]
    return LabelSpace(name=name, kind="target", min_videos=0, labels=labels, dropped=[])


def main(argv: Sequence[str] | None = None) -> None:
    run_stage(TargetConfig, build_target, argv)


if __name__ == "__main__":
    main()
