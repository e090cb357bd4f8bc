"""The report: read everything, write results.csv and report.html."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import artifacts, progress, storage
from pipeline.cli import run_stage
from pipeline.report import accuracy, data, exclusions, fit, inputs, results, runs
from pipeline.report.document import document
from pipeline.report.inputs import Plan, number
from pipeline.report.markup import Safe, clean, join, plural, tag


@dataclass(frozen=True)
class ReportConfig:
    """A sweep's plan and artefacts → its results.csv and report.html."""

    root: str = "tagreel-data"
    """Folder that holds every artefact."""
    sweep: str = "data_size"
    """Name of the sweep."""


def write_report(sweep_folder: str, root: str) -> dict[str, str]:
    """Write results.csv and report.html of the sweep whose plan.json is in `sweep_folder`.

    Args:
        sweep_folder: folder of the plan; the two files are written beside it.
        root: folder that holds every artefact; paths in the plan are relative to it.

    Returns: {"html": path, "csv": path}. Equal inputs give equal bytes. Missing results and artefacts are shown as missing.
    """
    plan = inputs.read_plan(sweep_folder, root)
    rows = results.result_rows(plan, root)
    written = {"html": storage.join(sweep_folder, "report.html"), "csv": storage.join(sweep_folder, "results.csv")}
    storage.write_bytes(written["csv"], results.csv_bytes(rows))
    storage.write_bytes(written["html"], render(plan, rows, root).encode())
    return written


def render(plan: Plan, rows: list[dict], root: str) -> str:
    """The page, top to bottom."""
    curves = results.curves(plan)
    sizes = {point.run: point.num_videos for point in plan.points if point.kind == "pretrained"}
    labels = [(dataset, found) for dataset in plan.datasets if (found := inputs.read_labels(root, dataset))]
    floor = number(inputs.section(inputs.section(plan.config, "build"), "sampling").get("min_videos"))
    sections = [
        accuracy.plot_section(plan, curves),
        accuracy.table_section(curves),
        fit.fit_section(curves, root),
        data.funnel_section(inputs.read_stages(plan, root)),
        data.labels_section(labels, int(floor) if floor else None),
        exclusions.exclusions_section(inputs.read_dedups(plan, root)),
        runs.training_section([(run, inputs.read_metrics(root, run)) for run in plan.runs if run in sizes], sizes),
        runs.search_section(plan),
        runs.provenance_section(plan, rows),
        runs.configuration_section(plan),
    ]
    return document(plan.title, _header(plan, curves), sections)


_CONTENTS = (
    ("accuracy", "Accuracy"),
    ("results", "Results"),
    ("fit", "Log-linear fit"),
    ("counts", "Counts"),
    ("labels", "Labels"),
    ("exclusions", "Exclusions"),
    ("training", "Training"),
    ("search", "Search"),
    ("provenance", "Provenance"),
    ("configuration", "Configuration"),
)


def _header(plan: Plan, curves: list[results.Curve]) -> Safe:
    good = sum(point.ok for point in plan.points)
    about = f"Sweep {clean(plan.name)} · {good} of {plural(len(plan.points), 'point')} with a result"
    notes = tag("aside", *(tag("p", note) for note in plan.notes), class_="callout plain") if plan.notes else None
    links = (join(tag("a", title, href=f"#{anchor}"), " ") for anchor, title in _CONTENTS)
    return tag(
        "header",
        tag("h1", plan.title),
        tag("p", about, class_="sub"),
        accuracy.headline(curves),
        accuracy.headline_note(curves),
        notes,
        runs.problems(plan),
        tag("nav", *links, aria_label="Contents"),
    )


def report(config: ReportConfig) -> dict[str, str]:
    """Write both files of a sweep by name, and say where they are."""
    written = write_report(artifacts.sweep_folder(config.root, config.sweep), config.root)
    progress.say("\n".join(written.values()))
    return written


def main(argv: Sequence[str] | None = None) -> None:
    """`tagreel report`."""
    run_stage(ReportConfig, report, argv)
