"""The answer, at the top of the page: a few sentences from the numbers alone."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.report import fit, results
from pipeline.report.axes import SCRATCH, capital, metric_name, place, varying
from pipeline.report.cells import Cell, Figure, Panel
from pipeline.report.estimates import Estimate
from pipeline.report.fit import Fitted
from pipeline.report.markup import Safe, join, percent, plural, points, points_span, tag
from pipeline.report.points import Plan
from pipeline.report.results import Curve


def headline(plan: Plan, figure: Figure, curves: Sequence[Curve], fits: Sequence[Fitted]) -> Safe:
    """Of data sizes, what the best one gains and the next doubling is to bring; elsewhere, or where curves are to be compared
    with each other alone, the best arm of every panel and the next."""
    growth = (tag("p", fit.sentence(fitted)) for fitted in fits)
    if any(curve.references for curve in curves):
        best, note = [_of_curve(curve) for curve in curves], _CHOSEN_SIZE if _is_chosen(curves) else _SPREAD
    else:
        best, note = [_of_panel(plan, figure, panel) for panel in figure.panels], _CHOSEN_ARM
    return join(
        tag("div", *(tag("p", text) for text in best), class_="headline"), *growth, tag("p", note, class_="note")
    )


def _is_chosen(curves: Sequence[Curve]) -> bool:
    return any(len(curve.pretrained) > 1 for curve in curves)


_SPREAD = "± is the standard deviation over seeds."
_CHOSEN_SIZE = f"{_SPREAD} The size shown is the best one by the same test accuracy, which favours it a little."
_CHOSEN_ARM = f"{_SPREAD} The highest is chosen by the same test videos, which favours it a little."

# ------------------------------------------------------------------------------------------------------ of data sizes


def _of_curve(curve: Curve) -> Safe:
    on = join(" on ", tag("b", curve.target), f" ({curve.how})")
    where = join(f" {metric_name(curve.metric)}", on)
    best, (name, base) = curve.best_size, curve.reference or (SCRATCH, None)
    if best is None and base is None:
        return join("No result yet", on, ".")
    if best is None:
        nothing = "; no pretrained result to set against it."
        return join(capital(_of_reference(name)), ": ", _with_spread(base), where, nothing)
    reached = join("Pretraining on ", tag("b", f"{best:,}"), " videos: ", _with_spread(curve.pretrained[best]), where)
    if base is None:
        return join(reached, "; no from-scratch result to set against it.")
    difference, interval = results.gain(curve.of_size(best), curve.of_reference(name), curve.metric)
    against = join(", against ", _with_spread(base), f" {_of_reference(name)}: ")
    return join(reached, against, tag("b", f"{points(difference)} points"), _certainty(interval), ".")


def _of_reference(name: str) -> str:
    return name if name == SCRATCH else f"pretrained on {name}"


def _with_spread(estimate: Estimate) -> Safe:
    spread = f" ± {percent(estimate.sd)}" if estimate.sd is not None else ""
    return join(tag("b", f"{percent(estimate.mean)} %"), f"{spread} ({plural(len(estimate.values), 'seed')})")


def _certainty(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return " (no interval known)"
    verdict = ", which holds 0" if interval[0] <= 0 <= interval[1] else ""
    return f" (95 % interval {points_span(interval)}{verdict})"


# ---------------------------------------------------------------------------------------------------------- of panels


def _of_panel(plan: Plan, figure: Figure, panel: Panel) -> Safe:
    """The best arm and the next, and how sure their difference is."""
    where = join("On ", tag("b", place(panel.axes, plan.layout.panels)))
    ranked = _ranked(panel)
    if not ranked:
        return join(where, ": no result yet.")
    (best, top), *others = ranked
    reached = join(
        where, " the highest is ", _arm(figure, best), ": ", _with_spread(top), f" {metric_name(panel.metric)}"
    )
    second, below = next(((cell, found) for cell, found in others if not cell.is_same(best)), (None, None))
    if second is None:
        return join(reached, "; no other result to set against it.")
    against = join(reached, ", before ", _arm(figure, second), ", ", _with_spread(below), ": ")
    difference, interval = results.gain(best.points, second.points, panel.metric)
    return join(against, tag("b", f"{points(difference)} points"), _certainty(interval), ".")


def _ranked(panel: Panel) -> Sequence[tuple[Cell, Estimate]]:
    found = [(cell, estimate) for cell in panel.cells if (estimate := cell.estimate(panel.metric))]
    return sorted(found, key=lambda pair: -pair[1].mean)


def _arm(figure: Figure, cell: Cell) -> Safe:
    told = varying((cell.axes for cell in figure.cells), (figure.x, *figure.series), figure.panels[0].axes)
    return tag("b", place(cell.axes, told) or "the only arm")
