"""Two hosts train together and one is lost. The hosts are network namespaces of this machine: Linux, root and `ip`."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline import artifacts, storage
from pipeline.cli import EXIT_INTERRUPTED
from pipeline.config import PretrainConfig, to_dict
from pipeline.progress import read_metrics
from pretrain import checkpoint
from tests.patience import PATIENCE_S

REPOSITORY = Path(__file__).parents[2]
pytestmark = [pytest.mark.distributed, pytest.mark.slow]


@dataclass(frozen=True)
class Host:
    """A network namespace with a name, an address and an interface of its own; the disk is shared with all others."""

    name: str
    address: str
    known_hosts: Path
    """What /etc/hosts is for its processes."""
    core: int
    """The only one it has."""

    @property
    def interface(self) -> str:
        return f"{self.name}v"

    def start(self, log: Path, *argv: str) -> subprocess.Popen:
        """A process of this host, leader of a session; its output goes to `log`."""
        inside = 'hostname "$1" && mount --bind "$2" /etc/hosts && shift 2 && exec "$@"'
        network = ["ip", "netns", "exec", self.name, "taskset", "--cpu-list", str(self.core)]
        own = [*network, "unshare", "--uts", "--mount", "sh", "-c", inside, "sh", self.name]
        with log.open("w") as file:
            return subprocess.Popen(
                [*own, str(self.known_hosts), sys.executable, *argv],
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def unplug(self) -> None:
        """Nothing goes in or out any more, and nobody is told."""
        ip("-n", self.name, "link", "set", self.interface, "down")

    def kill_all(self) -> None:
        """SIGKILL to every process of the host, agent and ranks at once."""
        for pid in ip("netns", "pids", self.name).split():
            os.kill(int(pid), signal.SIGKILL)


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def hosts(tmp_path) -> Iterator[tuple[Host, Host]]:
    """Two hosts with a cable between them, in the order of their names."""
    if not all(map(shutil.which, ("ip", "unshare", "taskset"))):
        pytest.skip("no `ip`, `unshare` and `taskset` on this machine")
    known = tmp_path / "hosts"
    cores = sorted(os.sched_getaffinity(0))
    first, second = (
        Host(f"tg{os.getpid()}{letter}", f"10.77.0.{number}", known, cores[number % len(cores)])
        for number, letter in enumerate("ab", start=1)
    )
    known.write_text("".join(f"{h.address} {h.name}\n" for h in (first, second)) + "127.0.0.1 localhost\n")
    made = []
    try:
        for host in (first, second):
            ip("netns", "add", host.name)
            made.append(host)
        ends = ["link", "add", first.interface, "netns", first.name, "type", "veth"]
        ip(*ends, "peer", "name", second.interface, "netns", second.name)
        for host in (first, second):
            ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.interface)
            for interface in ("lo", host.interface):
                ip("-n", host.name, "link", "set", interface, "up")
    except subprocess.CalledProcessError as error:
        for host in made:
            ip("netns", "delete", host.name)
        pytest.skip(f"network namespaces are not permitted: {error.stderr}")
    yield first, second
    for host in (first, second):
        host.kill_all()
        ip("netns", "delete", host.name)


def launcher(endpoint: Host, config_path: Path) -> list[str]:
    """What every host runs, word for word."""
    return [
        *("-m", "pretrain.torchrun", "--nnodes=1:2", "--nproc-per-node=1", "--max-restarts=3"),
        *("--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint.name}:29555", "--rdzv-conf=last_call_timeout=5"),
        *("-m", "pretrain.train", "--config", str(config_path)),
    ]


def wait_until(condition, what: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, f"ended while waiting for {what}:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"no {what} after {PATIENCE_S} s:\n" + "\n".join(
            f.read_text() for f in log.parent.glob("*.log")
        )
        time.sleep(0.1)


def resumed_at(said: str) -> int:
    return int(said.partition("resuming at ")[2].partition(" of")[0].replace(",", ""))


@pytest.mark.parametrize("loss", ["killed", "unplugged", "told to stop"])
def test_the_others_go_on_from_the_newest_checkpoint_when_a_host_is_lost(hosts, named, tmp_path, loss):
    lost, survivor = hosts  # the first name gets rank 0: the harder case
    config: PretrainConfig = dataclasses.replace(
        named(f"host {loss}", total_clips=800), checkpoint_clips=80, peer_timeout_s=10.0
    )
    files = artifacts.run_files(config.root, config.run)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_dict(config)))
    logs = {host: tmp_path / f"{host.name}.log" for host in hosts}
    agents = {host: host.start(logs[host], *launcher(survivor, path)) for host in hosts}
    wait_until(lambda: checkpoint.newest(files.checkpoints), "checkpoint", agents[survivor], logs[survivor])
    assert "on 2 process(es)" in logs[lost].read_text()
    saved = checkpoint.newest(files.checkpoints).clips_seen
    if loss == "told to stop":
        agents[lost].terminate()
        assert agents[lost].wait(timeout=60) == EXIT_INTERRUPTED
        saved = checkpoint.newest(files.checkpoints).clips_seen
    if loss == "unplugged":
        lost.unplug()
    lost.kill_all()
    agents[lost].wait()
    assert saved < config.recipe.total_clips

    wait_until(lambda: os.path.exists(files.marker), "end of the run", agents[survivor], logs[survivor])
    assert agents[survivor].wait(timeout=60) == 0
    said = logs[survivor].read_text()
    assert "on 1 process(es)" in said
    assert "Traceback" not in said
    resumed = resumed_at(said)
    assert resumed >= saved
    assert resumed % config.checkpoint_clips == 0 or loss == "told to stop"  # which saves where it is
    assert storage.read_json(files.marker)["counts"]["clips_seen"] == config.recipe.total_clips
    clips = [line["clips_seen"] for line in read_metrics(files.metrics)]
    assert clips[-1] == config.recipe.total_clips
    assert all(before < after for before, after in itertools.pairwise(clips))


def test_a_host_that_comes_is_taken_in_and_no_clip_is_lost(hosts, named, tmp_path):
    newcomer, first = hosts
    config: PretrainConfig = dataclasses.replace(named("host comes", total_clips=3_200), checkpoint_clips=3_200)
    files = artifacts.run_files(config.root, config.run)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_dict(config)))
    logs = {host: tmp_path / f"{host.name}.log" for host in hosts}
    agents = {first: first.start(logs[first], *launcher(first, path))}
    wait_until(lambda: read_metrics(files.metrics), "first step", agents[first], logs[first])
    agents[newcomer] = newcomer.start(logs[newcomer], *launcher(first, path))
    wait_until(lambda: os.path.exists(files.marker), "end of the run", agents[first], logs[first])
    assert [agents[host].wait(timeout=60) for host in hosts] == [0, 0]
    both = logs[newcomer].read_text() + logs[first].read_text()
    assert "on 1 process(es)" in logs[first].read_text()
    assert "on 2 process(es)" in both
    told = int(both.partition("told to stop; saved at ")[2].partition(" clips")[0].replace(",", ""))
    assert resumed_at(both) == told > 0
