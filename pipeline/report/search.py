"""The search: every hyperparameter value that was tried for each point, what it scored, and which one was taken."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.report import axes, provenance
from pipeline.report.markup import Safe, details, join, percent, plural, section, table, tag, value
from pipeline.report.points import Plan, Point, number
from pipeline.report.results import reference_name, sorted_by_target

MAX_OPEN_POINTS = 16
FIRST, LAST = "← ", "→ "


def search_section(plan: Plan) -> Safe:
    """Held-out score of every value tried, per point; the chosen one bold, one at the grid's edge marked."""
    searched = [point for point in plan.points if scores(point)]
    if not searched:
        return section("search", "Hyperparameter search", tag("p", "No result records a search."))
    intro = (
        "Accuracy (%) on training videos held out for the search; the test split is never used. The chosen value is bold; "
        "← or → marks one at the edge of its grid, where a wider grid might have found better."
    )
    pairs = sorted_by_target(dict.fromkeys((point.target, point.protocol) for point in searched))
    blocks = (_block(*pair, [x for x in searched if (x.target, x.protocol) == pair]) for pair in pairs)
    return section("search", "Hyperparameter search", tag("p", intro), *blocks)


def scores(point: Point) -> dict[Any, float | None]:
    """{value: score}; a value that is not a number stands as its JSON text."""
    entries = point.result.get("search") or []
    good = [entry for entry in entries if isinstance(entry, dict) and "value" in entry]
    return {_hashable(entry["value"]): number(entry.get("score")) for entry in good}


def _hashable(thing: Any) -> Any:
    return json.dumps(thing, sort_keys=True) if isinstance(thing, dict | list) else thing


def edge(point: Point) -> str:
    """FIRST or LAST where the chosen value is an end of the values tried, in their order; else nothing."""
    tried, chosen = _in_order(scores(point)), _hashable(point.result.get("chosen"))
    return {tried[0]: FIRST, tried[-1]: LAST}.get(chosen, "") if len(tried) > 1 else ""


def _in_order(values: Any) -> list[Any]:
    return sorted(set(values), key=lambda v: (isinstance(v, str), v))


def _block(target: str, protocol: str, found: Sequence[Point]) -> Safe:
    grid = _grid(found)
    shown = grid if len(found) <= MAX_OPEN_POINTS else details(f"Every point ({len(found)})", grid)
    return join(tag("h3", f"{target}, {protocol}"), tag("p", _summary(found), class_="note"), shown)


def _summary(found: Sequence[Point]) -> str:
    """How often each value was chosen, and how often that was an end of the grid."""
    chosen = [_hashable(point.result.get("chosen")) for point in found]
    counts = ", ".join(f"{value(v)} × {chosen.count(v)}" for v in _in_order(v for v in chosen if v is not None))
    at_edge = sum(bool(edge(point)) for point in found)
    warning = f"; {at_edge} of {plural(len(found), 'choice')} at the edge of the grid" if at_edge else ""
    return f"Chosen: {counts or 'nothing'}{warning}."


def _grid(found: Sequence[Point]) -> Safe:
    values = _in_order(v for point in found for v in scores(point))
    varying = axes.varying((point.axes for point in found), [axis for axis in axes.AXES if axis != "seed"])
    rows = [[_name(point, varying), str(point.seed), *_cells(point, values)] for point in found]
    headers = ("Point", "Seed", *(value(v) for v in values))
    return table(headers, rows, label=f"Search on {found[0].target}, {found[0].protocol}")


def _name(point: Point, varying: Sequence[str]) -> Safe:
    plain = f"{point.num_videos:,} videos" if point.kind == "pretrained" else reference_name(point)
    return provenance.link(point, axes.place(point.axes, varying) or plain)


def _cells(point: Point, values: Sequence[Any]) -> Iterator[Any]:
    tried, chosen = scores(point), _hashable(point.result.get("chosen"))
    for v in values:
        text = percent(tried.get(v)) or ("?" if v in tried else None)
        yield join(edge(point), tag("b", text or "?")) if v == chosen else text
