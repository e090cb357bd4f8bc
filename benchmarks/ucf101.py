"""Does pretraining on simulated posts help real clips? UCF101, frozen features (fc-only), pretrained against random weights.

    python -m benchmarks.ucf101 --clips UCF-101 --root ucf101-check
    python -m benchmarks.ucf101 --clips UCF-101 --root tagreel-data --run first      (a run that is there already)

Clips of one `gNN` group are cut from one upload, so groups are never split: each fold tests on groups that its training has
not seen, and every clip is tested exactly once. The predictions of all folds are pooled; resamples draw whole groups. Stages that
are finished are skipped, so the same command goes on where it was stopped.

A: groups, N: clips, R: resamples.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record
from dataset_builder.targets import build_target
from finetune import predictions
from finetune.bootstrap import RESAMPLES, moved_interval, resampled
from finetune.data import open_split
from finetune.metrics import top_k_correct
from finetune.transfer import transfer
from pipeline import artifacts, launch, presets, storage
from pipeline import config as configs
from pipeline.config import ClipConfig, ModelConfig, PretrainConfig, SweepConfig, TargetConfig, TransferConfig
from pipeline.world import WorldConfig, write_world

CLIP_NAME = re.compile(r"v_(?P<label>\w+?)_(?P<group>g\d+)_c\d+")
SHORT_SIDE_PX, SIZE_HW, CROP_PX = 56, (54, 72), 48
PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)


@dataclass(frozen=True)
class RealClip:
    path: Path
    label: str
    group: str
    """With its class, as groups are numbered within one."""


@dataclass(frozen=True)
class Arm:
    """One way to start, on every clip."""

    name: str
    right: np.ndarray
    """float [N], share of the seeds that are right about a clip."""
    by_seed: list[float]
    """Top-1 of each seed."""


# ------------------------------------------------------------------------------------------------------ real clips


def find_clips(folder: Path) -> list[RealClip]:
    """The videos in a folder (searched in depth) that are named as in UCF101."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".avi", ".mp4"})
    named = [(path, CLIP_NAME.fullmatch(path.stem)) for path in paths]
    clips = [RealClip(path, name["label"], f"{name['label']} {name['group']}") for path, name in named if name]
    if not clips:
        raise SystemExit(f"no video named like v_Archery_g01_c01.avi in {folder}: name the UCF101 folder with --clips")
    return clips


def fold_of_groups(clips: Sequence[RealClip], num_folds: int) -> dict[str, int]:
    """A fold for every group: each class's groups, the largest first, go where the class (then all) has fewest clips so far.

    Raises: SystemExit for a class that has fewer groups than there are folds.
    """
    folds: dict[str, int] = {}
    totals = [0] * num_folds
    for label in sorted({clip.label for clip in clips}):
        groups = Counter(clip.group for clip in clips if clip.label == label)
        if len(groups) < num_folds:
            raise SystemExit(f"'{label}' has {len(groups)} groups: at most as many --folds")
        of_label = [0] * num_folds
        for group, size in sorted(groups.items(), key=lambda item: (-item[1], item[0])):
            fold = min(range(num_folds), key=lambda fold: (of_label[fold], totals[fold]))
            folds[group] = fold
            of_label[fold] += size
            totals[fold] += size
    return folds


def build_targets(options: argparse.Namespace, sweep: SweepConfig, clips: Sequence[RealClip]) -> list[str]:
    """One target a fold, which tests on the fold's groups and trains on all others; returns their names."""
    folds = fold_of_groups(clips, options.folds)
    names = [f"ucf101-{fold + 1}of{options.folds}" for fold in range(options.folds)]
    for fold, name in enumerate(names):
        table = options.root / "annotations" / f"{name}.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "group", "split"])
            for clip in clips:
                part = "test" if folds[clip.group] == fold else "train"
                writer.writerow([clip.path.resolve(), clip.label, clip.group, part])
        stages = {"storage": sweep.build.storage, "execution": sweep.build.execution}
        build_target(TargetConfig(str(options.root), name, str(table), format="csv", **stages))
    return names


# ------------------------------------------------------------------------------------------------------ pretraining


def demo_sweep(options: argparse.Namespace) -> SweepConfig:
    """The demo's stages on larger pictures."""
    world = options.root / "world"
    paths = str(world / "posts.jsonl"), str(world / "seed_labels.txt")
    sweep = presets.demo(str(options.root), *paths, os.cpu_count() or 1, options.processes)
    warmup = sweep.pretrain.recipe.warmup_clips * options.total_clips // sweep.pretrain.recipe.total_clips
    recipe = replace(sweep.pretrain.recipe, total_clips=options.total_clips, warmup_clips=warmup)
    clip = replace(sweep.pretrain.clip, size_hw=SIZE_HW, crop_px=CROP_PX)
    return replace(
        sweep,
        build=replace(sweep.build, storage=replace(sweep.build.storage, short_side_px=SHORT_SIDE_PX)),
        pretrain=replace(sweep.pretrain, dataset=sweep.build.dataset, clip=clip, recipe=recipe),
    )


def pretrain(options: argparse.Namespace, sweep: SweepConfig, targets: Sequence[str]) -> list[str]:
    """Simulated posts → dataset, without copies of the real clips → one run a seed; returns the runs' names."""
    world = WorldConfig(num_posts=options.num_posts, train_videos_per_class=1, test_videos_per_class=1)
    write_world(world, options.root / "world", os.cpu_count() or 1)
    run_stage(options, "build", "dataset_builder.build", sweep.build)
    dedup = replace(sweep.dedup, dataset=sweep.build.dataset, targets=tuple(targets[:1]))  # both splits: every clip
    run_stage(options, "dedup", "dedup.find", dedup)
    runs = [f"simulated-s{seed}" for seed in range(options.pretrained_seeds)]
    for seed, run in enumerate(runs):
        config = replace(sweep.pretrain, run=run, recipe=replace(sweep.pretrain.recipe, seed=seed))
        run_stage(options, f"pretrain-{run}", "pretrain.train", config, options.processes)
    return runs


def run_stage(options: argparse.Namespace, name: str, module: str, config: Any, processes: int = 1) -> None:
    launch.run(launch.command(name, module, config, str(options.root / "commands"), processes))


def config_of(root: Path, run: str) -> PretrainConfig:
    """What a run was trained with."""
    resolved = storage.read_json(storage.join(artifacts.run_files(str(root), run).folder, "config.json"))["resolved"]
    return configs.from_dict(PretrainConfig, resolved)


# ------------------------------------------------------------------------------------------------------ transfers


def transfers(root: Path, run: str, seed: int, targets: Sequence[str], model: ModelConfig, clip: ClipConfig) -> dict:
    """fc-only on every fold; {key of a clip: whether the network is right about it}."""
    right: dict[str, bool] = {}
    for target in targets:
        config = TransferConfig(str(root), run, target, model=model, clip=clip, seed=seed, held_out=0.2, l2=PENALTIES)
        transfer(config)
        files = artifacts.transfer_files(config)
        scored = predictions.read(files, storage.read_json(files.marker), seed)
        assert not right.keys() & set(scored.keys), "a clip is tested in two folds"
        right |= dict(zip(scored.keys, top_k_correct(scored.scores, scored.labels, 1).tolist(), strict=True))
    return right


def pooled(name: str, found: Sequence[dict[str, bool]], keys: Sequence[str]) -> Arm:
    right = np.array([[each[key] for key in keys] for each in found], float)
    return Arm(name, right.mean(axis=0), right.mean(axis=1).round(4).tolist())


def tested(root: Path, targets: Sequence[str]) -> dict[str, tuple[str, str]]:
    """{key: (label, group)} of every clip, from the folds' test splits."""
    found: dict[str, tuple[str, str]] = {}
    for target in targets:
        split = open_split(str(root), target, "test")
        names = [
            label["name"]
            for label in storage.read_json(artifacts.target_files(str(root), target, "test").label_space)["labels"]
        ]
        rows = zip(split.samples.keys.to_pylist(), split.labels, split.groups or (), strict=True)
        found |= {key: (names[label], group) for key, label, group in rows}
    return found


# ------------------------------------------------------------------------------------------------------ what it says


def intervals(arms: Sequence[Arm], groups: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Top-1 of each arm and the first's less the second's, with 95 % intervals: whole groups are drawn, the same for all."""
    _, group_of = np.unique(groups, return_inverse=True)
    numbers = {arm.name: arm.right for arm in arms}
    numbers["difference"] = arms[0].right - arms[1].right

    def share(values: np.ndarray) -> Any:
        return lambda weights_AR: values @ weights_AR[group_of] / weights_AR[group_of].sum(axis=0)

    drawn = resampled({name: share(values) for name, values in numbers.items()}, int(group_of.max()) + 1)
    return {
        name: {
            "top1": round(float(values.mean()), 4),
            "interval": moved_interval(drawn[name], values.mean(), lowest=-1.0).round(4).tolist(),
        }
        for name, values in numbers.items()
    }


def by_class(arms: Sequence[Arm], labels: Sequence[str], groups: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for label in sorted(set(labels)):
        own = np.array([each == label for each in labels])
        shares = {arm.name: round(float(arm.right[own].mean()), 4) for arm in arms}
        num_groups = len({group for group, is_own in zip(groups, own, strict=True) if is_own})
        rows.append({"label": label, "clips": int(own.sum()), "groups": num_groups, **shares})
    return rows


def say(results: dict[str, Any]) -> None:
    for name, found in results["top1"].items():
        low, high = found["interval"]
        print(f"{name:12} {100 * found['top1']:6.1f} %   [{100 * low:.1f}, {100 * high:.1f}]")
    print("\nclass                clips groups  pretrained  scratch")
    for row in results["classes"]:
        shares = f"{100 * row['pretrained']:10.1f}  {100 * row['scratch']:7.1f}"
        print(f"{row['label']:20} {row['clips']:5} {row['groups']:6}  {shares}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, help="folder of UCF101 videos, or of some of its classes")
    parser.add_argument("--root", type=Path, default=Path("ucf101-check"), help="folder for all artefacts")
    parser.add_argument("--run", help="a finished run in the root, instead of pretraining on simulated posts")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--scratch-seeds", type=int, default=3, help="networks of random weights")
    parser.add_argument("--pretrained-seeds", type=int, default=1, help="pretraining runs")
    parser.add_argument("--num-posts", type=int, default=2800, help="posts of the simulated platform")
    parser.add_argument("--total-clips", type=int, default=18_432, help="length of a pretraining run in clips seen")
    parser.add_argument("--processes", type=int, default=2, help="training processes")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    sweep, clips = demo_sweep(options), find_clips(options.clips)
    targets = build_targets(options, sweep, clips)
    runs = [options.run] if options.run else pretrain(options, sweep, targets)
    trained = config_of(options.root, runs[0])
    found = tested(options.root, targets)
    labels, groups = zip(*found.values(), strict=True)

    def arm(name: str, names: Sequence[str]) -> Arm:
        each = [
            transfers(options.root, run, seed, targets, trained.model, trained.clip) for seed, run in enumerate(names)
        ]
        return pooled(name, each, list(found))

    arms = arm("pretrained", runs), arm("scratch", [f"scratch-s{seed}" for seed in range(options.scratch_seeds)])
    results = {
        "clips": len(clips),
        "tested": len(found),
        "groups": len(set(groups)),
        "chance": round(1 / len(set(labels)), 4),
        "folds": options.folds,
        "pretraining": {"runs": runs, "dataset": trained.dataset, "clips_seen": trained.recipe.total_clips},
        "model": configs.to_dict(trained.model),
        "clip": configs.to_dict(trained.clip),
        "top1": intervals(arms, groups),
        "by_seed": {arm.name: arm.by_seed for arm in arms},
        "num_resamples": RESAMPLES,
        "classes": by_class(arms, labels, groups),
    }
    say(results)
    print(record.write("ucf101", results, "torch", "torchvision", "av", "numpy"))


if __name__ == "__main__":
    main()
