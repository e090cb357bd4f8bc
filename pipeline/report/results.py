"""Points → results.csv, estimates over seeds, and the curves of accuracy against pretraining videos."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import artifacts
from pipeline.report import estimates
from pipeline.report.axes import AXES, SCRATCH, axis_value, further, place, varying
from pipeline.report.estimates import Estimate, Interval
from pipeline.report.inputs import read_marker
from pipeline.report.markup import clean
from pipeline.report.paired import paired
from pipeline.report.points import Plan, Point

COLUMNS = (
    "sweep", "target", "protocol", "kind", "num_videos", "seed", "top1", "top1_low", "top1_high", "top5",
    "mean_class_accuracy", "num_test_videos", "num_undecodable", "chosen", "run", "dataset", "dataset_digest",
    "run_digest", "result_digest", "status", "point", "metric", "value", "value_low", "value_high", "map",
    "drawn_videos", "drawn_minutes",
    *(axis for axis in AXES if axis not in ("target", "protocol", "num_videos", "seed")),
)  # fmt: skip
"""Of results.csv. `metric` names the headline, whose value and interval follow; the axes are those of any sweep."""


def result_rows(plan: Plan, root: str) -> list[dict[str, Any]]:
    """One row per planned point, missing ones too; values as they stand in the artefacts."""
    return [_row(plan, point, root) for point in plan.points]


def _row(plan: Plan, point: Point, root: str) -> dict[str, Any]:
    metrics, headline, top1 = point.metrics, point.headline, point.measured("top1")
    low, high = (headline and headline.interval) or (None, None)
    top1_low, top1_high = (top1 and top1.interval) or (None, None)
    chosen = point.result.get("chosen")
    return {
        **{axis: point.axes.get(axis) for axis in AXES},
        "sweep": plan.name,
        "target": point.target,
        "protocol": point.protocol,
        "kind": point.kind,
        "num_videos": point.num_videos,
        "seed": point.seed,
        "top1": metrics.get("top1"),
        "top1_low": top1_low,
        "top1_high": top1_high,
        "top5": metrics.get("top5"),
        "mean_class_accuracy": metrics.get("mean_class_accuracy"),
        "num_test_videos": metrics.get("num_videos"),
        "num_undecodable": metrics.get("num_undecodable"),
        "chosen": json.dumps(chosen) if isinstance(chosen, dict | list) else chosen,
        "run": point.run,
        "dataset": point.dataset,
        "dataset_digest": _digest(artifacts.dataset_files(root, point.dataset).marker) if point.dataset else None,
        "run_digest": _digest(artifacts.run_files(root, point.run).marker),
        "result_digest": point.result.get("digest"),
        "status": point.status,
        "point": point.id,
        "metric": headline and headline.name,
        "value": headline and headline.value,
        "value_low": low,
        "value_high": high,
        "map": metrics.get("map"),
        "drawn_videos": point.drawn.get("videos"),
        "drawn_minutes": point.drawn.get("minutes"),
    }


def _digest(marker: str) -> str | None:
    return (read_marker(marker) or {}).get("digest")


def csv_bytes(rows: list[dict[str, Any]]) -> bytes:
    """results.csv: UTF-8, floats in full, empty cells for what is not known."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(row[column]) for column in COLUMNS] for row in rows)
    return buffer.getvalue().encode()


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula is quoted with an apostrophe; numbers stay as they are."""
    if not isinstance(value, str):
        return value
    text = clean(value)
    return f"'{text}" if text.lstrip()[:1] in tuple("=+-@") else text


# --------------------------------------------------------------------------------------------------- estimates


def headline_metric(points: Iterable[Point]) -> str | None:
    """Name of the metric that these are judged by: that of the first result."""
    return next((point.headline.name for point in points if point.headline), None)


def estimate_of(points: Iterable[Point], metric: str) -> Estimate | None:
    """Over the seeds that have this metric; None where none has."""
    found = [point.measured(metric) for point in sorted(points, key=lambda point: point.seed)]
    good = [measured for measured in found if measured]
    intervals = [measured.interval for measured in good if measured.interval]
    return estimates.estimate([measured.value for measured in good], intervals) if good else None


def by_seed(points: Iterable[Point], metric: str) -> dict[int, float]:
    """{seed: share}, for the seeds that have this metric, in their order."""
    found = {point.seed: point.measured(metric) for point in sorted(points, key=lambda point: point.seed)}
    return {seed: measured.value for seed, measured in found.items() if measured}


def gain(points: Iterable[Point], base: Iterable[Point], metric: str) -> tuple[float, Interval | None] | None:
    """The difference of two arms and its 95 % interval: paired by seed where enough seeds are in both, else of the means."""
    points, base = list(points), list(base)
    better, below = estimate_of(points, metric), estimate_of(base, metric)
    if better is None or below is None:
        return None
    found = paired(by_seed(points, metric), by_seed(base, metric))
    return (found.mean, found.interval) if found and found.interval else estimates.gain(better, below)


# ------------------------------------------------------------------------------------------------------ curves


@dataclass(frozen=True)
class Curve:
    """A metric against pretraining videos, of one target, protocol and whatever else the layout tells apart."""

    target: str
    protocol: str
    series: str
    """What tells it from other curves of its target and protocol; empty where there is none."""
    metric: str
    """Name of the headline metric."""
    sizes: tuple[int, ...]
    """Planned sizes, ascending, also those without a result."""
    pretrained: dict[int, Estimate]
    references: dict[str, Estimate | None]
    """By name, what pretraining is compared with: from scratch first, then baselines; None without a result."""
    points: tuple[Point, ...]

    @property
    def name(self) -> str:
        return ", ".join(filter(None, (self.target, self.how)))

    @property
    def how(self) -> str:
        """Its name beside other curves of its target."""
        return ", ".join(filter(None, (self.protocol, self.series)))

    def of_size(self, size: int) -> list[Point]:
        return [point for point in self.points if point.kind == "pretrained" and point.num_videos == size]

    def of_reference(self, name: str) -> list[Point]:
        return [point for point in self.points if point.kind != "pretrained" and reference_name(point) == name]

    @property
    def reference(self) -> tuple[str, Estimate] | None:
        """The first one that has a result."""
        return next(((name, found) for name, found in self.references.items() if found), None)

    @property
    def scratch(self) -> Estimate | None:
        return self.references.get(SCRATCH)

    @property
    def missing(self) -> list[Point]:
        return [point for point in self.points if not point.ok]

    @property
    def best_size(self) -> int | None:
        """Size with the highest mean; the smaller one of equals."""
        return max(sorted(self.pretrained), key=lambda size: self.pretrained[size].mean, default=None)


def reference_name(point: Point) -> str:
    """`from scratch`, or what a baseline was pretrained on."""
    return SCRATCH if point.kind == "scratch" else axis_value("pretraining", point.axes.get("pretraining"))


def curves(plan: Plan) -> list[Curve]:
    """One per target, protocol and series, in the order of the plan; none where the layout's x is not the number of videos."""
    if plan.layout.x != "num_videos":
        return []
    found = []
    for target, protocol in sorted_by_target(dict.fromkeys((point.target, point.protocol) for point in plan.points)):
        mine = [point for point in plan.points if (point.target, point.protocol) == (target, protocol)]
        found += _curves(plan, mine)
    return found


def sorted_by_target(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs of one target side by side, first-seen order otherwise."""
    pairs = list(pairs)
    order = list(dict.fromkeys(target for target, _ in pairs))
    return sorted(pairs, key=lambda pair: order.index(pair[0]))


def _curves(plan: Plan, points: Sequence[Point]) -> list[Curve]:
    """Of one target and protocol."""
    pretrained = [point for point in points if point.kind == "pretrained"]
    references = [point for point in points if point.kind != "pretrained"]
    places = [point.axes for point in pretrained]
    told = [axis for axis in (*plan.layout.panels, *plan.layout.series) if axis not in ("target", "protocol")]
    series = (*varying(places, told), *further(places, ("num_videos", *told)))
    arms: dict[str, list[Point]] = {}
    for point in pretrained:
        arms.setdefault(place(point.axes, series), []).append(point)
    return [_curve(name, [*references, *arm]) for name, arm in (arms or {"": []}).items()]


def _curve(series: str, points: list[Point]) -> Curve:
    metric = headline_metric(points) or "top1"
    sizes = tuple(sorted({point.num_videos for point in points if point.kind == "pretrained"}))
    found = {
        size: estimate_of([p for p in points if p.kind == "pretrained" and p.num_videos == size], metric)
        for size in sizes
    }
    references: dict[str, list[Point]] = {}
    for point in sorted((point for point in points if point.kind != "pretrained"), key=lambda p: p.kind != "scratch"):
        references.setdefault(reference_name(point), []).append(point)
    return Curve(
        points[0].target,
        points[0].protocol,
        series,
        metric,
        sizes,
        {size: estimate for size, estimate in found.items() if estimate},
        {name: estimate_of(seeds, metric) for name, seeds in references.items()},
        tuple(points),
    )
