"""One network, trained in one way, measured: in this process, or in one of its own that gets ready while others do."""

from __future__ import annotations

import gc
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks import networks
from pretrain.distributed import World
from pretrain.engine import Engine
from pretrain.models import build_model
from pretrain.models.padding import pad_channels

PEAK_FLOPS, REACHED_FLOPS, REACHED_BYTES = 989e12, 790e12, 4.3e12  # an H200: data sheet (dense bf16), then measured
WAYS = ("conv3d", "conv3d_channels_last", "folded", "folded_padded_compiled")
COMPILED = "folded_padded_compiled"


@dataclass(frozen=True)
class Cell:
    """What is trained, and how."""

    depth: int
    length: int
    way: str
    batch: int
    size: int = 112
    width: float = 1.0
    num_labels: int = 400
    bf16: bool = True
    device: str = "cuda"
    measure_s: float = 3.0
    num_workers: int = 1
    """Virtual workers of `batch` clips, one after the other in a step."""
    exact: bool = False

    @property
    def name(self) -> str:
        return f"R(2+1)D-{self.depth}, {self.length} frames, {self.way}"


# -------------------------------------------------------------------------------------------------- one cell


def build(cell: Cell) -> tuple[Callable[[], object], dict[str, float]]:
    """A training step, and what of the network the figures need: flops and roofline of a clip."""
    torch.manual_seed(0)
    device = torch.device(cell.device)
    clips = torch.randn(cell.batch, 3, cell.length, cell.size, cell.size, device=device)
    labels = torch.randint(0, cell.num_labels, (cell.batch,), device=device)
    if cell.way.startswith("conv3d"):
        model = networks.torchvision_r2plus1d(cell.depth, cell.num_labels).to(device)
        about = _about(cell, model)
        if cell.way == "conv3d_channels_last":
            model = model.to(memory_format=torch.channels_last_3d)
            clips = clips.contiguous(memory_format=torch.channels_last_3d)
        return networks.ordinary_step(model, clips, labels, cell.bf16, fused=True), about
    model = build_model(f"r2plus1d_{cell.depth}", cell.num_labels, cell.width).to(device)
    about = _about(cell, model)
    if cell.way == COMPILED:
        pad_channels(model)
    compile = cell.way == COMPILED and device.type == "cuda"
    options = {"exact": True} if cell.exact else {}
    engine = Engine(model, World(device=device), precision="bf16" if cell.bf16 else "fp32", compile=compile, **options)
    clips = clips.contiguous(memory_format=torch.channels_last_3d)
    microbatches = [(clips, labels)] * cell.num_workers
    return lambda: engine.step(microbatches, cell.num_workers, networks.RATE), about


def _about(cell: Cell, model: torch.nn.Module) -> dict[str, float]:
    costs = networks.conv_costs(model, cell.length, cell.size)
    passes = networks.BN_RELU_PASSES["fused" if cell.way == COMPILED else "eager"]
    return {
        "gmac_per_clip": round(sum(cost.macs for cost in costs) / 1e9, 3),
        "training_flops_per_clip": networks.training_flops(costs),
        "roofline_clips_per_s": 1 / networks.roofline_s(costs, passes, REACHED_FLOPS, REACHED_BYTES),
    }


def measure(cell: Cell, step: Callable[[], object], about: dict[str, float]) -> dict[str, Any]:
    """Figures of a step that has run before."""
    began, seconds = time.perf_counter(), []
    while len(seconds) < 3 or time.perf_counter() - began < cell.measure_s:
        start = time.perf_counter()
        step()
        _wait(cell.device)
        seconds.append(time.perf_counter() - start)
    step_s = statistics.median(seconds)
    clips_per_s = cell.batch * cell.num_workers / step_s
    flops_per_s = clips_per_s * about["training_flops_per_clip"]
    return {
        "clips_per_s": round(clips_per_s, 1),
        "step_ms": {name: round(1000 * f(seconds), 2) for name, f in (("median", statistics.median), ("least", min))},
        "steps": len(seconds),
        "model_tflops": round(flops_per_s / 1e12, 2),
        "mfu": round(flops_per_s / PEAK_FLOPS, 4),
        "share_of_roofline": round(clips_per_s / about["roofline_clips_per_s"], 3),
        "peak_memory_gib": _peak_gib(cell.device),
        "gmac_per_clip": about["gmac_per_clip"],
    }


def warm_up(cell: Cell, step: Callable[[], object]) -> float:
    """Three steps: compilers and cuDNN choose their kernels. Seconds taken."""
    began = time.perf_counter()
    for _ in range(3 if cell.device == "cuda" else 1):
        step()
    _wait(cell.device)
    return time.perf_counter() - began


def prepare(cell: Cell) -> None:
    """What `pretrain.distributed` does before a run."""
    torch.backends.cudnn.benchmark = True
    if cell.exact:
        from pretrain.distributed import prepare_exact

        prepare_exact(torch.device(cell.device))
    if cell.device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def run(cell: Cell) -> dict[str, Any]:
    """A cell from beginning to end in this process."""
    prepare(cell)
    try:
        step, about = build(cell)
        warm_s = warm_up(cell, step)
        return {**measure(cell, step, about), "warm_up_s": round(warm_s, 1)}
    except (torch.OutOfMemoryError, RuntimeError, ValueError) as error:
        return {"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"}
    finally:
        step = None
        gc.collect()
        if cell.device == "cuda":
            torch.cuda.empty_cache()


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _peak_gib(device: str) -> float | None:
    return round(torch.cuda.max_memory_allocated() / 2**30, 2) if device == "cuda" else None


# -------------------------------------------------------------------------- cells that get ready while others do


def serve(cell: Cell, connection: Connection) -> None:
    """Warm up, say so, wait for the word, measure, send the figures."""
    prepare(cell)
    try:
        step, about = build(cell)
        warm_s = warm_up(cell, step)
        if cell.device == "cuda":
            torch.cuda.empty_cache()
        connection.send("ready")
        if connection.recv() == "measure":
            connection.send({**measure(cell, step, about), "warm_up_s": round(warm_s, 1)})
    except Exception as error:  # whatever a compiler finds to complain about is a result
        connection.send({"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"})


class Waiting:
    """A cell in a process of its own (in a thread, in a dry run)."""

    def __init__(self, cell: Cell, dry: bool) -> None:
        self.cell = cell
        context = multiprocessing.get_context("spawn")
        self.connection, its = context.Pipe()
        kind = threading.Thread if dry else context.Process
        self.worker = kind(target=serve, args=(cell, its), daemon=True)
        self.worker.start()
        self.said: Any = None

    def ready_by(self, deadline: float) -> bool:
        """Whether it has warmed up (or failed) by then."""
        if self.said is None and self.connection.poll(max(0.0, deadline - time.perf_counter())):
            self.said = self.connection.recv()
        return self.said is not None

    def result(self, deadline: float) -> dict[str, Any]:
        if not self.ready_by(deadline):
            return {"failed": "not compiled in time"}
        if isinstance(self.said, dict):
            return self.said
        self.connection.send("measure")
        if self.connection.poll(max(10.0, deadline - time.perf_counter())):
            return self.connection.recv()
        return {"failed": "not measured in time"}

    def end(self) -> None:
        if isinstance(self.worker, threading.Thread):
            self.worker.join(60)
        else:
            self.worker.kill()
            self.worker.join()
