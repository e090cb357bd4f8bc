"""Training speed on one GPU: R(2+1)D-18 and -34, 8 and 32 frames, four ways to run the convolutions; bf16 autocast.

    python -m benchmarks.gpu_train                       # on a machine with CUDA: a table, and results/gpu_train.json
    python -m benchmarks.gpu_train --device cpu --tiny   # the same code on small networks, in seconds: no figures

Ways: `conv3d` and `conv3d_channels_last` are torchvision's network, trained as most scripts do (fused SGD);
`folded` is ours through `Engine.step`; `folded_padded_compiled` is ours with `pad_channels` and `compile`. Beside clips/s:
model TFLOP/s (of the network without padding), MFU of 989 TFLOP/s, peak memory, and the share of a roofline: what a GPU
that reaches 790 TFLOP/s and 4.3 TB/s (measured on an H200, for matrix products and copies) could do with this network,
batch norm and ReLU being passes of their own (eager) or one kernel (fused, for the compiled way).

Then what `exact` costs, and how much of the best speed the real loader sustains on this machine's cores.

All within `--limit-s`. Networks are compiled first, all at once in processes of their own (a compiler uses one core for most of
the time), which then wait for their turn on the GPU; what does not fit the time is left out and named.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_cells import COMPILED, WAYS, Cell, Waiting, run
from pretrain.engine import Engine


def cells(arguments: argparse.Namespace) -> list[Cell]:
    """All combinations, the ways of one network side by side."""
    if arguments.tiny:
        small = {"size": 32, "width": 0.125, "num_labels": 5, "measure_s": 0.0, "bf16": True}
        return [Cell(10, 4, way, 2, device=arguments.device, **small) for way in WAYS]
    batches = {8: arguments.batch_8, 32: arguments.batch_32}
    return [
        Cell(depth, length, way, batches[length], device=arguments.device, measure_s=arguments.measure_s)
        for depth in (18, 34)
        for length in (8, 32)
        for way in WAYS
    ]


def cost_of_exact(first: Cell, deadline: float, dry: bool) -> dict[str, Any]:
    """The recipe's share of 8 virtual workers in one process, as usual and with `exact`: both in new processes."""
    if "exact" not in inspect.signature(Engine).parameters:
        return {"failed": "this version has no exact mode"}
    workers, batch = (2, 2) if dry else (8, 16)
    usual = replace(first, way="folded", num_workers=workers, batch=batch)
    threads, found = torch.get_num_threads(), {}
    for name, cell in (("usual", usual), ("exact", replace(usual, exact=True))):
        one = Waiting(cell, dry)
        found[name] = one.result(deadline)
        one.end()
    torch.set_num_threads(threads)
    if all("clips_per_s" in figures for figures in found.values()):
        found["slower_by"] = round(found["usual"]["clips_per_s"] / found["exact"]["clips_per_s"] - 1, 3)
    return found


def loader(best_clips_per_s: float, tiny: bool) -> dict[str, Any]:
    """What the real loader gives from synthetic shards on this machine's cores, beside the best training speed."""
    try:
        from benchmarks.gpu_feed import clips_per_s
    except ImportError as error:
        return {"failed": f"the loader is left out: {error}"}
    cores = len(os.sched_getaffinity(0))
    found = clips_per_s(cores=0 if tiny else cores, videos=4 if tiny else 64, seconds=0.2 if tiny else 8.0)
    return {"cores": cores, **found, "share_of_best": round(found["clips_per_s"] / best_clips_per_s, 3)}


def measure_all(arguments: argparse.Namespace) -> dict[str, Any]:
    deadline = time.perf_counter() + arguments.limit_s
    todo = cells(arguments)
    waiting = {cell: Waiting(cell, arguments.tiny) for cell in todo if cell.way == COMPILED}
    for one in waiting.values():  # nothing is timed while compilers run
        one.ready_by(deadline - 0.5 * arguments.limit_s)
    rows = []
    try:
        for cell in sorted(todo, key=lambda cell: cell.way == COMPILED):
            if time.perf_counter() > deadline - arguments.reserve_s:
                found: dict[str, Any] = {"failed": "left out: no time left"}
            elif cell in waiting:
                found = waiting[cell].result(deadline - arguments.reserve_s)
            else:
                found = run(cell)
            rows.append({**asdict(cell), **found})
            print(line(cell, found), flush=True)
    finally:
        for one in waiting.values():
            one.end()
    speeds = [row["clips_per_s"] for row in rows if row["length"] == rows[0]["length"] and "clips_per_s" in row]
    late = time.perf_counter() > deadline
    left_out = {"failed": "left out: no time left"}
    return {
        "cells": rows,
        "exact": left_out if late else cost_of_exact(todo[0], deadline, arguments.tiny),
        "loader": loader(max(speeds), arguments.tiny) if speeds and not late else left_out,
        "seconds": round(time.perf_counter() - deadline + arguments.limit_s, 1),
    }


def line(cell: Cell, found: dict[str, Any]) -> str:
    if "failed" in found:
        return f"{cell.name:52} {found['failed']}"
    return (
        f"{cell.name:52} batch {cell.batch:3} {found['clips_per_s']:8.1f} clips/s {found['model_tflops']:7.1f} TFLOP/s "
        f"MFU {found['mfu']:6.1%} roofline {found['share_of_roofline']:6.1%} {found['peak_memory_gib'] or 0:6.1f} GiB "
        f"(warm-up {found['warm_up_s']:.0f} s)"
    )


def machine(device: str) -> dict[str, Any]:
    """What the figures depend on."""
    on_gpu = device == "cuda"
    import torchvision

    return {
        "device": torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine(),
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--tiny", action="store_true", help="a dry run of all code on a tiny network; writes no results"
    )
    parser.add_argument("--batch-8", type=int, default=64, help="clips a step at 8 frames")
    parser.add_argument("--batch-32", type=int, default=24, help="clips a step at 32 frames")
    parser.add_argument("--measure-s", type=float, default=2.5, help="seconds measured per cell, after warming up")
    parser.add_argument("--limit-s", type=float, default=290.0, help="seconds for everything")
    parser.add_argument("--reserve-s", type=float, default=45.0, help="of these, kept for exact mode and the loader")
    default = Path(os.environ.get("OUT", Path(__file__).parent / "results")) / "gpu_train.json"
    parser.add_argument("--out", type=Path, default=default, help="JSON to write")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    arguments = parse(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device here; `--device cpu --tiny` runs the same code without figures")
    found = {"machine": machine(arguments.device), "results": measure_all(arguments)}
    print(json.dumps({name: found["results"][name] for name in ("exact", "loader", "seconds")}, indent=1))
    if not arguments.tiny:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
        print(arguments.out)
    return found


if __name__ == "__main__":
    main()
