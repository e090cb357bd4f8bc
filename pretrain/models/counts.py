"""How large a network is: parameters and multiply-adds, from shapes alone. Nothing is computed, on no device."""

import math

from torch import nn

from pretrain.models.layers import Conv3d
from pretrain.models.resnet import Block, VideoResNet


def count(model: VideoResNet, clip_length: int, size: int) -> tuple[int, float]:
    """Parameters, and GMAC of one clip of `clip_length` frames of size × size pixels.

    As in the paper's Table 2 ("GFLOPs"), only convolutions and the final layer are counted, one multiply-add each.
    """
    num_params = sum(parameter.numel() for parameter in model.parameters())
    model.set_time_strides(clip_length)
    macs = [model.fc.weight.numel()]
    shape = (clip_length, size, size)
    for part in (model.stem, *model.layers):
        shape = _trace(part, shape, macs)
    return num_params, sum(macs) / 1e9


def _trace(module: nn.Module, shape: tuple[int, ...], macs: list[int]) -> tuple[int, ...]:
    """(T, H, W) after `module`; appends the multiply-adds of its convolutions."""
    if isinstance(module, Conv3d):
        sides = zip(shape, module.kernel_size, module.stride, module.padding, strict=True)
        shape = tuple((side + 2 * padding - kernel) // stride + 1 for side, kernel, stride, padding in sides)
        macs.append(module.weight.numel() * math.prod(shape))
        return shape
    if isinstance(module, Block):
        if module.downsample is not None:
            _trace(module.downsample, shape, macs)
        parts = [getattr(module, name) for name in module.branch_names]
    else:
        parts = list(module.children())  # a sequence of layers, or one without convolutions
    for part in parts:
        shape = _trace(part, shape, macs)
    return shape
