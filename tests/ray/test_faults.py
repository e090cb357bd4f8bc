"""Killed workers, a killed node and a killed driver cost time, never a byte: the dataset is that of a calm run."""

import os
import random
import signal
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.patience import PATIENCE_S
from tests.ray.builds import artefacts, build_command, make_platform, shards_done
from tests.ray.sandbox import REPOSITORY, busy_workers, descendants, is_running, wait_until

pytestmark = pytest.mark.ray


@pytest.mark.parametrize(
    ("num_videos", "num_kills"),
    [(300, 3), pytest.param(2000, 10, marks=pytest.mark.slow)],
)
def test_kills_lose_nothing_and_repeat_nothing(num_videos, num_kills, tmp_path, sandbox, two_nodes):
    platform = make_platform(tmp_path / "platform", num_videos)
    calm, shaken = tmp_path / "calm", tmp_path / "shaken"
    subprocess.run(
        build_command(platform, calm, "--execution.backend", "process"),
        env=sandbox.environment(),
        cwd=REPOSITORY,
        check=True,
    )
    num_shards = shards_done(calm)
    killer = Killer(two_nodes["raylets"], shaken, random.Random(num_kills))
    command = build_command(platform, shaken, "--execution.address", two_nodes["address"])

    first = sandbox.start(*command, cwd=REPOSITORY)
    for kill in range(num_kills):
        killer.kill_a_worker(after_shards=kill * num_shards // (2 * num_kills))
    killer.kill_a_node(after_shards=num_shards // 2)
    killer.kill(first.pid, after_shards=num_shards * 2 // 3)
    assert first.wait(PATIENCE_S) == -signal.SIGKILL
    assert not (shaken / "datasets/d/dataset.json").exists()
    wait_until(lambda: not busy_workers(killer.raylets), "the killed driver's tasks to end")

    again = sandbox.start(*command, cwd=REPOSITORY)
    assert again.wait(PATIENCE_S) == 0, (sandbox.folder / "log").read_text()
    assert artefacts(shaken) == artefacts(calm)
    attempted = [row["key"] for path in sorted(calm.glob("datasets/d/shards/*[0-9].parquet")) for row in rows(path)]
    manifest = [row["video_id"] for path in sorted(calm.glob("datasets/d/manifest/*.parquet")) for row in rows(path)]
    assert len(set(attempted)) == len(attempted) > num_videos / 2
    assert attempted == manifest
    print(f"{num_videos} videos: {killer.killed} workers, 1 node and 1 driver killed")


class Killer:
    """SIGKILL to processes of one cluster, when the build has written so many shards."""

    def __init__(self, raylets: list[int], root: Path, draw: random.Random) -> None:
        self.raylets, self.head, self.root, self.draw = set(raylets), raylets[0], root, draw
        self.killed = 0

    def kill_a_worker(self, after_shards: int) -> None:
        wait_until(lambda: shards_done(self.root) >= after_shards and busy_workers(self.raylets), "a busy worker")
        victim = self.draw.choice(busy_workers(self.raylets))
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: not is_running(victim), "the worker to be dead")
        self.killed += 1

    def kill_a_node(self, after_shards: int) -> None:
        """The raylet of a node that is not the head: its workers die of it."""
        (victim,) = self.raylets - {self.head}
        workers = descendants({victim})
        self.kill(victim, after_shards)
        wait_until(lambda: not any(map(is_running, workers)), "the node's workers to be dead")
        self.raylets = {self.head}

    def kill(self, pid: int, after_shards: int) -> None:
        wait_until(lambda: shards_done(self.root) >= after_shards, f"{after_shards} shards")
        os.kill(pid, signal.SIGKILL)


def rows(path: Path) -> list[dict]:
    return pq.read_table(path).to_pylist()
