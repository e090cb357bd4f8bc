"""What a second process brings: steps of R(2+1)D-18 by one process and by two, each on a core of its own.

`python -m benchmarks.scaling` writes results/scaling.json. Both processes live throughout, joined by gloo as in `pretrain.train`,
each pinned to one core with one thread. In turn: the first alone does a step of V virtual workers; both together do one of 2V
(*weak*: as much work for each); both together do one of V (*strong*: the same recipe, shared). Time is the clock's, from a common
start to the end of the slower process; 1 is the ideal. `all_reduce_s` is that of the step's flat buffer alone.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
import tyro

from benchmarks import networks
from benchmarks.record import spread, write
from pretrain.distributed import World, prepare_cpu
from pretrain.engine import Engine
from pretrain.models import build_model

NUM_LABELS, TARGET = 400, 0.9
ONE, WEAK, STRONG = "one", "two_weak", "two_strong"


@dataclass(frozen=True)
class Settings:
    workers: int = 4
    """V: virtual workers that one process does in a step; even."""
    batch: int = 2
    """Clips per virtual worker."""
    length: int = 8
    """Frames per clip."""
    size: int = 112
    """Height and width in pixels."""
    precision: str = "fp32"
    """fp32 or bf16."""
    rounds: int = 5
    """Rounds measured, after one that is not."""


def steps(settings: Settings, rank: int) -> dict[str, Callable[[], object]]:
    """What this rank does in each way; the second has nothing to do for the first way."""
    torch.manual_seed(rank)
    clips = torch.randn(settings.batch, 3, settings.length, settings.size, settings.size)
    microbatch = (clips, torch.randint(0, NUM_LABELS, (settings.batch,)))
    engines = [
        Engine(build_model("r2plus1d_18", NUM_LABELS), world, precision=settings.precision)
        for world in (World(), World(rank, 2))
    ]

    def step(engine: Engine, mine: int, all_of_them: int) -> Callable[[], object]:
        return lambda: engine.step([microbatch] * mine, all_of_them, networks.RATE)

    workers, half = settings.workers, settings.workers // 2
    return {
        ONE: step(engines[0], workers, workers) if rank == 0 else lambda: None,
        WEAK: step(engines[1], workers, 2 * workers),
        STRONG: step(engines[1], half, workers),
        "all_reduce": lambda: dist.all_reduce(engines[1].sums.flat),
    }


def rank_main(rank: int, core: int, meeting: str, settings: Settings, results: Connection) -> None:
    os.sched_setaffinity(0, {core})
    prepare_cpu(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    actions = steps(settings, rank)
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(settings.rounds + 1):
        for name, action in actions.items():
            dist.barrier()
            began = time.perf_counter()
            action()
            dist.barrier()
            seconds[name].append(time.perf_counter() - began)
    if rank == 0:
        results.send({name: values[1:] for name, values in seconds.items()})
    dist.destroy_process_group()


def measure(settings: Settings) -> dict[str, list[float]]:
    """Seconds by way, one per round."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("two cores are needed")
    mine, its = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        arguments = [(rank, cores[rank], os.path.join(folder, "meeting"), settings, its) for rank in range(2)]
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=rank_main, args=one, daemon=True) for one in arguments]
        for process in processes:
            process.start()
        its.close()
        try:
            seconds = mine.recv()  # EOFError: the first process failed, and has said why
        finally:
            for process in processes:
                process.join(10)
                process.kill()
    return seconds


def summarise(seconds: dict[str, list[float]], settings: Settings) -> dict[str, Any]:
    clips = settings.workers * settings.batch
    weak = [one / two for one, two in zip(seconds[ONE], seconds[WEAK], strict=True)]
    strong = [one / (2 * two) for one, two in zip(seconds[ONE], seconds[STRONG], strict=True)]
    return {
        "settings": vars(settings),
        "share_of_ideal": {"weak": spread(weak, 3), "strong": spread(strong, 3), "target": TARGET},
        "clips_per_s": {
            name: round(count / min(seconds[name]), 3)
            for name, count in ((ONE, clips), (WEAK, 2 * clips), (STRONG, clips))
        },
        "step_s": {name: spread(values) for name, values in seconds.items()},
    }


def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    results = summarise(measure(settings), settings)
    for name, value in results.items():
        print(f"{name}: {value}")
    print(write("scaling", results, "torch"))


if __name__ == "__main__":
    main()
