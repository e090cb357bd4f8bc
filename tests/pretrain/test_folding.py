"""The 2-D form of the convolutions is the 3-D one: forward, gradients and whole trainings, in float64."""

from copy import deepcopy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.models import build_model
from pretrain.models.layers import BatchNorm3d, Conv2Plus1d, Conv3d, folded_conv3d
from pretrain.models.r2plus1d import stem_2plus1d
from pretrain.models.r3d import _plain_conv
from pretrain.models.resnet import Bottleneck, SimpleBlock

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
FAMILIES = {"r2plus1d": Conv2Plus1d, "r3d": partial(_plain_conv, 3), "r2d": partial(_plain_conv, 1)}
STRIDES = [(1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 1, 1)]


class PlainNorm(nn.BatchNorm3d):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y.relu() if self.relu else y


def of_torch_layers(module: nn.Module) -> nn.Module:
    """A copy with the same weights and statistics that runs torch's own 3-D layers."""
    copy = deepcopy(module)
    for layer in copy.modules():
        layer.__class__ = {Conv3d: nn.Conv3d, BatchNorm3d: PlainNorm}.get(type(layer), type(layer))
    assert not any(isinstance(layer, Conv3d | BatchNorm3d) for layer in copy.modules())
    return copy


def three_steps(module: nn.Module, x: Tensor) -> list[Tensor]:
    """Outputs and input gradients of three steps of SGD, then all weights and running statistics."""
    sgd = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
    seen = []
    for step in range(3):
        clips = (x + 0.1 * step).requires_grad_()
        y = module(clips)
        sgd.zero_grad()
        (y * torch.arange(y.numel(), dtype=y.dtype).reshape(y.shape).cos()).mean().backward()
        sgd.step()
        seen += [y.detach(), clips.grad]
    return seen + [tensor.detach() for tensor in module.state_dict().values()]


def assert_same_training(module: nn.Module, x: Tensor) -> None:
    module.double()
    peer = of_torch_layers(module)
    for ours, theirs in zip(three_steps(module, x.clone()), three_steps(peer, x.clone()), strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


def clips(channels: int, frames: int, height: int = 7, width: int = 5) -> Tensor:
    x = torch.randn(2, channels, frames, height, width, dtype=torch.float64)
    return x.contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("frames", [1, 2, 4, 8])
@pytest.mark.parametrize("block", [SimpleBlock, Bottleneck])
@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_train_as_ones_of_conv3d(family, block, frames):
    torch.manual_seed(0)
    for stride in STRIDES:
        for in_channels in (3, 3 * block.expansion):  # with and, at stride 1, without a projection
            assert_same_training(block(in_channels, 3, stride, FAMILIES[family]), clips(in_channels, frames))


@pytest.mark.parametrize("frames", [1, 2, 4, 8])
@pytest.mark.parametrize("kernel_time", [1, 3, None])
def test_stems_train_as_ones_of_conv3d(kernel_time, frames):
    torch.manual_seed(0)
    if kernel_time is None:
        stem = stem_2plus1d(4, 5)
    else:
        stem = nn.Sequential(Conv3d(3, 5, (kernel_time, 7, 7), (1, 2, 2)), BatchNorm3d(5, relu=True))
    assert_same_training(stem, clips(3, frames, 13, 16))


@pytest.mark.parametrize("kernel", [(1, 1, 1), (1, 3, 3), (1, 7, 7), (3, 1, 1), (5, 1, 1), (3, 3, 3), (3, 7, 7)])
@pytest.mark.parametrize("memory", [torch.channels_last_3d, torch.contiguous_format])
def test_convolutions_equal_conv3d_with_their_gradients(kernel, memory):
    torch.manual_seed(0)
    padding = tuple(size // 2 for size in kernel)
    weight = torch.randn(4, 3, *kernel, dtype=torch.float64)
    for stride in [*STRIDES, (1, 2, 1), (3, 3, 2)]:
        for frames in (1, 2, 3, 8):
            x = clips(3, frames, 9, 6).contiguous(memory_format=memory)
            results = []
            for convolve in (folded_conv3d, lambda x, w, stride, pad: F.conv3d(x, w, None, stride, pad)):
                inputs = (x.clone().requires_grad_(), weight.clone().requires_grad_())
                y = convolve(*inputs, stride, padding)
                upstream = torch.arange(y.numel(), dtype=y.dtype).reshape(y.shape).cos()
                results.append((y, *torch.autograd.grad(y, inputs, upstream)))
            for folded, plain in zip(*results, strict=True):
                torch.testing.assert_close(folded, plain, **CLOSE)


@pytest.mark.parametrize("name", ["r2plus1d_10", "r3d_10", "r2d_10"])
@pytest.mark.parametrize("clip_length", [2, 8])
def test_whole_networks_train_as_ones_of_conv3d(name, clip_length):
    torch.manual_seed(0)
    assert_same_training(build_model(name, 5, width=0.07), clips(3, clip_length, 33, 30))
