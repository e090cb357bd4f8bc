"""The main job on a simulated platform: the same stages and commands that a user runs on their own posts and videos."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline import artifacts, launch, presets, progress, storage
from pipeline.cli import run_stage
from pipeline.config import SweepConfig, TargetConfig
from pipeline.exclusions import read_exclusions
from pipeline.world import WorldConfig, WorldSummary, write_world


@dataclass(frozen=True)
class DemoConfig:
    """Posts in, sweep report out, on a simulated platform whose truth is known; minutes on two cores."""

    root: str = "demo"
    """Folder for the platform and all artefacts."""
    num_posts: int = 2800
    """Posts on the platform."""
    train_videos_per_class: int = 5
    """Training videos of each of the target's 12 verbs."""
    test_videos_per_class: int = 40
    """Test videos of each of the target's 12 verbs."""
    sizes: tuple[int, ...] = (128, 512, 2048)
    """Pretraining videos of each point."""
    seeds: tuple[int, ...] = (0,)
    """Each point is run once per seed."""
    total_clips: int = 18_432
    """Length of each pretraining run in clips seen."""
    world_seed: int = 0
    """Another seed is another platform."""
    num_workers: int | None = None
    """Processes that render and build; None takes every core."""
    num_processes: int = 2
    """Training processes."""


def demo(config: DemoConfig) -> str:
    """Run what is missing of the demo; returns the path of report.html."""
    started = time.monotonic()
    workers = config.num_workers or os.cpu_count() or 1
    world = write_world(_world(config), f"{config.root}/world", workers)
    progress.say(f"platform: {world.counts}")

    sweep = _sweep(config, world, workers)
    for target in sweep.targets:
        tables = {split: str(world.target_csv(target, split)) for split in ("train", "test")}
        target_config = TargetConfig(
            root=config.root, target=target, storage=sweep.build.storage, execution=sweep.build.execution, **tables
        )
        launch.run(
            launch.command(f"target-{target}", "dataset_builder.targets", target_config, f"{config.root}/commands")
        )
    launch.realise(sweep)

    from pipeline.report import write_report  # matplotlib: only where a report is drawn

    folder = launch.write_plan(
        sweep, title="tagreel demo", notes=planted_duplicates(world, sweep), chance=chance(sweep)
    )
    report = write_report(folder, config.root)["html"]
    progress.say(f"demo done in {time.monotonic() - started:.0f} s\nreport: {os.path.abspath(report)}")
    return report


def _world(config: DemoConfig) -> WorldConfig:
    return WorldConfig(
        seed=config.world_seed,
        num_posts=config.num_posts,
        train_videos_per_class=config.train_videos_per_class,
        test_videos_per_class=config.test_videos_per_class,
    )


def _sweep(config: DemoConfig, world: WorldSummary, workers: int) -> SweepConfig:
    posts, labels = str(world.posts_path), str(world.seed_labels_path)
    sweep = presets.demo(config.root, posts, labels, workers, config.num_processes)
    recipe = sweep.pretrain.recipe
    warmup = recipe.warmup_clips * config.total_clips // recipe.total_clips
    recipe = replace(recipe, total_clips=config.total_clips, warmup_clips=warmup)
    return replace(sweep, sizes=config.sizes, seeds=config.seeds, pretrain=replace(sweep.pretrain, recipe=recipe))


def chance(sweep: SweepConfig) -> dict[str, float]:
    """Accuracy of guessing, per target: one over its labels."""
    spaces = {t: artifacts.target_files(sweep.root, t, "test").label_space for t in sweep.targets}
    return {target: 1 / len(storage.read_json(path)["labels"]) for target, path in spaces.items()}


def planted_duplicates(world: WorldSummary, sweep: SweepConfig) -> list[str]:
    """What the clean-up did with the near-duplicates that the platform planted, and with everything else; also printed."""
    files = artifacts.dataset_files(sweep.root, sweep.build.dataset)
    uris = storage.read_parquet_parts(files.manifest, ["video_id", "uri"]).to_pydict()
    uri_of = dict(zip(uris["video_id"], uris["uri"], strict=True))
    excluded = {uri_of[video_id] for video_id in read_exclusions(files)[0]}
    truth = storage.read_parquet(str(world.truth_path), ["video_uri", "kind", "transform"]).to_pylist()
    in_dataset = set(uri_of.values())
    planted = [row for row in truth if row["kind"] == "duplicate" and row["video_uri"] in in_dataset]
    caught = [row for row in planted if row["video_uri"] in excluded]
    missed = Counter(row["transform"] for row in planted if row["video_uri"] not in excluded)
    lines = [
        f"Of {len(planted)} planted near-duplicates of target videos in the dataset, {len(caught)} were excluded"
        + (f"; missed: {', '.join(f'{n} {name}' for name, n in sorted(missed.items()))}." if missed else "."),
        f"Of {len(in_dataset) - len(planted)} other videos, {len(excluded) - len(caught)} were excluded.",
    ]
    for line in lines:
        progress.say(line)
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    """`tagreel demo`."""
    run_stage(DemoConfig, demo, argv)


if __name__ == "__main__":
    main()
