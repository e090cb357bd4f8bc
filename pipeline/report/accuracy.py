"""The findings: headline, accuracy against pretraining videos, results table, accuracy by class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pipeline.report import estimates, plots, results
from pipeline.report.axes import SCRATCH, capital, metric_header, metric_name
from pipeline.report.estimates import Estimate
from pipeline.report.markup import (
    Safe,
    details,
    join,
    percent,
    plural,
    points,
    points_span,
    size,
    span,
    table,
    tag,
)
from pipeline.report.markup import section as page_section
from pipeline.report.points import Plan, Point, number, section
from pipeline.report.results import Curve, reference_name

MAX_CLASSES = 400


def headline(curves: Sequence[Curve]) -> Safe:
    """One sentence per curve, from the numbers alone."""
    return tag("div", *(tag("p", _sentence(curve)) for curve in curves), class_="headline")


def _sentence(curve: Curve) -> Safe:
    on = join(" on ", tag("b", curve.target), f" ({curve.how})")
    where = join(f" {metric_name(curve.metric)}", on)
    best, (name, base) = curve.best_size, curve.reference or (SCRATCH, None)
    if best is None and base is None:
        return join("No result yet", on, ".")
    if best is None:
        return join(
            capital(_of_reference(name)), ": ", _with_spread(base), where, "; no pretrained result to set against it."
        )
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


def _certainty(interval: estimates.Interval | None) -> str:
    if interval is None:
        return " (no interval known)"
    verdict = "; a difference of nothing is within it" if interval[0] <= 0 <= interval[1] else ""
    return f" (95 % interval {points_span(interval)}{verdict})"


def headline_note(curves: Sequence[Curve]) -> Safe | None:
    """What the headline takes for granted."""
    if not any(len(curve.pretrained) > 1 for curve in curves):
        return None
    return tag(
        "p",
        "± is the standard deviation over seeds. The size shown is the best one by the same test accuracy, which favours "
        "it a little; the table below has every size.",
        class_="note",
    )


# -------------------------------------------------------------------------------------------------------- plot


def plot_section(plan: Plan, curves: Sequence[Curve]) -> Safe:
    intro = (
        "Each dot is one seed; the line joins the means of the sizes. Bars and the grey band are 95 % intervals: over seeds "
        f"(Student's t) from {estimates.MIN_SEEDS} seeds on, else over test videos (bootstrap). The dashed line is the "
        "same network trained from scratch on the target alone, or the first baseline where that is not planned, with a ring "
        "per seed. The vertical axis need not start at 0."
    )
    blocks = [_target_plots(plan, name, curves) for name in dict.fromkeys(curve.target for curve in curves)]
    return page_section("accuracy", "Accuracy against pretraining videos", tag("p", intro), *blocks)


def _target_plots(plan: Plan, target: str, curves: Sequence[Curve]) -> Safe:
    mine = [curve for curve in curves if curve.target == target]
    kinds = list(dict.fromkeys(curve.how for curve in curves))
    chance = plan.chance_of(target) if all(curve.metric == "top1" for curve in mine) else None
    limits, figures = plots.accuracy_limits(mine), []
    for curve in mine:
        image = plots.accuracy(f"a{curves.index(curve)}", _alt(curve), curve, kinds.index(curve.how), limits, chance)
        figures.append(tag("figure", tag("figcaption", tag("b", curve.how), _missing_note(curve)), image))
    at_chance = f", chance {percent(chance)} %" if chance is not None else ""
    return join(tag("h3", "Target ", target, at_chance), tag("div", *figures, class_="grid"))


def _alt(curve: Curve) -> str:
    parts = [f"{size(count)}: {percent(e.mean)} %" for count, e in sorted(curve.pretrained.items())]
    parts += [f"{name}: {percent(found.mean)} %" for name, found in curve.references.items() if found]
    values = "; ".join(parts) or "no results"
    return f"{capital(metric_name(curve.metric))} against pretraining videos on {curve.name}. {values}."


def _missing_note(curve: Curve) -> Safe | None:
    if not curve.missing:
        return None
    names = ", ".join(f"{_what(point)} (seed {point.seed})" for point in curve.missing)
    return tag("span", f" · × no result: {names}", class_="warn")


def _what(point: Point) -> str:
    return size(point.num_videos) if point.kind == "pretrained" else reference_name(point)


# ------------------------------------------------------------------------------------------------------- table

_OTHERS = ("top1", "top5", "mean_class_accuracy", "map")
"""Metrics that stand beside the headline, where results have them."""


def table_section(curves: Sequence[Curve]) -> Safe:
    intro = (
        "Means over seeds. “Over test videos” is the bootstrap interval of a result, its ends averaged over seeds; “over "
        f"seeds” is Student's t and is given from {estimates.MIN_SEEDS} seeds on. The gain is over training from scratch (or "
        "the first baseline) with the same protocol: paired by seed where as many seeds are in both, else with an interval "
        "combined from the two (MOVER)."
    )
    blocks = [join(tag("h3", c.name), _results_table(c), _classes(c)) for c in curves]
    return page_section("results", "Results", tag("p", intro), *blocks)


def _results_table(curve: Curve) -> Safe:
    others = [key for key in _OTHERS if key != curve.metric and _mean_of(curve.points, key) is not None]
    reference = curve.reference[0] if curve.reference else None
    base = curve.of_reference(reference) if reference else []
    rows = [
        _row(curve.metric, name, curve.of_reference(name), [] if name == reference else base, others)
        for name in curve.references
    ]
    rows += [_row(curve.metric, f"{count:,}", curve.of_size(count), base, others) for count in curve.sizes]
    own = (metric_header(curve.metric), "sd over seeds", "Seeds", "95 % over seeds", "95 % over test videos")
    headers = ("Pretraining videos", *own, *map(metric_header, others), "Gain (points)", "95 % of the gain")
    return table(headers, rows, label=f"Results on {curve.name}")


def _row(metric: str, name: str, found: list[Point], base: list[Point], others: Sequence[str]) -> list[Any]:
    good, estimate = [point for point in found if point.ok], results.estimate_of(found, metric)
    seeds = f"{len(good)}" if len(good) == len(found) else tag("span", f"{len(good)} of {len(found)}", class_="warn")
    if estimate is None:
        return [name, tag("span", found[0].status, class_="warn"), None, seeds, *[None] * (4 + len(others))]
    difference, interval = results.gain(found, base, metric) or (None, None)
    own = [tag("b", percent(estimate.mean)), percent(estimate.sd), seeds, span(estimate.over_seeds)]
    beside = [percent(_mean_of(good, key)) for key in others]
    return [name, *own, span(estimate.over_videos), *beside, points(difference), points_span(interval)]


def _mean_of(found: Sequence[Point], key: str) -> float | None:
    values = [value for point in found if (value := number(point.metrics.get(key))) is not None]
    return math.fsum(values) / len(values) if values else None


def _classes(curve: Curve) -> Safe | None:
    """Accuracy by class of the best size and what it is compared with, largest gain first."""
    best = curve.of_size(curve.best_size) if curve.best_size is not None else []
    name = next(iter(curve.references), SCRATCH)
    key, what = ("average_precision", "Average precision") if curve.metric == "map" else ("accuracy", "Accuracy")
    ours, base = _by_class(best, key), _by_class(curve.of_reference(name), key)
    if not ours:
        return None
    gains = {name: ours[name][0] - base[name][0] if name in base else None for name in ours}
    order = sorted(ours, key=lambda name: (-(gains[name] or 0), name))
    rows = []
    for name in order[:MAX_CLASSES]:
        share, videos = ours[name]
        rows.append([name, f"{videos:,}", percent(share), percent(base.get(name, (None,))[0]), points(gains[name])])
    headers = ("Class", "Test videos", f"{size(curve.best_size)} videos (%)", f"{capital(name)} (%)", "Gain (points)")
    left = f", the first {MAX_CLASSES}" if len(order) > MAX_CLASSES else ""
    content = table(headers, rows, label=f"{what} by class on {curve.name}")
    return details(f"{what} by class ({plural(len(order), 'class')}{left})", content)


def _by_class(found: list[Point], key: str) -> dict[str, tuple[float, int]]:
    """{class: (its `key`, mean over seeds; test videos)}."""
    sums: dict[str, list[tuple[float, int]]] = {}
    for point in found:
        for name, entry in section(point.metrics, "per_class").items():
            if isinstance(entry, dict) and (share := number(entry.get(key))) is not None:
                sums.setdefault(name, []).append((share, int(number(entry.get("num_videos")) or 0)))
    return {name: (math.fsum(s for s, _ in pairs) / len(pairs), pairs[0][1]) for name, pairs in sums.items()}
