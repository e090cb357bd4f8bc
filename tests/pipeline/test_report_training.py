"""Training curves and the search: every run is told, no picture holds more than an eye can follow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.report import arms, plots, search, training
from pipeline.report.points import Plan, Point
from tests.pipeline.synthetic_sweep import Outline, make_sweep, report

NETWORKS = ("r2plus1d_18", "r2plus1d_34")


def plan_of(sizes: tuple[int, ...], seeds: int = 1, networks: tuple[str, ...] = NETWORKS[:1], **more: Any) -> Plan:
    points = [
        Point(f"p{n}{net}{s}{protocol}", "pretrained", n, s, "hmdb", protocol, f"run-{net}-{n}-s{s}", axes={
            "num_videos": n, "model": net, "target": "hmdb", "protocol": protocol, "seed": s}, **more)
        for net in networks for n in sizes for s in range(seeds) for protocol in ("full_ft", "fc_only")
    ]  # fmt: skip
    return Plan("sweep", "Sweep", (), {}, None, tuple(points))


def log_of(high: float, count: int = 50) -> training.Log:
    lines = [{"clips_seen": 10 * (i + 1), "loss": high / (i + 1), "accuracy": i / count, "learning_rate": 0.1,
              "clips_per_s": 5.0, "waiting_share": 0.25} for i in range(count)]  # fmt: skip
    return training.log_of(lines)


def logs_of(plan: Plan, count: int = 50) -> training.Logs:
    return {run: log_of(3 + i, count) for i, run in enumerate(plan.runs)}


def test_an_arm_is_the_runs_that_differ_in_their_seed() -> None:
    found = arms.arms(plan_of((1000, 2_000_000), seeds=3))
    assert [arm.name for arm in found] == ["1K videos", "2M videos"]
    assert [len(arm.runs) for arm in found] == [3, 3]


def test_arms_are_named_by_what_they_differ_in() -> None:
    assert [arm.name for arm in arms.arms(plan_of((1000,), networks=NETWORKS))] == ["R(2+1)D-18", "R(2+1)D-34"]
    (only,) = arms.arms(plan_of((2500,)))
    assert only.name == "2500 videos"


def test_panels_split_along_one_axis() -> None:
    found = arms.arms(plan_of((1, 2, 3, 4), networks=NETWORKS))
    assert [(title, len(group)) for title, group in arms.panels(found)] == [("R(2+1)D-18", 4), ("R(2+1)D-34", 4)]


@pytest.mark.parametrize("count", [0, 1, 6, 7, 40])
def test_panels_hold_every_arm_once_and_few_each(count: int) -> None:
    found = arms.arms(plan_of(tuple(range(1, count + 1))))
    groups = [group for _, group in arms.panels(found)]
    assert [arm for group in groups for arm in group] == found
    assert all(0 < len(group) <= arms.MAX_ARMS for group in groups)


def test_means_of_stretches_keep_the_mean_of_a_line() -> None:
    values = np.random.default_rng(0).normal(size=400)
    clips, drawn = plots.thinned(np.arange(400.0), values, 40)
    assert len(clips) == len(drawn) == 40
    assert drawn.mean() == pytest.approx(values.mean())
    assert (np.diff(clips) > 0).all()


def test_every_run_is_in_the_table_and_equal_schedules_are_one() -> None:
    plan = plan_of((1000, 2000), seeds=2)
    section = training.training_section(plan, logs_of(plan))
    text = Outline(section).text
    assert all(run in text for run in plan.runs)
    assert "Learning rate (1 schedule)" in text
    assert "all runs" in text
    assert "25.0" in text  # waiting for data
    pictures = re.findall(r'aria-label="(Training|Learning)', section)
    assert sorted(pictures) == ["Learning", "Training", "Training"]


def test_another_schedule_is_another_line() -> None:
    plan = plan_of((1000, 2000))
    logs = logs_of(plan)
    clips, rates = logs[plan.runs[1]].series["learning_rate"]
    logs[plan.runs[1]].series["learning_rate"] = (clips, rates / 2)
    assert "Learning rate (2 schedules)" in Outline(training.training_section(plan, logs)).text


def test_runs_without_metrics_are_named() -> None:
    plan = plan_of((1000, 2000))
    logs = logs_of(plan)
    del logs[plan.runs[0]]
    assert f"No metrics of: {plan.runs[0]}" in Outline(training.training_section(plan, logs)).text
    assert "No run of this sweep has a metrics.jsonl" in training.training_section(plan, {})


def test_many_runs_stay_a_light_page() -> None:
    plan = plan_of(tuple(1000 * i for i in range(1, 25)), seeds=5)  # 120 runs
    section = training.training_section(plan, logs_of(plan, count=300))
    assert len(section) < 1_500_000
    assert "At most 4 seeds are drawn" in section
    assert all(run in section for run in plan.runs)


def test_the_search_says_what_was_chosen_how_often_and_where() -> None:
    grid = [{"value": v, "score": 0.5 + v} for v in (0.1, 0.2, 0.4)]
    low = plan_of((1000,), result={"search": grid, "chosen": 0.1}).points
    middle = plan_of((2000,), result={"search": grid, "chosen": 0.2}).points
    section = search.search_section(Plan("s", "S", (), {}, None, low + middle))
    assert "Chosen: 0.1 × 1, 0.2 × 1; 1 of 2 choices at the edge of the grid." in Outline(section).text
    assert section.count(f"{search.FIRST}<b>60.0</b>") == 2  # one for each protocol
    assert search.edge(middle[0]) == ""


@pytest.mark.slow
def test_a_large_sweep_is_a_page_of_less_than_5_mb(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path, sizes=tuple(500_000 * i for i in range(1, 21)), seeds=(0, 1, 2))  # 126 points
    page = report(folder)
    assert len(page.encode()) < 5_000_000
    assert page == report(folder)
