"""MAIN FLOW 1: posts → hashtags → matches → label space → manifest → shards and signatures.

`python -m dataset_builder.build --help` lists the options. Run again to go on after a stop: what is whole is skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dataset_builder.label_space import make_label_space, read_matches, write_label_space
from dataset_builder.manifest import choose_videos, video_weights, write_manifest
from dataset_builder.match import match_posts
from dataset_builder.shard import ShardJob, describe_dataset, reopened, write_shards
from dataset_builder.subset import draw_subset
from pipeline import artifacts, progress
from pipeline.cli import run_stage
from pipeline.config import BuildConfig, ConfigError


def build(config: BuildConfig) -> dict[str, Any]:
    """Build the dataset `config.dataset`; returns the content of its dataset.json."""
    if config.base is not None:
        return draw_subset(config)
    _check(config)

    # 1. Posts: which videos carry a relevant hashtag of a seed label?
    source = match_posts(config)
    source_files = artifacts.source_files(config.root, config.source.name)

    files = artifacts.dataset_files(config.root, config.dataset)
    done = artifacts.open_stage(files.folder, files.marker, config, {"source": source["digest"]})
    if done := reopened(files, done, config.retry_failed):
        progress.say(f"dataset '{config.dataset}' is whole: {done['num_videos']:,} videos")
        return done

    # 2. Label space: labels with enough videos.
    names = [label["name"] for label in source["labels"]]
    matched = read_matches(source_files, names)
    space, labelled = make_label_space(
        matched, names, config.sampling.min_videos, name=config.dataset, kind=config.source.kind
    )
    write_label_space(files, space)
    counts = {"label_space": counted("label space", len(matched), len(labelled), "no_label_with_enough_videos")}

    # 3. Manifest: which of them, and how often a pass draws each.
    chosen = choose_videos(labelled, config.sampling)
    counts["sampling"] = counted("sampling", len(labelled), len(chosen), "not_sampled")
    weights = video_weights(chosen, len(space.labels), config.sampling.square_root)
    num_shards = write_manifest(
        files, chosen, weights, seed=config.sampling.seed, rows_per_part=config.storage.samples_per_shard
    )

    # 4. Shards: one pass over each video.
    job = ShardJob(files, space.names, config.storage, config.execution, config.retry_failed)
    described = describe_dataset(job, space.kind, write_shards(job, num_shards, config.execution))
    counts["shards"] = {"in": len(chosen), "kept": described["num_videos"], "dropped": described["quarantined"]}
    progress.say_counts("shards", len(chosen), described["num_videos"], described["quarantined"])

    # 5. The seal.
    return artifacts.seal(files.folder, files.marker, {"posts": source["counts"], **counts}, **described)


def counted(stage: str, total: int, kept: int, reason: str) -> dict[str, Any]:
    """Say and return `in = kept + dropped` of a stage with one reason to drop."""
    dropped = {reason: total - kept}
    progress.say_counts(stage, total, kept, dropped)
    return {"in": total, "kept": kept, "dropped": dropped}


def _check(config: BuildConfig) -> None:
    for field, name in (("posts", "--source.posts"), ("seed_labels", "--source.seed-labels")):
        if not getattr(config.source, field):
            raise ConfigError(
                f"{name} is empty: name the posts table and the seed labels, or a finished dataset with --base"
            )


def main(argv: Sequence[str] | None = None) -> None:
    run_stage(BuildConfig, build, argv)


if __name__ == "__main__":
    main()
