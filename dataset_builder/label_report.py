"""`tagreel labels`: the label spaces of finished datasets side by side, and what they share with targets (paper, Section 4.2).

Writes one JSON file and one page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dataset_builder import label_page
from dataset_builder.dataset_labels import DatasetLabels, read_dataset, read_target
from dataset_builder.label_overlap import LabelOverlap, label_overlap
from pipeline import artifacts, progress, storage
from pipeline.cli import run_stage
from pipeline.config import ConfigError, LabelReportConfig

MAX_NAME = 100  # characters of a report's file name that is made of the datasets' names


def report_labels(config: LabelReportConfig) -> dict[str, str]:
    """Write the report; returns {"html": path, "json": path}. Equal inputs give equal bytes."""
    if not config.datasets:
        raise ConfigError("no dataset to report on: name finished datasets with --datasets")
    path = artifacts.label_report(config.root, _report_name(config))
    datasets = [read_dataset(config.root, name) for name in dict.fromkeys(config.datasets)]
    targets = {name: read_target(config.root, name) for name in config.targets}
    overlaps = {
        (dataset.name, target): label_overlap(list(dataset.labels), labels, dataset.kind)
        for target, labels in targets.items()
        for dataset in datasets
    }
    written = {"html": path + ".html", "json": path + ".json"}
    storage.write_json(written["json"], as_json(datasets, overlaps))
    storage.write_bytes(written["html"], label_page.render(datasets, overlaps).encode())
    _say(datasets, overlaps)
    progress.say("\n".join(written.values()))
    return written


def _report_name(config: LabelReportConfig) -> str:
    name = config.name or "+".join(dict.fromkeys(config.datasets))
    if not config.name and len(name) > MAX_NAME:
        raise ConfigError(f"the names of {len(config.datasets)} datasets are too long for a file name: set --name")
    return name


def as_json(datasets: Sequence[DatasetLabels], overlaps: dict[tuple[str, str], LabelOverlap]) -> dict[str, Any]:
    """Everything on the page, and the videos of every label."""
    return {
        "datasets": [asdict(dataset) for dataset in datasets],
        "overlaps": [
            {"dataset": dataset, "target": target, "num_labels": o.num_labels, "share": o.share, **asdict(o)}
            for (dataset, target), o in overlaps.items()
        ],
    }


def _say(datasets: Sequence[DatasetLabels], overlaps: dict[tuple[str, str], LabelOverlap]) -> None:
    """The page's two tables as text, datasets in columns."""
    rows = [("", *(dataset.name for dataset in datasets)), *label_page.quantities(datasets)]
    progress.say(_aligned(rows))
    for (dataset, target), o in overlaps.items():
        progress.say(
            f"{target} in {dataset}: {100 * o.share:.1f} % of {o.num_labels:,} labels = "
            f"{len(o.exact):,} exact + {len(o.canonical):,} by canonical words; {len(o.missing):,} missing"
        )


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in rows
    )
    return "\n".join("  ".join(line) for line in lines)


def main(argv: Sequence[str] | None = None) -> None:
    run_stage(LabelReportConfig, report_labels, argv)


if __name__ == "__main__":
    main()
