"""A small sweep whose stages are played by a few lines of shell, which fail when they are told to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline import artifacts, presets, storage, sweeps
from pipeline import config as configs
from pipeline.config import SweepConfig
from pipeline.launch import graph, local
from pipeline.launch.step import Command

RUN = "platform-10-s0-r2plus1d_10-8f"
ORDER = [
    "build-platform",
    "dedup-platform",
    "transfer-scratch-r2plus1d_10-8f-s0-verb-full_ft",
    "transfer-scratch-r2plus1d_10-8f-s0-verb-fc_only",
    "subset-platform-10-s0",
    f"pretrain-{RUN}",
    f"transfer-{RUN}-verb-full_ft",
    f"transfer-{RUN}-verb-fc_only",
]

PLAYED = """
cd "$0"
echo "$1" >> calls
echo "$1 says hello"
left=$(cat "fails/$1" 2>/dev/null || echo 0)
if [ "$left" -gt 0 ]; then
  echo $((left - 1)) > "fails/$1"
  exit "$(cat "status/$1" 2>/dev/null || echo 3)"
fi
mkdir -p "$(dirname "$2")"
cp "made/$1" "$2"
"""


@dataclass(frozen=True)
class Played:
    """A sweep of 8 stages; each leaves a whole marker unless it is told to fail."""

    folder: Path
    config: SweepConfig

    def fail(self, name: str, times: int, status: int = 3) -> None:
        (self.folder / "fails" / name).write_text(str(times))
        (self.folder / "status" / name).write_text(str(status))

    @property
    def calls(self) -> Counter:
        path = self.folder / "calls"
        return Counter(path.read_text().split()) if path.exists() else Counter()

    @property
    def plan(self) -> sweeps.Plan:
        return sweeps.plan(self.config)

    @property
    def states(self) -> dict[str, str]:
        from pipeline.launch.states import states

        return {row.stage.name: row.state for row in states(self.plan, graph.sweep_folder(self.config))}

    def command(self, stage: sweeps.Stage, folder: str) -> Command:
        real = graph.stage_command(stage, folder)
        argv = ("/bin/sh", "-c", PLAYED, str(self.folder), stage.name, graph.marker(stage))
        return Command(stage.name, argv, real.config, real.config_path)


def make(folder: Path) -> Played:
    """The posts are older than everything; the target is there."""
    for name in ("made", "fails", "status"):
        (folder / name).mkdir()
    root, posts = folder / "root", folder / "posts.jsonl"
    posts.write_text("{}\n")
    config = presets.demo(str(root), str(posts), str(posts), num_workers=1, num_processes=2)
    played = Played(folder, replace(config, sizes=(10,)))
    digests = {}
    for split in ("train", "test"):
        digests[split] = f"digest of {split}"
        storage.write_json(artifacts.target_files(str(root), "verb", split).marker, {"digest": digests[split]})
    for stage in played.plan.stages:
        digests[stage.name] = f"digest of {stage.name}"
    for stage in played.plan.stages:
        content = {
            "config": configs.determining(stage.config),
            "input_digests": digests,
            "digest": digests[stage.name],
        }
        storage.write_json(str(folder / "made" / stage.name), content)
    return played


@pytest.fixture
def played(tmp_path, monkeypatch) -> Played:
    found = make(tmp_path)
    monkeypatch.setattr(local, "stage_command", found.command)
    return found
