"""The numbers behind curves of accuracy against pretraining videos: one table each, other metrics, accuracy by class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pipeline.report import estimates, results
from pipeline.report.axes import capital, metric_header
from pipeline.report.cells import agrees
from pipeline.report.figure_table import each_seed
from pipeline.report.markup import Safe, details, join, percent, plural, points, points_span, size, span, table, tag
from pipeline.report.points import Plan, Point, number, section
from pipeline.report.results import Curve

MAX_CLASSES = 400

_OTHERS = ("top1", "top5", "mean_class_accuracy", "map")
"""Metrics that stand beside the headline, where results have them."""

_INTRO = (
    "Means over seeds; each seed leads to where its number comes from. “Over seeds” is Student's t, from "
    f"{estimates.MIN_SEEDS} seeds on; “over test videos” is the bootstrap interval of a result, its ends averaged over seeds. "
    "The gain is over training from scratch (or the first baseline) by the same protocol: paired by seed where enough seeds "
    "are in both, else with an interval combined from the two (MOVER)."
)


def curve_tables(plan: Plan, curves: Sequence[Curve]) -> Safe:
    blocks = (join(tag("h4", c.name), _results(plan, c), _other_metrics(c), _classes(c)) for c in curves)
    return join(tag("h3", "The numbers"), tag("p", _INTRO, class_="note"), *blocks)


def _results(plan: Plan, curve: Curve) -> Safe:
    name = curve.reference[0] if curve.reference else None
    base = curve.of_reference(name) if name else []
    printed = [_printed(plan, found, curve.metric) for _, found in _rows(curve)]
    rows = []
    for (what, found), theirs in zip(_rows(curve), printed, strict=True):
        row = _row(curve.metric, what, found)
        gain = _gain(curve.metric, found, [] if what == name else base) if base else ()
        rows.append([*row, *gain, *([theirs] if any(printed) else ())])
    own = (metric_header(curve.metric), "sd over seeds", "95 % over seeds", "95 % over test videos", "Each seed")
    gained = ("Gain (points)", "95 % of the gain") if base else ()
    headers = ("Pretraining videos", *own, *gained, *((tag("i", "the paper"),) if any(printed) else ()))
    return table(headers, rows, label=f"Results on {curve.name}")


def _rows(curve: Curve) -> list[tuple[str, list[Point]]]:
    """What it is compared with, then the sizes."""
    references = [(name, curve.of_reference(name)) for name in curve.references]
    return references + [(f"{count:,}", curve.of_size(count)) for count in curve.sizes]


def _row(metric: str, name: str, found: list[Point]) -> list[Any]:
    estimate = results.estimate_of(found, metric)
    if estimate is None:
        return [name, tag("span", found[0].status, class_="warn"), None, None, None, each_seed(found, metric)]
    own = [
        tag("b", percent(estimate.mean)),
        percent(estimate.sd),
        span(estimate.over_seeds),
        span(estimate.over_videos),
    ]
    return [name, *own, each_seed(found, metric)]


def _gain(metric: str, found: list[Point], base: list[Point]) -> tuple[str | None, str | None]:
    difference, interval = results.gain(found, base, metric) or (None, None)
    return points(difference), points_span(interval)


def _printed(plan: Plan, found: Sequence[Point], metric: str) -> Safe | None:
    """What the paper printed of these points."""
    values = (v for v in plan.layout.paper if v["metric"] == metric and agrees(v, found[0].axes))
    return next((tag("i", percent(value["value"])) for value in values), None)


# ------------------------------------------------------------------------------------------------------- more metrics


def _other_metrics(curve: Curve) -> Safe | None:
    others = [key for key in _OTHERS if key != curve.metric and _mean_of(curve.points, key) is not None]
    if not others:
        return None
    rows = [[name, *(percent(_mean_of(found, key)) for key in others)] for name, found in _rows(curve)]
    headers = ("Pretraining videos", *map(metric_header, others))
    return details("Other metrics", table(headers, rows, label=f"Other metrics on {curve.name}, means over seeds"))


def _mean_of(found: Sequence[Point], key: str) -> float | None:
    values = [value for point in found if (value := number(point.metrics.get(key))) is not None]
    return math.fsum(values) / len(values) if values else None


def _classes(curve: Curve) -> Safe | None:
    """Accuracy by class of the best size and what it is compared with, largest gain first."""
    best = curve.of_size(curve.best_size) if curve.best_size is not None else []
    name = curve.reference[0] if curve.reference else None
    key, what = ("average_precision", "Average precision") if curve.metric == "map" else ("accuracy", "Accuracy")
    ours, base = _by_class(best, key), _by_class(curve.of_reference(name) if name else [], key)
    if not ours:
        return None
    gains = {label: ours[label][0] - base[label][0] if label in base else None for label in ours}
    order = sorted(ours, key=lambda label: (-(gains[label] or 0), label))
    rows = []
    for label in order[:MAX_CLASSES]:
        share, videos = ours[label]
        against = (percent(base.get(label, (None,))[0]), points(gains[label])) if base else ()
        rows.append([label, f"{videos:,}", percent(share), *against])
    headers = ["Class", "Test videos", f"{size(curve.best_size)} videos (%)"]
    headers += [f"{capital(name)} (%)", "Gain (points)"] if base else []
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
