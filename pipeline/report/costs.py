"""What a run with twice the videos would cost: from what the runs at hand recorded, and for building, from benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import artifacts
from pipeline.launch import estimates as sweep_costs
from pipeline.report.estimates import mean
from pipeline.report.inputs import read_marker, read_metrics
from pipeline.report.markup import plural
from pipeline.report.points import Point, number, section, unique
from pipeline.sweeps import Stage


@dataclass(frozen=True)
class TrainingCost:
    """One pretraining run of a size, as measured."""

    hours: float
    unit: str
    """`GPU-h`, `core-h`, or `CPU process-h` where the run does not say how many threads it had."""
    source: str
    """What the hours are from."""


def training(root: str, points: Sequence[Point]) -> TrainingCost | None:
    """Mean of the runs of one size, or None where no run says enough, or they ran on different kinds of devices."""
    found = [cost for run in unique([point.run for point in points]) if (cost := _of_run(root, run))]
    if len({cost.unit for cost in found}) != 1:
        return None
    several = f", and {len(found) - 1} more like it, averaged" if len(found) > 1 else ""
    return TrainingCost(mean(cost.hours for cost in found), found[0].unit, found[0].source + several)


def _of_run(root: str, run: str) -> TrainingCost | None:
    marker = read_marker(artifacts.run_files(root, run).marker) or {}
    made, clips = section(marker, "provenance"), number(section(marker, "counts").get("clips_seen"))
    device, processes = made.get("device"), number(made.get("world_size"))
    rate, file = _clips_per_s(root, run, marker)
    if not (clips and isinstance(device, str) and processes and rate):
        return None
    hours, unit, each = clips / rate / 3600 * processes, "GPU-h", device
    if device == "cpu":
        threads = number(made.get("cpu_threads"))
        hours, unit = hours * (threads or 1), "core-h" if threads else "CPU process-h"
        each = f"CPU ({plural(int(threads), 'thread')} each)" if threads else "CPU (number of threads not recorded)"
    where = f"{plural(int(processes), 'process')} on {each}"
    return TrainingCost(hours, unit, f"run {run}: {int(clips):,} clips at {quantity(rate)} clips/s ({file}) by {where}")


def _clips_per_s(root: str, run: str, marker: dict[str, Any]) -> tuple[float | None, str]:
    """Of the last part of the run, whose device and processes run.json names; else the median of the lines of its metrics."""
    if rate := number(section(marker, "performance").get("clips_per_s")):
        return rate, "run.json"
    rates = [rate for line in read_metrics(root, run) if (rate := number(line.get("clips_per_s")))]
    return (float(np.median(rates)) if rates else None), "metrics.jsonl, median"


def building(root: str, dataset: str | None, num_videos: int) -> str:
    """What it takes to have `num_videos` where `dataset` came from, in a sentence."""
    marker = read_marker(artifacts.dataset_files(root, dataset).marker) if dataset else None
    base = (marker or {}).get("base") or dataset
    marker = read_marker(artifacts.dataset_files(root, base).marker) if base else None
    at_hand = number((marker or {}).get("num_videos"))
    if at_hand is None:
        return f"{num_videos:,} videos: unknown what building takes, for no dataset.json says what there is."
    if at_hand >= num_videos:
        return f"{num_videos:,} videos: nothing to build. Dataset {base} holds {int(at_hand):,}; a subset only names shards."
    missing = num_videos - int(at_hand)
    hours = sweep_costs.cost(Stage("build", "build", "", None, num_videos=missing), {}).core_hours
    return (
        f"{num_videos:,} videos: dataset {base} holds {int(at_hand):,}; {missing:,} more have to be found and stored. Builds "
        f"record no times; at the benchmark's rate for {sweep_costs.UPLOAD} uploads (benchmarks/results/build_pass.json; "
        f"assumed, not measured on these videos) that is about {quantity(hours)} core-hours, without download and dedup."
    )


def quantity(value: float) -> str:
    """Three digits, without an exponent: 12,300, 4.56, 0.00123."""
    text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value:.6f}".rstrip("0").rstrip(".") if "e" in text else text
