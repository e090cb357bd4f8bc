"""The layers all networks here are made of: convolutions run as 2-D ones, batch norm and the (2+1)D factorisation.

Shape letters: B clips, C channels, T frames, H W pixels. Activations are logically [B, C, T, H, W] and lie in memory
as [B, T, H, W, C] (`torch.channels_last_3d`). That memory is at once a channels-last image batch [B*T, C, H, W] and a
channels-last image batch [B, C, T, H*W], so a 1×k×k and a k×1×1 convolution are 2-D convolutions on free views: no
copy, the better-tested kernels, and none of the wrong bf16 weight gradients of the CPU's 3-D ones. Weights keep the
5-D shapes of the published models; they are viewed as 4-D at run time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BN_EPS = 1e-3
BN_MOMENTUM = 0.1  # PyTorch's convention; the paper's framework writes the same thing as 0.9


def folded_conv3d(
    x_BCTHW: Tensor, weight: Tensor, stride: tuple[int, int, int], padding: tuple[int, int, int]
) -> Tensor:
    """Equal to `F.conv3d(x, weight, None, stride, padding)`, computed with one `F.conv2d`.

    Args:
        x_BCTHW: float [B, C, T, H, W], fastest in `channels_last_3d` memory.
        weight: float [D, C, kt, kh, kw].
        stride, padding: of time, height, width.
    Returns: float [B, D, T', H', W'].
    """
    kernel_time, *kernel_space = weight.shape[2:]
    if weight.shape[2:].numel() == 1 and padding == (0, 0, 0):
        return _conv_space(_subsampled(x_BCTHW, stride), weight.squeeze(2), (1, 1, 1), padding)
    if kernel_time == 1 and padding[0] == 0:
        return _conv_space(_subsampled(x_BCTHW, (stride[0], 1, 1)), weight.squeeze(2), stride, padding)
    if kernel_space == [1, 1] and stride[1:] == (1, 1) and padding[1:] == (0, 0):
        return _conv_time(x_BCTHW, weight.squeeze(4), stride[0], padding[0])
    return _conv_space(
        _stack_taps(x_BCTHW, kernel_time, stride[0], padding[0]), weight.transpose(1, 2).flatten(1, 2), stride, padding
    )


def _subsampled(x_BCTHW: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """Every s-th frame, row and column; cut in memory order, so that values and gradients stay channels-last."""
    if stride == (1, 1, 1):
        return x_BCTHW
    x_BTHWC = x_BCTHW.permute(0, 2, 3, 4, 1)[:, :: stride[0], :: stride[1], :: stride[2]]
    return x_BTHWC.contiguous().permute(0, 4, 1, 2, 3)


def _conv_space(x_BCTHW: Tensor, weight: Tensor, stride: tuple, padding: tuple) -> Tensor:
    frames_NCHW = x_BCTHW.transpose(1, 2).flatten(0, 1)
    y_NCHW = F.conv2d(frames_NCHW, weight, None, stride[1:], padding[1:])
    return y_NCHW.unflatten(0, (x_BCTHW.shape[0], -1)).transpose(1, 2)


def _conv_time(x_BCTHW: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    y_BCTP = F.conv2d(x_BCTHW.flatten(3), weight, None, (stride, 1), (padding, 0))
    return y_BCTP.unflatten(3, x_BCTHW.shape[3:])


def _stack_taps(x_BCTHW: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Time-shifted copies side by side in the channels, tap-major: [B, kernel*C, T', H, W]."""
    padded = F.pad(x_BCTHW, (0, 0, 0, 0, padding, padding))
    num_out = (padded.shape[2] - kernel) // stride + 1
    taps = [padded[:, :, tap : tap + (num_out - 1) * stride + 1 : stride] for tap in range(kernel)]
    return torch.cat(taps, dim=1).contiguous(memory_format=torch.channels_last_3d)


class Conv3d(nn.Conv3d):
    """`nn.Conv3d` without bias, run through `folded_conv3d`; weight [D, C, kt, kh, kw]."""

    missing_channels = 0  # of the input, to be added as zeros: the colours' in a padded network

    def __init__(self, in_channels: int, out_channels: int, kernel: tuple, stride: tuple = (1, 1, 1)) -> None:
        padding = tuple(size // 2 for size in kernel)
        super().__init__(in_channels, out_channels, kernel, stride, padding, bias=False)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        if self.missing_channels:
            x_BCTHW = F.pad(x_BCTHW, (0, 0, 0, 0, 0, 0, 0, self.missing_channels))
        return folded_conv3d(x_BCTHW, self.weight, self.stride, self.padding)


class BatchNorm3d(nn.BatchNorm3d):
    """Batch norm with the paper's constants, over the frames of the clips at hand (one virtual worker's).

    With `relu` the ReLU is applied here, in place on the folded output: done later it would be in place on a view,
    for which autograd copies the gradient. A `nn.Identity` keeps the ReLU's number in the published names.
    """

    def __init__(self, num_channels: int, relu: bool = False) -> None:
        super().__init__(num_channels, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.relu = relu

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        y_NCHW = super().forward(x_BCTHW.transpose(1, 2).flatten(0, 1))
        if self.relu:
            y_NCHW = F.relu_(y_NCHW)
        return y_NCHW.unflatten(0, (x_BCTHW.shape[0], -1)).transpose(1, 2)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() != 4:
            raise ValueError(f"expected frames [B*T, C, H, W], got {tuple(input.shape)}")


def middle_channels(in_channels: int, out_channels: int) -> int:
    """Width M between the two halves of a (2+1)D convolution: as many weights as the 3×3×3 it replaces (paper, 4)."""
    return 27 * in_channels * out_channels // (9 * in_channels + 3 * out_channels)


class Conv2Plus1d(nn.Sequential):
    """1×3×3 convolution to M channels, batch norm, ReLU, then 3×1×1; M is this convolution's own, or `middle`."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: tuple[int, int, int] = (1, 1, 1), middle: int | None = None
    ) -> None:
        middle = middle or max(1, middle_channels(in_channels, out_channels))
        super().__init__(
            Conv3d(in_channels, middle, (1, 3, 3), (1, *stride[1:])),
            BatchNorm3d(middle, relu=True),
            nn.Identity(),
            Conv3d(middle, out_channels, (3, 1, 1), (stride[0], 1, 1)),
        )
