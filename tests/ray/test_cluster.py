"""A cluster gives the bytes of one machine; a driver that is stopped, however, leaves nothing running."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests.patience import PATIENCE_S
from tests.ray.builds import artefacts, build_command, make_platform, shards_done
from tests.ray.sandbox import REPOSITORY, busy_workers, wait_until

pytestmark = pytest.mark.ray


def test_two_nodes_give_the_bytes_of_one_machine(two_nodes, sandbox, tmp_path):
    platform = make_platform(tmp_path / "platform", 200)
    here, there = tmp_path / "here", tmp_path / "there"
    command = build_command(platform, here, "--execution.backend", "process")
    subprocess.run(command, env=sandbox.environment(), cwd=REPOSITORY, check=True)
    # A driver that names no cluster joins the one that RAY_ADDRESS names, as every Ray job does.
    environment = sandbox.environment(RAY_ADDRESS=two_nodes["address"])
    build = sandbox.start(*build_command(platform, there), env=environment, cwd=REPOSITORY)
    at_work = set()
    while build.poll() is None:
        at_work |= {raylet for raylet in two_nodes["raylets"] if busy_workers({raylet})}
    assert build.returncode == 0, (sandbox.folder / "log").read_text()
    assert artefacts(there) == artefacts(here)
    assert at_work == set(two_nodes["raylets"])


STOPS = [(backend, how) for backend in ("ray", "process") for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)]
QUICK = {("ray", signal.SIGTERM), ("ray", signal.SIGKILL), ("process", signal.SIGKILL)}


@pytest.mark.parametrize(
    ("backend", "how"),
    [
        pytest.param(*stop, id=f"{stop[0]}-{stop[1].name}", marks=[] if stop in QUICK else pytest.mark.slow)
        for stop in STOPS
    ],
)
def test_a_stopped_build_leaves_no_process_and_no_seal(backend, how, sandbox, tmp_path):
    platform = make_platform(tmp_path / "platform", 300)
    root = tmp_path / "root"
    command = build_command(platform, root, "--execution.backend", backend, "--execution.num-workers", "2")
    build = sandbox.start(*command, cwd=REPOSITORY)
    wait_until(lambda: shards_done(root), "the first shard")
    build.send_signal(how)
    assert build.wait(PATIENCE_S) != 0
    wait_until(lambda: not sandbox.processes(), "its processes to end")
    assert not (root / "datasets/d/dataset.json").exists()


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "127.0.0.1:1"])
def test_a_cluster_that_cannot_be_joined_is_named(address, sandbox, tmp_path):
    platform = make_platform(tmp_path / "platform", 10)
    command = build_command(platform, tmp_path / "root", "--execution.address", address)
    build = subprocess.run(command, env=sandbox.environment(), cwd=REPOSITORY, capture_output=True, text=True)
    assert build.returncode == 2
    assert address in build.stderr
    assert "--execution.address" in build.stderr


def test_the_script_runs_by_path_as_ray_submit_starts_it(tmp_path):
    """`ray submit` copies the one file to the head's home and runs it there: the packages must be installed."""
    pytest.importorskip("__editable___tagreel_0_1_0_finder", reason="tagreel is not installed")
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(REPOSITORY / "dataset_builder" / "build.py", home)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for script in (home / "build.py", REPOSITORY / "dataset_builder" / "build.py"):
        shown = subprocess.run(
            [sys.executable, str(script), "--help"], cwd=home, env=environment, capture_output=True, text=True
        )
        assert shown.returncode == 0, shown.stderr
        assert "--source.posts" in shown.stdout
