"""From images to clips: the kernels of a 2-D network fill those of a 3-D one (paper, Section 4.3.2 and Table 4)."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from pipeline.config import ConfigError
from pretrain.models.layers import Conv2Plus1d
from pretrain.models.resnet import VideoResNet

How = Literal["mean", "center"]


def repeated(kernel: Tensor, length: int) -> Tensor:
    """[D, C, 1, h, w] → [D, C, length, h, w]: the same in every frame, divided so that the sum over time stays."""
    return kernel.expand(-1, -1, length, -1, -1) / length


def centered(kernel: Tensor, length: int) -> Tensor:
    """[D, C, 1, h, w] → [D, C, length, h, w]: the kernel in the middle frame, zeros elsewhere."""
    inflated = kernel.new_zeros(*kernel.shape[:2], length, *kernel.shape[3:])
    inflated[:, :, length // 2] = kernel[:, :, 0]
    return inflated


INFLATE: dict[How, Callable[[Tensor, int], Tensor]] = {"mean": repeated, "center": centered}


def inflate(tensors: dict[str, Tensor], model: VideoResNet, how: How) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors with every kernel of one frame made as long as the model's kernel of that name, and the names changed.

    On a clip of one frame repeated, a network inflated with `center` computes what the 2-D network does on the frame;
    with `mean` it does so only where no kernel reaches the zeros beyond the clip's ends.

    Raises:
        ConfigError: a 2-D network is to become an R(2+1)D, which has no 3-D kernels.
    """
    own = model.state_dict()
    kernels = [tensor for tensor in tensors.values() if tensor.dim() == 5]
    is_2d = bool(kernels) and all(kernel.shape[2] == 1 for kernel in kernels)
    if is_2d and any(isinstance(module, Conv2Plus1d) for module in model.modules()):
        raise ConfigError(
            "these are weights of a 2-D network, which cannot be inflated into R(2+1)D: its kernels are split into space "
            "and time, and there is no 3-D kernel to fill (paper, footnote 8); choose the r3d model of the same depth"
        )
    flat = [name for name, tensor in tensors.items() if name in own and _is_longer(own[name].shape, tensor.shape)]
    return tensors | {name: INFLATE[how](tensors[name], own[name].shape[2]) for name in flat}, flat


def _is_longer(shape: torch.Size, of_2d: torch.Size) -> bool:
    """Whether two kernels [D, C, t, h, w] differ in nothing but the time of the first, and 1 of the second."""
    return len(shape) == len(of_2d) == 5 and of_2d[2] == 1 < shape[2] and shape[:2] + shape[3:] == of_2d[:2] + of_2d[3:]
