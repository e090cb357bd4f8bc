"""A figure's panels as plots: every seed a mark, the mean with its interval, the paper's values hollow, × for what is missing.

As in plots.py no text of the user's is in them: names stand in the legend, which is HTML.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.report import plots
from pipeline.report.axes import axis_title, metric_name, place
from pipeline.report.cells import Cell, Figure, Panel
from pipeline.report.estimates import Estimate
from pipeline.report.markup import Safe, percent, tag
from pipeline.report.plots import INK, MARKERS, SERIES

DASH = (0, (5, 3))
LINE_SHIFT, SEED_SHIFT = 0.02, 0.005
"""Between lines and between seeds at one place of a log axis, in shares of the plot."""
MISSING_Y = 0.025
"""Height of the × of what is missing, in shares of the plot."""


def panel_plot(name: str, figure: Figure, panel: Panel, chance: float | None) -> Safe:
    """`name` makes the ids of its SVG unique in the page."""
    limits = _limits(panel)

    def paint(axes: Any) -> None:
        plots.percent_axis(axes, f"{plots.metric_label(panel.metric)} (%)")
        axes.set_ylim(*limits)
        (_paint_lines if figure.is_log else _paint_categories)(axes, figure, panel)
        if chance is not None and panel.metric == "top1" and limits[0] <= chance <= limits[1]:
            axes.axhline(chance, color=INK, linewidth=1, linestyle=":", alpha=0.7)
            axes.text(
                0.5, chance, "chance", transform=axes.get_yaxis_transform(), ha="center", va="bottom", fontsize=10
            )

    return plots.draw(name, _alt(figure, panel), paint)


def _limits(panel: Panel) -> tuple[float, float]:
    found = [estimate for cell in panel.cells if (estimate := cell.estimate(panel.metric))]
    return plots.value_limits(found, [value["value"] for value in _printed(panel)])


def _printed(panel: Panel) -> list[dict[str, Any]]:
    return [value for value in panel.printed if value["metric"] == panel.metric]


def _alt(figure: Figure, panel: Panel) -> str:
    texts = []
    for cell in panel.cells:
        estimate = cell.estimate(panel.metric)
        texts.append(
            f"{place(cell.axes, (figure.x, *figure.series))}: {f'{percent(estimate.mean)} %' if estimate else 'missing'}"
        )
    return f"{metric_name(panel.metric)} by {axis_title(figure.x).lower()}. {'; '.join(texts)}."


def style(index: int) -> tuple[str, str]:
    """(colour, marker) of the index-th line or category."""
    return SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)]


# ------------------------------------------------------------------------------------------------------- log axis


def _paint_lines(axes: Any, figure: Figure, panel: Panel) -> None:
    printed = [value for value in _printed(panel) if not figure.is_level(value)]
    ours = [cell.axes[figure.x] for line in figure.lines(panel).values() for cell in line]
    if sizes := sorted({*ours, *(value[figure.x] for value in printed)}):
        plots.size_axis(axes, sizes, f"{axis_label(figure.x)} (log scale)")
    else:
        axes.set_xticks([])
        axes.set_xlabel("no pretrained points are planned")
    for name, line in figure.lines(panel).items():
        index, middle = figure.line_names.index(name), (len(figure.line_names) - 1) / 2
        _paint_line(axes, figure, panel, line, LINE_SHIFT * (index - middle), *style(index))
    for cell in figure.levels(panel):
        _paint_level(axes, cell, panel.metric, _style_beside(figure, panel, cell.axes)[0])
    for value in printed:
        colour, marker = _style_beside(figure, panel, value)
        axes.plot([value[figure.x]], [value["value"]], marker, mfc="none", mec=colour, mew=1.4, markersize=10, zorder=5)
    for value in _printed(panel):
        if figure.is_level(value):
            colour, marker = _style_beside(figure, panel, value)
            _at_side(axes, 0.985, value["value"], marker, mfc="none", mec=colour, mew=1.4, markersize=10)


def axis_label(axis: str) -> str:
    """Of an axis that holds numbers."""
    return {"num_videos": "pretraining videos", "num_labels": "pretraining labels"}.get(axis, "value")


def _style_beside(figure: Figure, panel: Panel, place: dict[str, Any]) -> tuple[str, str]:
    """Of the line that a level or a printed value belongs to; ink where there are several."""
    names = figure.lines_beside(place, panel)
    return style(figure.line_names.index(names[0])) if len(names) == 1 else (INK, "D")


def _paint_line(
    axes: Any, figure: Figure, panel: Panel, line: Sequence[Cell], shift: float, colour: str, marker: str
) -> None:
    """`shift`: to the right, as a share of the plot's width, so that no line's bars hide another's."""
    places = [_moved(axes, cell.axes[figure.x], shift) for cell in line]
    pairs = zip(places, line, strict=True)
    found = [(x, estimate) for x, cell in pairs if (estimate := cell.estimate(panel.metric))]
    axes.plot([x for x, _ in found], [estimate.mean for _, estimate in found], color=colour, linewidth=1.8, zorder=3)
    for x, estimate in found:
        if estimate.interval:
            axes.vlines(x, *estimate.interval, color=colour, linewidth=5, alpha=0.28, zorder=2)
        for seed, share in _spread(estimate):
            place = _moved(axes, x, SEED_SHIFT * seed)
            axes.plot([place], [share], marker, color=colour, markersize=4.5, alpha=0.75, zorder=4)
    gone = [x for x, cell in zip(places, line, strict=True) if cell.missing]
    axes.plot(gone, [MISSING_Y] * len(gone), "x", color=colour, transform=axes.get_xaxis_transform(), clip_on=False)


def _moved(axes: Any, x: float, share: float) -> float:
    """A place on a log axis, moved by a share of its width."""
    low, high = axes.get_xlim()
    return x * (high / low) ** share


def _spread(estimate: Estimate) -> Iterator[tuple[float, float]]:
    """(place about the middle, share) of each seed."""
    for seed, share in enumerate(estimate.values):
        yield seed - (len(estimate.values) - 1) / 2, share


def _paint_level(axes: Any, cell: Cell, metric: str, colour: str) -> None:
    estimate = cell.estimate(metric)
    if estimate is None:
        _at_side(axes, 0.03, sum(axes.get_ylim()) / 2, "x", color=colour)
        return
    axes.axhline(estimate.mean, color=colour, linewidth=1.4, linestyle=DASH, zorder=2)
    if estimate.interval:
        axes.axhspan(*estimate.interval, color=colour, alpha=0.1, linewidth=0, zorder=1)
    for index, share in enumerate(estimate.values):
        _at_side(axes, 0.015 + 0.016 * index, share, "o", color=colour, markersize=4)


def _at_side(axes: Any, x: float, share: float, marker: str, **look: Any) -> None:
    axes.plot([x], [share], marker, transform=axes.get_yaxis_transform(), zorder=4, **look)


# ----------------------------------------------------------------------------------------------------- categories


def category(figure: Figure, cell: Cell) -> str:
    return place(cell.axes, (figure.x,)) or "–"


def categories(figure: Figure) -> list[str]:
    """Of all panels, in the order of the plan; the plot calls them A, B, C."""
    return list(dict.fromkeys(category(figure, cell) for cell in figure.cells))


def arms(figure: Figure) -> list[str]:
    """What colours and marks tell apart: series where a category has several, else the categories themselves."""
    crowded = any(len({category(figure, c) for c in panel.cells}) < len(panel.cells) for panel in figure.panels)
    return list(dict.fromkeys(place(cell.axes, figure.series) for cell in figure.cells)) if crowded else []


def letter(index: int) -> str:
    """A to Z, then numbers."""
    return chr(ord("A") + index) if index < 26 else str(index + 1)


def _paint_categories(axes: Any, figure: Figure, panel: Panel) -> None:
    order, series = categories(figure), arms(figure)
    for cell in panel.cells:
        slot = order.index(category(figure, cell))
        arm = series.index(place(cell.axes, figure.series)) if series else slot
        x = slot + (0.7 * ((arm + 0.5) / len(series) - 0.5) if series else 0.0)
        _paint_cell(axes, cell, panel, x, *style(arm))
    axes.set_xlim(-0.6, len(order) - 0.4)
    axes.set_xticks(range(len(order)), [letter(index) for index in range(len(order))])


def _paint_cell(axes: Any, cell: Cell, panel: Panel, x: float, colour: str, marker: str) -> None:
    estimate, printed = cell.estimate(panel.metric), panel.paper(cell, panel.metric)
    if estimate is None:
        axes.plot([x], [MISSING_Y], "x", color=colour, transform=axes.get_xaxis_transform(), clip_on=False)
    else:
        if estimate.interval:
            axes.vlines(x, *estimate.interval, color=colour, linewidth=7, alpha=0.28, zorder=2)
        axes.plot([x - 0.16, x + 0.16], [estimate.mean] * 2, color=colour, linewidth=1.8, zorder=3)
        for shift, share in _spread(estimate):
            axes.plot([x + 0.05 * shift], [share], marker, color=colour, markersize=4.5, alpha=0.75, zorder=4)
    if printed:
        axes.plot([x + 0.25], [printed["value"]], marker, mfc="none", mec=colour, mew=1.4, markersize=10, zorder=5)


# --------------------------------------------------------------------------------------------------------- legend


def legend(figure: Figure) -> Safe:
    """Marks and names, as text."""
    if figure.is_log:
        return tag("p", *(_key(index, name, marked=True) for index, name in enumerate(figure.line_names) if name))
    letters = [_key(i, f"{letter(i)} {name}", marked=not arms(figure)) for i, name in enumerate(categories(figure))]
    return tag("p", *letters, *(_key(i, name or "–", marked=True) for i, name in enumerate(arms(figure))))


def _key(index: int, name: str, *, marked: bool) -> Safe:
    return tag("span", plots.swatch(index) if marked else None, name, class_="entry")
