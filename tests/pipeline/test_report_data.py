"""The report's funnel: every sum is checked, and every source of a sweep has one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import launch
from pipeline.report import artefacts, data, funnel
from pipeline.report.artefacts import Dataset, Run, Source
from pipeline.report.inputs import read_plan
from pipeline.sweeps import scaled
from tests.pipeline import small_datasets
from tests.pipeline.synthetic_sweep import Outline


def counts(total: int, kept: int, **dropped: int) -> dict[str, Any]:
    return {"in": total, "kept": kept, "dropped": dropped}


def source(root: Path, **changed: Any) -> Source:
    """300 posts → 241 of 234 videos → 200 labelled → 190 stored → 185 not excluded → a subset of 64 and its run."""
    own = {
        "posts": {**counts(300, 241, no_relevant_hashtag=59), "videos": 234},
        "label_space": counts(234, 200, no_label_with_enough_videos=34),
        "shards": counts(200, 190, not_a_video=7, timeout=3),
        "dedup": {"videos": 190, "kept": 185, "dropped": {"hmdb": 5}},
        "base": counts(200, 185, quarantined=10, overlaps_a_target=5),
        "sampling": counts(185, 64, not_sampled=121),
        "run": {"videos": 64, "kept": 64, "dropped": {}, "clips_seen": 512},
    } | changed
    base = Dataset(small_datasets.files(root, "a"), {"counts": {k: own[k] for k in ("posts", "label_space", "shards")}})
    subset = Dataset(
        small_datasets.files(root, "b"),
        {"config": {"base": "a"}, "counts": {k: own[k] for k in ("base", "sampling")}},
    )
    dedup = artefacts.Dedup(base, {"counts": own["dedup"]})
    return Source(base, None, None, dedup, True, (subset,), (Run("r", "b", {"counts": own["run"]}),))


def test_counts_that_agree_have_no_problem(tmp_path: Path) -> None:
    assert funnel.make_funnel(source(tmp_path)).problems == []


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"shards": counts(200, 190, not_a_video=7)}, "the sum is off by 3"),
        ({"label_space": counts(230, 200, few=30)}, "230 in, but posts before it left 234"),
        ({"shards": counts(199, 190, timeout=9)}, "199 in, but label space before it left 200"),
        ({"dedup": {"videos": 189, "kept": 185, "dropped": {"hmdb": 4}}}, "189 in, but shards before it left 190"),
        ({"base": counts(200, 186, quarantined=14)}, "drawn from 186 videos, but a has 185"),
        ({"sampling": counts(185, 64, not_sampled=120)}, "the sum is off by 1"),
        ({"run": {"videos": 63, "kept": 63, "dropped": {}}}, "trained on 63 videos, but dataset b has 64"),
    ],
)
def test_every_sum_that_does_not_agree_is_said(tmp_path: Path, changed: dict[str, Any], problem: str) -> None:
    made = source(tmp_path, **changed)
    assert any(problem in text for text in funnel.make_funnel(made).problems)
    text = Outline(data.counts_section([made], {})).text
    assert problem in text
    assert "All sums agree" not in text


def test_bars_and_table_show_the_same_numbers(tmp_path: Path) -> None:
    text = Outline(data.counts_section([source(tmp_path)], {})).text
    assert "All sums agree." in text
    assert "Stored 190 of 200 videos 95.0 % of those in, 81.2 % of all videos" in text  # 190 / 200, 190 / 234
    assert "dropped: 7 not a video; 3 timeout" in text
    assert "shards 200 190 10 95.0 % 7 not a video; 3 timeout" in text
    assert "b 200 64 32.0 % 64 base: 10 quarantined; 5 overlaps a target; sampling: 121 not sampled" in text


def test_nearly_all_is_not_all() -> None:
    assert [funnel.share_text(*pair) for pair in ((9_999, 10_000), (1, 10_000), (5, 5), (0, 5))] == [
        "> 99.9 %", "< 0.1 %", "100.0 %", "0.0 %",
    ]  # fmt: skip


def test_every_source_of_a_plan_is_read(tmp_path: Path) -> None:
    config = replace(scaled("label_kinds", "tiny"), root=str(tmp_path))
    folder = launch.write_plan(config)
    sources = artefacts.read_sources(read_plan(folder, str(tmp_path)), str(tmp_path))
    assert [s.dataset.name for s in sources] == ["kinetics", "noun", "verb", "verb-noun"]
    assert all(s.is_dedup_planned and len(s.subsets) == 1 and len(s.runs) == 1 for s in sources)
    text = Outline(data.counts_section(sources, {})).text
    assert "dataset verb-noun: not built yet; dedup of verb-noun: not finished" in text


def test_page_of_a_sweep_says_that_sums_agree(full: tuple[str, str]) -> None:
    text = Outline(full[1]).text
    assert "All sums agree." in text
    assert "With a relevant hashtag 12,345,600 of 50,000,000 posts 24.7 % of those in" in text
    assert "dedup 9,000,100 9,000,098 2 > 99.9 % 2 hmdb" in text


def test_equal_labels_count_in_full_and_a_head_counts_once() -> None:
    assert 2 ** data.entropy_bits([7] * 12) == pytest.approx(12)
    assert data.entropy_bits([5]) == 0
    assert 2 ** data.entropy_bits([10**9, 1, 1]) == pytest.approx(1, abs=1e-6)


def test_labels_of_targets_are_looked_up_by_spelling(tmp_path: Path) -> None:
    made = small_datasets.dataset(small_datasets.files(tmp_path), ["Juggling Balls", "push-up", "surfing"])
    target = small_datasets.dataset(small_datasets.files(tmp_path, "t"), ["juggling_balls", "pushup", "golf"])
    text = Outline(data.labels_section([small_datasets.source(made)], {"hmdb": {"test": target}})).text
    assert "hmdb 3 2 (66.7 %)" in text
