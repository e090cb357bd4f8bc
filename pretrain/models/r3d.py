"""R3D (3×3×3 kernels) and R2D (every kernel one frame long), the comparisons of the paper's Table 4."""

from functools import partial

from torch import nn

from pretrain.models.layers import BatchNorm3d, Conv3d
from pretrain.models.r2plus1d import BLOCKS_PER_LAYER, LAYER_WIDTHS, STEM_CHANNELS, scaled
from pretrain.models.resnet import SimpleBlock, VideoResNet


def r3d(depth: int, num_labels: int, width: float = 1.0, dropout: float = 0.0) -> VideoResNet:
    """R3D of 10, 18 or 34 layers: stem 3×7×7, blocks of 3×3×3."""
    return _resnet(3, depth, num_labels, width, dropout)


def r2d(depth: int, num_labels: int, width: float = 1.0, dropout: float = 0.0) -> VideoResNet:
    """R2D of 10, 18 or 34 layers: the same network on frames; T = 1 for images."""
    return _resnet(1, depth, num_labels, width, dropout)


def _resnet(kernel_time: int, depth: int, num_labels: int, width: float, dropout: float) -> VideoResNet:
    stem_channels = scaled(STEM_CHANNELS, width)
    stem = nn.Sequential(
        Conv3d(3, stem_channels, (kernel_time, 7, 7), (1, 2, 2)), BatchNorm3d(stem_channels, relu=True)
    )
    return VideoResNet(
        stem=stem,
        stem_channels=stem_channels,
        make_conv=partial(_plain_conv, kernel_time),
        block=SimpleBlock,
        blocks_per_layer=BLOCKS_PER_LAYER[depth],
        widths=tuple(scaled(channels, width) for channels in LAYER_WIDTHS),
        num_labels=num_labels,
        dropout=dropout,
    )


def _plain_conv(kernel_time: int, in_channels: int, out_channels: int, stride: tuple[int, int, int]) -> Conv3d:
    return Conv3d(in_channels, out_channels, (kernel_time, 3, 3), stride)
