"""Which fields of a TransferConfig count, and what is refused before anything is written."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from finetune import few_shot, full_ft, metrics, views
from finetune.data import Split
from finetune.start import Start
from pipeline import artifacts, progress, storage
from pipeline.config import ConfigError, TransferConfig
from pretrain.distributed import World
from pretrain.models import BUILDERS

OF_PROTOCOL = {
    "full_ft": {
        *("learning_rates", "held_out", "passes", "warmup_passes", "decay_passes", "decay_factor", "batch"),
        *("batch_per_gpu", "weight_decay", "repeats"),
    },
    "fc_only": {"l2", "held_out"},
    "few_shot": {"l2", "shots", "draws"},
    "evaluate": set(),
}
"""Fields that only some protocols read."""

GRIDS = ("learning_rates", "l2")


def unused(config: TransferConfig, start: Start) -> set[str]:
    """Fields that have no part in the result, given the others: a change in them must not refuse it."""
    others = set().union(*OF_PROTOCOL.values()) - OF_PROTOCOL[config.protocol]
    if start.tensors is not None and not config.inflate:
        others.add("model")
    if start.has_own_clip:
        others.add("clip")
    if config.clip_choice != "salient":
        others.add("salient_of")
    return others | {"run_from", "clip_from"}  # the file's digest and the clips themselves count


def seeds(config: TransferConfig) -> range:
    """Of the final trainings."""
    return range(config.seed, config.seed + config.repeats)


def check(config: TransferConfig, start: Start, train: Split | None, test: Split, world: World) -> None:
    """Refuse what cannot work, with a ConfigError that names it and what would fit."""
    if not storage.is_local(config.root):
        raise ConfigError(f"checkpoints and results are on local disks only; root = '{config.root}' is a URL")
    check_numbers(config)
    check_clips(start)
    views.check(config, start.clip)
    if config.protocol == "full_ft":
        full_ft.share_batch(config, world)
    if train is not None:
        if train.samples.labels != test.samples.labels:
            raise ConfigError(f"the train and test splits of target '{config.target}' have different label spaces")
        if config.protocol == "few_shot":
            few_shot.check(config, train)
        check_labels(config, train, test)


def check_numbers(config: TransferConfig) -> None:
    """Of the config alone."""
    if not 0 < config.held_out < 1:
        raise ConfigError(f"held_out = {config.held_out} is not a share between 0 and 1")
    for name in ("num_clips", "passes", "batch", "batch_per_gpu", "repeats"):
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} must be at least 1")
    for name in GRIDS:
        if name in OF_PROTOCOL[config.protocol] and not min(getattr(config, name), default=0) > 0:
            raise ConfigError(f"{name} = {list(getattr(config, name))}: give at least one value, all above 0")
    if config.warmup_passes < 0 or min(config.decay_passes, default=1) < 1:
        raise ConfigError("warmup_passes must be at least 0, and each of decay_passes at least 1")
    if config.repeats > 1 and config.protocol != "full_ft":
        raise ConfigError(
            f"repeats = {config.repeats} are final trainings of full_ft; {config.protocol} has nothing random to repeat, its "
            "answer would be the same each time (for other held-out videos: another --seed, with a --result of its own)"
        )


def check_clips(start: Start) -> None:
    """Whether the network can look at the clips."""
    clip, name = start.clip, start.model.name
    if name not in BUILDERS:
        raise ConfigError(f"unknown model.name = '{name}'; choices: {', '.join(BUILDERS)}")
    if clip.crop_px > min(clip.size_hw):
        raise ConfigError(f"clip.crop_px = {clip.crop_px} does not fit into clip.size_hw = {clip.size_hw}")
    if name.startswith("r2d_") and clip.length > 1:
        raise ConfigError(
            f"{name} looks at single frames, and would skip most of a clip's {clip.length}: set clip.length = 1 (with "
            "--clip-from config, where the weights say otherwise), or make it 3-D with --inflate"
        )


def check_labels(config: TransferConfig, train: Split, test: Split) -> None:
    """Labels whose training videos are all lost are refused; those that never had one are said."""
    stored = _counts(train.labels, train.samples.num_labels)
    space = storage.read_json(artifacts.target_files(config.root, config.target, "train").label_space)
    listed = np.array([label["num_videos"] for label in space["labels"]])
    if (lost := np.flatnonzero((stored == 0) & (listed > 0))).size:
        raise ConfigError(
            f"no training video of {_named(train, lost)} of target '{config.target}' could be stored, so it cannot be "
            f"learnt: mend its videos and run `tagreel target --target {config.target} --retry-failed`, or take it out "
            "of the tables"
        )
    tested = _counts(test.labels, test.samples.num_labels)
    if (unseen := np.flatnonzero((stored == 0) & (tested > 0))).size:
        progress.say(
            f"transfer: {_named(train, unseen)} of '{config.target}' has no training video: its {tested[unseen].sum():,} "
            "test videos count as wrong unless chance helps"
        )


def _counts(labels: np.ndarray, num_labels: int) -> np.ndarray:
    return metrics.one_hot(labels, num_labels).sum(axis=0)


def _named(split: Split, labels: Iterable[int]) -> str:
    names = [split.samples.labels[label] for label in labels]
    return f"label {names[0]!r}" + (f" (and of {len(names) - 1} more)" if len(names) > 1 else "")
