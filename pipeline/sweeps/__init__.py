"""Sweeps: one function per figure or table of the paper, and two of our own. A SweepConfig → the stages and points of it."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.config import ConfigError, SweepConfig
from pipeline.sweeps import study
from pipeline.sweeps.comparison import epic, kinetics, something
from pipeline.sweeps.data_quality import label_noise, near_duplicates
from pipeline.sweeps.label_space import label_distribution, label_kinds, num_labels
from pipeline.sweeps.plan import Layout, Plan, Point, Stage
from pipeline.sweeps.scales import SCALES
from pipeline.sweeps.temporal import durations, frames
from pipeline.sweeps.volume import capacity, data_size, sampling

__all__ = ["SCALES", "SWEEPS", "Layout", "Plan", "Point", "Stage", "kinds", "listing", "plan", "scaled"]

SWEEPS: dict[str, Callable[[SweepConfig], Plan]] = {
    function.__name__: function
    for function in (
        data_size,
        sampling,
        capacity,
        label_kinds,
        label_distribution,
        num_labels,
        durations,
        frames,
        kinetics,
        epic,
        something,
        label_noise,
        near_duplicates,
    )
}


def _known(kind: str) -> str:
    if kind not in SWEEPS:
        raise ConfigError(f"unknown sweep '{kind}'; choose from {', '.join(SWEEPS)}")
    return kind


def plan(config: SweepConfig) -> Plan:
    """The plan of the sweep `config.kind`; an unknown kind names the choices."""
    return SWEEPS[_known(config.kind)](config)


def scaled(kind: str, scale: str) -> SweepConfig:
    """The config of a sweep at one of `SCALES`."""
    if scale not in SCALES:
        raise ConfigError(f"unknown scale '{scale}'; choose from {', '.join(SCALES)}")
    return SCALES[scale](_known(kind))


def kinds(scale: str) -> tuple[str, ...]:
    """The sweeps that a scale has."""
    return tuple(study.SWEEPS if scale.startswith("study") else SWEEPS)


def listing() -> str:
    """Every sweep: its name, where it is in the paper, its points at each scale, and what it compares."""
    scales = {name: scale for name, scale in SCALES.items() if set(kinds(name)) == set(SWEEPS)}
    rows = [("sweep", "in the paper", *(f"points, {scale}" for scale in scales), "")]
    for kind in SWEEPS:
        plans = [plan(scale(kind)) for scale in scales.values()]
        rows.append((kind, plans[0].layout.figure, *(str(len(p.points)) for p in plans), plans[0].layout.title))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
