"""The findings: headline, accuracy against pretraining videos, results table, accuracy by class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pipeline.report import estimates, plots
from pipeline.report.estimates import Estimate
from pipeline.report.inputs import Plan, Point, number, section
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
from pipeline.report.results import Curve

MAX_CLASSES = 400


def headline(curves: Sequence[Curve]) -> Safe:
    """One sentence per target and protocol, from the numbers alone."""
    return tag("div", *(tag("p", _sentence(curve)) for curve in curves), class_="headline")


def _sentence(curve: Curve) -> Safe:
    where = join(" top-1 on ", tag("b", curve.target), " (", curve.protocol, ")")
    best = curve.best_size
    if best is None:
        if curve.scratch is None:
            return join("No result yet", " on ", tag("b", curve.target), " (", curve.protocol, ").")
        return join("From scratch: ", _with_spread(curve.scratch), where, "; no pretrained result to set against it.")
    reached = join("Pretraining on ", tag("b", f"{best:,}"), " videos: ", _with_spread(curve.pretrained[best]), where)
    if curve.scratch is None:
        return join(reached, "; no from-scratch result to set against it.")
    difference, interval = estimates.gain(curve.pretrained[best], curve.scratch)
    against = join(", against ", _with_spread(curve.scratch), " from scratch: ")
    return join(reached, against, tag("b", f"{points(difference)} points"), _certainty(interval), ".")


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
        "same network trained from scratch on the target alone, with a ring per seed. The vertical axis need not start at 0."
    )
    blocks = [_target_plots(plan, name, curves) for name in dict.fromkeys(curve.target for curve in curves)]
    return page_section("accuracy", "Accuracy against pretraining videos", tag("p", intro), *blocks)


def _target_plots(plan: Plan, target: str, curves: Sequence[Curve]) -> Safe:
    mine = [curve for curve in curves if curve.target == target]
    protocols = list(dict.fromkeys(curve.protocol for curve in curves))
    limits, chance = plots.accuracy_limits(mine), plan.chance_of(target)
    figures = []
    for curve in mine:
        colour = protocols.index(curve.protocol)
        image = plots.accuracy(f"a{curves.index(curve)}", _alt(curve), curve, colour, limits, chance)
        figures.append(tag("figure", tag("figcaption", tag("b", curve.protocol), _missing_note(curve)), image))
    at_chance = f", chance {percent(chance)} %" if chance is not None else ""
    return join(tag("h3", "Target ", target, at_chance), tag("div", *figures, class_="grid"))


def _alt(curve: Curve) -> str:
    parts = [f"{size(count)}: {percent(e.mean)} %" for count, e in sorted(curve.pretrained.items())]
    parts += [f"from scratch: {percent(curve.scratch.mean)} %"] if curve.scratch else []
    values = "; ".join(parts) or "no results"
    return f"Top-1 accuracy against pretraining videos on {curve.target}, {curve.protocol}. {values}."


def _missing_note(curve: Curve) -> Safe | None:
    if not curve.missing:
        return None
    names = ", ".join(f"{_what(point)} (seed {point.seed})" for point in curve.missing)
    return tag("span", f" · × no result: {names}", class_="warn")


def _what(point: Point) -> str:
    return size(point.num_videos) if point.kind == "pretrained" else "from scratch"


# ------------------------------------------------------------------------------------------------------- table

_HEADERS = (
    "Pretraining videos", "Top‑1 (%)", "sd over seeds", "Seeds", "95 % over seeds", "95 % over test videos",
    "Top‑5 (%)", "Mean of classes (%)", "Gain (points)", "95 % of the gain",
)  # fmt: skip


def table_section(curves: Sequence[Curve]) -> Safe:
    intro = (
        "Means over seeds. “Over test videos” is the bootstrap interval of a result, its ends averaged over seeds; “over "
        f"seeds” is Student's t and is given from {estimates.MIN_SEEDS} seeds on. The gain is over training from scratch with "
        "the same protocol, its interval combined from the two (MOVER)."
    )
    blocks = [join(tag("h3", c.target, ", ", c.protocol), _results_table(c), _classes(c)) for c in curves]
    return page_section("results", "Results", tag("p", intro), *blocks)


def _results_table(curve: Curve) -> Safe:
    rows = [_row("from scratch", curve.from_scratch, curve.scratch, None)] if curve.from_scratch else []
    for count in curve.sizes:
        rows.append(_row(f"{count:,}", curve.of_size(count), curve.pretrained.get(count), curve.scratch))
    return table(_HEADERS, rows, label=f"Results on {curve.target}, {curve.protocol}")


def _row(name: str, found: list[Point], estimate: Estimate | None, scratch: Estimate | None) -> list[Any]:
    good = [point for point in found if point.ok]
    seeds = f"{len(good)}" if len(good) == len(found) else tag("span", f"{len(good)} of {len(found)}", class_="warn")
    if estimate is None:
        return [name, tag("span", found[0].status, class_="warn"), None, seeds, *[None] * 6]
    difference, interval = estimates.gain(estimate, scratch) if scratch else (None, None)
    others = [percent(_mean_of(good, key)) for key in ("top5", "mean_class_accuracy")]
    own = [tag("b", percent(estimate.mean)), percent(estimate.sd), seeds, span(estimate.over_seeds)]
    gained = points_span(interval) if interval else None
    return [name, *own, span(estimate.over_videos), *others, points(difference), gained]


def _mean_of(found: list[Point], key: str) -> float | None:
    values = [value for point in found if (value := number(point.metrics.get(key))) is not None]
    return math.fsum(values) / len(values) if values else None


def _classes(curve: Curve) -> Safe | None:
    """Accuracy by class of the best size and from scratch, largest gain first."""
    best = curve.of_size(curve.best_size) if curve.best_size is not None else []
    ours, base = _by_class(best), _by_class(curve.from_scratch)
    if not ours:
        return None
    gains = {name: ours[name][0] - base[name][0] if name in base else None for name in ours}
    order = sorted(ours, key=lambda name: (-(gains[name] or 0), name))
    rows = []
    for name in order[:MAX_CLASSES]:
        share, videos = ours[name]
        rows.append([name, f"{videos:,}", percent(share), percent(base.get(name, (None,))[0]), points(gains[name])])
    headers = ("Class", "Test videos", f"{size(curve.best_size)} videos (%)", "From scratch (%)", "Gain (points)")
    left = f", the first {MAX_CLASSES}" if len(order) > MAX_CLASSES else ""
    content = table(headers, rows, label=f"Accuracy by class on {curve.target}, {curve.protocol}")
    return details(f"Accuracy by class ({plural(len(order), 'class')}{left})", content)


def _by_class(found: list[Point]) -> dict[str, tuple[float, int]]:
    """{class: (accuracy, mean over seeds; test videos)}."""
    sums: dict[str, list[tuple[float, int]]] = {}
    for point in found:
        for name, entry in section(point.metrics, "per_class").items():
            if isinstance(entry, dict) and (share := number(entry.get("accuracy"))) is not None:
                sums.setdefault(name, []).append((share, int(number(entry.get("num_videos")) or 0)))
    return {name: (math.fsum(s for s, _ in pairs) / len(pairs), pairs[0][1]) for name, pairs in sums.items()}
