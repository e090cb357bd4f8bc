"""Figure 3: how videos spread over the labels of several datasets, and which labels of the targets are among them.

Drawn from the artefact of `tagreel labels` (dataset_builder/label_report.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.report import plots
from pipeline.report.inputs import LabelReport
from pipeline.report.markup import Safe, details, join, percent, table, tag
from pipeline.report.markup import section as page_section
from pipeline.report.points import Plan, number, section

MAX_LABEL_ROWS = 100
_CSS_DASHES = {"-": "solid", "--": "dashed", ":": "dotted", "-.": "dashed"}


def label_section(plan: Plan, report: LabelReport) -> Safe:
    title = f"{plan.layout.figure}: {plan.layout.title}"
    if report.content is None:
        missing = tag("p", "Missing: the label report ", tag("code", report.path), " is not there yet.", class_="warn")
        return page_section("distribution", title, missing)
    datasets = [entry for entry in report.content.get("datasets") or [] if section(entry, "labels")]
    overlaps = [entry for entry in report.content.get("overlaps") or [] if isinstance(entry, dict)]
    return page_section(
        "distribution",
        title,
        _plots(datasets),
        _numbers(datasets),
        _overlaps(plan, datasets, overlaps) if overlaps else None,
        *map(_labels, datasets),
    )


def _ranked(dataset: dict[str, Any]) -> list[tuple[str, int]]:
    """(label, videos), most videos first."""
    counts = {name: int(number(count) or 0) for name, count in dataset["labels"].items()}
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _plots(datasets: Sequence[dict[str, Any]]) -> Safe:
    counts = [np.array([count for _, count in _ranked(dataset)], np.int64) for dataset in datasets]
    names = ", ".join(str(dataset["name"]) for dataset in datasets)
    share = plots.cumulative(
        "lc", f"Share of the videos against share of the labels: {names}.", [shares(c) for c in counts]
    )
    rank = plots.ranked("lr", f"Videos per label by rank: {names}.", counts)
    figures = [
        tag("figure", tag("figcaption", tag("b", what)), image)
        for what, image in (("Cumulative distribution, as in the paper", share), ("Videos per label by rank", rank))
    ]
    intro = (
        "One line a dataset. Left, labels stand in order of their videos, those with most first, and the axis is divided by "
        "their number: the further a line bends from the diagonal, the more of the videos belong to few labels. Videos are "
        "counted once for each of their labels. The paper gives no numbers of its Figure 3."
    )
    keys = tag("p", *(_key(index, str(dataset["name"])) for index, dataset in enumerate(datasets)))
    return join(tag("p", intro), keys, tag("div", *figures, class_="grid"))


def shares(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(share of the labels, share of the videos that they have), both float [K + 1]; `counts`: int [K], most first."""
    summed = np.concatenate([[0], np.cumsum(counts)])
    return np.arange(len(summed)) / len(counts), summed / max(1, summed[-1])


def _key(index: int, name: str) -> Safe:
    dash = _CSS_DASHES[plots.series_style(index)[1]]
    return tag("span", name, class_="key line", style=f"--k:var(--c{index % len(plots.SERIES) + 1});--d:{dash}")


def _numbers(datasets: Sequence[dict[str, Any]]) -> Safe:
    headers = (
        "Dataset", "Kind", "Videos", "Labels", "Most", "Median", "Fewest", "Share of the top 10 % of labels (%)",
        "Effective labels", "Gini",
    )  # fmt: skip
    rows = [[dataset["name"], dataset.get("kind"), *_statistics(dataset)] for dataset in datasets]
    return table(headers, rows, label="Videos per label", align="ll")


def _statistics(dataset: dict[str, Any]) -> list[str | None]:
    counts = [count for _, count in _ranked(dataset)]
    found = section(dataset, "statistics")
    head, effective, gini = (number(found.get(key)) for key in ("head_share_10", "effective_labels", "gini"))
    videos = number(dataset.get("num_videos"))
    return [
        None if videos is None else f"{videos:,.0f}",
        f"{len(counts):,}",
        f"{counts[0]:,}",
        f"{np.median(counts):,.0f}",
        f"{counts[-1]:,}",
        percent(head),
        None if effective is None else f"{effective:,.1f}",
        None if gini is None else f"{gini:.3f}",
    ]


def _overlaps(plan: Plan, datasets: Sequence[dict[str, Any]], overlaps: Sequence[dict[str, Any]]) -> Safe:
    kinds = {dataset["name"]: dataset.get("kind") for dataset in datasets}
    rows = [[*_overlap(entry), _printed(plan, entry, kinds)] for entry in overlaps]
    headers = (
        "Target", "Dataset", "Labels of the target", "Exact", "By canonical words", "Missing", "In the dataset (%)",
        tag("i", "the paper"),
    )  # fmt: skip
    intro = (
        "Labels of a target that are among a dataset's, spelt alike or with the same words. Values in italics are the "
        "paper's, of its own data."
    )
    shown = table(headers, rows, label="Overlap of labels with targets", align="ll")
    return join(tag("h3", "Overlap with the targets' labels"), tag("p", intro, class_="note"), shown)


def _overlap(entry: dict[str, Any]) -> list[Any]:
    found = [len(entry.get(key) or ()) for key in ("exact", "canonical", "missing")]
    return [
        entry["target"],
        entry["dataset"],
        f"{sum(found):,}",
        *(f"{n:,}" for n in found),
        percent(number(entry["share"])),
    ]


def _printed(plan: Plan, entry: dict[str, Any], kinds: dict[str, Any]) -> Safe | None:
    place = {"target": entry["target"], "labels": kinds.get(entry["dataset"])}
    values = (v for v in plan.layout.paper if {key: v.get(key) for key in place} == place)
    return next((tag("i", f"{percent(value['value'])} ({value['where']})") for value in values), None)


def _labels(dataset: dict[str, Any]) -> Safe:
    ranked = _ranked(dataset)
    cut = f", the first {MAX_LABEL_ROWS} shown" if len(ranked) > MAX_LABEL_ROWS else ""
    rows = [[str(rank), name, f"{count:,}"] for rank, (name, count) in enumerate(ranked[:MAX_LABEL_ROWS], 1)]
    content = table(("Rank", "Label", "Videos"), rows, label=f"Labels of {dataset['name']}", align="ll")
    return details(f"Labels of {dataset['name']} ({len(ranked):,}{cut})", content)
