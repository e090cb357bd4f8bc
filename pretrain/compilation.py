"""torch.compile for the forward pass (and with it the backward pass) of training; imports the compiler only when used."""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.config import ConfigError
from pretrain.models import VideoResNet

REMEDY = "install a C++ compiler (on CPUs) or Triton (on GPUs), or leave `compile` out"


def compiled(model: VideoResNet) -> Callable[[Tensor], Tensor]:
    """`model` as a function that is compiled at its first call, minutes for a large network, and anew for clips of
    another shape. Parameters and buffers remain the model's; calling the model itself goes on uncompiled.

    Raises:
        ConfigError: at the first call, where the compiler does not work.
    """
    from torch._dynamo.exc import TorchDynamoException

    function = torch.compile(model, dynamic=False)

    def forward(clips_BCTHW: Tensor) -> Tensor:
        model.set_time_strides(clips_BCTHW.shape[2])  # changed within, they would have it compiled a second time
        try:
            return function(clips_BCTHW)
        except TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            raise ConfigError(f"torch.compile does not work here ({reason}); {REMEDY}") from error

    return forward
