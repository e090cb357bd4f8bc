"""The main job from posts to report, through the commands a user types: on real clips, and on the simulated platform."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.patience import PATIENCE_S
from tests.real_clips import manifest_videos, ucf_split, write_real_world

BROKEN = {"empty.mp4": "empty", "page.mp4": "not_a_video", "cut.mp4": "not_a_video", "missing.mp4": "missing"}

TINY = [
    *("--model.name", "r2plus1d_10", "--model.width", "0.125"),
    *("--clip.length", "4", "--clip.stride", "2", "--clip.size-hw", "36", "48", "--clip.crop-px", "32"),
]
STORAGE = ["--storage.short-side-px", "48", "--storage.samples-per-shard", "64"]


def tagreel(verb, *options, status=0):
    """Run `tagreel VERB` as its own process; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", verb, *map(str, options)], capture_output=True, text=True
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def marker(*parts):
    return json.loads(parts[0].joinpath(*parts[1:]).read_text())


@pytest.fixture(scope="module")
def real_job(shared_data, tmp_path_factory):
    """The whole chain on every real clip, the UCF101 subset as the target; returns (root, world)."""
    folder = tmp_path_factory.mktemp("real")
    world, root = write_real_world(shared_data, folder), folder / "out"
    here = ["--root", root, "--execution.backend", "process"]
    tagreel("target", *here, "--target", "ucf", "--train", world.train, "--test", world.test, *STORAGE)
    source = ["--source.posts", world.posts, "--source.seed-labels", world.seed_labels, "--sampling.min-videos", "2"]
    tagreel("build", *here, "--dataset", "clips", *source, *STORAGE)
    tagreel("dedup", *here, "--dataset", "clips", "--targets", "ucf")
    recipe = ["--recipe.total-clips", "256", "--recipe.virtual-workers", "2", "--recipe.batch-per-gpu", "8"]
    recipe += ["--recipe.warmup-clips", "64", "--recipe.lr-per-gpu", "0.01", "--num-processes", "2"]
    tagreel("pretrain", "--root", root, "--run", "r", "--dataset", "clips", *TINY, *recipe)
    for protocol in ("fc_only", "full_ft"):
        options = ["--root", root, "--run", "r", "--target", "ucf", "--protocol", protocol, "--num-clips", "2"]
        tagreel(
            "transfer",
            *options,
            "--passes",
            "2",
            "--warmup-passes",
            "1",
            "--decay-passes",
            "1",
            "--learning-rates",
            "0.01",
        )
    return root, world


def test_every_real_clip_is_stored_or_quarantined_with_a_reason(real_job):
    root, world = real_job
    posts = marker(root, "sources", "source", "source.json")["counts"]
    assert posts["in"] == len(world.clips) + len(BROKEN) == posts["kept"] + sum(posts["dropped"].values())
    paths = sorted((root / "datasets/clips/shards").glob("clips-??????.parquet"))
    index = [row for path in paths for row in pq.read_table(path).to_pylist()]
    uri = {row["video_id"]: row["uri"] for row in pq.read_table(root / "datasets/clips/manifest").to_pylist()}
    assert {row["key"] for row in index} == set(uri)
    assert len(index) == len(uri) >= 0.95 * len(world.clips)
    quarantined = {Path(uri[row["key"]]).name: row["reason"] for row in index if row["status"] == "quarantined"}
    assert quarantined == BROKEN
    assert all(row["reason"] is None for row in index if row["status"] == "ok")


def test_every_target_clip_among_the_posts_is_excluded(real_job, shared_data):
    root, _ = real_job
    manifest = pq.read_table(root / "datasets/clips/manifest").to_pylist()
    uri = {row["video_id"]: row["uri"] for row in manifest}
    excluded = {uri[row["video_id"]] for row in pq.read_table(root / "datasets/clips/exclusions.parquet").to_pylist()}
    videos = manifest_videos(shared_data)
    target = {str(shared_data / v["file"]) for split in ("train", "test") for v in ucf_split(videos, split)}
    in_source = target & set(uri.values())
    assert len(in_source) >= 95
    assert in_source <= excluded
    unrelated = {path for path in uri.values() if "fight_surv" in path or "gmdcsa24" in path or "/tmk/" in path}
    assert len(unrelated) >= 80
    assert not unrelated & excluded


def test_results_say_how_many_videos_they_stand_on(real_job, shared_data):
    root, _ = real_job
    num_test = len(list(ucf_split(manifest_videos(shared_data), "test")))
    for protocol in ("fc_only", "full_ft"):
        metrics = marker(root, "runs/r/transfer", f"ucf-{protocol}", "result.json")["metrics"]
        assert metrics["num_videos"] + metrics["num_undecodable"] == num_test
        assert 0 <= metrics["top1_interval"][0] <= metrics["top1"] <= metrics["top1_interval"][1] <= 1


def test_a_second_run_of_every_stage_changes_nothing(real_job):
    root, world = real_job
    before = {
        path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file() and "commands" not in path.parts
    }
    here = ["--root", root, "--execution.backend", "process"]
    source = ["--source.posts", world.posts, "--source.seed-labels", world.seed_labels, "--sampling.min-videos", "2"]
    tagreel("build", *here, "--dataset", "clips", *source, *STORAGE)
    tagreel("dedup", *here, "--dataset", "clips", "--targets", "ucf")
    assert before == {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file() and "commands" not in p.parts}
    said = tagreel("build", *here, "--dataset", "clips", *source, *STORAGE, "--storage.crf", "30", status=2)
    assert "storage.crf: 20 → 30" in said


@dataclass(frozen=True)
class Demo:
    root: Path
    said: str
    """What the second start printed."""
    kept: dict[Path, int]
    """Files that were whole when the first start was killed, and their times of change."""


def kill_when(path, argv):
    """Start a command in a process group of its own and kill the group as soon as `path` exists."""
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert process.poll() is None, "the command ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def small_demo(tmp_path_factory):
    """`tagreel demo` at a tenth of its size, with Ray: killed in its first pretraining run, and started again."""
    root = tmp_path_factory.mktemp("demo")
    options = ["--num-posts", "260", "--sizes", "40", "80", "--total-clips", "512", "--num-processes", "1"]
    options += ["--train-videos-per-class", "3", "--test-videos-per-class", "5"]
    argv = [sys.executable, "-m", "pipeline.cli", "demo", "--root", str(root), *options]
    kill_when(root / "runs" / "platform-40-s0-r2plus1d_10-8f" / "metrics.jsonl", argv)
    whole = [
        root / "world" / "world.json",
        *root.glob("targets/*/*/dataset.json"),
        *root.glob("datasets/*/dataset.json"),
    ]
    whole += [*root.glob("datasets/*/dedup/dedup.json"), *root.glob("runs/scratch*/transfer/*/result.json")]
    kept = {path: path.stat().st_mtime_ns for path in whole}
    return Demo(root, tagreel("demo", "--root", root, *options), kept)


@pytest.mark.ray
def test_a_killed_demo_goes_on_where_it_was(small_demo):
    assert (
        len(small_demo.kept) == 8
    )  # platform, 2 splits, source, its clean-up, first subset, scratch by both protocols
    assert {path: path.stat().st_mtime_ns for path in small_demo.kept} == small_demo.kept


@pytest.mark.ray
def test_the_demo_ends_in_a_report_with_every_point(small_demo):
    folder = small_demo.root / "sweeps" / "demo"
    assert str(folder / "report.html") in small_demo.said
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted((int(row["num_videos"]), row["protocol"]) for row in rows) == [
        (size, protocol) for size in (0, 40, 80) for protocol in ("fc_only", "full_ft")
    ]
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["num_test_videos"] for row in rows} == {str(12 * 5)}
    html = (folder / "report.html").read_text()
    assert "<script" not in html
    assert "planted near-duplicates" in html


@pytest.mark.ray
def test_subsets_are_nested_and_copy_no_video(small_demo):
    root = small_demo.root
    ids = {n: set(pq.read_table(root / f"datasets/platform-{n}-s0/manifest")["video_id"].to_pylist()) for n in (40, 80)}
    assert (len(ids[40]), len(ids[80])) == (40, 80)
    assert ids[40] < ids[80]
    assert not list((root / "datasets/platform-40-s0").rglob("*.tar"))
