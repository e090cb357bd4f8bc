"""The video ResNet shared by R(2+1)D, R3D and R2D: stem, four layers of blocks, pooling, final layer.

A family differs only in its stem and in the convolution that a block is made of, both given as functions.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.models.layers import BatchNorm3d, Conv3d

MakeConv = Callable[[int, int, tuple[int, int, int]], nn.Module]  # (in channels, out channels, stride)
POOL_PX = 7  # the head averages 7×7 positions, the whole map of a 112×112 clip


def temporal_strides(clip_length: int) -> tuple[int, int, int]:
    """Strides in time of layers 2, 3, 4: short clips keep their frames in the last layers."""
    if clip_length >= 8:
        return 2, 2, 2
    return (2, 2, 1) if clip_length >= 4 else (2, 1, 1)


def projection(in_channels: int, out_channels: int, stride: tuple[int, int, int]) -> nn.Sequential | None:
    """The shortcut's 1×1×1 convolution and batch norm, or None where the shapes already agree."""
    if in_channels == out_channels and stride == (1, 1, 1):
        return None
    return nn.Sequential(Conv3d(in_channels, out_channels, (1, 1, 1), stride), BatchNorm3d(out_channels))


class Block(nn.Module):
    """Residual unit: relu(branch(x) + shortcut(x)). Subclasses register `conv1`, `conv2`, ... and name them."""

    branch_names: tuple[str, ...]

    def __init__(self, in_channels: int, out_channels: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.downsample = projection(in_channels, out_channels, stride)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        y_BCTHW = x_BCTHW
        for name in self.branch_names:
            y_BCTHW = getattr(self, name)(y_BCTHW)
        shortcut = x_BCTHW if self.downsample is None else self.downsample(x_BCTHW)
        return F.relu_(y_BCTHW + shortcut)


class SimpleBlock(Block):
    """Two convolutions of the family (18 and 34 layers)."""

    expansion = 1
    branch_names = ("conv1", "conv2")

    def __init__(self, in_channels: int, width: int, stride: tuple[int, int, int], make_conv: MakeConv) -> None:
        super().__init__(in_channels, width, stride)
        self.conv1 = nn.Sequential(make_conv(in_channels, width, stride), BatchNorm3d(width, relu=True))
        self.conv2 = nn.Sequential(make_conv(width, width, (1, 1, 1)), BatchNorm3d(width))


class Bottleneck(Block):
    """1×1×1 down, one convolution of the family carrying the stride, 1×1×1 up to four times (101, 152 layers)."""

    expansion = 4
    branch_names = ("conv1", "conv2", "conv3")

    def __init__(self, in_channels: int, width: int, stride: tuple[int, int, int], make_conv: MakeConv) -> None:
        out_channels = width * self.expansion
        super().__init__(in_channels, out_channels, stride)
        self.conv1 = nn.Sequential(Conv3d(in_channels, width, (1, 1, 1)), BatchNorm3d(width, relu=True))
        self.conv2 = nn.Sequential(make_conv(width, width, stride), BatchNorm3d(width, relu=True))
        self.conv3 = nn.Sequential(Conv3d(width, out_channels, (1, 1, 1)), BatchNorm3d(out_channels))


class VideoResNet(nn.Module):
    """A residual network over clips.

    Args:
        stem: module from [B, 3, T, H, W] to [B, C, T, H/2, W/2].
        stem_channels: C above.
        make_conv: the family's convolution.
        block: `SimpleBlock` or `Bottleneck`.
        blocks_per_layer, widths: four numbers each.
        num_labels: size of the final layer.
        dropout: share of features zeroed before the final layer while training.
    """

    def __init__(
        self,
        stem: nn.Module,
        stem_channels: int,
        make_conv: MakeConv,
        block: type[SimpleBlock] | type[Bottleneck],
        blocks_per_layer: tuple[int, ...],
        widths: tuple[int, ...],
        num_labels: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.stem = stem
        channels = stem_channels
        for number, (num_blocks, width) in enumerate(zip(blocks_per_layer, widths, strict=True), start=1):
            strides = [(1, 1, 1) if number == 1 else (2, 2, 2)] + [(1, 1, 1)] * (num_blocks - 1)
            blocks = []
            for stride in strides:
                blocks.append(block(channels, width, stride, make_conv))
                channels = blocks[-1].out_channels
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self._strided_in_time = {
            layer: [module for module in layer.modules() if isinstance(module, Conv3d) and module.stride[0] != 1]
            for layer in self.layers
        }
        self.num_features = channels
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_labels)
        initialise(self)

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        """float [B, 3, T, H, W] → logits [B, K]."""
        return self.fc(self.dropout(self.forward_features(clips_BCTHW)))

    def forward_features(self, clips_BCTHW: Tensor) -> Tensor:
        """float [B, 3, T, H, W] → features before the final layer, [B, D], averaged over the pooled positions."""
        return self.forward_feature_grid(clips_BCTHW).mean(dim=(2, 3))

    def forward_grid(self, clips_BCTHW: Tensor) -> Tensor:
        """Fully convolutional: logits [B, K, h, w], one per position of the 7×7 pooling (2×2 at 128×128)."""
        features_BDhw = self.forward_feature_grid(clips_BCTHW)
        return F.conv2d(features_BDhw, self.fc.weight[:, :, None, None], self.fc.bias)

    def forward_feature_grid(self, clips_BCTHW: Tensor) -> Tensor:
        """Pooled features [B, D, h, w]; the pool is all frames × 7×7 at stride 1, smaller where the map is."""
        x_BCTHW = self.forward_trunk(clips_BCTHW)
        height, width = x_BCTHW.shape[3:]
        return F.avg_pool2d(x_BCTHW.mean(dim=2), (min(POOL_PX, height), min(POOL_PX, width)), stride=1)

    def forward_trunk(self, clips_BCTHW: Tensor) -> Tensor:
        """float [B, 3, T, H, W] → [B, D, T/8, H/16, W/16]."""
        self.set_time_strides(clips_BCTHW.shape[2])
        x_BCTHW = self.stem(clips_BCTHW.contiguous(memory_format=torch.channels_last_3d))
        for layer in self.layers:
            x_BCTHW = layer(x_BCTHW)
        return x_BCTHW

    @property
    def layers(self) -> tuple[nn.Sequential, ...]:
        """The four layers of blocks."""
        return self.layer1, self.layer2, self.layer3, self.layer4

    def set_time_strides(self, clip_length: int) -> None:
        """Give the first blocks of layers 2–4 the strides in time that clips of this length want."""
        for layer, stride in zip(self.layers[1:], temporal_strides(clip_length), strict=True):
            for convolution in self._strided_in_time[layer]:
                convolution.stride = (stride, *convolution.stride[1:])


@torch.no_grad()
def initialise(model: nn.Module) -> None:
    """Convolutions: normal, std sqrt(2 / fan_out). Final layer: uniform ± sqrt(3 / fan_in), bias 0. Batch norm 1, 0."""
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            fan_out = module.out_channels * math.prod(module.kernel_size)
            module.weight.normal_(0.0, math.sqrt(2.0 / fan_out))
        elif isinstance(module, nn.Linear):
            bound = math.sqrt(3.0 / module.in_features)
            module.weight.uniform_(-bound, bound)
            module.bias.zero_()
