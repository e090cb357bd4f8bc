"""Paired differences between the arms of a figure: what a reader decides by."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations, pairwise
from typing import Any, NamedTuple

from pipeline.report import estimates
from pipeline.report.axes import axis_title, capital, metric_name, place, varying
from pipeline.report.cells import Cell, Figure, Panel
from pipeline.report.grid import Grid
from pipeline.report.markup import Safe, details, join, points, points_span, table, tag
from pipeline.report.points import Plan

MAX_ALL = 6
"""Arms of which every pair is compared; of more, each is compared with one."""
MAX_OPEN = 12
"""Rows of the table that stand open."""

Arm = tuple[str, Cell]


class Difference(NamedTuple):
    """`arm` minus `base`, by the headline metric of their panel."""

    panel: Panel
    within: str
    """What both have in common beside the panel."""
    arm: Arm
    base: Arm


def across(grid: Grid) -> list[Difference]:
    """Arms of one row, within each panel: never of different targets or, where they are panels, protocols."""
    return [Difference(p, *parts) for p, columns in _by_panel(grid) for parts in _across(grid, columns)]


def down(figure: Figure, grid: Grid) -> list[Difference]:
    """Arms of one column."""
    return [Difference(p, *parts) for p, columns in _by_panel(grid) for parts in _down(figure, grid, columns)]


def _by_panel(grid: Grid) -> list[tuple[Panel, list[int]]]:
    """Each panel and its columns."""
    panels: list[Panel] = []
    for column in grid.columns:
        if not any(column.panel is panel for panel in panels):
            panels.append(column.panel)
    return [(panel, [i for i, column in enumerate(grid.columns) if column.panel is panel]) for panel in panels]


def _across(grid: Grid, columns: Sequence[int]) -> Iterator[tuple[str, Arm, Arm]]:
    for r, row in enumerate(grid.rows):
        arms = [(grid.columns[c].name, cell) for c, cell in grid.row(r) if c in columns]
        yield from ((_row_name(row), *pair) for pair in pairs(arms))


def _down(figure: Figure, grid: Grid, columns: Sequence[int]) -> Iterator[tuple[str, Arm, Arm]]:
    for c in columns:
        arms = [(_row_name(grid.rows[r]), cell) for r, cell in grid.column(c)]
        chosen = along(figure, arms) if figure.is_log else pairs(arms)
        yield from ((grid.columns[c].name, *pair) for pair in chosen)


def _row_name(row: tuple[str, ...]) -> str:
    return ", ".join(text for text in row if text != "–")


def pairs(arms: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    """(arm, base): every later one minus every earlier, or minus the one that was not pretrained, else the first, of many."""
    if len(arms) <= MAX_ALL:
        found = [(arm, base) for base, arm in combinations(arms, 2)]
    else:
        base = next((arm for arm in arms if arm[1].kind != "pretrained"), arms[0])
        found = [(arm, base) for arm in arms if arm is not base]
    return [(arm, base) for arm, base in found if not arm[1].is_same(base[1])]


def along(figure: Figure, arms: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    """(arm, base): each x minus the one before, and minus every level."""
    levels = [arm for arm in arms if figure.is_level(arm[1].axes)]
    line = [arm for arm in arms if arm not in levels]
    return [(arm, base) for base, arm in pairwise(line)] + [(arm, base) for base in levels for arm in line]


# ---------------------------------------------------------------------------------------------------------- table


def differences_section(plan: Plan, figure: Figure, grid: Grid, told: Collection[str] = ()) -> Safe | None:
    """Both kinds, each as a table; a long one is folded. `told`: levels from which the differences stand elsewhere."""
    found = [d for d in down(figure, grid) if not (figure.is_level(d.base[1].axes) and d.base[0] in told)]
    levels = any(figure.is_level(difference.base[1].axes) for difference in found)
    along_x = f"{axis_title(figure.x)}: each minus the one before"
    along_x += ", and minus what it is compared with" if levels else ""
    kinds = [
        (f"Of the same {' and '.join(grid.titles).lower()}", across(grid)),
        (along_x if figure.is_log else f"Between rows: {', '.join(grid.titles).lower()}", found),
    ]
    tables = [_table(plan, figure, title, found) for title, found in kinds if found]
    intro = (
        "One arm minus another, seed by seed: what a seed decides for both (videos drawn, videos held out) falls out. The "
        f"interval is Student's t on the differences, from {estimates.MIN_SEEDS} seeds on; with fewer, † marks one that is "
        "combined from those over test videos (MOVER), which says nothing of other trainings. Bold: the interval leaves out 0; "
        "of many differences that are nothing, one in twenty does so by chance."
    )
    return join(tag("h3", "Paired differences"), tag("p", intro, class_="note"), *tables) if tables else None


def _table(plan: Plan, figure: Figure, title: str, found: Sequence[Difference]) -> Safe:
    panels = varying((panel.axes for panel in figure.panels), plan.layout.panels)
    rows = [_row(difference, place(difference.panel.axes, panels)) for difference in found]
    metrics = dict.fromkeys(capital(metric_name(panel.metric)) for panel in figure.panels)
    headers = (
        "Where", "Difference", f"{' or '.join(metrics)} (points)", "95 % interval", "Seeds in both", "Each seed",
    )  # fmt: skip
    content = table(headers, rows, label=f"Paired differences. {title}", align="ll")
    return join(tag("h4", title), content) if len(rows) <= MAX_OPEN else details(f"{title} ({len(rows)})", content)


def _row(difference: Difference, panel: str) -> list[Any]:
    (name, arm), (base_name, base) = difference.arm, difference.base
    metric = difference.panel.metric
    where = ", ".join(filter(None, (panel, difference.within))) or "–"
    what = f"{name or 'this'} minus {base_name or 'that'}"
    found = arm.minus(base, metric)
    if found is None:
        return [where, what, tag("span", "missing", class_="warn"), None, "0", None]
    interval, mark = found.interval, ""
    if interval is None:
        interval, mark = estimates.gain(arm.estimate(metric), base.estimate(metric))[1], " †"
    bold = interval is not None and not interval[0] <= 0 <= interval[1]
    mean = tag("b", points(found.mean)) if bold else points(found.mean)
    each = " · ".join(points(value) for value in found.by_seed.values())
    return [where, what, mean, interval and points_span(interval) + mark, str(len(found.by_seed)), each]
