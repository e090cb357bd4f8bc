"""The report: read everything, write results.csv and report.html."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import artifacts, progress, storage
from pipeline.cli import run_stage
from pipeline.report import (
    artefacts,
    cells,
    data,
    exclusions,
    figures,
    fit,
    headline,
    inputs,
    label_figure,
    origins,
    provenance,
    results,
    search,
    sheet,
    training,
)
from pipeline.report.document import document
from pipeline.report.markup import Safe, clean, join, plural, tag
from pipeline.report.points import Plan


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
    curves, figure = results.curves(plan), cells.figure(plan)
    fits = fit.fits(curves, root)
    reported = inputs.read_label_report(plan, root)
    sources, targets = artefacts.read_sources(plan, root), artefacts.read_targets(plan, root)
    behind = origins.read_origins(plan, root)
    found = [
        *(_findings(plan, figure, curves, fits, root) if plan.points else ()),
        label_figure.label_section(plan, reported) if reported else None,
        data.counts_section(sources, targets),
        data.labels_section(sources, targets),
        sheet.videos_section(sources),
        exclusions.exclusions_section(sources, targets),
        *(_making(plan, rows, behind, root) if plan.points else ()),
        provenance.configuration_section(plan),
    ]
    sections = [section for section in found if section]
    top = (provenance.problems(plan, behind), provenance.downloads(results.csv_bytes(rows)))
    answer = headline.headline(plan, figure, curves, fits) if plan.points else None
    return document(plan.title, _header(plan, answer, _links(sections), *top), sections)


def _findings(
    plan: Plan, figure: cells.Figure, curves: Sequence[results.Curve], fits: Sequence[fit.Fitted], root: str
) -> list[Safe]:
    found = [figures.figure_section(plan, figure, curves)]
    return [*found, fit.fit_section(fits, curves, root)] if curves else found


def _making(plan: Plan, rows: list[dict], behind: dict[str, origins.Origin], root: str) -> list[Safe]:
    return [
        training.training_section(plan, training.read_logs(plan, root)),
        search.search_section(plan),
        provenance.provenance_section(plan, rows, behind),
    ]


_CONTENTS = (
    ("figure", "Results"),
    ("distribution", "Distribution"),
    ("fit", "Log-linear fit"),
    ("counts", "Counts"),
    ("labels", "Labels"),
    ("videos", "Videos"),
    ("exclusions", "Exclusions"),
    ("training", "Training"),
    ("search", "Search"),
    ("provenance", "Provenance"),
    ("configuration", "Configuration"),
)


def _links(sections: Sequence[Safe]) -> list[Safe]:
    """To the sections that are there."""
    there = [(anchor, title) for anchor, title in _CONTENTS if any(f'<h2 id="{anchor}"' in s for s in sections)]
    return [join(tag("a", title, href=f"#{anchor}"), " ") for anchor, title in there]


def _header(plan: Plan, answer: Safe | None, links: Sequence[Safe], problems: Safe | None, downloads: Safe) -> Safe:
    good = sum(point.ok for point in plan.points)
    points = f" · {good} of {plural(len(plan.points), 'point')} with a result" if plan.points else ""
    notes = tag("aside", *(tag("p", note) for note in plan.notes), class_="callout plain") if plan.notes else None
    return tag(
        "header",
        tag("h1", plan.title),
        tag("p", f"Sweep {clean(plan.name)}{points}", class_="sub"),
        answer,
        notes,
        problems,
        downloads,
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
