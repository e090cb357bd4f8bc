"""What the study found (docs/study.md): the raw results of its sweeps in one CSV, and the tables that are made of it.

`python -m benchmarks.study_findings --collect tagreel-study` writes docs/study-results.csv, results/study.json and the tables of
docs/study.md; without an option the tables are made anew from the CSV alone.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from benchmarks.record import write
from finetune.predictions import Predictions
from pipeline import artifacts, launch, storage
from pipeline.report import log_fit
from pipeline.report.estimates import MIN_SEEDS, t_975
from pipeline.report.inputs import read_plan
from pipeline.report.points import Plan, Point
from pipeline.report.results import COLUMNS, result_rows
from pipeline.sweeps.study import SWEEPS, study

DOCUMENT = Path(__file__).parents[1] / "docs" / "study.md"
RESULTS = DOCUMENT.with_name("study-results.csv")
COPIES = ("top1_copied", "num_copied", "top1_others")
"""Accuracy on the test videos of which the arm with duplicates holds a copy, their number, and accuracy on the others: of
every arm of a seed on the same videos."""

Row = dict[str, str]
Rows = Sequence[Row]


# ------------------------------------------------------------------------------------------------------ collecting


def collect(root: str) -> list[dict[str, Any]]:
    """Rows of results.csv of every sweep of the study, those without a result too."""
    rows = []
    for kind in SWEEPS:
        folder = storage.join(root, os.path.basename(study(kind).root))
        if not storage.exists(folder):
            continue
        plan = read_plan(launch.write_plan(study(kind, folder)), folder)  # anew: with what was drawn
        copies = _accuracy_on_copies(plan, folder) if kind == "near_duplicates" else {}
        rows += [row | copies.get(row["point"], {}) for row in result_rows(plan, folder)]
    return rows


def _accuracy_on_copies(plan: Plan, root: str) -> dict[str, dict[str, Any]]:
    """{point: `COPIES`}: what is a copy of what is the platform's truth, not what the clean-up found."""
    truth = storage.read_parquet(f"{root}/world/truth.parquet", ["video_uri", "kind", "duplicate_of"])
    original_of = dict(zip(*(truth.column(name).to_pylist() for name in ("video_uri", "duplicate_of")), strict=True))
    kept = {point.seed: point.dataset for point in plan.points if point.axes["near_duplicates"] == "kept" and point.ok}
    copied = {seed: {original_of[uri] for uri in _uris(root, dataset)} - {None} for seed, dataset in kept.items()}
    there = [point for point in plan.points if point.ok and point.seed in copied]
    return {point.id: _split_accuracy(root, point, copied[point.seed]) for point in there}


def _uris(root: str, dataset: str) -> list[str]:
    files = artifacts.dataset_files(root, dataset)
    return storage.read_parquet_parts(files.manifest, ["uri"])["uri"].to_pylist()


def _split_accuracy(root: str, point: Point, originals: set[str]) -> dict[str, Any]:
    target = artifacts.target_files(root, point.target, "test")
    videos = storage.read_parquet_parts(target.manifest, ["video_id", "uri"]).to_pylist()
    copied = {video["video_id"] for video in videos if video["uri"] in originals}
    names = [label["name"] for label in storage.read_json(target.label_space)["labels"]]
    folder = artifacts.run_files(root, point.run).transfer(point.target, point.protocol, "")
    table = storage.read_parquet(artifacts.TransferFiles(folder).predictions)
    one = Predictions.from_table(table.filter(pc.equal(table["seed"], table["seed"][0])), names, multi_label=False)
    right = dict(zip(one.keys, one.correct.tolist(), strict=True))
    parts = [[correct for key, correct in right.items() if (key in copied) is wanted] for wanted in (True, False)]
    shares = [sum(part) / len(part) if part else None for part in parts]
    return dict(zip(COPIES, (shares[0], len(parts[0]), shares[1]), strict=True))


def write_csv(rows: Iterable[dict[str, Any]], path: Path) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *COPIES], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path = RESULTS) -> list[Row]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------------------------------------------------- numbers


def of(rows: Rows, **wanted: Any) -> list[Row]:
    """Rows with a result whose columns have these values."""
    return [row for row in rows if row["top1"] and all(row[name] == str(value) for name, value in wanted.items())]


def by_seed(rows: Rows, column: str = "top1") -> dict[int, float]:
    """{seed: share} of the points of one arm."""
    found = {int(row["seed"]): float(row[column]) for row in rows if row[column]}
    if len(found) < len(rows):
        raise ValueError(f"{len(rows)} points are not one arm, or have no {column}: {[row['point'] for row in rows]}")
    return found


def minus(arm: dict[int, float], base: dict[int, float]) -> list[float]:
    """Differences of the seeds that both have."""
    return [arm[seed] - base[seed] for seed in sorted(arm.keys() & base.keys())]


def text(values: Iterable[float], *, signed: bool = False) -> str:
    """Mean and half the 95 % interval over seeds, in percent or points; bold where a difference's interval leaves out 0."""
    values = list(values)
    if not values:
        return "missing"
    mean = sum(values) / len(values)
    shown = f"{100 * mean:{'+' if signed else ''}.1f}".replace("-", "−")
    if len(values) < MIN_SEEDS:
        return f"{shown} ({len(values)} seeds)"
    half = _half(values)
    shown = f"{shown} ± {100 * half:.1f}"
    return f"**{shown}**" if signed and abs(mean) > half else shown


def _half(values: Sequence[float]) -> float:
    """Half the 95 % interval of a mean, Student's t; of differences, so not clipped."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return t_975(len(values) - 1) * (variance / len(values)) ** 0.5


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# ----------------------------------------------------------------------------------------------------------- tables


def data_size(rows: Rows) -> str:
    rows = of(rows, sweep="data_size")
    parts, fits = [], []
    for protocol in ("fc_only", "full_ft"):
        mine = of(rows, protocol=protocol)
        scratch = by_seed(of(mine, kind="scratch"))
        sizes = sorted({int(row["num_videos"]) for row in of(mine, kind="pretrained")})
        arms = {size: by_seed(of(mine, kind="pretrained", num_videos=size)) for size in sizes}
        lines = [[protocol, "scratch", text(scratch.values()), "", ""]]
        for before, size in zip([None, *sizes], sizes, strict=False):
            gained = text(minus(arms[size], arms[before]), signed=True) if before else ""
            lines.append(
                [
                    protocol,
                    f"{size:,}",
                    text(arms[size].values()),
                    text(minus(arms[size], scratch), signed=True),
                    gained,
                ]
            )
        parts += lines
        fits.append([protocol, *_fit(arms)])
    first = table(["protocol", "videos", "top-1 %", "minus scratch", "minus the size before"], parts)
    second = table(
        ["protocol", "points per doubling", "R²", "change of slope per doubling", "next doubling: top-1 %"], fits
    )
    return f"{first}\n\n{second}"


def _fit(arms: dict[int, dict[int, float]]) -> list[str]:
    found = log_fit.fit(arms)
    if found is None:
        return ["missing"] * 4
    ahead = found.prediction
    span = "" if ahead.interval is None else f" ({100 * ahead.interval[0]:.0f} to {100 * ahead.interval[1]:.0f})"
    bend = found.bend.change if found.bend else None
    r_squared = "–" if found.r_squared is None else f"{found.r_squared:.2f}"
    return [_answer(found.slope), r_squared, _answer(bend), f"{ahead.num_videos:,}: {100 * ahead.accuracy:.1f}{span}"]


def _answer(answer: log_fit.Answer | None) -> str:
    if answer is None or answer.interval is None:
        return "–"
    half = (answer.interval[1] - answer.interval[0]) / 2
    return f"{100 * answer.value:+.1f} ± {100 * half:.1f}".replace("-", "−")


def sampling(rows: Rows) -> str:
    rows = of(rows, sweep="sampling")
    lines = []
    for size in sorted({int(row["num_videos"]) for row in rows}):
        random, tail = (by_seed(of(rows, num_videos=size, sampling=name)) for name in ("random", "tail_preserving"))
        lines.append([f"{size:,}", text(random.values()), text(tail.values()), text(minus(tail, random), signed=True)])
    return table(["videos", "random", "tail-preserving", "difference"], lines)


def label_kinds(rows: Rows) -> str:
    """Sources × targets, and how the source whose labels are those of the target does against the two others."""
    rows = of(rows, sweep="label_kinds")
    kinds = ("verb", "noun", "verb_noun")
    lines = []
    for target in kinds:
        arms = {kind: by_seed(of(rows, target=target, labels=kind)) for kind in kinds}
        others = [kind for kind in kinds if kind != target]
        against = [text(minus(arms[target], arms[kind]), signed=True) for kind in others]
        own = f"{against[0]} ({_spoken(others[0])}), {against[1]} ({_spoken(others[1])})"
        lines.append([_spoken(target), *(text(arms[kind].values()) for kind in kinds), own])
    headers = ["target", *(f"pretrained on {_spoken(kind)}s" for kind in kinds), "its own kind minus the others"]
    return table(headers, lines)


def _spoken(kind: str) -> str:
    return kind.replace("verb_noun", "verb+noun")


def num_labels(rows: Rows) -> str:
    rows = of(rows, sweep="num_labels")
    counts = sorted({int(row["num_labels"]) for row in rows})
    arms = {count: by_seed(of(rows, num_labels=count)) for count in counts}
    lines = []
    for before, count in zip([None, *counts], counts, strict=False):
        gained = text(minus(arms[count], arms[before]), signed=True) if before else ""
        lines.append([str(count), _videos(of(rows, num_labels=count)), text(arms[count].values()), gained])
    return table(["labels", "videos", "top-1 %", "minus half as many"], lines)


def _videos(rows: Rows) -> str:
    """Drawn, of each seed that has its own number."""
    return " / ".join(dict.fromkeys(f"{int(row['drawn_videos']):,}" for row in rows))


def durations(rows: Rows) -> str:
    rows = of(rows, sweep="durations")
    lines = []
    for budget, said in (("videos", "equal videos"), ("minutes", "equal minutes")):
        arms = {band: of(rows, budget=budget, duration=band) for band in ("long", "short", "long_center")}
        seeds = {band: by_seed(found) for band, found in arms.items()}
        lines.append(
            [said, *(f"{text(seeds[band].values())} ({_videos(found)} videos)" for band, found in arms.items()),
             *(text(minus(seeds["long"], seeds[other]), signed=True) for other in ("short", "long_center"))]
        )  # fmt: skip
    return table(["budget", "long", "short", "long-center", "long minus short", "long minus center"], lines)


def frames(rows: Rows) -> str:
    rows = of(rows, sweep="frames")
    lines = []
    for protocol in ("fc_only", "full_ft"):
        mine = of(rows, protocol=protocol)
        clips = by_seed(of(mine, input="clip", kind="pretrained"))
        arms = {"scratch": by_seed(of(mine, kind="scratch"))}
        for source in ("image", "frame"):
            for inflate in ("mean", "center"):
                arms[f"{source}s, inflated by {inflate}"] = by_seed(of(mine, input=source, inflate=inflate))
        lines.append([protocol, "clips", text(clips.values()), ""])
        lines += [
            [protocol, name, text(arm.values()), text(minus(clips, arm), signed=True)] for name, arm in arms.items()
        ]
    return table(["protocol", "pretrained on", "top-1 %", "clips minus this"], lines)


def label_noise(rows: Rows) -> str:
    rows = of(rows, sweep="label_noise")
    scratch = by_seed(of(rows, kind="scratch"))
    rates = sorted({row["label_noise"] for row in of(rows, kind="pretrained")}, key=float)
    clean = by_seed(of(rows, kind="pretrained", label_noise=rates[0]))
    lines = [["from scratch", text(scratch.values()), text(minus(scratch, clean), signed=True)]]
    for rate in rates:
        arm = by_seed(of(rows, kind="pretrained", label_noise=rate))
        change = text(minus(arm, clean), signed=True) if rate != rates[0] else ""
        lines.append([f"{100 * float(rate):.0f} %", text(arm.values()), change])
    return table(["wrong labels", "top-1 %", "minus no wrong labels"], lines)


def near_duplicates(rows: Rows) -> str:
    rows = of(rows, sweep="near_duplicates", kind="pretrained")
    lines = []
    for protocol in ("fc_only", "full_ft"):
        mine = of(rows, protocol=protocol)
        for column, said in (("top1", "all"), ("top1_copied", "copied ones"), ("top1_others", "others")):
            kept, clean = of(mine, near_duplicates="kept"), of(mine, near_duplicates="left out")
            if not all(row[column] for row in (*kept, *clean)):
                continue
            arms = by_seed(kept, column), by_seed(clean, column)
            lines.append([protocol, said, *(text(arm.values()) for arm in arms), text(minus(*arms), signed=True)])
    return table(["protocol", "test videos", "duplicates kept", "left out", "difference"], lines)


TABLES: dict[str, Callable[[Rows], str]] = {
    function.__name__: function
    for function in (
        data_size, sampling, label_kinds, num_labels, durations, frames, label_noise, near_duplicates
    )
}  # fmt: skip


def filled(document: str, rows: Rows) -> str:
    """The document with each of its tables, `<!-- table NAME -->` to `<!-- end -->`, made anew from the results."""

    def made(match: re.Match) -> str:
        return f"<!-- table {match[1]} -->\n{TABLES[match[1]](rows)}\n<!-- end -->"

    return re.sub(r"<!-- table (\w+) -->\n.*?<!-- end -->", made, document, flags=re.DOTALL)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--collect", metavar="ROOT", help="first read the results anew from the study's artefacts")
    chosen = parser.parse_args(argv)
    if chosen.collect:
        write_csv(collect(chosen.collect), RESULTS)
    rows = read_csv()
    DOCUMENT.write_text(filled(DOCUMENT.read_text(), rows))
    points = {name: len(of(rows, sweep=name)) for name in TABLES}
    if chosen.collect:
        write("study", {"points": points, "tables": {name: make(rows) for name, make in TABLES.items()}}, "torch")
    print(f"{DOCUMENT.name}: tables of {sum(points.values())} results {points}")


if __name__ == "__main__":
    main()
