"""The plot of a log-linear fit: every seed, the line in its band, and the next doubling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.report import plots
from pipeline.report.log_fit import LogFit, Model
from pipeline.report.markup import Safe, size

_STEPS = 24
"""Of a line or band: they bend little."""


def fit_plot(
    anchor: str, name: str, metric: str, fit: LogFit, found: Mapping[int, Mapping[int, float]], colour: int
) -> Safe:
    """The curve `name`; beyond its sizes, what is drawn is dashed.

    Args:
        found: {videos: {seed: value}}, also those that the fit leaves out.
        metric: whose values they are.
    """
    ink = plots.SERIES[colour % len(plots.SERIES)]

    def paint(axes: Any) -> None:
        plots.percent_axis(axes, f"{plots.metric_label(metric)} (%)")
        plots.size_axis(axes, [*fit.runs.sizes, fit.prediction.num_videos], "pretraining videos (log scale)")
        for count, values in found.items():
            axes.plot(
                [count] * len(values), list(values.values()), "o", color=ink, markersize=4.5, alpha=0.75, zorder=4
            )
        _paint_model(axes, fit.model, ink, banded=True)
        if fit.other:
            _paint_model(axes, fit.other, plots.INK, banded=False)
        _paint_next(axes, fit, ink)

    return plots.draw(anchor, _alt_text(name, metric, fit), paint)


def _paint_model(axes: Any, model: Model, colour: str, *, banded: bool) -> None:
    first = model.runs.doublings_K[0]
    _paint_stretch(axes, model, np.linspace(first, 0, _STEPS), colour, "-", 0.2 * banded)
    _paint_stretch(axes, model, np.linspace(0, 1, _STEPS), colour, (0, (4, 3)), 0.1 * banded)


def _paint_stretch(axes: Any, model: Model, doublings: np.ndarray, colour: str, dash: Any, shade: float) -> None:
    answers, counts = [model.at(float(x)) for x in doublings], model.runs.sizes[-1] * 2.0**doublings
    axes.plot(counts, [a.value for a in answers], color=colour, linestyle=dash, linewidth=1.8 if shade else 1, zorder=3)
    if shade and answers[0].error is not None:
        low, high = zip(*(answer.interval for answer in answers), strict=True)
        axes.fill_between(counts, low, high, color=colour, alpha=shade, linewidth=0, zorder=1)


def _paint_next(axes: Any, fit: LogFit, colour: str) -> None:
    """A diamond with the prediction interval."""
    place = fit.prediction.num_videos
    if fit.prediction.interval:
        axes.vlines(place, *fit.prediction.interval, color=colour, linewidth=2, zorder=3)
        axes.plot([place] * 2, fit.prediction.interval, "_", color=colour, markersize=9, zorder=3)
    axes.plot([place], [fit.prediction.accuracy], "D", mfc="none", mec=colour, markersize=6, zorder=4)


def _alt_text(name: str, metric: str, fit: LogFit) -> str:
    means = "; ".join(f"{size(n)}: {100 * v:.1f} %" for n, v in zip(fit.runs.sizes, fit.runs.means_K, strict=True))
    ahead = f"{size(fit.prediction.num_videos)} predicted: {100 * fit.prediction.accuracy:.1f} %"
    return f"Log-linear fit of {plots.metric_label(metric)} to pretraining videos, {name}. {means}; {ahead}."
