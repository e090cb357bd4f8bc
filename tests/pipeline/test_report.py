"""The sweep report's page, from synthetic artefacts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipeline.config import ConfigError
from pipeline.report import main, write_report
from pipeline.report.markup import clean
from tests.pipeline.synthetic_sweep import HOSTILE, SIZES, Outline, make_sweep, report, rows_of, write


def test_equal_inputs_give_equal_bytes(full: tuple[str, str]) -> None:
    folder, page = full
    table = Path(folder, "results.csv").read_bytes()
    assert report(folder) == page
    assert Path(folder, "results.csv").read_bytes() == table


def test_page_is_self_contained_and_small(full: tuple[str, str]) -> None:
    _, page = full
    outline = Outline(page)
    assert "script" not in outline.tags
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//""", page)
    assert "https:" not in page
    links = [value for name, value in outline.attributes if name in ("src", "href")]
    inside = ("#", "data:image/jpeg;base64,", "data:text/csv;charset=utf-8;base64,")
    assert [link for link in links if not link.startswith(inside)] == ["results.csv"]
    assert len(page.encode()) < 5_000_000


def test_page_is_well_formed_and_its_ids_are_unique(full: tuple[str, str]) -> None:
    outline = Outline(full[1])
    assert outline.open == []
    ids = [value for name, value in outline.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    references = [value[1:] for name, value in outline.attributes if name == "href" and value.startswith("#")]
    assert set(references) <= set(ids)


def test_hostile_names_stay_text(full: tuple[str, str]) -> None:
    outline = Outline(full[1])
    assert not {name for name, _ in outline.attributes if name.startswith("on")}
    assert outline.tags.count("img") == 6  # three pairs of frames, nothing else
    assert "\u202e" not in full[1]
    assert clean(HOSTILE) in outline.text


def test_hostile_target_stays_text(tmp_path: Path) -> None:
    target = '"><svg onload=alert(3)>'  # what cannot be printed is refused as a name
    folder = make_sweep(tmp_path, sizes=SIZES[:2], seeds=(0,), protocols=("=x",), target=target, stages=False)
    outline = Outline(report(folder))
    assert not {name for name, _ in outline.attributes if name.startswith("on")}
    assert f"top-1 on {clean(target)} (" in outline.text
    assert {(row["target"], row["protocol"]) for row in rows_of(folder)} == {(clean(target), "'=x")}


def test_sections_stand_in_order(full: tuple[str, str]) -> None:
    found = re.findall(r'<h2 id="(\w+)"', full[1])
    assert found == ["figure", "fit", "counts", "labels", "videos", "exclusions", "training", "search",
                     "provenance", "configuration"]  # fmt: skip


def test_headline_says_gain_seeds_and_spread(full: tuple[str, str]) -> None:
    text = Outline(full[1]).text
    # full_ft: 40.0 from scratch, 40 + 10 + 3 doublings of 3 points = 59.0 at 4M; sd of (-0.6, 0, 0.6) is 0.6
    assert (
        "Pretraining on 4,000,000 videos: 59.0 % ± 0.6 (3 seeds) top-1 on hmdb (full_ft), against 40.0 % ± 0.6" in text
    )
    assert "+19.0 points" in text


def test_missing_point_is_shown(full: tuple[str, str]) -> None:
    folder, page = full
    text = Outline(page).text
    assert "× 2 of 3 seeds" in text
    assert "n1000000-s2-hmdb-fc_only: no result.json yet" in text
    assert [row["status"] for row in rows_of(folder)].count("missing") == 1


def test_exclusions_stand_with_chance_and_thresholds(full: tuple[str, str]) -> None:
    text = Outline(full[1]).text
    assert "hmdb · test 2 2" in text
    assert "compared 9,000 flagged 1 estimate 10" in text
    assert "0.1 4 (0) 2 (0)" in text
    assert "<b>2 (0)</b>" in full[1]  # the thresholds in use


def test_edited_result_is_reported(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path, sizes=SIZES[:1], seeds=(0,), protocols=("fc_only",), stages=False)
    path = tmp_path / "runs/scratch-s0/transfer/hmdb-fc_only/result.json"
    edited = json.loads(path.read_text())
    edited["metrics"]["top1"] = 0.99
    write(path, edited)
    assert "edited after it was written" in report(folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"metrics": {"top1": null}}', '{"metrics": {"top1": 40.2}}'])
def test_unreadable_result_is_no_number(tmp_path: Path, content: str) -> None:
    folder = make_sweep(tmp_path, sizes=(), seeds=(0,), protocols=("fc_only",), stages=False)
    (tmp_path / "runs/scratch-s0/transfer/hmdb-fc_only/result.json").write_text(content)
    assert "No result yet on hmdb (fc_only)" in Outline(report(folder)).text
    assert rows_of(folder)[0]["status"] == "unreadable"


def test_scratch_only(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path, sizes=(), protocols=("full_ft",), stages=False)
    text = Outline(report(folder)).text
    assert "From scratch: 40.0 % ± 0.6 (3 seeds)" in text
    assert "no pretrained points are planned" in text


def test_single_seed_takes_the_bootstrap_interval(tmp_path: Path) -> None:
    folder = make_sweep(
        tmp_path, sizes=SIZES[:2], seeds=(1,), protocols=("full_ft",), stages=False, chance={"hmdb": 0.02}
    )
    text = Outline(report(folder)).text
    assert "500,000 50.0 – 1 – 47.0 – 53.0" in text.replace("\n", " ") or "47.0 – 53.0" in text
    # both halves 3 points: sqrt(3² + 3²) = 4.24 about a gain of 13
    assert "+13.0 points (95 % interval +8.8 to +17.2)" in text
    assert "chance 2.0 %" in text


def test_nothing_finished_yet(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path, sizes=SIZES[:1], seeds=(0,), protocols=("fc_only",), stages=False)
    for path in tmp_path.glob("runs/*/transfer/*/result.json"):
        path.unlink()
    text = Outline(report(folder)).text
    assert "2 of 2 points have no result" in text
    assert "nothing is known about test videos in the pretraining data" in text


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_sweep(tmp_path, sizes=(), seeds=(0,), protocols=("fc_only",), stages=False)
    with pytest.raises(SystemExit, match="0"):
        main(["--root", str(tmp_path), "--sweep", "data_size"])
    assert f"{folder}/report.html" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["--root", str(tmp_path), "--sweep", "other"])


def test_missing_plan_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tagreel sweep"):
        write_report(str(tmp_path / "sweeps/none"), str(tmp_path))
