"""How the numbers came about: training curves, search grids, provenance of every point, and the configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.report import plots
from pipeline.report.axes import metric_name
from pipeline.report.markup import Safe, details, escaped, join, percent, pre, section, size, table, tag, value
from pipeline.report.points import Plan, Point, number
from pipeline.report.results import sorted_by_target

Metrics = Sequence[tuple[str, list[dict[str, Any]]]]

# ---------------------------------------------------------------------------------------------- training curves


def training_section(metrics: Metrics, sizes: dict[str, int]) -> Safe:
    """Loss (and accuracy) against clips seen. `sizes`: pretraining videos of each run; runs of one size share a colour."""
    found = [(run, lines) for run, lines in metrics if lines]
    if not found:
        return section("training", "Training curves", tag("p", "No run of this sweep has a metrics.jsonl."))
    order = sorted({sizes.get(run, 0) for run, _ in found})
    figures = []
    for key in ("loss", "accuracy"):
        lines = [(order.index(sizes.get(run, 0)), *_line(rows, key)) for run, rows in found]
        if lines := [line for line in lines if len(line[1])]:
            image = plots.training(f"t{key}", f"Training {key} against clips seen, one line per run.", lines, key)
            figures.append(tag("figure", tag("figcaption", tag("b", f"Training {key}")), image))
    missing = [run for run, lines in metrics if not lines]
    note = tag("p", "No metrics of: ", ", ".join(missing), class_="warn") if missing else None
    legend = tag("p", *(_key(index, count) for index, count in enumerate(order)), class_="legend")
    intro = tag(
        "p", "One line per pretraining run; long ones are averaged over stretches. Runs of one size share a colour."
    )
    return section(
        "training",
        "Training curves",
        intro,
        legend,
        tag("div", *figures, class_="grid"),
        note,
        _run_table(found, sizes),
    )


def _line(rows: list[dict[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    good = [(row["clips_seen"], row[key]) for row in rows if number(row.get(key)) is not None]
    clips, values = zip(*good, strict=True) if good else ((), ())
    return np.asarray(clips, float), np.asarray(values, float)


def _key(index: int, count: int) -> Safe:
    dash = ("solid", "dashed", "dotted", "dashed")[index // len(plots.SERIES) % 4]
    style = f"--k:var(--c{index % len(plots.SERIES) + 1});--d:{dash}"
    return tag("span", f"{size(count)} videos", class_="key line", style=style)


def _run_table(found: Metrics, sizes: dict[str, int]) -> Safe:
    headers = ("Run", "Videos", "Clips seen", "First loss", "Final loss", "Final accuracy (%)", "Clips/s (median)")
    rows = []
    for run, lines in found:
        loss, share, speed = (_line(lines, key)[1] for key in ("loss", "accuracy", "clips_per_s"))
        ends = [f"{loss[0]:.3f}", f"{_tail(loss):.3f}"] if len(loss) else [None, None]
        accuracy, rate = (
            percent(_tail(share)) if len(share) else None,
            f"{np.median(speed):,.1f}" if len(speed) else None,
        )
        rows.append([run, f"{sizes.get(run, 0):,}", f"{int(lines[-1]['clips_seen']):,}", *ends, accuracy, rate])
    note = tag("p", "Final values are means of the last twentieth of the lines.", class_="note")
    return join(table(headers, rows, label="Pretraining runs"), note)


def _tail(values: np.ndarray) -> float:
    return float(values[-max(1, len(values) // 20) :].mean())


# ------------------------------------------------------------------------------------------------------- search


def search_section(plan: Plan) -> Safe:
    """Held-out score of every value tried, per point; the chosen one bold, one at the grid's edge marked."""
    searched = [point for point in plan.points if _scores(point)]
    if not searched:
        return section("search", "Hyperparameter search", tag("p", "No result records a search."))
    intro = (
        "Accuracy (%) on training videos held out for the search; the test split is never used. The chosen value is bold; "
        "← or → marks one at the edge of its grid, where a wider grid might have found better."
    )
    pairs = sorted_by_target(dict.fromkeys((point.target, point.protocol) for point in searched))
    blocks = [
        join(tag("h3", f"{t}, {p}"), _grid([x for x in searched if (x.target, x.protocol) == (t, p)])) for t, p in pairs
    ]
    return section("search", "Hyperparameter search", tag("p", intro), *blocks)


def _scores(point: Point) -> dict[Any, float | None]:
    """{value: score}; a value that is not a number stands as its JSON text."""
    entries = point.result.get("search") or []
    good = [entry for entry in entries if isinstance(entry, dict) and "value" in entry]
    return {_hashable(entry["value"]): number(entry.get("score")) for entry in good}


def _hashable(thing: Any) -> Any:
    return json.dumps(thing, sort_keys=True) if isinstance(thing, dict | list) else thing


def _grid(found: list[Point]) -> Safe:
    values = sorted({v for point in found for v in _scores(point)}, key=lambda v: (isinstance(v, str), v))
    rows = [[_name(point), str(point.seed), *_score_cells(point, values)] for point in found]
    first = found[0]
    headers = ("Point", "Seed", *(value(v) for v in values))
    return table(headers, rows, label=f"Search on {first.target}, {first.protocol}")


def _score_cells(point: Point, values: list[Any]) -> list[Any]:
    scores, chosen, cells = _scores(point), _hashable(point.result.get("chosen")), []
    tried = [v for v in values if v in scores]
    for v in values:
        text = percent(scores.get(v)) or ("?" if v in scores else None)
        if v == chosen:
            edge = {tried[0]: "← ", tried[-1]: "→ "}.get(v, "") if len(tried) > 1 else ""
            text = join(edge, tag("b", text or "?"))
        cells.append(text)
    return cells


def _name(point: Point) -> str:
    return f"{point.num_videos:,} videos" if point.kind == "pretrained" else "from scratch"


# --------------------------------------------------------------------------------------------------- provenance

_HEADERS = (
    "Point", "Target, protocol", "Videos", "Seed", "Status", "Headline (%)", "Test videos", "Undecodable", "Seconds", "Run",
    "Run digest", "Dataset", "Dataset digest", "Config digest", "Result digest",
)  # fmt: skip


def provenance_section(plan: Plan, rows: Sequence[dict[str, Any]]) -> Safe:
    """`rows`: those of results.csv, in the order of the points."""
    intro = "Every planned point, with or without a result. A digest changes when anything that decides the artefact changes."
    pairs = list(zip(plan.points, rows, strict=True))
    content = table(_HEADERS, [_provenance_row(*pair) for pair in pairs], label="Provenance", align="llrrlrrrrlclccc")
    commands = [join(tag("h4", p.id), pre("\n".join(p.commands))) for p in plan.points if p.commands]
    reproduce = details("Commands that make each point", *commands) if commands else None
    return section("provenance", "Provenance", tag("p", intro), content, _versions(plan), reproduce)


def _provenance_row(point: Point, row: dict[str, Any]) -> list[Any]:
    good = point.ok and not point.problem
    status = (
        "ok" if good else tag("span", point.status if not point.ok else "check", class_="warn", title=point.problem)
    )
    numbers = [_headline(point), *(value(row[k]) for k in ("num_test_videos", "num_undecodable"))]
    seconds = _seconds(point.result.get("seconds"))
    digests = [row["dataset"], row["dataset_digest"], point.result.get("config_digest"), row["result_digest"]]
    where = f"{point.target}, {point.protocol}"
    taken = f"{seconds:,.0f}" if seconds is not None else None
    return [
        point.id,
        where,
        f"{point.num_videos:,}",
        str(point.seed),
        status,
        *numbers,
        taken,
        point.run,
        row["run_digest"],
        *digests,
    ]


def _headline(point: Point) -> str | None:
    return point.headline and f"{percent(point.headline.value)} {metric_name(point.headline.name)}"


def _seconds(taken: Any) -> float | None:
    """Of one number, or the sum of several by stage."""
    parts = [number(part) for part in (taken.values() if isinstance(taken, dict) else [taken])]
    return sum(parts) if parts and None not in parts else None


def _versions(plan: Plan) -> Safe | None:
    """Versions of all results; more than one set means the points are not strictly comparable."""
    sets: dict[str, int] = {}
    for point in plan.points:
        if versions := point.result.get("versions"):
            text = (
                ", ".join(f"{k} {v}" for k, v in sorted(versions.items()))
                if isinstance(versions, dict)
                else str(versions)
            )
            sets[text] = sets.get(text, 0) + 1
    if not sets:
        return None
    mixed = tag("p", "The results were made with different versions:", class_="warn") if len(sets) > 1 else None
    return join(mixed, tag("ul", *(tag("li", f"{count} × ", text) for text, count in sets.items())))


def configuration_section(plan: Plan) -> Safe:
    text = json.dumps(plan.config, indent=2, ensure_ascii=False)
    return section("configuration", "Configuration", details("The whole resolved configuration", pre(text)))


def problems(plan: Plan) -> Safe | None:
    """Points without a result, and results with something odd about them, for the top of the page."""
    odd = [point for point in plan.points if point.problem]
    if not odd:
        return None
    absent = sum(not point.ok for point in odd)
    title = f"{absent} of {len(plan.points)} points have no result" if absent else "Some results need a look"
    items = (tag("li", tag("code", escaped(point.id)), ": ", point.problem) for point in odd)
    return tag("aside", tag("p", tag("b", f"{title}.")), details("Which", tag("ul", *items)), class_="callout")
