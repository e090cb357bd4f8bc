"""The networks that training benchmarks run, what their convolutions cost, and how fast hardware could possibly do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOMENTUM, WEIGHT_DECAY, RATE = 0.9, 1e-4, 0.01
BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BN_RELU_PASSES = {
    "eager": 13,
    "fused": 8,
}  # reads and writes of a convolution's output by batch norm and ReLU, both ways


def torchvision_r2plus1d(depth: int, num_labels: int) -> nn.Module:
    """torchvision's R(2+1)D: middle widths per block, `nn.Conv3d`."""
    from torchvision.models.video import resnet

    makers = [resnet.Conv2Plus1D] * 4
    return resnet.VideoResNet(resnet.BasicBlock, makers, list(BLOCKS[depth]), resnet.R2Plus1dStem, num_labels)


def ordinary_step(model: nn.Module, clips: Tensor, labels: Tensor, bf16: bool, fused: bool) -> Callable[[], float]:
    """A training step as written in most scripts: zero_grad, forward, backward, `torch.optim.SGD`."""
    optimizer = torch.optim.SGD(
        model.parameters(), RATE, MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True, fused=fused or None
    )

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(clips.device.type, torch.bfloat16, enabled=bf16):
            logits = model(clips)
        loss = F.cross_entropy(logits.float(), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


@dataclass(frozen=True)
class ConvCost:
    """One convolution, forward, of one clip."""

    macs: int
    inputs: int
    """Elements read: X."""
    outputs: int
    """Elements written: Y."""


def conv_costs(model: nn.Module, length: int, size: int) -> list[ConvCost]:
    """Of all convolutions, in the order they run; found by running one clip."""
    costs: list[ConvCost] = []

    def note(conv: nn.Conv3d, arguments: tuple[Tensor], y: Tensor) -> None:
        costs.append(ConvCost(conv.weight[0].numel() * y.numel(), arguments[0].numel(), y.numel()))

    hooks = [module.register_forward_hook(note) for module in model.modules() if isinstance(module, nn.Conv3d)]
    parameter = next(model.parameters())
    was_training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, length, size, size, device=parameter.device))
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    return costs


def gmac(model: nn.Module, length: int, size: int) -> float:
    """Multiply-adds of one clip forward, in 1e9: convolutions and the final layer."""
    return (sum(cost.macs for cost in conv_costs(model, length, size)) + model.fc.weight.numel()) / 1e9


def training_flops(costs: list[ConvCost]) -> float:
    """Of one clip: three times forward (outputs, input and weight gradients), but no gradient of the pixels."""
    return 2.0 * (3 * sum(cost.macs for cost in costs) - costs[0].macs)


def roofline_s(costs: list[ConvCost], passes: int, flops_per_s: float, bytes_per_s: float) -> float:
    """Least seconds to train on one clip in bf16.

    A convolution and its two gradients read X and touch Y three times each and take as long as arithmetic or memory do,
    whichever is slower; batch norm and ReLU then go over Y `passes` times.
    """
    convolutions = (
        max(6 * cost.macs / flops_per_s, 3 * 2 * (cost.inputs + cost.outputs) / bytes_per_s) for cost in costs
    )
    return sum(convolutions) + sum(passes * 2 * cost.outputs for cost in costs) / bytes_per_s
