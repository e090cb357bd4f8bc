"""A sweep's plan and points, and the metrics of their results."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from pipeline.sweeps.plan import Layout

OK, MISSING, UNREADABLE = "ok", "missing", "unreadable"
SIZES = Layout(
    "Figure 1", "Accuracy against the number of pretraining videos", "num_videos", "log", ("protocol",), ("target",)
)
"""What a plan without a layout shows."""


@dataclass(frozen=True)
class Measured:
    """A metric of one result."""

    name: str
    """As in result.json, such as `top1` or `map`."""
    value: float
    """A share."""
    interval: tuple[float, float] | None
    """Its own 95 % interval, over test videos unless the result says otherwise."""


@dataclass(frozen=True)
class Point:
    """One planned transfer and what became of it."""

    id: str
    kind: str
    """`pretrained`, `baseline` or `scratch`."""
    num_videos: int
    """Pretraining videos; 0 from scratch and of a baseline."""
    seed: int
    target: str
    protocol: str
    run: str
    dataset: str | None = None
    axes: dict[str, Any] = field(default_factory=dict)
    """{dimension: value} of the plan, the seed among them."""
    path: str = ""
    """Of its result.json, under the root; points of several places can share one."""
    drawn: dict[str, float | None] = field(default_factory=dict)
    """Videos and minutes that its dataset was found to have; empty before it is there."""
    commands: tuple[str, ...] = ()
    status: str = MISSING
    result: dict[str, Any] = field(default_factory=dict)
    """Content of result.json; empty unless the status is ok."""
    problem: str = ""
    """Why the status is not ok, or what is odd about the result."""

    @property
    def ok(self) -> bool:
        return self.status == OK

    @property
    def metrics(self) -> dict[str, Any]:
        return section(self.result, "metrics")

    @property
    def headline(self) -> Measured | None:
        """The metric that the result is judged by; top-1 accuracy of results that name none."""
        entry = section(self.metrics, "headline")
        if not entry:
            return self.measured("top1")
        return _measured(str(entry.get("name")), entry.get("value"), entry.get("interval"))

    def measured(self, name: str) -> Measured | None:
        """A metric by its name; None where the result does not have it."""
        entry = section(self.metrics, "headline")
        if entry.get("name") == name:
            return self.headline
        return _measured(name, self.metrics.get(name), self.metrics.get(f"{name}_interval"))


def _measured(name: str, value: Any, interval: Any) -> Measured | None:
    share = number(value)
    if share is None or not 0 <= share <= 1:
        return None
    ends = [number(end) for end in interval] if isinstance(interval, list) else []
    return Measured(name, share, (ends[0], ends[1]) if len(ends) == 2 and None not in ends else None)


@dataclass(frozen=True)
class Plan:
    name: str
    title: str
    notes: tuple[str, ...]
    config: dict[str, Any]
    chance: float | dict[str, float] | None
    points: tuple[Point, ...]
    layout: Layout = SIZES
    stages: tuple[dict[str, Any], ...] = ()
    """{name, kind, marker (its path under the root)} of each; plans of old have none."""

    def chance_of(self, target: str) -> float | None:
        return self.chance.get(target) if isinstance(self.chance, dict) else self.chance

    @property
    def base_dataset(self) -> str | None:
        return section(self.config, "build").get("dataset")

    @property
    def datasets(self) -> list[str]:
        """The base dataset first, then those of the points, each once."""
        return unique([self.base_dataset, *(point.dataset for point in self.points)])

    @property
    def targets(self) -> list[str]:
        configured = [target.get("target") for target in self.config.get("targets") or [] if isinstance(target, dict)]
        return unique([*configured, *(point.target for point in self.points)])

    @property
    def runs(self) -> list[str]:
        return unique([point.run for point in self.points])


def unique(names: list[str | None]) -> list[str]:
    """Names in first-seen order, empty ones left out."""
    return [name for name in dict.fromkeys(names) if name]


def section(values: Any, key: str) -> dict[str, Any]:
    """`values[key]` when both are dicts, else an empty one."""
    found = values.get(key) if isinstance(values, dict) else None
    return found if isinstance(found, dict) else {}


def number(value: Any) -> float | None:
    """A finite number, or None."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None
