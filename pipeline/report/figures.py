"""The section of a sweep's figure or table, laid out as in the paper, from the plan's layout alone."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.report import differences, estimates, figure_plot
from pipeline.report.axes import metric_name, place, varying
from pipeline.report.cells import Figure
from pipeline.report.curve_tables import curve_tables
from pipeline.report.figure_table import printed_table, results_table
from pipeline.report.grid import Grid, grid
from pipeline.report.markup import Safe, details, join, percent, section, tag
from pipeline.report.points import Plan
from pipeline.report.results import Curve

MAX_OPEN_ROWS = 12
"""Of the numbers below plots; more are folded."""


def figure_section(plan: Plan, figure: Figure, curves: Sequence[Curve]) -> Safe:
    """A table as a table; a figure as plots, its numbers below; then differences, and what else the paper printed.

    `curves`: those of accuracy against pretraining videos, whose tables have the differences from what they are compared with.
    """
    laid_out = grid(figure, plan.layout.rows)
    is_table = plan.layout.figure.startswith("Table")
    numbers = curve_tables(plan, curves) if curves else _numbers(plan, figure, laid_out, is_table)
    compared = [{curve.reference[0]} if curve.reference else set() for curve in curves]
    told = set.intersection(*compared) if compared else set()
    return section(
        "figure",
        f"{plan.layout.figure}: {plan.layout.title}",
        tag("p", _intro(plan, figure, is_table)),
        None if is_table else _plots(plan, figure),
        numbers,
        differences.differences_section(plan, figure, laid_out, told),
        printed_table(figure.elsewhere),
    )


def _numbers(plan: Plan, figure: Figure, laid_out: Grid, is_table: bool) -> Safe:
    numbers = results_table(plan, figure, laid_out)
    is_open = is_table or len(laid_out.rows) <= MAX_OPEN_ROWS
    return numbers if is_open else details(f"The numbers of the plots ({len(laid_out.rows)} rows)", numbers)


def _intro(plan: Plan, figure: Figure, is_table: bool) -> str:
    many = f"from {estimates.MIN_SEEDS} seeds on"
    interval = f"95 % interval: over seeds (Student's t) {many}, else over test videos (bootstrap)"
    common = place(figure.panels[0].axes, [a for a in plan.layout.panels if a not in _told(plan, figure)])
    where = f" In common: {common}." if common else ""
    paper = " Values in italics are the paper's, of other data than ours." if _has_printed(figure) else ""
    if is_table:
        return (
            f"Means over seeds (%), the {interval}, and each seed, which leads to where its number comes from; × stands for "
            f"a seed without a result.{where}{paper}"
        )
    hollow = " Large hollow marks are the paper's values, of other data than ours." if paper else ""
    line = (
        " Dashed lines are what pretraining is compared with, in the colour of the line they belong to."
        if any(figure.levels(panel) for panel in figure.panels)
        else ""
    )
    absent = any(cell.missing for cell in figure.cells)
    cross = " × at the bottom stands for a seed without a result." if absent else ""
    marks = f"Each mark is one seed; lines stand at the means. Bars and bands are the {interval}."
    return f"{marks}{cross}{line}{hollow} The vertical axis need not start at 0.{where}"


def _told(plan: Plan, figure: Figure) -> tuple[str, ...]:
    return varying((panel.axes for panel in figure.panels), plan.layout.panels)


def _has_printed(figure: Figure) -> bool:
    return any(panel.paper(cell, metric) for panel in figure.panels for cell in panel.cells for metric in panel.metrics)


def _plots(plan: Plan, figure: Figure) -> Safe:
    blocks = []
    for index, panel in enumerate(figure.panels):
        chance = plan.chance_of(str(panel.axes.get("target")))
        image = figure_plot.panel_plot(f"f{index}", figure, panel, chance)
        name = place(panel.axes, _told(plan, figure)) or place(panel.axes, plan.layout.panels)
        dashed = ", ".join(dict.fromkeys(map(figure.level_name, figure.levels(panel))))
        about = f" · {metric_name(panel.metric)}" + (f" · dashed: {dashed}" if dashed else "")
        about += f" · chance {percent(chance)} %" if chance is not None and panel.metric == "top1" else ""
        blocks.append(tag("figure", tag("figcaption", tag("b", name), about), image))
    return join(figure_plot.legend(figure), tag("div", *blocks, class_="grid"))
