"""Parts give the same results in order, whoever runs them; a worker that dies is replaced; an error is the part's own."""

import os
import time
from pathlib import Path

import pytest

from pipeline import execute
from pipeline.config import ConfigError, ExecutionConfig
from pipeline.execute import WorkerLost, ray_address, run_parts
from tests.patience import PATIENCE_S

BACKENDS = [
    ExecutionConfig("process", num_workers=1),
    ExecutionConfig("process", num_workers=2),
    pytest.param(ExecutionConfig("ray", num_workers=2), marks=pytest.mark.ray),
]


def scaled(part, shared):
    return part * shared["factor"]


def fail_on_two(part, shared):
    Path(shared, str(part)).touch()
    if part == 2:
        deadline = time.monotonic() + PATIENCE_S
        while not Path(shared, "0").exists() and time.monotonic() < deadline:
            time.sleep(0.01)  # another process may have been slower to begin part 0
        raise ValueError("part 2 is bad")
    return part


def fail_once(part, shared):
    marker = Path(shared, f"tried-{part}")
    if part % 2 and not marker.exists():
        marker.touch()
        raise OSError("storage hiccup")
    return part


def die_once(part, shared):
    marker = Path(shared, f"died-{part}")
    if part == 1 and not marker.exists():
        marker.touch()
        os._exit(1)
    return part


def die_always(part, shared):
    if part == 1:
        os._exit(1)
    return part


def alone(part, shared):
    room = Path(shared, "room")
    if room.exists():
        raise RuntimeError(f"part {part} is not alone")
    room.touch()
    time.sleep(0.1)
    room.unlink()


def outlast_an_error(part, shared):
    beats = Path(shared, "beats")
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if part == 0:
            beats.touch()
        elif beats.exists():
            raise ValueError("another part fails")
        time.sleep(0.05)


def rest(part, shared):
    time.sleep(1)


@pytest.mark.parametrize("execution", BACKENDS)
def test_results_come_in_part_order(execution):
    assert run_parts(scaled, list(range(20)), execution, desc="t", shared={"factor": 3}) == [3 * i for i in range(20)]
    assert run_parts(scaled, [], execution, desc="t") == []


@pytest.mark.parametrize("execution", BACKENDS)
def test_an_error_is_raised_as_itself_and_done_parts_stay(execution, tmp_path):
    with pytest.raises(ValueError, match="part 2 is bad") as caught:
        run_parts(fail_on_two, list(range(4)), execution, desc="t", shared=str(tmp_path))
    assert str(caught.value) == "part 2 is bad"
    assert caught.value.__notes__ == ["in t: part 2 of 0–3 (2)"]
    assert (tmp_path / "0").exists()


@pytest.mark.parametrize("execution", BACKENDS)
def test_a_storage_error_is_tried_again(execution, tmp_path):
    assert run_parts(fail_once, list(range(6)), execution, desc="t", shared=str(tmp_path)) == list(range(6))
    assert len(list(tmp_path.glob("tried-*"))) == 3


@pytest.mark.parametrize("execution", BACKENDS[1:])
def test_a_worker_that_dies_is_replaced(execution, tmp_path):
    assert run_parts(die_once, list(range(4)), execution, desc="t", shared=str(tmp_path)) == [0, 1, 2, 3]
    assert (tmp_path / "died-1").exists()


@pytest.mark.parametrize("execution", BACKENDS[1:])
def test_a_part_that_kills_every_worker_is_named(execution):
    with pytest.raises(WorkerLost, match="t: part 1 of 0–1 "):
        run_parts(die_always, [0, 1], execution, desc="t")


@pytest.mark.ray
def test_no_more_parts_are_handed_to_ray_than_asked_for(tmp_path):
    run_parts(rest, [0], ExecutionConfig("ray", num_workers=2), desc="t")  # a Ray of two cores
    run_parts(alone, range(6), ExecutionConfig("ray", num_workers=1), desc="t", shared=str(tmp_path))


@pytest.mark.ray
def test_after_an_error_no_task_of_ray_runs_on(tmp_path):
    with pytest.raises(ValueError, match="another part fails"):
        run_parts(outlast_an_error, range(2), ExecutionConfig("ray", num_workers=2), desc="t", shared=str(tmp_path))
    last_beat = (tmp_path / "beats").stat().st_mtime
    time.sleep(1)
    assert (tmp_path / "beats").stat().st_mtime == last_beat


@pytest.mark.ray
def test_a_run_that_does_not_advance_says_so(monkeypatch, capsys):
    monkeypatch.setattr(execute, "STALL_S", 0.2)
    run_parts(rest, [0], ExecutionConfig("ray", num_workers=2), desc="t")
    assert "t: no part has finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "around", "address"),
    [("", "", "local"), ("", "head:6379", "head:6379"), ("local", "head:6379", "local"), ("auto", "", "auto")],
)
def test_a_job_runs_on_its_own_cluster(asked, around, address, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", around)
    assert ray_address(ExecutionConfig(address=asked)) == address


def test_a_dashboards_url_is_no_cluster_to_join(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    with pytest.raises(ConfigError, match="ray job submit"):
        ray_address(ExecutionConfig())
