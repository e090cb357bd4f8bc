"""The study on the simulated platform (docs/study.md): its sweeps run beside each other, within a box of time, and resume.

`python -m benchmarks.study --hours 2` goes on where it stopped; `python -m benchmarks.study_findings` then reads what there
is. On a machine with a GPU: `--scale study_gpu --root tagreel-study-gpu`, one sweep at a time on all cores.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

from pipeline import progress, storage
from pipeline.sweeps.study import SWEEPS, study


@dataclass
class Box:
    """Processes that must end when time is up, each on cores of its own."""

    ends: float
    """On the monotonic clock."""
    free_cores: SimpleQueue[set[int]]

    def run(self, argv: list[str], log: str) -> int:
        """Run until it ends or time is up, which it hears by SIGTERM; returns its status, 75 where it was stopped."""
        cores = self.free_cores.get()
        with open(log, "ab") as lines:
            process = subprocess.Popen(argv, stdout=lines, stderr=lines)
            os.sched_setaffinity(process.pid, cores)  # its stages take as many threads as they may use cores
            try:
                return process.wait(max(1.0, self.ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
                return process.wait() or 75
            finally:
                self.free_cores.put(cores)


def chains(kinds: Sequence[str]) -> list[list[str]]:
    """Sweeps that share a root, one after the other: two that need the same stage at once would both make it."""
    roots: dict[str, list[str]] = {}
    for kind in kinds:
        roots.setdefault(study(kind).root, []).append(kind)
    return list(roots.values())


def run_chain(kinds: Sequence[str], scale: str, root: str, box: Box) -> dict[str, int]:
    """{sweep: status} of sweeps that share a root."""
    statuses = {}
    for kind in kinds:
        if box.ends < time.monotonic():
            return statuses | {kind: 75}
        folder = storage.join(root, os.path.basename(study(kind).root))
        os.makedirs(folder, exist_ok=True)
        argv = [sys.executable, "-m", "pipeline.cli", "sweep", kind, "--scale", scale, "--root", folder]
        started = time.monotonic()
        statuses[kind] = box.run(argv, storage.join(folder, f"{kind}.log"))
        said = {0: "whole", 75: "stopped: time is up"}.get(
            statuses[kind], f"status {statuses[kind]}, see {folder}/{kind}.log"
        )
        progress.say(f"study: {kind}: {said} ({(time.monotonic() - started) / 60:.0f} min)")
    return statuses


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweeps", nargs="*", default=list(SWEEPS), help=f"of {', '.join(SWEEPS)}; all unless named")
    parser.add_argument("--root", default="tagreel-study", help="folder of all artefacts")
    parser.add_argument("--hours", type=float, default=3.0, help="stop after so long; the same command goes on")
    parser.add_argument("--scale", choices=("study", "study_gpu"), default="study")
    chosen = parser.parse_args(argv)
    cores: SimpleQueue[set[int]] = SimpleQueue()
    mine = sorted(os.sched_getaffinity(0))
    for each in [set(mine)] if chosen.scale == "study_gpu" else [{core} for core in mine]:
        cores.put(each)
    box = Box(time.monotonic() + 3600 * chosen.hours, cores)
    with ThreadPoolExecutor(cores.qsize()) as pool:
        done = list(pool.map(lambda kinds: run_chain(kinds, chosen.scale, chosen.root, box), chains(chosen.sweeps)))
    statuses = [status for chain in done for status in chain.values()]
    sys.exit(next((status for status in statuses if status), 0))


if __name__ == "__main__":
    main()
