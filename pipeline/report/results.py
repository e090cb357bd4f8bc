"""Points → results.csv and the curves that the page draws: one per target and protocol."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipeline import artifacts
from pipeline.report import estimates
from pipeline.report.estimates import Estimate
from pipeline.report.inputs import Plan, Point, number, read_marker
from pipeline.report.markup import clean

COLUMNS = (
    "sweep", "target", "protocol", "kind", "num_videos", "seed", "top1", "top1_low", "top1_high", "top5",
    "mean_class_accuracy", "num_test_videos", "num_undecodable", "chosen", "run", "dataset", "dataset_digest",
    "run_digest", "result_digest", "status",
)  # fmt: skip


def result_rows(plan: Plan, root: str) -> list[dict[str, Any]]:
    """One row per planned point, missing ones too; values as they stand in the artefacts."""
    return [_row(plan, point, root) for point in plan.points]


def _row(plan: Plan, point: Point, root: str) -> dict[str, Any]:
    metrics, interval = point.metrics, top1_interval(point) or (None, None)
    chosen = point.result.get("chosen")
    return {
        "sweep": plan.name,
        "target": point.target,
        "protocol": point.protocol,
        "kind": point.kind,
        "num_videos": point.num_videos,
        "seed": point.seed,
        "top1": metrics.get("top1"),
        "top1_low": interval[0],
        "top1_high": interval[1],
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
    }


def _digest(marker: str) -> str | None:
    return (read_marker(marker) or {}).get("digest")


def top1_interval(point: Point) -> tuple[float, float] | None:
    """The point's own bootstrap interval over test videos, where its result has one."""
    ends = [number(end) for end in point.metrics.get("top1_interval") or ()]
    return (ends[0], ends[1]) if len(ends) == 2 and None not in ends else None


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


# ------------------------------------------------------------------------------------------------------ curves


@dataclass(frozen=True)
class Curve:
    """Accuracy against pretraining videos of one target and protocol."""

    target: str
    protocol: str
    sizes: tuple[int, ...]
    """Planned sizes, ascending, also those without a result."""
    pretrained: dict[int, Estimate]
    scratch: Estimate | None
    points: tuple[Point, ...]

    def of_size(self, size: int) -> list[Point]:
        return [point for point in self.points if point.kind == "pretrained" and point.num_videos == size]

    @property
    def from_scratch(self) -> list[Point]:
        return [point for point in self.points if point.kind == "scratch"]

    @property
    def missing(self) -> list[Point]:
        return [point for point in self.points if not point.ok]

    @property
    def best_size(self) -> int | None:
        """Size with the highest mean; the smaller one of equals."""
        return max(sorted(self.pretrained), key=lambda size: self.pretrained[size].mean, default=None)


def curves(plan: Plan) -> list[Curve]:
    """In the order in which targets and protocols stand in the plan."""
    pairs = dict.fromkeys((point.target, point.protocol) for point in plan.points)
    return [
        _curve(pair, [p for p in plan.points if (p.target, p.protocol) == pair]) for pair in sorted_by_target(pairs)
    ]


def sorted_by_target(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs of one target side by side, first-seen order otherwise."""
    pairs = list(pairs)
    order = list(dict.fromkeys(target for target, _ in pairs))
    return sorted(pairs, key=lambda pair: order.index(pair[0]))


def _curve(pair: tuple[str, str], points: list[Point]) -> Curve:
    sizes = tuple(sorted({point.num_videos for point in points if point.kind == "pretrained"}))
    found = {size: _estimate([p for p in points if p.kind == "pretrained" and p.num_videos == size]) for size in sizes}
    scratch = _estimate([point for point in points if point.kind == "scratch"])
    return Curve(*pair, sizes, {size: e for size, e in found.items() if e}, scratch, tuple(points))


def _estimate(points: list[Point]) -> Estimate | None:
    good = sorted((point for point in points if point.ok), key=lambda point: point.seed)
    intervals = [interval for point in good if (interval := top1_interval(point))]
    return estimates.estimate([point.metrics["top1"] for point in good], intervals) if good else None
