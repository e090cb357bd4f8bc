"""Parts give the same results in order, whoever runs them; a worker that dies is replaced; an error is the part's own."""

import os
import time
from pathlib import Path

import pytest

from pipeline.config import ExecutionConfig
from pipeline.execute import run_parts

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
        deadline = time.monotonic() + 60
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


@pytest.mark.parametrize("execution", BACKENDS)
def test_results_come_in_part_order(execution):
    assert run_parts(scaled, list(range(20)), execution, desc="t", shared={"factor": 3}) == [3 * i for i in range(20)]
    assert run_parts(scaled, [], execution, desc="t") == []


@pytest.mark.parametrize("execution", BACKENDS)
def test_an_error_is_raised_as_itself_and_done_parts_stay(execution, tmp_path):
    with pytest.raises(ValueError, match="part 2 is bad"):
        run_parts(fail_on_two, list(range(4)), execution, desc="t", shared=str(tmp_path))
    assert (tmp_path / "0").exists()


@pytest.mark.parametrize("execution", BACKENDS)
def test_a_storage_error_is_tried_again(execution, tmp_path):
    assert run_parts(fail_once, list(range(6)), execution, desc="t", shared=str(tmp_path)) == list(range(6))
    assert len(list(tmp_path.glob("tried-*"))) == 3


@pytest.mark.ray
def test_ray_replaces_a_worker_that_dies(tmp_path):
    execution = ExecutionConfig("ray", num_workers=2)
    assert run_parts(die_once, list(range(4)), execution, desc="t", shared=str(tmp_path)) == [0, 1, 2, 3]
    assert (tmp_path / "died-1").exists()
