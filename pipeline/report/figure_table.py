"""A figure's numbers as a table, laid out as the paper's: mean, interval and every seed in a cell, the paper's value beside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pipeline.launch import rates
from pipeline.report import provenance
from pipeline.report.axes import AXES, axis_title, axis_value, metric_header, metric_name, place, varying
from pipeline.report.cells import NOT_AXES, Cell, Figure
from pipeline.report.grid import Column, Grid
from pipeline.report.markup import Safe, details, join, percent, plural, span, table, tag, void
from pipeline.report.points import Plan, Point, number, section
from pipeline.report.results import by_seed


class Shown(NamedTuple):
    """A column of the table."""

    index: int
    """Of the grid's column."""
    metric: str
    is_paper: bool


def results_table(plan: Plan, figure: Figure, grid: Grid) -> Safe:
    """One row per row of the grid; under each of its columns our metrics, and the paper's value where it printed one."""
    shown = [column for index in range(len(grid.columns)) for column in _shown(grid, index)]
    costs = _costs(plan, grid)
    ours_and_theirs = (_header(plan, figure, grid.columns[column.index], column) for column in shown)
    headers = [*grid.titles, *(_COSTS if costs else ()), *ours_and_theirs]
    rows = [
        [*row, *(costs[r] if costs else ()), *(_cell(grid, r, column) for column in shown)]
        for r, row in enumerate(grid.rows)
    ]
    return table(headers, rows, label=f"{plan.layout.figure}: {plan.layout.title}", align="l" * len(grid.titles))


def _shown(grid: Grid, index: int) -> list[Shown]:
    column, found = grid.columns[index], []
    for metric in column.panel.metrics:
        found.append(Shown(index, metric, False))
        if any(column.panel.paper(cell, metric) for _, cell in grid.column(index)):
            found.append(Shown(index, metric, True))
    return found


def _header(plan: Plan, figure: Figure, column: Column, shown: Shown) -> Safe:
    panels = varying((panel.axes for panel in figure.panels), plan.layout.panels)
    lines = [place(column.panel.axes, panels), column.name]
    what = tag("i", "the paper, ", metric_name(shown.metric)) if shown.is_paper else metric_header(shown.metric)
    return tag("span", stacked([*filter(None, lines), what]), style="white-space:nowrap")


def _cell(grid: Grid, row: int, shown: Shown) -> Any:
    cell = grid.cells.get((row, shown.index))
    if cell is None:
        return None
    if not shown.is_paper:
        return ours(cell, shown.metric)
    printed = grid.columns[shown.index].panel.paper(cell, shown.metric)
    return printed and tag("i", percent(printed["value"]))


def ours(cell: Cell, metric: str) -> Safe | None:
    """Mean, interval and every seed; what is missing says so."""
    estimate = cell.estimate(metric)
    if estimate is None:
        absent = cell.missing
        return tag("span", absent[0].status, class_="warn") if absent else None
    parts: list[Any] = [tag("b", percent(estimate.mean))]
    if estimate.interval:
        parts.append(tag("span", span(estimate.interval), class_="note"))
    parts.append(tag("span", each_seed(cell.points, metric), class_="note"))
    if drawn := _drawn(cell):
        parts.append(tag("span", drawn, class_="note"))
    return stacked(parts)


def each_seed(found: Sequence[Point], metric: str) -> Safe:
    """The value of every seed, or × for none, as links to where it comes from; with how many there are, if some are missing."""
    shares, links = by_seed(found, metric), []
    for point in sorted(found, key=lambda point: point.seed):
        links.append(provenance.link(point, percent(shares.get(point.seed)) or "×"))
    few = tag("span", f" {len(shares)} of {plural(len(found), 'seed')}", class_="warn")
    return join(links[0], *(join(" · ", link) for link in links[1:]), few if len(shares) < len(found) else None)


def _drawn(cell: Cell) -> str | None:
    """Videos and minutes that an arm drawn by minutes was found to have, from the fewest to the most of its seeds."""
    if cell.axes.get("minutes") is None:
        return None
    texts = []
    for unit, digits in _DRAWN.items():
        if values := [v for point in cell.points if (v := number(point.drawn.get(unit))) is not None]:
            texts.append(f"{_range(values, digits)} {unit}")
    return ", ".join(texts) or None


_DRAWN = {"videos": 0, "minutes": 1}
"""{unit: decimals}"""


def _range(values: Sequence[float], digits: int) -> str:
    return "–".join(dict.fromkeys(f"{value:,.{digits}f}" for value in (min(values), max(values))))


def stacked(parts: Sequence[Any]) -> Safe:
    """One under the other."""
    first, *others = parts
    return join(first, *(join(void("br"), part) for part in others))


# -------------------------------------------------------------------------------------------------- what a network costs

_COSTS = ("GMAC a clip", "Parameters (M)")


def _costs(plan: Plan, grid: Grid) -> list[list[str | None]]:
    """Of each row, where rows are networks (Table 2) that are known; empty otherwise."""
    if (plan.layout.rows or (plan.layout.x,)) != ("model",):
        return []
    first = [grid.row(r)[0][1].axes for r in range(len(grid.rows))]
    pretrain = section(plan.config, "pretrain")
    width = number(section(pretrain, "model").get("width")) or 1.0
    crop_px = number(section(pretrain, "clip").get("crop_px")) or 112.0
    return [_cost(axes["model"], axes.get("clip_length") or 0, width, crop_px) for axes in first]


def _cost(model: str, length: int, width: float, crop_px: float) -> list[str | None]:
    if model not in rates.GMAC or not length:
        return [None, None]
    work, _ = rates.gmac(model, length, width, crop_px)
    parameters = rates.PARAMETERS_M.get(model) if width == 1 else None
    return [f"{work:,.3g}", parameters and f"{parameters:,.1f}"]


# ------------------------------------------------------------------------------------------------------ other data


def printed_table(values: Sequence[dict[str, Any]]) -> Safe | None:
    """What the paper printed of things that this sweep does not have."""
    if not values:
        return None
    used = {key for value in values for key in value} - set(NOT_AXES)
    axes = [*(axis for axis in AXES if axis in used), *sorted(used - set(AXES))]
    rows = [
        [
            value["where"],
            *(axis_value(axis, value.get(axis)) for axis in axes),
            metric_name(value["metric"]),
            tag("i", percent(value["value"])),
        ]
        for value in values
    ]
    headers = ("In the paper", *map(axis_title, axes), "Metric", "Value (%)")
    content = table(headers, rows, label="Other values of the paper", align="l" * (len(axes) + 2))
    return details(f"What the paper printed for data that are not in this sweep ({len(values):,})", content)
