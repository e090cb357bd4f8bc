"""Which places and moments of a clip speak for a label: class activation maps and Grad-CAM.

Shape letters: B clips, D features, K labels, T H W places of a layer's output.

The head averages the last layer's output over time and over 7×7 windows and applies a linear layer, so a label's logit
is, exactly, its bias plus a sum over the places of that output (Zhou et al. 2016). For other layers the features are
weighted by the mean gradient of the logit (Grad-CAM, Selvaraju et al. 2017), which is the same thing at the last layer
where the head's window is the whole map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config import ConfigError
from pretrain.models import VideoResNet
from pretrain.models.resnet import POOL_PX

LAST = "layer4"


def maps_of(model: VideoResNet, clips_BCTHW: Tensor, labels: Sequence[int], layer: str) -> tuple[Tensor, Tensor]:
    """Evidence for each of some labels, float [B, len(labels), T, H, W], and the logits of all, float [B, K].

    Both are of the mean over the head's positions, and `layer` is any module of the network whose output is
    [B, channels, T, H, W].

    Raises: ConfigError for another layer, with the names of some.
    """
    if layer == LAST:
        with torch.inference_mode():
            maps_BKTHW = class_activation_maps(model, clips_BCTHW)
            return maps_BKTHW[:, list(labels)], maps_BKTHW.sum(dim=(2, 3, 4)) + model.fc.bias
    return grad_cam(model, clips_BCTHW, labels, layer)


def class_activation_maps(model: VideoResNet, clips_BCTHW: Tensor) -> Tensor:
    """[B, K, T, H, W] of the last layer; the sum over places is the logit less the bias."""
    x_BDTHW = model.forward_trunk(clips_BCTHW)
    weights_HW = pool_weights(*x_BDTHW.shape[3:]).to(x_BDTHW)
    return torch.einsum("kd,bdthw,hw->bkthw", model.fc.weight, x_BDTHW, weights_HW) / x_BDTHW.shape[2]


def pool_weights(height: int, width: int) -> Tensor:
    """Weight of each place of the last map in the mean over the head's windows, float32 [height, width]; their sum is 1."""

    def along(size: int) -> Tensor:
        window = min(POOL_PX, size)
        ones = torch.ones(1, 1, size - window + 1)
        return F.conv_transpose1d(ones, torch.ones(1, 1, window))[0, 0] / (window * (size - window + 1))

    return torch.outer(along(height), along(width))


def grad_cam(model: VideoResNet, clips_BCTHW: Tensor, labels: Sequence[int], layer: str) -> tuple[Tensor, Tensor]:
    """Per label, a layer's features weighted by the mean gradient of its logit over places; not clipped at zero.

    Returns and raises: as `maps_of`.
    """
    held: list[Tensor] = []

    def hold(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        held.append(output)
        return output.clone()  # what comes next may work in place

    with find_layer(model, layer).register_forward_hook(hold), torch.enable_grad():
        logits_BK = model(clips_BCTHW)
        features = held[-1]
        if features.dim() != 5:
            raise ConfigError(f"layer '{layer}' has no places in time and space: its output is {list(features.shape)}")
        gradients = [torch.autograd.grad(logits_BK[:, label].sum(), features, retain_graph=True)[0] for label in labels]
    maps = [(gradient.mean(dim=(2, 3, 4), keepdim=True) * features).sum(dim=1) for gradient in gradients]
    return torch.stack(maps, dim=1).detach(), logits_BK.detach()


def find_layer(model: VideoResNet, name: str) -> nn.Module:
    """A module of the network by its name. Raises: ConfigError with the names of some."""
    try:
        if name:
            return model.get_submodule(name)
    except AttributeError:
        pass
    names = [
        found for found, _ in model.named_modules() if found.count(".") <= 1 and found.startswith(("stem", "layer"))
    ]
    raise ConfigError(f"the network has no layer '{name}'; some of its layers: {', '.join(names)}")
