"""What `exact` costs, and what differs without it.

`python -m benchmarks.exact_cost`. For each number of processes the same steps are taken in both modes, in turn within the
same processes, on noise and one thread a process: CPU seconds per step of the first process, time and memory of the sums alone,
and how far the weights are from those of one process after some of the steps. `--only tiny` leaves the large network out (4 GB).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from benchmarks import record
from pretrain.distributed import World, keep_freed_memory
from pretrain.engine import Engine
from pretrain.models import build_model
from pretrain.sums import TreeSum
from pretrain.virtual_workers import share

NUM_LABELS, RATE = 400, 0.02
MODES = {"default": False, "exact": True}


@dataclass(frozen=True)
class Setting:
    name: str
    model: str
    width: float
    clip: tuple[int, int, int]
    """Frames, height and width."""
    batch: int
    num_workers: int
    marks: tuple[int, ...]
    """Steps after which weights are compared; the last one ends it."""
    sizes: tuple[int, ...]
    """Numbers of processes; the first is what the others are compared with."""


SETTINGS = (
    Setting("tiny", "r2plus1d_10", 0.125, (4, 32, 32), 4, 8, (1, 5, 20), (1, 2, 4)),
    Setting("r2plus1d_18", "r2plus1d_18", 1.0, (8, 64, 64), 4, 4, (1, 3), (1, 2)),
)


def microbatches(setting: Setting, world: World, step: int) -> Iterator[tuple[Tensor, Tensor]]:
    for worker in share(setting.num_workers, world.rank, world.size):
        draw = torch.Generator().manual_seed(step * setting.num_workers + worker)
        clips = torch.randn(setting.batch, 3, *setting.clip, generator=draw)
        yield clips, torch.randint(NUM_LABELS, (setting.batch,), generator=draw)


def start_engine(setting: Setting, world: World, exact: bool) -> Engine:
    torch.manual_seed(0)
    return Engine(build_model(setting.model, NUM_LABELS, setting.width), world, exact=exact)


def add_up(engine: Engine, setting: Setting, world: World) -> None:
    """The sums of a step without the step."""
    engine.sums.begin(setting.num_workers)
    for _ in share(setting.num_workers, world.rank, world.size):
        engine.sums.close_term()
    engine.sums.finish()


def run(rank: int, setting: Setting, size: int, folder: str) -> None:
    """One process of a group; the first one writes what it found to `folder`/found.npz."""
    torch.set_num_threads(1)
    keep_freed_memory()
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    world = World(rank, size)
    engines = {name: start_engine(setting, world, exact) for name, exact in MODES.items()}
    start = engines["default"].sgd.values.clone()
    seconds: dict[str, list[float]] = {name: [] for name in (*MODES, *(f"sums {name}" for name in MODES))}
    weights = {}
    for step in range(setting.marks[-1]):
        batches = list(microbatches(setting, world, step))
        steps = {name: partial(engine.step, batches, setting.num_workers, RATE) for name, engine in engines.items()}
        sums = {f"sums {name}": partial(add_up, engine, setting, world) for name, engine in engines.items()}
        for name, measured in record.interleave(steps | sums, 1).items():
            seconds[name] += measured
        if rank == 0 and step + 1 in setting.marks:
            weights |= {f"{name} after {step + 1}": engine.sgd.values.clone() for name, engine in engines.items()}
    if rank == 0:
        np.savez(f"{folder}/found.npz", start=start, buffers=num_buffers(engines["exact"]), **weights, **seconds)
    if size > 1:
        dist.destroy_process_group()


def num_buffers(engine: Engine) -> int:
    """Vectors of the length of all parameters that stay allocated for the sums."""
    assert isinstance(engine.sums, TreeSum)
    return len(engine.sums.free) + 1


def run_group(setting: Setting, size: int) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(run, (setting, size, folder), nprocs=size)
        with np.load(Path(folder) / "found.npz") as found:
            return dict(found)


def distance(found: dict[str, np.ndarray], alone: dict[str, np.ndarray], name: str) -> dict[str, float]:
    """Of the weights from those of one process: relative to their norm, and to how far they have come."""
    weights, reference = found[name].astype(np.float64), alone[name].astype(np.float64)
    apart = np.linalg.norm(weights - reference)
    moved = np.linalg.norm(reference - alone["start"])
    return {"of_norm": float(f"{apart / np.linalg.norm(reference):.2g}"), "of_way": float(f"{apart / moved:.2g}")}


def measure(setting: Setting) -> dict[str, Any]:
    groups = {size: run_group(setting, size) for size in setting.sizes}
    alone = groups[setting.sizes[0]]
    names = [f"{mode} after {step}" for mode in MODES for step in setting.marks]
    return {
        "parameters_m": round(alone["start"].size / 1e6, 2),
        "virtual_workers": setting.num_workers,
        "processes": {
            size: {
                "step_exact_of_default": record.ratio(to_lists(found), "exact", "default"),
                "sums_exact_of_default": record.ratio(to_lists(found), "sums exact", "sums default"),
                "sums_ms": {mode: record.spread([1e3 * s for s in found[f"sums {mode}"]], 2) for mode in MODES},
                "step_s": record.spread(list(found["default"]), 3),
                "buffers": int(found["buffers"]),
                "distance": {name: distance(found, alone, name) for name in names},
            }
            for size, found in groups.items()
        },
    }


def to_lists(found: dict[str, np.ndarray]) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in found.items() if name.split()[-1] in MODES and values.ndim == 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[setting.name for setting in SETTINGS], help="one of the settings")
    options = parser.parse_args()
    chosen = [setting for setting in SETTINGS if options.only in (None, setting.name)]
    print(record.write("exact_cost", {setting.name: measure(setting) for setting in chosen}, "torch"))


if __name__ == "__main__":
    main()
