"""Where every number comes from: digests then and now, exclusions, losses, machine, and the commands from posts on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.report import inputs, provenance, results
from pipeline.report.origins import Origin, read_origins
from pipeline.report.points import Plan
from tests.pipeline.synthetic_sweep import HOSTILE, Outline, make_sweep, sealed, write

SIZE = 500_000
RUN, SUBSET = f"n{SIZE}-s0", f"source-{SIZE}-s0"
POINT = f"{RUN}-hmdb-fc_only"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sweep of one pretrained point and one from scratch, whose artefacts name each other as the stages' own do."""
    make_sweep(tmp_path, sizes=(SIZE,), seeds=(0,), protocols=("fc_only",))
    chain(tmp_path)
    return tmp_path


def chain(root: Path) -> None:
    source = digest(root / "sources/source/source.json")
    write(root / "datasets/source/dataset.json", sealed({"config": {"base": None, "source": {"name": "source"}},
          "input_digests": {"source": source}, "quarantined": {"no_video_stream": 5}}))  # fmt: skip
    base, dedup = (digest(root / f"datasets/source/{name}.json") for name in ("dataset", "dedup/dedup"))
    counts = {"base": {"in": 90_000, "kept": 89_958, "dropped": {"overlaps_a_target": 42}}}
    write(root / f"datasets/{SUBSET}/dataset.json", sealed({"config": {"base": "source"}, "counts": counts,
          "input_digests": {"base": base, "dedup": dedup}}))  # fmt: skip
    subset = digest(root / f"datasets/{SUBSET}/dataset.json")
    run = {"config": {"dataset": SUBSET}, "input_digests": {"dataset": subset, "exclusions": ""},
           "counts": {"videos": SIZE, "kept": SIZE, "dropped": {"overlaps_a_target": 0}, "clips_seen": 900, "replaced": 3},
           "provenance": {"device": "NVIDIA H200", "world_size": 8, "torch": "2.13.0"},
           "performance": {"seconds": 7384.0}}  # fmt: skip
    write(root / f"runs/{RUN}/run.json", sealed(run))
    path = root / f"runs/{RUN}/transfer/hmdb-fc_only/result.json"
    test = {"attempted": 1000, "scored": 998, "undecodable": {"no_video_stream": 2}}
    train = {"attempted": 700, "used": 699, "undecodable": {"too_short": 1}}
    used = {"run": digest(root / f"runs/{RUN}/run.json")}
    used |= {split: digest(root / f"targets/hmdb/{split}/dataset.json") for split in ("train", "test")}
    result = {key: value for key, value in json.loads(path.read_text()).items() if key != "digest"}
    write(path, sealed(result | {"counts": {"test_videos": test, "train_videos": train}, "input_digests": used}))


def digest(path: Path) -> str:
    return json.loads(path.read_text())["digest"]


def read(root: Path) -> tuple[Plan, dict[str, Origin]]:
    plan = inputs.read_plan(str(root / "sweeps/data_size"), str(root))
    return plan, read_origins(plan, str(root))


def text_of(root: Path) -> str:
    plan, origins = read(root)
    return Outline(provenance.provenance_section(plan, results.result_rows(plan, str(root)), origins)).text


def change(path: Path, **values: Any) -> None:
    content = {key: value for key, value in json.loads(path.read_text()).items() if key != "digest"}
    write(path, sealed(content | values))


def test_the_chain_leads_from_the_result_to_the_source(root: Path) -> None:
    origin = read(root)[1][POINT]
    assert [(entry.reader, entry.name) for entry in origin.inputs] == [
        ("result", f"run {RUN}"), ("result", "target hmdb, train"), ("result", "target hmdb, test"),
        (f"run {RUN}", f"dataset {SUBSET}"), (f"dataset {SUBSET}", "dataset source"),
        (f"dataset {SUBSET}", "dedup of source"), ("dataset source", "source source"),
    ]  # fmt: skip
    assert not any(entry.changed for entry in origin.inputs)


def test_exclusions_and_losses_are_told(root: Path) -> None:
    text = text_of(root)
    dedup = digest(root / "datasets/source/dedup/dedup.json")
    assert f"42 videos left out because they overlap a target video, by the dedup {dedup}" in text
    assert "undecodable when the shards were built: 5 no_video_stream; 3 clips replaced in training" in text
    assert "1,000, of which 998 were scored; undecodable: 2 no_video_stream" in text
    assert "700, of which 699 were used; undecodable: 1 too_short" in text
    assert "pretraining: NVIDIA H200 × 8" in text
    assert "pretraining 2 h 3 min; transfer 2 min 3 s" in text


def test_a_run_that_leaves_videos_out_itself_names_its_dedup(root: Path) -> None:
    change(root / f"datasets/{SUBSET}/dataset.json", config={}, counts={}, input_digests={})
    change(root / f"runs/{RUN}/run.json", input_digests={"dataset": "d", "exclusions": "feed"},
           counts={"dropped": {"overlaps_a_target": 7}})  # fmt: skip
    assert read(root)[1][POINT].exclusions == (7, "feed")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("targets/hmdb/test/dataset.json", "result was made from target hmdb, test"),
        ("datasets/source/dedup/dedup.json", f"dataset {SUBSET} was made from dedup of source"),
        ("sources/source/source.json", "dataset source was made from source source"),
    ],
)
def test_what_was_made_anew_since_is_told_at_the_top(root: Path, path: str, told: str) -> None:
    plan, origins = read(root)
    assert provenance.problems(plan, origins) is None or POINT not in provenance.problems(plan, origins)
    change(root / path, made="anew")
    assert f"{POINT} : {told} as it was; that has changed since" in spaced(provenance.problems(*read(root)))


def test_a_run_made_anew_is_told_once(root: Path) -> None:
    change(root / f"runs/{RUN}/run.json", made="anew")
    assert spaced(provenance.problems(*read(root))).count("another state of its run") == 1
    assert "changed since" in text_of(root)
    assert "made from run" not in spaced(provenance.problems(*read(root)))


def spaced(markup: str | None) -> str:
    return Outline((markup or "").replace("</a>", "</a> ")).text


def test_commands_lead_from_posts_to_the_number(root: Path) -> None:
    path = root / "sweeps/data_size/plan.json"
    content = json.loads(path.read_text())
    transfer = next(p["result"] for p in content["points"] if p["id"] == POINT)
    needs = {"build": [], "dedup": ["build"], "other": ["build"], "subset": ["dedup"], "pretrain": ["subset"]}
    stages = [
        {"name": name, "needs": behind, "marker": name, "command": f"make {name}"} for name, behind in needs.items()
    ]
    stages.append({"name": "t", "needs": ["pretrain"], "marker": transfer, "command": "make t"})
    write(path, content | {"stages": stages})
    plan, origins = read(root)
    assert origins[POINT].commands == tuple(f"make {name}" for name in ("build", "dedup", "subset", "pretrain", "t"))
    scratch = next(point for point in plan.points if point.kind == "scratch")
    assert origins[scratch.id].commands == scratch.commands != ()  # not among the stages: its own


def test_every_row_leads_to_its_block(root: Path) -> None:
    plan, origins = read(root)
    section = provenance.provenance_section(plan, results.result_rows(plan, str(root)), origins)
    for point in plan.points:
        assert f'href="#{provenance.anchor(point)}"' in section
        assert f'<details id="{provenance.anchor(point)}">' in section


def test_nothing_of_a_run_is_still_a_point(root: Path) -> None:
    for path in ("run.json", "transfer/hmdb-fc_only/result.json"):
        (root / "runs" / RUN / path).unlink()
    assert "no result.json yet" in text_of(root)


def test_the_table_is_carried_only_while_it_is_small() -> None:
    assert "base64" in provenance.downloads(b"a,b\n")
    assert "base64" not in provenance.downloads(bytes(provenance.MAX_CSV_BYTES + 1))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (61, "1 min 1 s"), (3599.6, "1 h 0 min"), (90_000, "25 h 0 min")],
)
def test_durations_are_in_the_units_of_a_clock(seconds: float, text: str) -> None:
    assert provenance.duration(seconds) == text


def test_ids_of_blocks_hold_no_text_of_the_user(root: Path) -> None:
    plan, _ = read(root)
    point = inputs.Point(HOSTILE, "scratch", 0, 0, "hmdb", "fc_only", "run")
    assert provenance.anchor(point).removeprefix("from-").isalnum()
    assert provenance.anchor(point) != provenance.anchor(plan.points[0])
