"""SGD with Nesterov momentum over all parameters as one flat vector: four vector operations a step.

(`torch.optim` is not used because making any of its optimizers imports the compiler, seconds at the start of each run.)
"""

import torch
from torch import Tensor, nn


class FlatSgd:
    """The parameters of a model, their momenta, and the rule that moves both.

    The model's parameters become views into `values`, those that decay first: convolutions, final layer and batch-norm
    scales; biases do not decay. `views` cuts any vector of this length into parameters.

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
        self.values = torch.cat([parameter.detach().flatten() for parameter in self.parameters.values()])
        self.momenta = torch.zeros_like(self.values)
        for name, view in self.views(self.values).items():
            self.parameters[name].data = view

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """A vector as long as all parameters → views of it by parameter name, shaped like them."""
        parts = flat.split([parameter.numel() for parameter in self.parameters.values()])
        return {
            name: part.view(parameter.shape)
            for (name, parameter), part in zip(self.parameters.items(), parts, strict=True)
        }

    @torch.no_grad()
    def step(self, gradients: Tensor, rate: float) -> None:
        """Move on by a flat gradient, which is used up: its values are overwritten."""
        decaying = slice(self.num_decaying)
        gradients[decaying].add_(self.values[decaying], alpha=self.weight_decay)
        self.momenta.mul_(self.momentum).add_(gradients)
        self.values.add_(gradients.add_(self.momenta, alpha=self.momentum), alpha=-rate)
