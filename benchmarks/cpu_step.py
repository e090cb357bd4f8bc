"""A training step on one core: our R(2+1)D-18 beside torchvision's, trained as its users do.

`python -m benchmarks.cpu_step` writes results/cpu_step.json. Both take the same clips and do a whole step: forward,
backward, Nesterov SGD with weight decay. Ours is `Engine.step`; torchvision's is `nn.Conv3d` on [B, C, T, H, W] memory and
`torch.optim.SGD`. Every way has a process of its own on the same core, because the product also sets the C library's
memory allocation; `torchvision_kept_memory` is torchvision with that setting. Steps are taken in turn.

The networks are not equal in size: ours has a middle width per convolution (the paper), torchvision's one per block, so the
multiply-adds of both are counted and recorded, and ratios are of times for one step, not per multiply-add.

Speed is worth nothing with wrong gradients: for each convolution of the network, in the shapes of this very step, weight
and input gradients are compared with those of `conv3d` in fp64.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from benchmarks import networks
from benchmarks.record import one_core, ratio, spread, write
from pretrain.distributed import World, keep_freed_memory
from pretrain.engine import Engine
from pretrain.models import build_model
from pretrain.models.layers import Conv3d, folded_conv3d

NUM_LABELS = 400
TARGETS = {"ours_fp32": 1.8, "ours_bf16": 3.4}
BASELINE = "torchvision"


@dataclass(frozen=True)
class Settings:
    batch: int = 2
    """Clips per step."""
    length: int = 8
    """Frames per clip."""
    size: int = 112
    """Height and width in pixels."""
    rounds: int = 7
    """Steps measured of each way, after two that are not."""
    compile: bool = False
    """Also run ours through torch.compile (needs a C++ compiler, and minutes)."""


# ------------------------------------------------------------------------------------------------------- ways


def ours(clips: Tensor, labels: Tensor, precision: str = "fp32", compile: bool = False) -> Callable[[], object]:
    keep_freed_memory()
    model = build_model("r2plus1d_18", NUM_LABELS)
    engine = Engine(model, World(), networks.MOMENTUM, networks.WEIGHT_DECAY, precision, compile=compile)
    return lambda: engine.step([(clips, labels)], 1, networks.RATE)


def theirs(clips: Tensor, labels: Tensor, kept_memory: bool = False) -> Callable[[], object]:
    if kept_memory:
        keep_freed_memory()
    return networks.ordinary_step(networks.torchvision_r2plus1d(18, NUM_LABELS), clips, labels, bf16=False, fused=False)


WAYS: dict[str, tuple[Callable[..., Callable[[], object]], dict[str, object]]] = {
    BASELINE: (theirs, {}),
    "torchvision_kept_memory": (theirs, {"kept_memory": True}),
    "ours_fp32": (ours, {}),
    "ours_bf16": (ours, {"precision": "bf16"}),
    "ours_fp32_compiled": (ours, {"compile": True}),
    "ours_bf16_compiled": (ours, {"precision": "bf16", "compile": True}),
}


def inputs(settings: Settings) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    clips = torch.randn(settings.batch, 3, settings.length, settings.size, settings.size)
    return clips, torch.randint(0, NUM_LABELS, (settings.batch,))


def serve(way: str, settings: Settings, asked: Connection) -> None:
    """A process: a step for each True received, answered with its CPU seconds; then peak memory, MiB."""
    torch.set_num_threads(1)
    make, options = WAYS[way]
    step = make(*inputs(settings), **options)
    while asked.recv():
        began = time.process_time()
        step()
        asked.send(time.process_time() - began)
    asked.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


@contextmanager
def process(way: str, settings: Settings) -> Iterator[Connection]:
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe()
    child = context.Process(target=serve, args=(way, settings, its), daemon=True)
    child.start()
    its.close()
    try:
        yield mine
    finally:
        child.join(10)
        child.terminate()


def measure(ways: list[str], settings: Settings) -> tuple[dict[str, list[float]], dict[str, float]]:
    """CPU seconds per step and peak memory, by way; two rounds that are not measured come first."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with _all([process(way, settings) for way in ways]) as connections:
        processes = dict(zip(ways, connections, strict=True))
        for _ in range(settings.rounds + 2):
            for way, connection in processes.items():
                connection.send(True)
                seconds[way].append(connection.recv())
        memory = {}
        for way, connection in processes.items():
            connection.send(False)
            memory[way] = round(connection.recv())
    return {way: values[2:] for way, values in seconds.items()}, memory


@contextmanager
def _all(processes: list) -> Iterator[list[Connection]]:
    with ExitStack() as stack:
        yield [stack.enter_context(one) for one in processes]


# -------------------------------------------------------------------------------------------------- what is done


def gradient_errors(settings: Settings) -> dict[str, float]:
    """Largest relative error (of norms) of a weight or input gradient over the network's convolutions."""
    model = build_model("r2plus1d_18", NUM_LABELS)
    seen: dict[tuple, tuple[Conv3d, tuple[int, ...]]] = {}

    def note(conv: Conv3d, arguments: tuple[Tensor], _: Tensor) -> None:
        shape = tuple(arguments[0].shape)
        seen[(shape, tuple(conv.weight.shape), conv.stride)] = (conv, shape)

    for module in model.modules():
        if isinstance(module, Conv3d):
            module.register_forward_hook(note)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, settings.length, settings.size, settings.size))
    ways = {
        "ours_fp32": (folded_conv3d, torch.float32),
        "ours_bf16": (folded_conv3d, torch.bfloat16),
        "conv3d_bf16": (_conv3d, torch.bfloat16),
    }
    worst = dict.fromkeys(ways, 0.0)
    for conv, shape in seen.values():
        x, w = torch.randn(shape, dtype=torch.float64), conv.weight.detach().double()
        expected = _gradients(_conv3d, conv, x, w)
        for way, (function, dtype) in ways.items():
            found = _gradients(function, conv, x.to(dtype), w.to(dtype))
            errors = [((a.double() - b).norm() / b.norm()).item() for a, b in zip(found, expected, strict=True)]
            worst[way] = max(worst[way], *(error if error == error else float("inf") for error in errors))
    return worst


def _conv3d(x: Tensor, weight: Tensor, stride: tuple, padding: tuple) -> Tensor:
    return F.conv3d(x, weight, None, stride, padding)


def _gradients(function: Callable, conv: Conv3d, x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """Of input and weight, for one and the same gradient of the output."""
    x = x.contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    weight = weight.clone().requires_grad_()
    y = function(x, weight, conv.stride, conv.padding)
    torch.manual_seed(1)
    return torch.autograd.grad(y, (x, weight), torch.randn(y.shape, dtype=torch.float64).to(y.dtype))


# --------------------------------------------------------------------------------------------------------- main


def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    one_core()
    torch.set_num_threads(1)
    ways = [way for way in WAYS if settings.compile or not way.endswith("compiled")]
    seconds, memory = measure(ways, settings)
    results = {
        "settings": vars(settings),
        "gmac_per_clip": {
            name: round(networks.gmac(model, settings.length, settings.size), 2)
            for name, model in (
                ("ours", build_model("r2plus1d_18", NUM_LABELS)),
                ("torchvision", networks.torchvision_r2plus1d(18, NUM_LABELS)),
            )
        },
        "cpu_s_per_step": {way: spread(values) for way, values in seconds.items()},
        "peak_memory_mib": memory,
        "torchvision_over_ours": {
            way: {other: ratio(seconds, other, way) for other in (BASELINE, "torchvision_kept_memory")}
            for way in ways
            if way.startswith("ours")
        },
        "targets": TARGETS,
        "worst_relative_gradient_error": {way: f"{error:.1e}" for way, error in gradient_errors(settings).items()},
    }
    for way, values in results["cpu_s_per_step"].items():
        compared = results["torchvision_over_ours"].get(way, {})
        said = ", ".join(f"{found['median']:.2f}x of {other}" for other, found in compared.items())
        print(f"{way:26} {values['median']:.3f} s ({values['least']:.3f}–{values['most']:.3f})  {said}")
    print("worst gradient errors:", results["worst_relative_gradient_error"], "GMAC:", results["gmac_per_clip"])
    print(write("cpu_step", results, "torch", "torchvision"))


if __name__ == "__main__":
    main()
