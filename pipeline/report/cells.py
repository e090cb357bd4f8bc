"""A sweep's points as its layout arranges them: panels of cells, one cell an arm over its seeds, and the paper's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report import axes as names
from pipeline.report import results
from pipeline.report.estimates import Estimate
from pipeline.report.paired import Paired, paired
from pipeline.report.points import Plan, Point

NOT_AXES = ("metric", "value", "where")
"""Keys of a printed value that are no axes."""


@dataclass(frozen=True)
class Cell:
    """One arm on one target by one protocol: a place in a figure or table."""

    axes: dict[str, Any]
    """Without the seed."""
    points: tuple[Point, ...]
    """One per seed."""

    @property
    def kind(self) -> str:
        return self.points[0].kind

    @property
    def missing(self) -> list[Point]:
        return [point for point in self.points if not point.ok]

    def estimate(self, metric: str) -> Estimate | None:
        return results.estimate_of(self.points, metric)

    def by_seed(self, metric: str) -> dict[int, float]:
        """{seed: share}, for the seeds that have it."""
        return results.by_seed(self.points, metric)

    def is_same(self, other: Cell) -> bool:
        """Whether both are the very same results, which can stand in several places."""
        return [point.path for point in self.points] == [point.path for point in other.points]

    def minus(self, base: Cell, metric: str) -> Paired | None:
        return paired(self.by_seed(metric), base.by_seed(metric))

    def at(self, axes: Sequence[str]) -> tuple[Any, ...]:
        return tuple(self.axes.get(axis) for axis in axes)


@dataclass(frozen=True)
class Panel:
    """Cells that are compared with each other."""

    axes: dict[str, Any]
    """What they have in common, by the layout."""
    cells: tuple[Cell, ...]
    metrics: tuple[str, ...]
    """The headline metric, then others that the paper prints here."""
    printed: tuple[dict[str, Any], ...]
    """The paper's values that belong into this panel, at its places or at others."""

    @property
    def metric(self) -> str:
        return self.metrics[0]

    def paper(self, cell: Cell, metric: str) -> dict[str, Any] | None:
        """What the paper printed of a cell."""
        return next((v for v in self.printed if v["metric"] == metric and agrees(v, cell.axes)), None)


@dataclass(frozen=True)
class Figure:
    """All panels, and how cells lie in them."""

    panels: tuple[Panel, ...]
    x: str
    is_log: bool
    """Whether x is a number on a log axis; a cell without one, such as from scratch, is a level beside the lines."""
    series: tuple[str, ...]
    """Axes that tell a panel's cells apart beside x."""
    elsewhere: tuple[dict[str, Any], ...]
    """The paper's values of things that are not in this sweep."""

    @property
    def cells(self) -> list[Cell]:
        return [cell for panel in self.panels for cell in panel.cells]

    def is_level(self, axes: Mapping[str, Any]) -> bool:
        return self.is_log and not axes.get(self.x)

    def level_name(self, cell: Cell) -> str:
        whole = cell.kind == "pretrained"
        return f"all {names.axis_title(self.x).lower()}" if whole else results.reference_name(cell.points[0])

    @property
    def line_names(self) -> list[str]:
        """Of all panels, in the order of the plan."""
        return list(dict.fromkeys(self.line_of(cell) for cell in self.cells if not self.is_level(cell.axes))) or [""]

    def line_of(self, cell: Cell) -> str:
        return names.place(cell.axes, self._telling)

    def lines(self, panel: Panel) -> dict[str, list[Cell]]:
        """{name: cells by x} of a log axis."""
        found: dict[str, list[Cell]] = {}
        for cell in sorted((c for c in panel.cells if not self.is_level(c.axes)), key=lambda c: c.axes[self.x]):
            found.setdefault(self.line_of(cell), []).append(cell)
        return found

    def levels(self, panel: Panel) -> list[Cell]:
        return [cell for cell in panel.cells if self.is_level(cell.axes)]

    def lines_beside(self, place: Mapping[str, Any], panel: Panel) -> list[str]:
        """Names of the lines that a level or a printed value belongs to: those that it contradicts along no axis."""
        told = {axis: place[axis] for axis in self._telling if place.get(axis) not in (None, 0)}
        lines = self.lines(panel).items()
        return [name for name, (cell, *_) in lines if all(cell.axes.get(axis) == v for axis, v in told.items())]

    @property
    def _telling(self) -> tuple[str, ...]:
        lines = [cell.axes for cell in self.cells if not self.is_level(cell.axes)]
        return names.varying(lines, self.series, (self.x,))


def agrees(printed: Mapping[str, Any], axes: Mapping[str, Any], only: Sequence[str] | None = None) -> bool:
    """Whether a printed value belongs to a place, along all its axes or `only` those."""
    named = [key for key in printed if key not in NOT_AXES and (only is None or key in only)]
    return all(key in axes and axes[key] == printed[key] for key in named)


def figure(plan: Plan) -> Figure:
    layout, cells = plan.layout, _cells(plan.points)
    places = [cell.axes for cell in cells]
    extra = names.further(places, (layout.x, *layout.series, *layout.panels))
    grouped: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        grouped.setdefault(tuple(map(repr, cell.at(layout.panels))), []).append(cell)
    panels = tuple(_panel(plan, group) for group in grouped.values())
    elsewhere = tuple(v for v in layout.paper if not any(agrees(v, cell.axes) for cell in cells))
    return Figure(panels, layout.x, layout.x_scale == "log", (*layout.series, *extra), elsewhere)


def _cells(points: Sequence[Point]) -> list[Cell]:
    """In the order of the plan."""
    grouped: dict[str, tuple[dict[str, Any], list[Point]]] = {}
    for point in points:
        place = {axis: value for axis, value in point.axes.items() if axis != "seed"}
        grouped.setdefault(repr(place), (place, []))[1].append(point)
    return [Cell(place, tuple(found)) for place, found in grouped.values()]


def _panel(plan: Plan, cells: Sequence[Cell]) -> Panel:
    place = {axis: cells[0].axes.get(axis) for axis in plan.layout.panels}
    printed = tuple(v for v in plan.layout.paper if agrees(v, place, plan.layout.panels))
    others = [v["metric"] for v in printed] or _metrics_everywhere(plan)
    headline = results.headline_metric(point for cell in cells for point in cell.points)
    metrics = dict.fromkeys([headline or (others or ["top1"])[0], *others])
    return Panel(place, tuple(cells), tuple(metrics), printed)


def _metrics_everywhere(plan: Plan) -> list[str]:
    """Those that the paper prints in all of its panels, for a panel that is not among them."""
    panels: dict[str, list[str]] = {}
    for value in plan.layout.paper:
        panels.setdefault(repr([value.get(axis) for axis in plan.layout.panels]), []).append(value["metric"])
    first, *rest = panels.values() if panels else [[]]
    return [metric for metric in dict.fromkeys(first) if all(metric in found for found in rest)]
