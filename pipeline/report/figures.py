"""The section of a sweep's figure or table, laid out as in the paper, from the plan's layout alone."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.report import differences, estimates, figure_plot, results
from pipeline.report.axes import metric_name, place, varying
from pipeline.report.cells import Cell, Figure, Panel
from pipeline.report.estimates import Estimate
from pipeline.report.figure_table import printed_table, results_table
from pipeline.report.grid import grid
from pipeline.report.markup import Safe, details, join, percent, plural, points, points_span, section, tag
from pipeline.report.points import Plan


def figure_section(plan: Plan, figure: Figure) -> Safe:
    """A table as a table; a figure as plots, its numbers below; then differences, and what else the paper printed."""
    laid_out = grid(figure, plan.layout.rows)
    numbers = results_table(plan, figure, laid_out)
    is_table = plan.layout.figure.startswith("Table")
    content = numbers if is_table else join(_plots(plan, figure), details("The numbers of the plots", numbers))
    return section(
        "figure",
        f"{plan.layout.figure}: {plan.layout.title}",
        tag("p", _intro(plan, figure, is_table)),
        content,
        differences.differences_section(plan, figure, laid_out),
        printed_table(figure.elsewhere),
    )


def _intro(plan: Plan, figure: Figure, is_table: bool) -> str:
    many = f"from {estimates.MIN_SEEDS} seeds on"
    interval = f"95 % interval: over seeds (Student's t) {many}, else over test videos (bootstrap)"
    common = place(figure.panels[0].axes, [a for a in plan.layout.panels if a not in _told(plan, figure)])
    where = f" All are on {common}." if common else ""
    paper = " Values in italics are the paper's, of other data than ours." if _has_printed(figure) else ""
    if is_table:
        return (
            f"Means over seeds (%), the {interval}, and each seed; × stands for a seed without a result.{where}{paper}"
        )
    hollow = " Large hollow marks are the paper's values, of other data than ours." if paper else ""
    line = (
        " Dashed lines are what pretraining is compared with, in the colour of the line they belong to."
        if figure.is_log
        else ""
    )
    return (
        f"Each mark is one seed; lines stand at the means. Bars and bands are the {interval}. × at the bottom stands for a "
        f"seed without a result.{line}{hollow} The vertical axis need not start at 0.{where}"
    )


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
        blocks.append(tag("figure", tag("figcaption", tag("b", name), about), image))
    return join(figure_plot.legend(figure), tag("div", *blocks, class_="grid"))


# ------------------------------------------------------------------------------------------------------- headline


def headline(plan: Plan, figure: Figure) -> Safe:
    """One sentence per panel: the best arm and the next, and how sure their difference is."""
    sentences = (tag("p", _sentence(plan, figure, panel)) for panel in figure.panels)
    note = tag("p", "The highest is chosen by the same test videos, which favours it a little.", class_="note")
    return join(tag("div", *sentences, class_="headline"), note)


def _sentence(plan: Plan, figure: Figure, panel: Panel) -> Safe:
    where = join("On ", tag("b", place(panel.axes, plan.layout.panels)))
    ranked = _ranked(panel)
    if not ranked:
        return join(where, ": no result yet.")
    (best, top), *others = ranked
    reached = join(where, " the highest is ", _arm(figure, best), ": ", _spread(top), f" {metric_name(panel.metric)}")
    second, below = next(((cell, found) for cell, found in others if not cell.is_same(best)), (None, None))
    if second is None:
        return join(reached, "; no other result to set against it.")
    against = join(reached, ", before ", _arm(figure, second), ", ", _spread(below), ": ")
    difference, interval = results.gain(best.points, second.points, panel.metric)
    sure = f" (95 % interval {points_span(interval)})" if interval else " (no interval known)"
    return join(against, tag("b", f"{points(difference)} points"), sure, ".")


def _ranked(panel: Panel) -> Sequence[tuple[Cell, Estimate]]:
    found = [(cell, estimate) for cell in panel.cells if (estimate := cell.estimate(panel.metric))]
    return sorted(found, key=lambda pair: -pair[1].mean)


def _arm(figure: Figure, cell: Cell) -> Safe:
    told = varying((cell.axes for cell in figure.cells), (figure.x, *figure.series), figure.panels[0].axes)
    return tag("b", place(cell.axes, told) or "the only arm")


def _spread(estimate: Estimate) -> str:
    spread = f" ± {percent(estimate.sd)}" if estimate.sd is not None else ""
    return f"{percent(estimate.mean)} %{spread} ({plural(len(estimate.values), 'seed')})"
