"""Running a sweep here: retries, what a failure takes with it, going on, the table of states; with played stages."""

import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import artifacts, cli, launch, storage, sweeps
from pipeline.config import LabelReportConfig
from pipeline.launch import graph, local, logged, states
from pipeline.launch.entry import show_states
from tests.pipeline.sweep_stages import ORDER, RUN, Played, played

__all__ = ["played"]
SUBSET, PRETRAIN = "subset-platform-10-s0", f"pretrain-{RUN}"


def log(played: Played, name: str) -> str:
    return Path(logged.log_path(graph.sweep_folder(played.config), name)).read_text()


def test_every_stage_runs_once_in_order_and_leaves_its_log(played, capfd):
    local.realise(played.config)
    assert (played.folder / "calls").read_text().split() == ORDER
    assert set(played.states.values()) == {"done"}
    assert f"{SUBSET} says hello" in log(played, SUBSET)
    assert f"{SUBSET} says hello" in capfd.readouterr().out


def test_what_is_finished_is_recognised_without_a_process(played):
    local.realise(played.config)
    local.realise(played.config)
    assert played.calls == Counter(ORDER)


def test_only_what_is_missing_is_made_again(played):
    local.realise(played.config)
    os.remove(graph.marker(played.plan.stage(f"transfer-{RUN}-verb-fc_only")))
    assert played.states[f"transfer-{RUN}-verb-fc_only"] == "failed"
    local.realise(played.config)
    assert played.calls == Counter([*ORDER, ORDER[-1]])


@pytest.mark.parametrize(
    ("what", "asked_again"),
    [
        ("another recipe", {f"pretrain-{RUN}"}),
        ("newer posts", {"build-platform"}),
        ("another target", {"dedup-platform", *(name for name in ORDER if name.startswith("transfer"))}),
        ("a dataset made anew", {"dedup-platform"}),
        ("a torn marker", {SUBSET, f"pretrain-{RUN}"}),
    ],
)
def test_where_it_is_not_sure_the_stage_itself_is_asked(played, what, asked_again):
    local.realise(played.config)
    config, plan = played.config, played.plan
    if what == "another recipe":
        recipe = replace(config.pretrain.recipe, weight_decay=0.5)
        config = replace(config, pretrain=replace(config.pretrain, recipe=recipe))
    elif what == "newer posts":
        os.utime(config.build.source.posts, (time.time() + 60,) * 2)
    elif what == "another target":
        storage.write_json(artifacts.target_files(config.root, "verb", "train").marker, {"digest": "new"})
    elif what == "a dataset made anew":
        path = graph.marker(plan.stage("build-platform"))
        storage.write_json(path, storage.read_json(path) | {"digest": "new"})
    else:
        storage.write_bytes(graph.marker(plan.stage(SUBSET)), b'{"config"')
    new = replace(played, config=config).plan
    assert {stage.name for stage in new.stages if not states.is_finished(stage, new)} == asked_again


def test_a_stage_that_fails_is_tried_again_as_often_as_asked(played):
    played.fail(SUBSET, times=2)
    local.realise(replace(played.config, retries=2))
    assert played.calls == Counter([*ORDER, SUBSET, SUBSET])
    assert log(played, SUBSET).count("ended with status 3") == 2
    assert played.states[SUBSET] == "done"


def test_a_failure_takes_along_what_needs_it_and_nothing_else(played, capsys):
    played.fail(SUBSET, times=9)
    with pytest.raises(
        launch.SweepFailed, match=r"1 stages failed, and 3 that need what they make are left out"
    ) as failed:
        local.realise(played.config)
    assert failed.value.status == 1
    assert "subset-platform-10-s0 (status 3)" in str(failed.value)
    assert played.calls == Counter([*ORDER[:4], SUBSET, SUBSET])  # one retry
    assert {name for name, state in played.states.items() if state == "skipped"} == set(ORDER[5:])
    said = capsys.readouterr().out
    assert f"failed   {SUBSET}" in said
    assert "2 attempts, status 3" in said
    # The fault is mended: the same command goes on from there.
    played.fail(SUBSET, times=0)
    local.realise(played.config)
    assert played.calls == Counter([*ORDER, SUBSET, SUBSET])


def test_bad_input_is_not_tried_again(played):
    played.fail("build-platform", times=9, status=cli.EXIT_BAD_INPUT)
    with pytest.raises(launch.SweepFailed):
        local.realise(replace(played.config, retries=5))
    assert played.calls["build-platform"] == 1
    assert played.calls["transfer-scratch-r2plus1d_10-8f-s0-verb-fc_only"] == 1  # needs no data


def test_a_report_on_labels_is_made_once_what_it_reads_is_there_and_again_when_that_changes(tmp_path):
    plan = sweeps.plan(replace(sweeps.scaled("label_distribution", "tiny"), root=str(tmp_path)))
    stage = plan.stages[-1]
    for name in stage.needs:
        storage.write_json(graph.marker(plan.stage(name)), {})
    assert not states.is_finished(stage, plan)
    storage.write_json(graph.marker(stage), {})
    assert states.is_finished(stage, plan)
    os.utime(graph.marker(plan.stage(stage.needs[0])), (time.time() + 60,) * 2)
    assert not states.is_finished(stage, plan)


@pytest.mark.parametrize("status", [cli.EXIT_INTERRUPTED, 130])
def test_a_stage_that_was_told_to_stop_stops_the_sweep(played, status):
    played.fail(PRETRAIN, times=1, status=status)
    with pytest.raises(SystemExit) as ended:
        local.realise(replace(played.config, retries=5))
    assert ended.value.code == status
    assert played.calls == Counter(ORDER[:6])
    assert played.states[PRETRAIN] == "ready"
    assert played.states[f"transfer-{RUN}-verb-fc_only"] == "waiting"


def test_a_sweep_that_failed_reports_what_there_is_and_ends_with_status_1(played, monkeypatch, capsys):
    reports = []
    monkeypatch.setattr("pipeline.report.write_report", lambda *words: reports.append(words) or {"html": "report.html"})
    played.fail(SUBSET, times=9)
    assert cli.guarded(lambda: launch.sweep(played.config)) == 1
    assert len(reports) == 1
    assert "1 stages failed" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------- states


def begin(played: Played, name: str, pid: int, status: int | None = None) -> None:
    path = Path(logged.log_path(graph.sweep_folder(played.config), name))
    path.parent.mkdir(parents=True, exist_ok=True)
    text = logged.BEGINS.format(name=name, host=logged.socket.gethostname(), what="process", number=pid) + "\n"
    with path.open("a") as file:
        file.write(text + (logged.ENDS.format(name=name, status=status) + "\n" if status is not None else ""))


def end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.kill()
        process.communicate()


@pytest.fixture
def making():
    """Starts a process that looks like a stage's."""
    started = []

    def start(name: str) -> subprocess.Popen:
        words = [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)", f"{name}.json"]
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE))
        started[-1].stdout.readline()  # it has its words
        return started[-1]

    yield start
    for process in started:
        end(process)


def test_states_tell_running_from_killed_and_ready_from_waiting(played, making, capsys):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    begin(played, "build-platform", making("build-platform").pid)
    begin(played, ORDER[2], gone.pid)
    assert played.states == {
        **dict.fromkeys(ORDER, "waiting"),
        "build-platform": "running",
        ORDER[2]: "failed",
        ORDER[3]: "ready",
    }
    show_states(played.config)
    said = capsys.readouterr().out
    assert "killed: " in said
    assert "8 stages: 1 running" in said
    assert played.calls == Counter()


def test_a_process_that_has_the_number_of_a_lost_one_is_not_taken_for_it(played):
    begin(played, "build-platform", os.getpid())
    assert played.states["build-platform"] == "failed"


def test_a_sweep_waits_for_what_a_killed_one_has_left_behind(played, making, monkeypatch, capsys):
    left = making(PRETRAIN)
    begin(played, PRETRAIN, left.pid)
    waited = []
    monkeypatch.setattr(local.time, "sleep", lambda s: waited.append(played.calls[PRETRAIN]) or end(left))
    local.realise(played.config)
    assert waited == [0]  # not started beside it
    assert played.calls == Counter(ORDER)
    assert f"'{PRETRAIN}' is being made already, by process {left.pid} on " in capsys.readouterr().out


def test_a_log_keeps_what_a_progress_bar_left(tmp_path):
    step = launch.Command(
        "s", ("/bin/sh", "-c", r"printf '1 of 2\r2 of 2\nlast'; exit 5"), LabelReportConfig(), str(tmp_path / "s.json")
    )
    assert logged.run_logged(step, str(tmp_path / "logs" / "s.log")) == 5
    lines = (tmp_path / "logs" / "s.log").read_text().splitlines()
    assert lines[1:] == ["2 of 2", "last", "==> s ended with status 5"]
    assert logged.attempts(str(tmp_path / "logs" / "s.log")) == logged.Attempts(1, 1, 5)
