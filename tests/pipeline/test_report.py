"""The sweep report, from synthetic artefacts."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline import config as configs
from pipeline import storage
from pipeline.config import ConfigError, SweepConfig
from pipeline.report import estimates, main, write_report
from pipeline.report.markup import clean, size
from pipeline.report.results import COLUMNS, csv_bytes

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>\u202e$\\frac{$&amp;'
SLOPE = 0.03  # top-1 per doubling, planted
SIZES = (500_000, 1_000_000, 2_000_000, 4_000_000)


# ------------------------------------------------------------------------------------------- a synthetic sweep


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "digest": configs.digest(content)}


def write(path: Path, content: Any) -> None:
    storage.write_json(str(path), content)


def planted_top1(kind: str, num_videos: int, protocol: str) -> float:
    base = 0.40 if protocol == "full_ft" else 0.33
    return base if kind == "scratch" else base + 0.1 + SLOPE * math.log2(num_videos / SIZES[0])


def point(kind: str, num_videos: int, seed: int, protocol: str, target: str) -> dict[str, Any]:
    run = f"scratch-s{seed}" if kind == "scratch" else f"n{num_videos}-s{seed}"
    return {
        "id": f"{run}-{target}-{protocol}",
        "kind": kind,
        "num_videos": num_videos,
        "seed": seed,
        "protocol": protocol,
        "target": target,
        "dataset": None if kind == "scratch" else f"source-{num_videos}-s{seed}",
        "run": run,
        "result": f"runs/{run}/transfer/{target}-{protocol}/result.json",
        "commands": [f"tagreel pretrain --run {run}", f"tagreel transfer --run {run} --protocol {protocol}"],
    }


def result(p: dict[str, Any], jitter: float) -> dict[str, Any]:
    top1 = planted_top1(p["kind"], p["num_videos"], p["protocol"]) + jitter * (p["seed"] - 1)
    grid = [0.01, 0.02, 0.05]
    return sealed(
        {
            "config": {"protocol": p["protocol"]},
            "config_digest": "c0ffee0123456789",
            "input_digests": {"target": "0123456789abcdef"},
            "counts": {"train": {"videos": 700}},
            "metrics": {
                "top1": top1,
                "top5": min(1.0, top1 + 0.25),
                "mean_class_accuracy": top1 - 0.02,
                "top1_interval": [top1 - 0.03, top1 + 0.03],
                "num_videos": 1000,
                "num_undecodable": 2,
                "per_class": {name: {"accuracy": top1, "num_videos": 50} for name in ("juggling balls", HOSTILE)},
            },
            "search": [{"value": v, "score": top1 - i * 0.01} for i, v in enumerate(grid)],
            "chosen": grid[0],
            "num_train_videos": 700,
            "versions": {"torch": "2.13.0", "python": "3.12.1"},
            "seconds": 123.4,
        }
    )


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 10, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=70)
    return buffer.getvalue()


def write_stages(root: Path, points: list[dict[str, Any]]) -> None:
    """Markers, label spaces, metrics and dedup of everything the points refer to."""
    stages = [
        {"name": "hashtags", "in": 123_456, "kept": 100_000, "dropped": {"no label": 23_000, "too short": 456}},
        {"name": "duration", "in": 100_000, "kept": 90_001, "dropped": {"too long": 9_999}},
    ]
    posts = {"in": 5_000_000, "kept": 123_456, "dropped": {"no_hashtag": 4_876_544}, "videos": 120_000}
    write(root / "sources/source/source.json", sealed({"counts": {"posts": posts, "stages": stages[:1]}}))
    names = [HOSTILE, *(f"label {i}" for i in range(40))]
    for dataset in ["source", *{p["dataset"] for p in points if p["dataset"]}]:
        labels = [{"id": i, "name": n, "num_videos": 5000 // (i + 1)} for i, n in enumerate(names)]
        dropped = [{"name": f"rare {i}", "num_videos": 49 - i} for i in range(10)]
        write(root / f"datasets/{dataset}/label_space.json", {"labels": labels, "dropped": dropped})
        write(root / f"datasets/{dataset}/dataset.json", sealed({"counts": {"stages": stages[1:]}, "name": dataset}))
    for split in ("train", "test"):
        counts = {"videos": {"in": 1000, "kept": 998, "dropped": {"undecodable": 2}}}
        write(root / f"targets/hmdb/{split}/dataset.json", sealed({"counts": counts}))
    for p in points:
        if p["kind"] == "pretrained":
            write(root / f"runs/{p['run']}/run.json", sealed({"counts": {"clips_seen": 1000}, "run": p["run"]}))
            lines = [{"clips_seen": 100 * i, "loss": 3 / (1 + i / 50), "accuracy": i / 500, "clips_per_s": 80.0}
                     for i in range(1, 401)]  # fmt: skip
            (root / f"runs/{p['run']}/metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"cut')
    write_dedup(root / "datasets/source")


def write_dedup(folder: Path) -> None:
    counts = {"stages": [{"name": "overlap", "in": 90_001, "kept": 89_999, "dropped": {"overlap": 2}}]}
    thresholds = [
        {"min_overlap": t, "min_frames": n, "videos": 4 - n // 4 - int(10 * t) // 3, "by_chance": 0}
        for t in (0.1, 0.3)
        for n in (1, 8)
    ]
    chance = {"compared": 9000, "flagged": 1, "estimate": 10.0}
    config = {"min_overlap": 0.1, "min_frames": 8}
    marker = {
        "config": config, "counts": counts, "chance": chance, "thresholds": thresholds, "undecidable": ["black-1", HOSTILE],
    }  # fmt: skip
    write(folder / "dedup/dedup.json", sealed(marker))
    rows = [
        {
            "video_id": f"v{i}{HOSTILE}", "target": "hmdb", "target_split": "test", "target_video_id": f"t{i}",
            "kind": kind, "overlap": 0.9 - 0.1 * i, "valid_overlap": 0.95, "matched_frames": 60, "source_time_s": 3.25,
            "target_time_s": 1.5, "mirrored": i == 1, "phash_distance": 12, "source_jpeg": jpeg(i), "target_jpeg": jpeg(i),
        }
        for i, kind in enumerate(("strongest", "weakest", "random"))
    ]  # fmt: skip
    storage.write_parquet(str(folder / "dedup/evidence.parquet"), pa.Table.from_pylist(rows))
    keys = ("video_id", "target", "target_split", "target_video_id", "overlap")
    storage.write_parquet(
        str(folder / "exclusions.parquet"), pa.Table.from_pylist([{k: r[k] for k in keys} for r in rows[:2]])
    )


def make_sweep(
    root: Path,
    *,
    sizes: tuple[int, ...] = SIZES,
    seeds: tuple[int, ...] = (0, 1, 2),
    protocols: tuple[str, ...] = ("full_ft", "fc_only"),
    target: str = "hmdb",
    missing: tuple[str, ...] = (),
    jitter: float = 0.006,
    stages: bool = True,
    **plan: Any,
) -> str:
    """Folder of a sweep whose mean accuracies lie on a planted line; `missing` ids have no result."""
    kinds = [("scratch", 0), *(("pretrained", count) for count in sizes)]
    points = [point(k, n, s, protocol, target) for protocol in protocols for k, n in kinds for s in seeds]
    for p in points:
        if p["id"] not in missing:
            write(root / p["result"], result(p, jitter))
    if stages:
        write_stages(root, points)
    folder = root / "sweeps/data_size"
    config = configs.to_dict(SweepConfig(sizes=sizes, seeds=seeds, protocols=protocols))
    write(folder / "plan.json", {"name": "data_size", "config": config, "points": points, **plan})
    return str(folder)


def report(folder: str) -> str:
    root = str(Path(folder).parents[1])
    return Path(write_report(folder, root)["html"]).read_text()


def rows_of(folder: str) -> list[dict[str, str]]:
    with open(f"{folder}/results.csv", newline="") as file:
        return list(csv.DictReader(file))


class Outline(HTMLParser):
    """Tags, attributes and text of a page, and whether every element is closed in order."""

    VOID = frozenset({"meta", "img", "br", "path", "use"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag
        if tag in ("td", "th", "p", "li"):
            self.words.append(" ")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(sweep folder, page) of a whole sweep with hostile names everywhere and one missing point."""
    gone = ("n1000000-s2-hmdb-fc_only",)
    root = tmp_path_factory.mktemp("full")
    folder = make_sweep(root, missing=gone, title=f"Data size {HOSTILE}", notes=[f"planted: 5 of 5 caught {HOSTILE}"])
    return folder, report(folder)


# --------------------------------------------------------------------------------------------------------- page


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
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in links)
    assert len(page.encode()) < 5_000_000


def test_page_is_well_formed_and_its_ids_are_unique(full: tuple[str, str]) -> None:
    outline = Outline(full[1])
    assert outline.open == []
    ids = [value for name, value in outline.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    references = [value[1:] for name, value in outline.attributes if name == "href"]
    assert set(references) <= set(ids)


def test_hostile_names_stay_text(full: tuple[str, str]) -> None:
    outline = Outline(full[1])
    assert not {name for name, _ in outline.attributes if name.startswith("on")}
    assert outline.tags.count("img") == 6  # three pairs of frames, nothing else
    assert "\u202e" not in full[1]
    assert clean(HOSTILE) in outline.text


def test_hostile_target_stays_text(tmp_path: Path) -> None:
    target = '"><svg onload=alert(3)>\u202e'
    folder = make_sweep(tmp_path, sizes=SIZES[:2], seeds=(0,), protocols=("=x",), target=target, stages=False)
    outline = Outline(report(folder))
    assert not {name for name, _ in outline.attributes if name.startswith("on")}
    assert f"Target {clean(target)}" in outline.text
    assert {(row["target"], row["protocol"]) for row in rows_of(folder)} == {(clean(target), "'=x")}


def test_sections_stand_in_order(full: tuple[str, str]) -> None:
    found = re.findall(r'<h2 id="(\w+)"', full[1])
    assert found == ["accuracy", "results", "fit", "counts", "labels", "exclusions", "training", "search", "provenance",
                     "configuration"]  # fmt: skip


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
    assert "× no result: 1M (seed 2)" in text
    assert "2 of 3" in text
    assert "n1000000-s2-hmdb-fc_only: no result.json yet" in text
    assert [row["status"] for row in rows_of(folder)].count("missing") == 1


def test_counts_and_sums_are_shown(full: tuple[str, str]) -> None:
    text = Outline(full[1]).text
    assert "hashtags 123,456 100,000 23,456 81.0 % 23,000 no label; 456 too short" in text
    assert "posts 5,000,000 123,456 4,876,544 2.5 % 4,876,544 no hashtag" in text
    assert "source source posts · videos 120,000" in text  # not part of the sum
    assert "> 99.9 % 2 overlap" in text  # 89,999 of 90,001 is not all of them
    assert "the sum is off" not in text


def test_sum_that_does_not_add_up_is_marked(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path, sizes=SIZES[:1], seeds=(0,), protocols=("fc_only",))
    stage = {"name": "match", "in": 10, "kept": 6, "dropped": {"x": 1}}
    write(tmp_path / "sources/source/source.json", sealed({"counts": {"stages": [stage]}}))
    assert "(the sum is off by 3)" in report(folder)


def test_exclusions_stand_with_chance_and_thresholds(full: tuple[str, str]) -> None:
    text = Outline(full[1]).text
    assert "hmdb · test 2 2" in text
    assert "compared 9,000 flagged 1 estimate 10" in text
    assert "0.1 4 (0) 2 (0)" in text
    assert "<b>2 (0)</b>" in full[1]  # the thresholds in use


def test_large_frames_are_cut_to_a_budget(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path, sizes=SIZES[:1], seeds=(0,), protocols=("fc_only",))
    path = str(tmp_path / "datasets/source/dedup/evidence.parquet")
    rows = [row | {"source_jpeg": b"\xff\xd8" + bytes(300_000)} for row in storage.read_parquet(path).to_pylist()] * 10
    storage.write_parquet(path, pa.Table.from_pylist(rows))
    page = report(folder)
    assert len(page.encode()) < 5_000_000
    for kind in ("Strongest", "Weakest", "Random"):
        assert re.search(rf"{kind} matches kept as evidence \(2, 8 more", page)


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


# ---------------------------------------------------------------------------------------------------------- csv


def test_csv_equals_the_results(full: tuple[str, str]) -> None:
    folder, _ = full
    root = Path(folder).parents[1]
    points = json.loads(Path(folder, "plan.json").read_text())["points"]
    rows = rows_of(folder)
    assert [row["run"] for row in rows] == [p["run"] for p in points]
    assert tuple(rows[0]) == COLUMNS
    for p, row in zip(points, rows, strict=True):
        path = root / p["result"]
        if not path.exists():
            assert (row["status"], row["top1"], row["result_digest"]) == ("missing", "", "")
            continue
        content = json.loads(path.read_text())
        metrics = content["metrics"]
        assert [float(row[k]) for k in ("top1", "top5", "mean_class_accuracy")] == [
            metrics[k] for k in ("top1", "top5", "mean_class_accuracy")
        ]
        assert [float(row["top1_low"]), float(row["top1_high"])] == metrics["top1_interval"]
        assert (row["result_digest"], float(row["chosen"])) == (content["digest"], content["chosen"])
        if p["dataset"]:
            marker = json.loads((root / f"datasets/{p['dataset']}/dataset.json").read_text())
            assert row["dataset_digest"] == marker["digest"]


@pytest.mark.parametrize("unseen", ["\x00", "\x1b", "\u202e", "\u2066", "\ufeff", "\ud800"])
def test_unseen_characters_are_made_visible(unseen: str) -> None:
    assert clean(f"a{unseen}b") == "a\ufffdb"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1+1", " =1"])
def test_formula_cells_are_quoted(text: str) -> None:
    row = dict.fromkeys(COLUMNS) | {"target": text, "top1": -0.5}
    cells = next(csv.DictReader(io.StringIO(csv_bytes([row]).decode())))
    assert cells["target"].startswith("'")
    assert cells["top1"] == "-0.5"


# ---------------------------------------------------------------------------------------------------- estimates


def test_fit_recovers_the_planted_line() -> None:
    sizes = [2**k for k in (3, 5, 6, 10)]
    fit = estimates.fit_log2(sizes, [0.25 + 0.03125 * math.log2(n) for n in sizes])
    assert (fit.slope, fit.intercept, fit.r_squared) == (0.03125, 0.25, 1.0)
    assert fit.slope_interval == (0.03125, 0.03125)


def test_fit_slope_stands_on_the_page(full: tuple[str, str]) -> None:
    text = Outline(full[1]).text
    # the missing seed 2 of fc_only at 1M moves only that protocol's means
    assert "hmdb, full_ft 4 +3.00 +3.00 to +3.00 1.000" in text


def test_fit_is_honest_about_few_sizes() -> None:
    assert estimates.fit_log2([8], [0.5]) is None
    two = estimates.fit_log2([8, 16], [0.5, 0.6])
    assert (two.slope_interval, two.r_squared) == (None, None)
    assert two.slope == pytest.approx(0.1)


def test_fit_interval_matches_the_closed_form() -> None:
    # x = 0, 1, 2; y = 0, 1, 0: slope 0, residual sum 2/3, s² = 2/3, standard error sqrt(1/3), t(1) = 12.706
    fit = estimates.fit_log2([1, 2, 4], [0.0, 1.0, 0.0])
    assert fit.slope == pytest.approx(0)
    assert fit.slope_interval[1] == pytest.approx(12.706 * math.sqrt(1 / 3))


def test_interval_over_seeds_is_students_t() -> None:
    found = estimates.estimate([0.5, 0.6, 0.7], [])
    assert found.sd == pytest.approx(0.1)
    assert found.over_seeds == pytest.approx((0.6 - 4.303 * 0.1 / math.sqrt(3), 0.6 + 4.303 * 0.1 / math.sqrt(3)))
    assert estimates.estimate([0.5, 0.6], [(0.4, 0.7), (0.5, 0.8)]).interval == pytest.approx((0.45, 0.75))


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 12.706), (30, 2.042), (40, 2.021), (60, 2.000), (120, 1.980)])
def test_t_quantiles_are_those_of_the_printed_tables(degrees: int, quantile: float) -> None:
    assert estimates.t_975(degrees) == pytest.approx(quantile, abs=2e-3)


@pytest.mark.parametrize(
    ("count", "text"), [(50, "50"), (2500, "2500"), (500_000, "500K"), (1_500_000, "1.5M"), (65_000_000, "65M")]
)
def test_size_is_short(count: int, text: str) -> None:
    assert size(count) == text
