"""What more data brought and is predicted to bring: the log-linear fit of each curve, its bend, and the next doubling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report import costs
from pipeline.report.costs import TrainingCost
from pipeline.report.estimates import MIN_SEEDS
from pipeline.report.fit_plot import fit_plot
from pipeline.report.log_fit import Bend, LogFit, fit
from pipeline.report.markup import Safe, join, percent, plural, section, size, span, table, tag
from pipeline.report.results import Curve


@dataclass(frozen=True)
class Fitted:
    """A curve with its fit, and what a run of its largest size cost."""

    name: str
    curve: Curve
    found: dict[int, dict[int, float]]
    """{videos: {seed: accuracy}}"""
    fit: LogFit
    cost: TrainingCost | None


def fits(curves: Sequence[Curve], root: str) -> list[Fitted]:
    """Of the curves with two sizes or more; what runs cost is read from `root`, the folder of the artefacts."""
    return [fitted for curve in curves if (fitted := _fitted(curve, root))]


def sentence(fitted: Fitted) -> Safe:
    """What a doubling brought, and what the next one is to bring."""
    slope, ahead = fitted.fit.slope, fitted.fit.prediction
    brought = tag("b", f"{_hundredths(slope.value)} points")
    text = join(tag("b", fitted.name), ": each doubling of the videos brought ", brought, _certainty(slope.interval))
    expected = f"{percent(ahead.accuracy)} %{f' ({span(ahead.interval)})' if ahead.interval else ''}"
    model = "curve" if fitted.fit.curved else "line"
    other = f", {_OTHER[fitted.fit.curved]} {_other(fitted.fit)} %" if fitted.fit.other else ""
    return join(text, f"; at {ahead.num_videos:,} videos the {model} predicts {expected}{other}.")


def _certainty(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return " (two sizes: no interval)"
    verdict = ", which holds 0" if interval[0] <= 0 <= interval[1] else ""
    return f" (95 % interval {_hundredths(interval[0])} to {_hundredths(interval[1])}{verdict})"


_OTHER = {False: "a curve through the same results", True: "the straight line"}
"""By whether the curve is what is fitted."""


def _other(line: LogFit) -> str:
    return percent(line.other.next_doubling().accuracy)


def fit_section(found: Sequence[Fitted], curves: Sequence[Curve], root: str) -> Safe:
    """Slopes, bends and predictions; of `curves` that are not among the fits, why."""
    short = [curve for curve in curves if all(curve is not fitted.curve for fitted in found)]
    lacking = tag("ul", *map(_too_short, short)) if short else None
    return section("fit", "Log-linear fit", *(_parts(found, curves, root) if found else ()), lacking)


def _fitted(curve: Curve, root: str) -> Fitted | None:
    found: dict[int, dict[int, float]] = {}
    for point in sorted((p for p in curve.points if p.kind == "pretrained"), key=lambda p: p.num_videos):
        if measured := point.measured(curve.metric):
            found.setdefault(point.num_videos, {})[point.seed] = measured.value
    line = fit(found)
    if line is None:
        return None
    return Fitted(curve.name, curve, found, line, costs.training(root, curve.of_size(max(found))))


def _too_short(curve: Curve) -> Safe:
    return tag("li", curve.name, f": {plural(len(curve.pretrained), 'size')} with results; a line needs two.")


def _parts(found: Sequence[Fitted], curves: Sequence[Curve], root: str) -> list[Safe]:
    return [
        tag("p", _INTRO),
        tag("p", _INTERVALS, class_="note"),
        table(_SLOPE_HEADERS, [_slope_row(f) for f in found], label="Slopes", align="lrrrrl"),
        tag("ul", *(tag("li", tag("b", f.name), ": ", _verdict(f.fit)) for f in found)),
        tag("h3", "The next doubling"),
        tag("p", _PLOT_KEY, class_="note"),
        tag("div", *(_figure(f, curves) for f in found), class_="grid"),
        table(_NEXT_HEADERS, [_next_row(f) for f in found], label="The next doubling", align="lrl"),
        tag("p", _PREDICTED, class_="note"),
        tag("ul", *(tag("li", source) for source in _sources(found, root))),
    ]


_INTRO = (
    "Least squares of accuracy = a + b · log2(videos) over the means of the sizes, as the paper's near log-linear growth "
    "suggests; b is what a doubling of the videos brings. Whether the curve bends is tested by the quadratic term."
)
_INTERVALS = (
    "All intervals are 95 %. The runs of one seed belong together (nested subsets, the same held-out videos), so from "
    f"{MIN_SEEDS} seeds on a line is fitted to each seed, and the interval is Student's t over these lines; with fewer seeds "
    "it is Student's t on the scatter of the sizes about the line. All points share their test videos: an easy choice of "
    "these lifts them together, so it is in the bootstrap intervals above and not in these."
)
_PLOT_KEY = (
    "Dots are seeds; the line is the fit with the 95 % band of its position, dashed beyond the largest size; the diamond and "
    "its bar are the prediction. Where a bend is significant, a curve is fitted in place of the line; the thin line is the one "
    "of both that is not taken, to show how much hangs on that choice."
)
_PREDICTED = (
    "Predicted is one new run on the same test videos: with a new seed where the fit is over seeds, else with a seed at hand. "
    "The interval has the fit's uncertainty and the run-to-run variation in it, and supposes that the fit goes on: no interval "
    "knows what lies beyond the data. The gain is on the fit's own value at the largest size, not on what was observed there. "
    "The cost is one pretraining run. The paper trains on as many clips at all sizes, "
    "so a larger dataset costs no more; clips in proportion to the videos cost twice as much, and the fit does not say "
    "what these bring. Transfers cost what they do at hand."
)

# -------------------------------------------------------------------------------------------------------- slopes

_SLOPE_HEADERS = ("Target, protocol", "Sizes × seeds", "Points per doubling", "95 % interval", "R²", "Does it bend?")


def _slope_row(fitted: Fitted) -> list[Any]:
    line = fitted.fit
    interval, r_squared = line.slope.interval, line.r_squared
    return [
        fitted.name,
        f"{len(line.runs.sizes)} × {_num_seeds(fitted)}",
        tag("b", _hundredths(line.slope.value)),
        f"{_hundredths(interval[0])} to {_hundredths(interval[1])}" if interval else None,
        None if r_squared is None else f"{r_squared:.3f}",
        _bend_cell(line),
    ]


def _num_seeds(fitted: Fitted) -> str:
    counts = [len(values) for values in fitted.found.values()]
    return f"{len(fitted.fit.runs.values_SK)}" if fitted.fit.runs.whole_seeds else f"{min(counts)}–{max(counts)}"


def _hundredths(share: float) -> str:
    return f"{round(100 * share, 2) + 0.0:+.2f}".replace("-", "−")


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _bend_cell(line: LogFit) -> Any:
    if line.bend is None or line.bend.change.p is None:
        return f"cannot tell: {plural(len(line.runs.sizes), 'size')}"
    if line.bend.significant:
        return tag("b", f"{_shape(line.bend)}, {_p(line.bend.change.p)}")
    if line.off_model:
        return tag("span", f"not a line, {_p(line.model.lack_of_fit)}", class_="warn")
    return f"not established, {_p(line.bend.change.p)}"


def _shape(bend: Bend) -> str:
    if bend.change.value < 0:
        return "flattens" if bend.before > 0 else "falls faster"
    return "steepens" if bend.after > 0 else "levels out"


def _verdict(line: LogFit) -> str:
    """What the numbers say, in sentences."""
    return " ".join(filter(None, (_growth(line), _bending(line), _misfit(line), _left_out(line))))


def _growth(line: LogFit) -> str:
    if line.slope.interval is None:
        return "Two sizes; the line passes through both, so there is no interval, and R² would mean nothing."
    low, high = line.slope.interval
    seeds = len(line.runs.values_SK)
    over = f"over the lines of {seeds} seeds" if line.runs.over_seeds else "on the scatter of the sizes about the line"
    if low <= 0 <= high:
        return f"The interval (t {over}) holds 0, so growth with data is not established."
    return f"Accuracy {'grows' if low > 0 else 'falls'} with the data over these sizes (t {over})."


def _bending(line: LogFit) -> str:
    bend = line.bend
    if bend is None or bend.change.p is None:
        wanted = "three sizes" if line.runs.over_seeds else f"four sizes, or three with {MIN_SEEDS} seeds"
        return f"Whether it bends cannot be told from {plural(len(line.runs.sizes), 'size')}; that takes {wanted}."
    first, middle, last = map(size, bend.sizes)
    gains = (
        f"{middle} to {last} brought {_hundredths(bend.after)} points a doubling, "
        f"against {_hundredths(bend.before)} from {first} to {middle}"
    )
    low, high = bend.change.interval
    slope = f"its slope changes by {_hundredths(low)} to {_hundredths(high)} points with each doubling, 95 % interval"
    if bend.significant:
        return f"It {_shape(bend)}: {gains} ({slope}; {_p(bend.change.p)})."
    return f"A bend is not established ({_p(bend.change.p)}): {gains} ({slope}); one within that may have gone unseen."


def _misfit(line: LogFit) -> str:
    if not line.off_model:
        return ""
    what = "curve" if line.curved else "line"
    return (
        f"The sizes lie off the {what} by more than runs differ (lack of fit, {_p(line.model.lack_of_fit)}): "
        "take slope and prediction for a rough summary."
    )


def _left_out(line: LogFit) -> str:
    if not line.runs.whole_seeds:
        return "No seed has a result at every size: the line is through the means, and seeds may pass for sizes."
    seeds = ", ".join(map(str, line.runs.left_out))
    return f"Left out of the fit, for a size is missing: seed {seeds}." if seeds else ""


# ---------------------------------------------------------------------------------------------- the next doubling

_NEXT_HEADERS = (
    "Target, protocol", "Videos", "Fit", "Predicted (%)", "95 % prediction interval", "Gain (points)", "Cost, same clips",
    "Points per hour",
)  # fmt: skip


def _figure(fitted: Fitted, curves: Sequence[Curve]) -> Safe:
    index = next(i for i, curve in enumerate(curves) if curve is fitted.curve)
    colour = list(dict.fromkeys(curve.how for curve in curves)).index(fitted.curve.how)
    image = fit_plot(f"fit{index}", fitted.name, fitted.curve.metric, fitted.fit, fitted.found, colour)
    return tag("figure", tag("figcaption", tag("b", fitted.name), _beside(fitted.fit)), image)


def _beside(line: LogFit) -> str | None:
    """What the model that is not taken would say of the next doubling."""
    if line.other is None:
        return None
    if not line.curved:
        return f" · thin: a curve through the same results, {_other(line)} % at the next doubling"
    bound = "an upper bound" if line.bend.change.value < 0 else "a lower bound"
    turned = "; the curve turns round there: read it as level from its turn on" if _turns(line) else ""
    return f" · it bends: the straight line's {_other(line)} % is {bound}{turned}"


def _turns(line: LogFit) -> bool:
    """Whether the curve has its top, or its bottom, before the next doubling: so do parabolas, not learning curves."""
    return line.prediction.gain * line.slope.value < 0


def _next_row(fitted: Fitted) -> list[Any]:
    ahead = fitted.fit.prediction
    predicted = [tag("b", percent(ahead.accuracy)), span(ahead.interval), _hundredths(ahead.gain)]
    model = "curve" if fitted.fit.curved else "line"
    return [fitted.name, f"{ahead.num_videos:,}", model, *predicted, *_cost_cells(fitted.cost, ahead.gain)]


def _cost_cells(cost: TrainingCost | None, gain: float) -> list[str | None]:
    if cost is None:
        return ["unknown", None]
    per_hour = f"{'−' if gain < 0 else '+'}{costs.quantity(abs(100 * gain) / cost.hours)}"
    return [f"{costs.quantity(cost.hours)} {cost.unit}", per_hour]


def _sources(found: Sequence[Fitted], root: str) -> list[str]:
    """Where costs are from, each once."""
    lines = []
    for fitted in found:
        count = fitted.fit.runs.sizes[-1]
        unknown = "unknown: no run.json of them has clips, clips/s, device and processes, all on one kind of device"
        lines.append(f"Cost of a run on {count:,} videos: {fitted.cost.source if fitted.cost else unknown}.")
        dataset = next((point.dataset for point in fitted.curve.of_size(count)), None)
        lines.append("Data of " + costs.building(root, dataset, 2 * count))
    return list(dict.fromkeys(lines))
