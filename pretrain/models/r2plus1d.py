"""R(2+1)D-10/18/34/101/152: every 3×3×3 convolution split into space and time (paper, section 4; MODELS in docs)."""

from torch import nn

from pretrain.models.layers import BatchNorm3d, Conv2Plus1d, Conv3d
from pretrain.models.resnet import Bottleneck, SimpleBlock, VideoResNet

STEM_MIDDLE = 45  # fixed by the published models; the formula for M would give 83
STEM_CHANNELS = 64
LAYER_WIDTHS = (64, 128, 256, 512)
BLOCKS_PER_LAYER = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def scaled(channels: int, width: float) -> int:
    """`channels` times the width multiplier, to the nearest whole number, at least one."""
    return max(1, round(channels * width))


def r2plus1d(depth: int, num_labels: int, width: float = 1.0, dropout: float = 0.0) -> VideoResNet:
    """R(2+1)D of 10, 18, 34 (simple blocks), 101 or 152 (bottlenecks) layers; width 1 is the paper's."""
    stem_channels = scaled(STEM_CHANNELS, width)
    return VideoResNet(
        stem=stem_2plus1d(scaled(STEM_MIDDLE, width), stem_channels),
        stem_channels=stem_channels,
        make_conv=Conv2Plus1d,
        block=Bottleneck if depth >= 50 else SimpleBlock,
        blocks_per_layer=BLOCKS_PER_LAYER[depth],
        widths=tuple(scaled(channels, width) for channels in LAYER_WIDTHS),
        num_labels=num_labels,
        dropout=dropout,
    )


def stem_2plus1d(middle: int, out_channels: int) -> nn.Sequential:
    """1×7×7 at spatial stride 2, then 3×1×1, each with batch norm and ReLU; no max pool."""
    return nn.Sequential(
        Conv3d(3, middle, (1, 7, 7), (1, 2, 2)),
        BatchNorm3d(middle, relu=True),
        nn.Identity(),
        Conv3d(middle, out_channels, (3, 1, 1)),
        BatchNorm3d(out_channels, relu=True),
    )
