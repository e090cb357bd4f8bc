"""Sweeps: one function per figure or table of the paper, from a SweepConfig to the points it compares."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.config import BuildConfig, ConfigError, DedupConfig, PretrainConfig, SweepConfig, TransferConfig


@dataclass(frozen=True)
class Point:
    """One measured number: a run (or none) transferred to one target by one protocol."""

    id: str
    num_videos: int
    """Pretraining videos; 0 is training from scratch."""
    seed: int
    subset: BuildConfig | None
    pretrain: PretrainConfig | None
    transfer: TransferConfig


@dataclass(frozen=True)
class Plan:
    """Everything a sweep runs: the shared source and clean-up once, then the points; equal stages of points run once."""

    build: BuildConfig
    dedup: DedupConfig
    points: tuple[Point, ...]


def data_size(config: SweepConfig) -> Plan:
    """Accuracy against the number of pretraining videos, each protocol, against training from scratch (Figure 1a, b)."""
    if not config.targets:
        raise ConfigError("a sweep needs --targets: names of targets made by `tagreel target`")
    build = dataclasses.replace(config.build, root=config.root)
    dedup = dataclasses.replace(
        config.dedup,
        root=config.root,
        dataset=build.dataset,
        targets=config.keep_out or config.targets,
        execution=build.execution,
    )
    points = [
        point for seed in config.seeds for size in (0, *config.sizes) for point in _points(config, build, size, seed)
    ]
    return Plan(build, dedup, tuple(points))


def _points(config: SweepConfig, build: BuildConfig, size: int, seed: int) -> list[Point]:
    subset = pretrain = None
    run = f"scratch-s{seed}"
    if size:
        run = f"{build.dataset}-{size}-s{seed}"
        sampling = dataclasses.replace(build.sampling, num_videos=size, seed=seed)
        subset = dataclasses.replace(build, dataset=run, base=build.dataset, sampling=sampling, retry_failed=False)
        recipe = dataclasses.replace(config.pretrain.recipe, seed=seed)
        pretrain = dataclasses.replace(config.pretrain, root=config.root, run=run, dataset=run, recipe=recipe)
    return [
        Point(
            id=f"{run}-{target}-{protocol}",
            num_videos=size,
            seed=seed,
            subset=subset,
            pretrain=pretrain,
            transfer=dataclasses.replace(
                config.transfer,
                root=config.root,
                run=run,
                target=target,
                protocol=protocol,
                seed=seed,
                model=config.pretrain.model,
                clip=config.pretrain.clip,
            ),
        )
        for target in config.targets
        for protocol in config.protocols
    ]


SWEEPS: dict[str, Callable[[SweepConfig], Plan]] = {"data_size": data_size}


def plan(config: SweepConfig) -> Plan:
    """The plan of the sweep `config.kind`; an unknown kind names the choices."""
    if config.kind not in SWEEPS:
        raise ConfigError(f"unknown sweep '{config.kind}'; choose from {', '.join(SWEEPS)}")
    return SWEEPS[config.kind](config)
