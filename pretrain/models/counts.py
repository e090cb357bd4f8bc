"""How large a network is: parameters, multiply-adds and the sizes of its layers, from shapes alone; nothing is computed."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pretrain.models.layers import Conv3d
from pretrain.models.resnet import Block, VideoResNet

Shape = tuple[int, int, int]  # T, H, W


@dataclass(frozen=True)
class Placed:
    """A convolution at its place in a network: what comes in and what goes out, for one clip."""

    convolution: Conv3d
    before: Shape
    after: Shape

    @property
    def macs(self) -> int:
        """Multiply-adds of one clip."""
        return self.convolution.weight.numel() * math.prod(self.after)


@dataclass(frozen=True)
class Part:
    """The stem or a layer, and its output for one clip."""

    name: str
    after: Shape
    convolutions: tuple[Placed, ...]


def trace(model: VideoResNet, clip_length: int, size: int) -> list[Part]:
    """Stem and layers 1–4 with the shapes that a clip of `clip_length` frames of size × size pixels has there."""
    model.set_time_strides(clip_length)
    parts: list[Part] = []
    shape = (clip_length, size, size)
    for name in ("stem", "layer1", "layer2", "layer3", "layer4"):
        placed: list[Placed] = []
        shape = _follow(model.get_submodule(name), shape, placed)
        parts.append(Part(name, shape, tuple(placed)))
    return parts


def count(model: VideoResNet, clip_length: int, size: int) -> tuple[int, float]:
    """Parameters, and GMAC of one clip of `clip_length` frames of size × size pixels.

    As in the paper's Table 2 ("GFLOPs"), only convolutions and the final layer are counted, one multiply-add each.
    """
    num_params = sum(parameter.numel() for parameter in model.parameters())
    macs = sum(placed.macs for part in trace(model, clip_length, size) for placed in part.convolutions)
    return num_params, (macs + model.fc.weight.numel()) / 1e9


@contextmanager
def shapes_only() -> Iterator[None]:
    """Networks built inside have shapes but no values: the largest takes milliseconds and no memory."""
    with torch.device("meta"), _WithoutDraws():
        yield


class _WithoutDraws(TorchFunctionMode):
    """Drawing values that are not there is not free: it makes torch import its compiler, for seconds."""

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return args[0] if function is torch.Tensor.normal_ else function(*args, **(kwargs or {}))


def _follow(module: nn.Module, shape: Shape, placed: list[Placed]) -> Shape:
    """The shape after `module`; appends its convolutions."""
    if isinstance(module, Conv3d):
        sides = zip(shape, module.kernel_size, module.stride, module.padding, strict=True)
        after = tuple((side + 2 * padding - kernel) // stride + 1 for side, kernel, stride, padding in sides)
        placed.append(Placed(module, shape, after))
        return after
    if isinstance(module, Block):
        if module.downsample is not None:
            _follow(module.downsample, shape, placed)
        children = [getattr(module, name) for name in module.branch_names]
    else:
        children = list(module.children())  # of a sequence; none of a layer without convolutions
    for child in children:
        shape = _follow(child, shape, placed)
    return shape
