"""Any sweep's own plan.json with invented results: each arm has a level of its own, each seed a shift that all arms share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline import launch, storage, sweeps
from pipeline.report import write_report
from tests.pipeline.synthetic_sweep import sealed

Point = dict[str, Any]
SHIFT = 0.013  # a seed's, the same for all arms


def level(axes: dict[str, Any]) -> float:
    """Between 0.3 and 0.6, by everything but the seed."""
    text = repr(sorted((axis, value) for axis, value in axes.items() if axis != "seed"))
    return 0.3 + 0.3 * int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


def value_of(point: Point) -> float:
    return level(point["axes"]) + SHIFT * point["seed"]


def metrics(point: Point, metric: str) -> dict[str, Any]:
    value = value_of(point)
    interval = [value - 0.02, value + 0.02]
    found = {
        "headline": {"name": metric, "value": value, "interval": interval},
        "num_videos": 1000,
        "num_undecodable": 0,
    }
    others = (
        {"top1": value, "top5": value + 0.2, "map": value - 0.1}
        if metric == "top1"
        else {"map": value, "top1": value - 0.1}
    )
    return {**found, **others, f"{metric}_interval": interval}


def invent(
    root: Path,
    kind: str,
    scale: str,
    seeds: tuple[int, ...] = (0, 1, 2),
    *,
    has_result: Callable[[Point], bool] = lambda _: True,
    metric: Callable[[Point], str] = lambda _: "top1",
    **changes: Any,
) -> tuple[str, list[Point]]:
    """(sweep folder, points of plan.json). Points that share a result file have the result of the first."""
    config = replace(sweeps.scaled(kind, scale), root=str(root), seeds=seeds, **changes)
    folder = launch.write_plan(config)
    points = storage.read_json(storage.join(folder, "plan.json"))["points"]
    for point in reversed(points):
        if has_result(point):
            result = {"metrics": metrics(point, metric(point)), "seconds": 1.0, "versions": {"torch": "2"}}
            storage.write_json(str(root / point["result"]), sealed(result))
    return folder, points


def page_of(folder: str, root: Path) -> str:
    return Path(write_report(folder, str(root))["html"]).read_text()
