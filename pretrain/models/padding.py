"""Zero channels that make the widths between convolutions multiples of 8, which the matrix units of GPUs want.

The padding is exact. A padded channel has zero convolution weights on both sides and a zero batch-norm scale and shift,
so it is zero, so are all its gradients, and with them momentum and weight decay: it is zero for ever. The model keeps
its names and, towards everybody who reads or writes its `state_dict`, its shapes.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.models.layers import BatchNorm3d, Conv3d

MULTIPLE = 8
COLOURS = 4  # the network's input: GPU libraries have kernels for first layers of 4 channels


def pad_channels(model: nn.Module, multiple: int = MULTIPLE) -> None:
    """Widen a model in place: middle channels to a multiple, colours to four.

    Call it before anybody holds the model's parameters, which are replaced. `state_dict` and `load_state_dict` go on
    speaking of the shapes that the model had before.
    """
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for first, norm, second in _neighbours(model):
        width = -(-norm.num_features // multiple) * multiple
        _widen_conv(first, out_channels=width)
        _widen_norm(norm, width)
        _widen_conv(second, in_channels=width)
    for module in model.modules():
        if isinstance(module, Conv3d) and module.in_channels < COLOURS:
            module.missing_channels = COLOURS - module.in_channels
            _widen_conv(module, in_channels=COLOURS)
    model.register_state_dict_post_hook(partial(_strip_state, shapes))
    model.register_load_state_dict_pre_hook(partial(_pad_state, shapes))


def strip(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Tensors by parameter name (gradients, momenta), without what `pad_channels` added to the model: views of them."""
    stored = model.state_dict()
    return {name: _corner(tensor, stored[name].shape) for name, tensor in tensors.items()}


def _neighbours(model: nn.Module) -> Iterator[tuple[Conv3d, BatchNorm3d, Conv3d]]:
    """Convolutions that follow one another with nothing but batch norm and ReLU between."""
    for sequence in model.modules():
        if isinstance(sequence, nn.Sequential):
            layers = [layer for layer in sequence if not isinstance(layer, nn.Identity)]
            for (first, norm), second in zip(pairwise(layers), layers[2:], strict=False):
                if isinstance(first, Conv3d) and isinstance(norm, BatchNorm3d) and isinstance(second, Conv3d):
                    yield first, norm, second


def _widen_conv(conv: Conv3d, out_channels: int = 0, in_channels: int = 0) -> None:
    conv.out_channels, conv.in_channels = out_channels or conv.out_channels, in_channels or conv.in_channels
    conv.weight = nn.Parameter(_padded(conv.weight, (conv.out_channels, conv.in_channels, *conv.kernel_size)))


def _widen_norm(norm: BatchNorm3d, width: int) -> None:
    norm.num_features = width
    norm.weight, norm.bias = (nn.Parameter(_padded(vector, (width,))) for vector in (norm.weight, norm.bias))
    norm.running_mean, norm.running_var = (
        _padded(vector, (width,)) for vector in (norm.running_mean, norm.running_var)
    )


def _padded(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`tensor` with zeros behind it in each dimension."""
    room = [end for size, wanted in zip(tensor.shape, shape, strict=True) for end in (wanted - size, 0)]
    return F.pad(tensor.detach(), room[::-1])


def _corner(tensor: Tensor, shape: torch.Size) -> Tensor:
    return tensor[tuple(map(slice, shape))]


def _strip_state(shapes: dict[str, torch.Size], _: nn.Module, state: dict[str, Tensor], prefix: str, __: dict) -> None:
    for name, shape in shapes.items():
        state[prefix + name] = _corner(state[prefix + name], shape)


def _pad_state(
    shapes: dict[str, torch.Size], model: nn.Module, state: dict[str, Tensor], prefix: str, *_: object
) -> None:
    for name, own in (*model.named_parameters(), *model.named_buffers()):
        given = state.get(prefix + name)
        if given is not None and own.shape != given.shape == shapes[name]:
            state[prefix + name] = _padded(given, own.shape)
