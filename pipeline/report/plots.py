"""Plots as SVG markup: no text of the user's in them, colours as CSS variables, the same bytes for the same numbers.

Names, legends and captions are HTML around the SVG, where they are escaped, wrap, and can use any script.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.config import ConfigError
from pipeline.report import svg
from pipeline.report.axes import METRICS
from pipeline.report.estimates import Estimate
from pipeline.report.markup import Safe, size, tag
from pipeline.report.svg import GRID, INK, SERIES

DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "D", "^", "v", "P")

_SETTINGS = {
    "svg.hashsalt": "tagreel",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 11.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
}
MAX_LINE_POINTS = 200
MAX_FIGURE_POINTS = 2000
"""Over the lines of a picture, so that many runs do not make a heavy page."""
MAX_BARS = 60


def draw(name: str, alt: str, paint: Any, width_in: float = 5.4, height_in: float = 3.6) -> Safe:
    """One figure with one axes, painted by `paint(axes)`; `name` makes the ids of its SVG unique in the page."""
    try:
        import matplotlib.style
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("the report needs matplotlib: pip install 'tagreel[report]'") from error
    with matplotlib.style.context(["default", _SETTINGS]):
        figure = Figure(figsize=(width_in, height_in))
        axes = figure.add_axes((0.8 / width_in, 0.56 / height_in, 1 - 0.92 / width_in, 1 - 0.7 / height_in))
        figure.patch.set_alpha(0)
        axes.patch.set_alpha(0)
        paint(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return svg.inline(buffer.getvalue(), name, alt)


def percent_axis(axes: Any, label: str) -> None:
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}")
    axes.set_ylabel(label)
    axes.grid(True, axis="y")


def size_axis(axes: Any, sizes: Sequence[int], label: str) -> None:
    """Log axis with a tick at each size; a size too close to the one before goes without its label."""
    axes.set_xscale("log")
    axes.set_xlim(min(sizes) / 1.5, max(sizes) * 1.5)
    width, shown, last = np.log(max(sizes) / min(sizes) * 2.25), [], -np.inf
    for count in sizes:
        near = np.log(count) - last < 0.09 * width
        shown.append("" if near else size(count))
        last = last if near else np.log(count)
    axes.set_xticks(list(sizes), shown)
    axes.minorticks_off()
    axes.set_xlabel(label)


def value_limits(estimates: Sequence[Estimate], others: Sequence[float] = ()) -> tuple[float, float]:
    """Of an axis that holds every value and interval, and `others`, and a margin."""
    values = [v for e in estimates for v in (*e.values, *(e.interval or ()))] + list(others) or [0.0, 1.0]
    margin = 0.08 * (max(values) - min(values)) or 0.02
    return max(0.0, min(values) - margin), min(1.0, max(values) + margin)


def metric_label(name: str) -> str:
    """Of an axis; a name that is not one of ours is not drawn, as no text of the user's is."""
    return {"top1": "top-1 accuracy", "top5": "top-5 accuracy"}.get(name, METRICS.get(name, "metric"))


# ------------------------------------------------------------------------------------------------------ labels


def labels(
    name: str,
    alt: str,
    kept: Sequence[int],
    dropped: Sequence[int],
    subsets: Sequence[Sequence[int]],
    floor: int | None,
) -> Safe:
    """Videos per label by rank: bars, or lines on log-log axes when there are many labels; subsets as thin lines."""
    ranks = np.arange(1, len(kept) + len(dropped) + 1)
    many = len(ranks) > MAX_BARS

    def paint(axes: Any) -> None:
        _paint_ranked(axes, ranks[: len(kept)], kept, SERIES[0], many)
        _paint_ranked(axes, ranks[len(kept) :], dropped, SERIES[1], many)
        for values in subsets:
            keep = _spread(len(values))
            axes.plot(keep + 1, np.asarray(values)[keep], color=INK, linewidth=0.9, alpha=0.5)
        if dropped and floor:
            axes.axhline(floor, color=INK, linewidth=1, linestyle=":", alpha=0.8)
            axes.text(0.99, floor, "floor", transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=10)
        _label_axes(axes, many, high=max([*kept, *dropped, 1]))

    return draw(name, alt, paint, height_in=3.2)


def _label_axes(axes: Any, many: bool, high: int) -> None:
    if high > 30:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.8)
    axes.yaxis.set_major_formatter(lambda count, _: size(int(count)) if count >= 1 else "")
    if many:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda rank, _: size(int(rank)))
    else:
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.minorticks_off()
    axes.set_xlabel("label, by number of videos" + (" (log scale)" if many else ""))
    axes.set_ylabel("videos" + (" (log scale)" if high > 30 else ""))
    axes.grid(True, axis="y")


def _paint_ranked(axes: Any, ranks: np.ndarray, counts: Sequence[int], colour: str, many: bool) -> None:
    if many:
        keep = _spread(len(ranks))
        axes.plot(ranks[keep], np.asarray(counts)[keep], color=colour, linewidth=2.4)
    elif len(ranks):
        axes.bar(ranks, counts, width=0.72, color=colour, alpha=0.85, linewidth=0)


def _spread(count: int) -> np.ndarray:
    """At most ~2 × MAX_LINE_POINTS positions of 0..count-1, evenly spread on a log scale, both ends kept."""
    if count <= 2 * MAX_LINE_POINTS:
        return np.arange(count)
    return np.unique(np.geomspace(1, count, 2 * MAX_LINE_POINTS).round().astype(int)) - 1


def cumulative(name: str, alt: str, lines: Sequence[tuple[np.ndarray, np.ndarray]]) -> Safe:
    """Share of the videos against share of the labels (paper, Figure 3), and the line of equal labels.

    `lines`: (share of the labels [K + 1], share of the videos [K + 1]) of each dataset, both from 0 to 1.
    """

    def paint(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=":", alpha=0.7)
        for index, (labels_share, videos_share) in enumerate(lines):
            keep, (colour, dash) = _spread(len(labels_share)), series_style(index)
            axes.plot(labels_share[keep], videos_share[keep], color=colour, linestyle=dash, linewidth=2)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.01)
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:g}")
        axes.set_xlabel("share of the labels, those with most videos first")
        percent_axis(axes, "share of the videos (%)")

    return draw(name, alt, paint)


def ranked(name: str, alt: str, lines: Sequence[np.ndarray]) -> Safe:
    """Videos per label by rank, log-log. `lines`: int [K] of each dataset, most first."""

    def paint(axes: Any) -> None:
        for index, counts in enumerate(lines):
            keep, (colour, dash) = _spread(len(counts)), series_style(index)
            axes.plot(keep + 1, np.maximum(counts[keep], 0.5), color=colour, linestyle=dash, linewidth=2)
        _label_axes(axes, many=True, high=max((int(counts[0]) for counts in lines), default=1))

    return draw(name, alt, paint)


def stacked(
    name: str,
    alt: str,
    edges: np.ndarray,
    counts: Sequence[np.ndarray],
    label: str,
    threshold: float | None,
) -> Safe:
    """Histogram of pairs: excluded over listed ones, and those by chance as an outline.

    Args:
        edges: float [bins + 1].
        counts: int [bins] each of the excluded, of the others, of those by chance.
        threshold: where exclusions begin, as a line.
    """
    excluded, others, chance = counts
    width, middle = 0.9 * np.diff(edges), (edges[:-1] + edges[1:]) / 2
    is_log = max(excluded + others) > 100

    def paint(axes: Any) -> None:
        axes.bar(middle, others, width, color=SERIES[0], alpha=0.85, linewidth=0)
        axes.bar(middle, excluded, width, bottom=others, color=SERIES[1], alpha=0.85, linewidth=0)
        if chance.any():
            axes.stairs(chance, edges, color=SERIES[5], linewidth=1.6, linestyle=(0, (3, 2)))
        if threshold is not None:
            axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=":")
            place = axes.get_xaxis_transform()
            axes.text(threshold, 1.0, "threshold", transform=place, ha="left", va="bottom", fontsize=10)
        if is_log:
            axes.set_yscale("symlog", linthresh=1)
        else:
            axes.yaxis.get_major_locator().set_params(integer=True)
        axes.yaxis.set_major_formatter(lambda count, _: size(round(count)))
        axes.set_ylim(bottom=0)
        axes.set_xlabel(label)
        axes.set_ylabel("pairs" + (" (log scale)" if is_log else ""))
        axes.grid(True, axis="y")

    return draw(name, alt, paint)


# ------------------------------------------------------------------------------------------------ training curves


def series_style(index: int) -> tuple[str, str]:
    """(colour, dash) of the index-th series; the legend of the page uses the same."""
    return SERIES[index % len(SERIES)], DASHES[index // len(SERIES) % len(DASHES)]


Line = tuple[np.ndarray, np.ndarray]
"""(clips seen float64 [n], value float64 [n])."""


def training_limits(lines: Sequence[Line], from_zero: bool = False) -> tuple[float, float, float]:
    """(last clip, lowest value, highest value) of all lines as they are drawn, with a margin."""
    drawn = [thinned(*line, MAX_LINE_POINTS) for line in lines if len(line[0])]
    if not drawn:
        return 1.0, 0.0, 1.0
    low = 0.0 if from_zero else min(float(values.min()) for _, values in drawn)
    high = max(float(values.max()) for _, values in drawn)
    margin = 0.04 * (high - low) or 0.05 * abs(high) or 0.05
    return max(float(clips[-1]) for clips, _ in drawn) * 1.02, low - (0 if from_zero else margin), high + margin


def training(
    name: str,
    alt: str,
    lines: Sequence[tuple[int, np.ndarray, np.ndarray]],
    label: str,
    limits: tuple[float, float, float],
) -> Safe:
    """A quantity against clips seen. `lines`: (series, clips seen [n], value [n]) of each run; `limits` as above.

    Series are told apart by colour and by a marker at some places of their lines, which are others for each series.
    """
    num_points = min(MAX_LINE_POINTS, max(40, MAX_FIGURE_POINTS // max(1, len(lines))))

    def paint(axes: Any) -> None:
        for series, clips, values in lines:
            drawn, (colour, dash) = thinned(clips, values, num_points), series_style(series)
            every = max(1, len(drawn[0]) // 4)
            axes.plot(*drawn, color=colour, linestyle=dash, linewidth=1.3, alpha=0.9, marker=MARKERS[series % len(MARKERS)],
                      markersize=5, markeredgewidth=0, markevery=(series * every // 6 % every, every))  # fmt: skip
        last, *ends = limits
        axes.set_xlim(0, last)
        axes.set_ylim(*ends)
        axes.xaxis.get_major_locator().set_params(nbins=6)
        axes.xaxis.set_major_formatter(lambda clips, _: size(int(clips)))
        axes.set_xlabel("clips seen")
        axes.grid(True, axis="y")
        if label == "accuracy":
            percent_axis(axes, "training accuracy (%)")
        else:
            axes.set_ylabel(label)

    return draw(name, alt, paint)


# Markers of matplotlib in a box of 10 by 10, for legends outside of a picture.
_SHAPES = {
    "o": "M5 1.4A3.6 3.6 0 1 1 5 8.6A3.6 3.6 0 1 1 5 1.4Z",
    "s": "M1.8 1.8H8.2V8.2H1.8Z",
    "D": "M5 .8L9.2 5L5 9.2L.8 5Z",
    "^": "M5 1L9 8.6H1Z",
    "v": "M5 9L9 1.4H1Z",
    "P": "M3.5 1H6.5V3.5H9V6.5H6.5V9H3.5V6.5H1V3.5H3.5Z",
}
_STROKES = {"-": None, "--": "5 2.5", ":": "1.5 2.5", "-.": "6 2 1.5 2"}


def swatch(series: int) -> Safe:
    """A line with the colour, dash and marker of a series, for the legend beside its picture."""
    (_, dash), colour = series_style(series), f"var(--c{series % len(SERIES) + 1})"
    line = tag("path", d="M0 5H30", stroke=colour, stroke_width="2", stroke_dasharray=_STROKES[dash])
    marker = tag("path", d=_SHAPES[MARKERS[series % len(MARKERS)]], fill=colour, transform="translate(10)")
    return tag("svg", line, marker, viewBox="0 0 30 10", class_="swatch", aria_hidden="true")


def thinned(x: np.ndarray, y: np.ndarray, num_points: int) -> Line:
    """Means of `num_points` equal stretches of a line that has more points; a shorter one as it is."""
    if len(x) <= num_points:
        return x, y
    parts = np.array_split(np.arange(len(x)), num_points)
    return np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])
