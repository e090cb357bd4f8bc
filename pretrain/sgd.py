"""SGD with Nesterov momentum over all parameters as one flat vector: two passes over it a step.

(`torch.optim` is not used because making any of its optimizers imports the compiler, seconds at the start of each run;
the fused kernel behind `torch.optim.SGD(fused=True)` is.)
"""

import torch
from torch import Tensor, nn


class FlatSgd:
    """The parameters of a model, their momenta, and the rule that moves both.

    The model's parameters become views into `values`, those that decay first: convolutions, final layer and batch-norm
    scales; biases do not decay. `views` cuts any vector of this length into parameters. Within the vector the weights
    of convolutions lie channels-last, as activations do, so that no kernel has to turn them first.

    Args:
        model: on its device.
        momentum: 0 for plain SGD.
        weight_decay: added to the gradient as weight_decay · value.
    """

    def __init__(self, model: nn.Module, momentum: float, weight_decay: float) -> None:
        self.momentum, self.weight_decay = momentum, weight_decay
        named = sorted(model.named_parameters(), key=lambda item: item[0].endswith("bias"))
        self.parameters: dict[str, nn.Parameter] = dict(named)
        self.num_decaying = sum(value.numel() for name, value in named if not name.endswith("bias"))
        self.values = torch.cat(
            [_channels_last(parameter.detach()).flatten() for parameter in self.parameters.values()]
        )
        self.momenta = torch.zeros_like(self.values)
        for name, view in self.views(self.values).items():
            self.parameters[name].data = view

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """A vector as long as all parameters → views of it by parameter name, shaped like them."""
        parts = flat.split([parameter.numel() for parameter in self.parameters.values()])
        return {
            name: part.view(_channels_last(parameter).shape).movedim(-1, min(1, parameter.dim() - 1))
            for (name, parameter), part in zip(self.parameters.items(), parts, strict=True)
        }

    @torch.no_grad()
    def step(self, gradients: Tensor, rate: float) -> None:
        """Move on by a flat gradient."""
        sizes = [self.num_decaying, self.values.numel() - self.num_decaying]
        parts = zip(self.values.split(sizes), gradients.split(sizes), self.momenta.split(sizes), strict=True)
        for (values, gradient, momenta), weight_decay in zip(parts, (self.weight_decay, 0.0), strict=True):
            torch._fused_sgd_(
                [values],
                [gradient],
                [momenta] if self.momentum else [],
                weight_decay=weight_decay,
                momentum=self.momentum,
                lr=rate,
                dampening=0.0,
                nesterov=self.momentum > 0,
                maximize=False,
                is_first_step=False,
            )


def _channels_last(parameter: Tensor) -> Tensor:
    """[D, C, t, h, w] → [D, t, h, w, C]; vectors stay as they are, and so do matrices."""
    return parameter.movedim(1, -1) if parameter.dim() > 1 else parameter
