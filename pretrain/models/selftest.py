"""Does this machine compute convolutions and their gradients rightly? Every distinct one of a network is tried.

    python -m pretrain.models.selftest --model r2plus1d_34 --clip-length 8        (`tagreel doctor` runs it too)

Libraries of kernels have been wrong, without an error, for single shapes, data types and processors; a network then trains
on garbage. Inputs are random numbers that bf16 holds exactly, so the reference in fp64 sees the same ones and an error
is that of the kernel: about 0.2 % in bf16, rounding of the result alone, and 1e-7 in fp32.
"""

import sys
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline import progress
from pipeline.cli import guarded
from pipeline.config import ConfigError
from pipeline.doctor import DoctorConfig, parse
from pretrain.models import build_model
from pretrain.models.counts import Placed, Shape, shapes_only, trace
from pretrain.models.layers import Conv3d

TOLERANCE = {"fp32": 1e-4, "bf16": 0.02}  # of an error's norm, relative to the norm of what it should be
QUANTITIES = ("output", "input gradient", "weight gradient")
FORMS: dict[str, Callable[[Conv3d, Tensor], Tensor]] = {"folded": Conv3d.__call__, "conv3d": nn.Conv3d.forward}
EXIT_WRONG = 1


@dataclass(frozen=True)
class ConvShape:
    """What a kernel is chosen by, but for the batch."""

    in_channels: int
    out_channels: int
    kernel: Shape
    stride: Shape
    clip: Shape
    """T, H, W of the input."""

    @classmethod
    def of(cls, placed: Placed) -> "ConvShape":
        layer = placed.convolution
        return cls(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, placed.before)

    def __str__(self) -> str:
        kernel, stride, clip = ("×".join(map(str, sides)) for sides in (self.kernel, self.stride, self.clip))
        return f"{self.in_channels}→{self.out_channels} kernel {kernel} stride {stride} on {clip}"


@dataclass(frozen=True)
class Comparison:
    """One convolution in one precision: relative errors of `QUANTITIES`; NaN where the kernel gave one."""

    shape: ConvShape
    precision: str
    errors: tuple[float, float, float]

    @property
    def wrong(self) -> list[str]:
        """The quantities whose error is beyond the tolerance."""
        return [name for name, e in zip(QUANTITIES, self.errors, strict=True) if not e <= TOLERANCE[self.precision]]

    def __str__(self) -> str:
        errors = "  ".join(f"{error:8.1e}" for error in self.errors)
        return f"{self.precision}  {errors}  {self.shape}" + (f"  WRONG: {', '.join(self.wrong)}" if self.wrong else "")


def distinct_shapes(model: str, width: float, clip_length: int, crop_px: int) -> list[ConvShape]:
    """Every shape once, from the stem on."""
    with shapes_only():
        network = build_model(model, 1, width)
    return list(
        dict.fromkeys(
            ConvShape.of(placed) for part in trace(network, clip_length, crop_px) for placed in part.convolutions
        )
    )


def compare(shape: ConvShape, batch: int, device: torch.device, form: str = "folded") -> list[Comparison]:
    """The convolution in fp32 and under bf16 autocast, as training runs it, against torch's own in fp64."""
    random = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=random).bfloat16().float().to(device)

    layer = Conv3d(shape.in_channels, shape.out_channels, shape.kernel, shape.stride).to(device)
    layer.weight.data = draw(*layer.weight.shape)
    x_BCTHW = draw(batch, shape.in_channels, *shape.clip).contiguous(memory_format=torch.channels_last_3d)
    exact_layer, exact_x = deepcopy(layer).double(), x_BCTHW.double()
    upstream = draw(*nn.Conv3d.forward(exact_layer, exact_x).shape)
    exact = _with_gradients(nn.Conv3d.forward, exact_layer, exact_x, upstream)
    found = []
    for precision in TOLERANCE:
        ours = _with_gradients(FORMS[form], layer, x_BCTHW, upstream, precision == "bf16")
        errors = [_relative_error(a, b) for a, b in zip(ours, exact, strict=True)]
        found.append(Comparison(shape, precision, tuple(errors)))
    return found


def _with_gradients(
    forward: Callable[[Conv3d, Tensor], Tensor], layer: Conv3d, x_BCTHW: Tensor, upstream: Tensor, bf16: bool = False
) -> tuple[Tensor, ...]:
    """Output, and the gradients of (output · upstream) with respect to input and weight; `bf16` is autocast's."""
    x_BCTHW = x_BCTHW.detach().requires_grad_()
    with torch.autocast(x_BCTHW.device.type, torch.bfloat16, enabled=bf16):
        y_BCTHW = forward(layer, x_BCTHW)
    return y_BCTHW.detach(), *torch.autograd.grad(y_BCTHW, (x_BCTHW, layer.weight), upstream.to(y_BCTHW.dtype))


def _relative_error(ours: Tensor, exact: Tensor) -> float:
    return ((ours.double() - exact).norm() / exact.norm()).item()


def devices(name: str) -> list[torch.device]:
    """The one named; otherwise every CUDA device, or the CPU where there is none."""
    num_cuda = torch.cuda.device_count()
    known = ["cpu", *(["cuda"] if num_cuda else []), *(f"cuda:{index}" for index in range(num_cuda))]
    if name and name not in known:
        raise ConfigError(f"unknown device '{name}'; this machine has: {', '.join(known)}")
    if name:
        return [torch.device(name)]
    return [torch.device("cuda", index) for index in range(num_cuda)] or [torch.device("cpu")]


def examine(config: DoctorConfig, device: torch.device) -> bool:
    """Try every shape, print its errors and a summary; whether all are right."""
    shapes = distinct_shapes(config.model, config.width, config.clip_length, config.crop_px)
    progress.say("      " + "  ".join(f"{name.split()[0]:>8}" for name in QUANTITIES) + "  (relative errors)")
    began, found = time.perf_counter(), []
    for shape in shapes:
        found += compare(shape, config.batch, device, config.form)
        progress.say("\n".join(map(str, found[-len(TOLERANCE) :])))
    wrong = {comparison.shape for comparison in found if comparison.wrong}
    largest = ", ".join(f"{precision} {_largest(found, precision):.1e}" for precision in TOLERANCE)
    progress.say(
        f"{device}: {len(wrong) or 'none'} of {len(shapes)} convolution shapes of {config.model} wrong at "
        f"{config.clip_length}×{config.crop_px}×{config.crop_px}, batch {config.batch}; largest error {largest} "
        f"({time.perf_counter() - began:.0f} s)"
    )
    return not wrong


def _largest(found: list[Comparison], precision: str) -> float:
    """Over all shapes and quantities; NaN if there is one, which `max` would overlook."""
    return torch.tensor([comparison.errors for comparison in found if comparison.precision == precision]).max().item()


def main(argv: Sequence[str] | None = None) -> None:
    """Status 0 if all is right, 1 if a kernel is wrong, 2 if the question was."""
    answers: list[bool] = []

    def run() -> None:
        config = parse(argv)
        answers.extend(examine(config, device) for device in devices(config.device))

    sys.exit(guarded(run) or (0 if all(answers) else EXIT_WRONG))


if __name__ == "__main__":
    main()
