"""MAIN FLOW 1: posts → hashtags → matches → label space → manifest → shards and signatures.

`python -m dataset_builder.build --help` lists the options. Run again to go on after a stop: what is whole is skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dataset_builder.candidates import matched_videos
from dataset_builder.checks import check
from dataset_builder.choose import choose_videos
from dataset_builder.dataset import describe_shards, reopened, say_whole, seal_dataset
from dataset_builder.label_space import read_label_space, write_label_space
from dataset_builder.manifest import Manifest, equal_parts, read_manifest, say_stages, write_chosen
from dataset_builder.match import match_posts
from dataset_builder.shard import ShardJob, write_shards
from dataset_builder.subset import draw_subset
from pipeline import artifacts
from pipeline.cli import run_stage
from pipeline.config import BuildConfig


def build(config: BuildConfig) -> dict[str, Any]:
    """Build the dataset `config.dataset`; returns the content of its dataset.json."""
    check(config)
    if config.base is not None:
        return draw_subset(config)

    files = artifacts.dataset_files(config.root, config.dataset)
    artifacts.check_config(files.folder, config)

    # 1. Posts: which videos carry a relevant hashtag of a seed label?
    source = match_posts(config)

    done = artifacts.open_stage(files.folder, files.marker, config, {"source": source["digest"]})
    if done := reopened(files, done, config.retry_failed):
        return say_whole(files, done)

    # 2. Label space and manifest: labels with enough videos, which of these videos, and how often a pass draws each.
    manifest = read_manifest(files) or _make_manifest(config, source)
    say_stages(manifest.counts)

    # 3. Shards: one pass over each video.
    space = read_label_space(files)
    job = ShardJob(files, space.names, config.storage, config.execution, config.retry_failed)
    described = describe_shards(files, space.kind, space.names, write_shards(job, manifest.num_parts))
    shards = {"in": manifest.num_videos, "kept": described["num_videos"], "dropped": described["quarantined"]}
    say_stages({"shards": shards})

    # 4. The seal.
    counts = {"posts": source["counts"], **manifest.counts, "shards": shards}
    return say_whole(files, seal_dataset(files, config, counts, described))


def _make_manifest(config: BuildConfig, source: dict[str, Any]) -> Manifest:
    files = artifacts.dataset_files(config.root, config.dataset)
    candidates = matched_videos(
        artifacts.source_files(config.root, config.source.name), [label["name"] for label in source["labels"]]
    )
    counts = np.array([label["num_videos"] for label in source["labels"]], dtype=np.int64)
    space, choice, stages = choose_videos(
        candidates,
        config.sampling,
        config.execution,
        name=config.dataset,
        kind=config.source.kind,
        label_counts=counts,
    )
    write_label_space(files, replace(space, num_unused=space.num_unused + source["num_unused_labels"]))
    bounds = equal_parts(len(choice), config.storage.samples_per_shard)
    return write_chosen(files, choice, stages, bounds, config.sampling.square_root, config.execution)[0]


def main(argv: Sequence[str] | None = None) -> None:
    run_stage(BuildConfig, build, argv)


if __name__ == "__main__":
    main()
