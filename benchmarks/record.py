"""What benchmarks share: CPU time of things measured in turn, and a JSON that says on which machine a figure was read."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from pipeline import storage

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """CPU model, cores of the machine, memory in GiB, operating system and Python."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def versions(*names: str) -> dict[str, str | None]:
    """Versions of installed packages or, of names that are none, of commands such as `ffmpeg`; None where absent."""
    return {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        if not shutil.which(name):
            return None
    said = subprocess.run([name, "-version"], capture_output=True, text=True, check=False)
    return next(iter(said.stdout.splitlines()), None)


def peer(module: str) -> Any:
    """A library to compare with, or None and a line that says why it is left out."""
    try:
        return import_module(module)
    except Exception as error:  # a peer without its shared libraries fails in ways of its own
        print(f"{module} is left out: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        return None


def write(name: str, results: dict[str, Any], *packages: str) -> str:
    """Write results/{name}.json = {machine, versions, results}, whole or not at all; returns its path."""
    path = str(RESULTS / f"{name}.json")
    storage.write_json(path, {"machine": machine(), "versions": versions(*packages), "results": results})
    return path


# ------------------------------------------------------------------------------------------------------- time


def one_core() -> None:
    """Keep this process and those it starts on one core. Call it before libraries count cores to size thread pools."""
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS")
    os.environ.update(dict.fromkeys(limits, "1"))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def cpu_seconds() -> float:
    """CPU time, user and system, of this process with all its threads and of its children, ended or (on Linux) alive."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime + sum(map(_seconds_of, _living_children()))


def _living_children() -> list[str]:
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    return listed.read_text().split() if listed.exists() else []


def _seconds_of(process: str) -> float:
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def interleave(actions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each action in each round.

    Every round runs all actions, each time beginning with another one, so that a machine that slows down or is busy
    slows all of them. Nothing is warmed up: give the actions a round of their own first where that matters.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    names = list(actions)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            began = cpu_seconds()
            actions[name]()
            seconds[name].append(cpu_seconds() - began)
    return seconds


def spread(values: list[float], digits: int = 4) -> dict[str, float]:
    """Median, least and most."""
    found = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return {name: round(value, digits) for name, value in found.items()}


def ratio(seconds: Mapping[str, list[float]], name: str, to: str) -> dict[str, float]:
    """Time of `name` / time of `to`: median, least and most over the rounds, and of the least time of each.

    The last is what a quiet machine would show: whatever else runs there only ever adds time.
    """
    rounds = [mine / other for mine, other in zip(seconds[name], seconds[to], strict=True)]
    return {**spread(rounds, 3), "of_least": round(min(seconds[name]) / min(seconds[to]), 3)}
