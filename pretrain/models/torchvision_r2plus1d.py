"""torchvision's R(2+1)D: a network of its own under the parameter names of the paper's, so that its weights can be used.

It differs in four things: both convolutions of a block have the middle channels of the first (Cin and Cout of the
block, not of the convolution); batch norm's eps is PyTorch's; time is halved in layers 2–4 however short the clip; and
the pool is over the whole map, however large the picture.
"""

from functools import partial

from torch import Tensor, nn

from pretrain.models.layers import Conv2Plus1d, middle_channels
from pretrain.models.r2plus1d import BLOCKS_PER_LAYER, LAYER_WIDTHS, STEM_CHANNELS, STEM_MIDDLE, scaled, stem_2plus1d
from pretrain.models.resnet import MakeConv, SimpleBlock, VideoResNet

TORCHVISION_BN_EPS = 1e-5


class SharedMiddleBlock(SimpleBlock):
    """Two (2+1)D convolutions with the same number of middle channels."""

    def __init__(self, in_channels: int, width: int, stride: tuple[int, int, int], make_conv: MakeConv) -> None:
        middle = max(1, middle_channels(in_channels, width))
        super().__init__(in_channels, width, stride, partial(make_conv, middle=middle))


class TorchvisionResNet(VideoResNet):
    """A `VideoResNet` that strides and pools as torchvision's does."""

    def set_time_strides(self, clip_length: int) -> None:
        """Nothing: the strides are those of every clip length."""

    def forward_feature_grid(self, clips_BCTHW: Tensor) -> Tensor:
        """Features [B, D, 1, 1], pooled over the whole map."""
        return self.forward_trunk(clips_BCTHW).mean(dim=(2, 3, 4))[:, :, None, None]


def torchvision_r2plus1d(depth: int, num_labels: int, width: float = 1.0, dropout: float = 0.0) -> VideoResNet:
    """torchvision's R(2+1)D of 18 layers (`torchvision.models.video.r2plus1d_18`) at width 1."""
    model = TorchvisionResNet(
        stem=stem_2plus1d(scaled(STEM_MIDDLE, width), scaled(STEM_CHANNELS, width)),
        stem_channels=scaled(STEM_CHANNELS, width),
        make_conv=Conv2Plus1d,
        block=SharedMiddleBlock,
        blocks_per_layer=BLOCKS_PER_LAYER[depth],
        widths=tuple(scaled(channels, width) for channels in LAYER_WIDTHS),
        num_labels=num_labels,
        dropout=dropout,
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = TORCHVISION_BN_EPS
    return model
