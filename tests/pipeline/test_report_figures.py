"""The section of every figure and table, from the sweeps' own plans with invented results."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline import sweeps
from pipeline.config import SweepSourceConfig
from pipeline.report import cells, differences, inputs, results
from pipeline.report.axes import AXES, axis_value
from pipeline.report.grid import Grid, grid
from pipeline.report.markup import percent
from pipeline.report.paired import paired
from pipeline.report.points import Plan
from tests.pipeline.invented_sweep import Point, invent, level, page_of, value_of
from tests.pipeline.synthetic_sweep import Outline, rows_of, write

MEASURED = [kind for kind in sweeps.SWEEPS if kind != "label_distribution"]
TABLES = [kind for kind in MEASURED if sweeps.plan(sweeps.scaled(kind, "paper")).layout.figure.startswith("Table")]


def is_there(point: Point) -> bool:
    """But for one seed of a few arms, and all of one."""
    return not (point["id"].endswith("fc_only") and point["seed"] == 1) and "noun" not in point["id"]


def laid_out(folder: str, root: Path) -> tuple[Plan, cells.Figure, Grid]:
    plan = inputs.read_plan(folder, str(root))
    figure = cells.figure(plan)
    return plan, figure, grid(figure, plan.layout.rows)


def section_of(page: str, anchor: str) -> str:
    return re.search(rf'<section><h2 id="{anchor}".*?</section>', page, re.DOTALL)[0]


# ------------------------------------------------------------------------------------------------------ every sweep


@pytest.mark.parametrize("scale", ["tiny", "paper"])
@pytest.mark.parametrize("kind", MEASURED)
def test_every_point_of_every_sweep_stands_in_its_figure(kind: str, scale: str, tmp_path: Path) -> None:
    folder, points = invent(tmp_path, kind, scale, has_result=is_there)
    plan, figure, table = laid_out(folder, tmp_path)
    page = page_of(folder, tmp_path)
    outline, section = Outline(page), section_of(page, "figure")
    text = Outline(section).text
    assert outline.open == []
    assert "script" not in outline.tags
    ids = [value for name, value in outline.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = {value for name, value in outline.attributes if name == "href"}
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    # Each point in one cell, each cell in the table, each of its seeds in the cell as number or ×.
    assert sorted(point.id for cell in figure.cells for point in cell.points) == sorted(p["id"] for p in points)
    assert {id(cell) for cell in table.cells.values()} == {id(cell) for cell in figure.cells}
    for cell in figure.cells:
        shares = cell.by_seed("top1")
        seeds = " · ".join(percent(shares[p.seed]) if p.seed in shares else "×" for p in cell.points)
        assert not shares or seeds in text
    assert section.count('role="img"') == (0 if kind in TABLES else len(figure.panels))
    assert f"{plan.layout.figure}: {plan.layout.title}" in Outline(section).text


@pytest.mark.parametrize("kind", MEASURED)
def test_rows_of_results_csv_are_the_planned_points_with_their_axes(kind: str, tmp_path: Path) -> None:
    folder, points = invent(tmp_path, kind, "tiny", has_result=is_there, metric=lambda _: "map")
    page_of(folder, tmp_path)
    rows = rows_of(folder)
    assert [row["point"] for row in rows] == [point["id"] for point in points]
    for row, point in zip(rows, points, strict=True):
        assert {axis: row[axis] for axis in point["axes"]} == {
            axis: "" if value is None else str(value) for axis, value in point["axes"].items()
        }
        if (tmp_path / point["result"]).exists():
            assert (row["status"], row["metric"], row["map"]) == ("ok", "map", row["value"])
            assert float(row["value_high"]) - float(row["value_low"]) == pytest.approx(0.04)
        else:
            assert (row["status"], row["metric"], row["value"]) == ("missing", "", "")


def test_results_csv_has_the_axes_of_all_sweeps() -> None:
    plans = [sweeps.plan(sweeps.scaled(kind, scale)) for scale in sweeps.SCALES for kind in sweeps.kinds(scale)]
    used = {axis for plan in plans for point in plan.points for axis in point.axes}
    assert used == set(AXES)
    assert used <= set(results.COLUMNS)
    assert len(results.COLUMNS) == len(set(results.COLUMNS))


# ------------------------------------------------------------------------------------------------- the paper's layout


@pytest.mark.parametrize(
    ("kind", "rows", "columns"),
    [
        ("capacity", 4, ["from scratch", "ig-kinetics", "kinetics", "ig-kinetics"]),  # Table 2: depths; two targets
        # Table 3: F1 and F2 down, in the paper's order long-5M, long-500K, short-5M, long-center-5M across
        ("durations", 2, ["long, 5M videos", "short, 5M videos", "long center, 5M videos", "long, 500K videos"]),
        ("frames", 6, [""]),  # Table 4
        ("kinetics", 6, [""]),  # Table 5
        ("epic", 6, ["", "", ""]),  # Table 6: verbs, nouns, actions
        ("something", 6, [""]),  # Table 7
    ],
)
def test_rows_and_columns_are_the_papers(kind: str, rows: int, columns: list[str], tmp_path: Path) -> None:
    _, _, table = laid_out(invent(tmp_path, kind, "paper", (0,))[0], tmp_path)
    assert len(table.rows) == rows
    assert [column.name for column in table.columns] == columns


@pytest.mark.parametrize("kind", TABLES)
def test_the_papers_values_stand_in_italics_beside_ours(kind: str, tmp_path: Path) -> None:
    folder, _ = invent(tmp_path, kind, "paper", (0,))
    printed = sorted(percent(v["value"]) for v in sweeps.plan(sweeps.scaled(kind, "paper")).layout.paper)
    section = section_of(page_of(folder, tmp_path), "figure")
    assert sorted(re.findall(r"<i>([\d.]+)</i>", section)) == printed


@pytest.mark.parametrize("kind", TABLES)
def test_of_other_targets_the_papers_values_stand_apart(kind: str, tmp_path: Path) -> None:
    folder, _ = invent(tmp_path, kind, "tiny", (0,))
    plan, figure, _ = laid_out(folder, tmp_path)
    assert len(figure.elsewhere) == len(plan.layout.paper)
    beside, apart = section_of(page_of(folder, tmp_path), "figure").split("not in this sweep")
    assert "<i>" not in beside
    assert all(value["where"] in apart for value in plan.layout.paper)


def test_the_papers_numbers_of_figure_1_are_marked_in_the_plot(tmp_path: Path) -> None:
    """5 values in two panels: drawn hollow, and in the table below."""
    folder, _ = invent(tmp_path, "data_size", "paper", (0,))
    section = section_of(page_of(folder, tmp_path), "figure")
    assert sorted(re.findall(r"<i>([\d.]+)</i>", section)) == ["12.3", "16.1", "67.0", "73.0", "74.8"]
    assert "hollow" in section


# -------------------------------------------------------------------------------------------------------- differences


@pytest.mark.parametrize("kind", MEASURED)
def test_what_a_seed_shifts_alike_falls_out_of_the_differences(kind: str, tmp_path: Path) -> None:
    plan, figure, table = laid_out(invent(tmp_path, kind, "paper")[0], tmp_path)
    found = [*differences.across(table), *differences.down(figure, table)]
    assert found
    for difference in found:
        (_, arm), (_, base) = difference.arm, difference.base
        got = arm.minus(base, "top1")
        assert got.mean == pytest.approx(arm.by_seed("top1")[0] - base.by_seed("top1")[0])
        assert got.interval == pytest.approx((got.mean, got.mean), abs=1e-9)
        assert {axis: arm.axes[axis] for axis in plan.layout.panels} == {a: base.axes[a] for a in plan.layout.panels}


def test_tail_preserving_is_set_against_random_at_each_size(tmp_path: Path) -> None:
    folder, points = invent(tmp_path, "sampling", "paper")
    _, _, table = laid_out(folder, tmp_path)
    found = [(d.within, d.arm[0], d.base[0]) for d in differences.across(table)]
    sizes = dict.fromkeys(axis_value("num_videos", point["num_videos"]) for point in points)
    assert found == [(size, "tail preserving", "random") for size in sizes]


def test_clips_are_set_against_frames(tmp_path: Path) -> None:
    folder, _ = invent(tmp_path, "frames", "paper")
    _, figure, table = laid_out(folder, tmp_path)
    pairs = [(d.arm[1].axes, d.base[1].axes) for d in differences.down(figure, table)]
    assert ("clip", "frame") in [(arm["input"], base["input"]) for arm, base in pairs]


def test_one_result_in_two_places_is_not_set_against_itself(tmp_path: Path) -> None:
    """Table 3: short and long-center videos are the same runs under both budgets."""
    folder, _ = invent(tmp_path, "durations", "paper")
    _, figure, table = laid_out(folder, tmp_path)
    assert differences.down(figure, table) == []
    assert len(differences.across(table)) == 6


def test_paired_interval_is_students_t_on_the_differences() -> None:
    found = paired({0: 0.5, 1: 0.7, 2: 0.9, 3: 0.1}, {0: 0.4, 1: 0.5, 2: 0.6})
    assert list(found.by_seed) == [0, 1, 2]
    half = 4.303 * 0.1 / math.sqrt(3)  # t of two degrees of freedom
    assert found.interval == pytest.approx((0.2 - half, 0.2 + half), abs=1e-4)
    assert paired({0: 0.5, 1: 0.5}, {0: 0.4, 1: 0.5}).interval is None
    assert paired({0: 0.5}, {1: 0.4}) is None


def test_two_seeds_take_an_interval_over_test_videos_and_say_so(tmp_path: Path) -> None:
    folder, _ = invent(tmp_path, "sampling", "tiny", (0, 1))
    section = section_of(page_of(folder, tmp_path), "figure")
    assert section.count(" †</td>") == section.count('<td class="number">2</td>') > 0


# ------------------------------------------------------------------------------------------------------------ metrics


def test_several_labels_are_judged_by_map(tmp_path: Path) -> None:
    folder, points = invent(tmp_path, "data_size", "tiny", metric=lambda _: "map")
    page = page_of(folder, tmp_path)
    text = Outline(page).text
    best = max((p for p in points if p["kind"] == "pretrained" and p["protocol"] == "full_ft"), key=value_of)
    mean = level(best["axes"]) + 0.013
    assert f"{best['num_videos']:,} videos: {percent(mean)} % ± 1.3 (3 seeds) mAP on verb (full_ft)" in text
    assert "mAP (%)" in section_of(page, "figure")
    assert "top-1 accuracy (%)" not in page


def test_each_panel_has_the_metric_of_its_own_target(tmp_path: Path) -> None:
    folder, _ = invent(
        tmp_path, "label_kinds", "paper", metric=lambda p: "top1" if p["target"] == "kinetics" else "map"
    )
    _, figure, _ = laid_out(folder, tmp_path)
    assert {panel.axes["target"]: panel.metric for panel in figure.panels} == {
        "kinetics": "top1",
        "epic_noun": "map",
        "epic_verb": "map",
        "epic_action": "map",
    }


# ------------------------------------------------------------------------------------------------------------- curves


@pytest.mark.parametrize("kind", MEASURED)
def test_a_line_is_fitted_only_where_size_is_the_question(kind: str, tmp_path: Path) -> None:
    folder, _ = invent(tmp_path, kind, "tiny", (0,))
    anchors = re.findall(r'<h2 id="(\w+)"', page_of(folder, tmp_path))
    assert ("fit" in anchors) == (kind in ("data_size", "sampling"))


def test_curves_do_not_mix_arms(tmp_path: Path) -> None:
    """Two samplings, and two sources of which the layout does not speak."""
    sources = (SweepSourceConfig("a", "kinetics"), SweepSourceConfig("b", "verb"))
    folder, _ = invent(tmp_path, "sampling", "tiny", (0,), sources=sources)
    plan = inputs.read_plan(folder, str(tmp_path))
    found = results.curves(plan)
    assert len(found) == 4
    for curve in found:
        assert len({(p.axes["sampling"], p.axes["pretraining"]) for p in curve.points}) == 1
        assert sorted(p.num_videos for p in curve.points) == [64, 256]
    assert len({curve.name for curve in found}) == 4


@pytest.mark.parametrize("counts", [range(1, 30_000, 7), range(1_000_000, 3_000_000, 49_999), (10_563, 10_653)])
def test_counts_that_differ_read_differently(counts: Any) -> None:
    assert len({axis_value("num_videos", count) for count in counts}) == len(counts)


# ----------------------------------------------------------------------------------------------------------- figure 3


def test_a_missing_label_report_is_missing(tmp_path: Path) -> None:
    folder, _ = invent(tmp_path, "label_distribution", "paper")
    text = Outline(section_of(page_of(folder, tmp_path), "distribution")).text
    assert "Missing: the label report reports/labels/label_distribution.json is not there yet" in text


def test_figure_3_is_drawn_from_the_label_report(tmp_path: Path) -> None:
    folder, _ = invent(tmp_path, "label_distribution", "paper")
    counts = {"cut": 600, "wash": 300, "peel": 100}
    dataset = {"name": "ig-verb", "kind": "verb", "num_videos": 950, "labels": counts, "statistics": {"gini": 0.333}}
    overlap = {"dataset": "ig-verb", "target": "epic_verb", "share": 0.75, "exact": {"cut": ["cut"], "wash": ["wash"]},
               "canonical": {"peel": ["peeling"]}, "missing": ["fold"]}  # fmt: skip
    write(tmp_path / "reports/labels/label_distribution.json", {"datasets": [dataset], "overlaps": [overlap]})
    section = section_of(page_of(folder, tmp_path), "distribution")
    text = Outline(section).text
    assert section.count('role="img"') == 2
    assert "ig-verb verb 950 3 600 300 100 – – 0.333" in text
    assert "epic_verb ig-verb 4 2 1 1 75.0 62.0 (Section 4.2.1)" in text  # the paper's own overlap of IG-Verb
    assert "1 cut 600 2 wash 300 3 peel 100" in text
