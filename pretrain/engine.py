"""One synchronous SGD step over microbatches, on any number of processes. Knows no data set and no schedule.

Gradients, batch-norm statistics, loss and the wish to stop lie in one flat buffer, so a step needs one all-reduce, and
every process takes the same decisions from the same sums. How they are added up is `pretrain.sums`'s affair.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.compilation import compiled
from pretrain.distributed import World
from pretrain.models.padding import strip
from pretrain.sgd import FlatSgd
from pretrain.sums import FlatSum, TreeSum
from pretrain.virtual_workers import RunningStatistics

Loss = Callable[[Tensor, Tensor], Tensor]  # (logits [B, K], labels) → mean loss, a scalar
NUM_SCALARS = 3  # loss, share of right labels, processes that ask to stop


class NonFiniteStepError(ArithmeticError):
    """Loss or gradient is not finite; nothing was updated. `microbatches`: this process's own ones at fault."""

    def __init__(self, loss: float, gradient_norm: float, microbatches: list[int]) -> None:
        super().__init__(f"loss {loss}, gradient norm {gradient_norm}")
        self.microbatches = microbatches


@dataclass(frozen=True)
class StepResult:
    """What a step says, the same on every process."""

    loss: float
    """Mean over the virtual workers."""
    accuracy: float
    """Share of clips whose highest score is their label; NaN for labels that are not class numbers."""
    gradient_norm: float
    stop_asked: bool


class Engine:
    """A model and its momenta; `step` moves them on.

    Args:
        model: on `world.device`; rank 0's values are given to all.
        world: the processes that share each step.
        momentum: of Nesterov's kind; 0 for plain SGD.
        weight_decay: on everything but biases.
        precision: "bf16" for a forward pass under autocast; "fp32", or "tf32" where a GPU's convolutions may round their
            inputs to 10 bits of mantissa. This choice is the process's.
        loss: of logits and labels; softmax cross-entropy by default.
        exact: add up over the virtual workers in one fixed tree: the same bits for any number of processes, if each
            computes a microbatch in the same way (`distributed.prepare_exact`).
        compile: run the model's training passes through torch.compile, for clips of one shape.
    """

    def __init__(
        self,
        model: nn.Module,
        world: World,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        precision: str = "fp32",
        loss: Loss = F.cross_entropy,
        exact: bool = False,
        compile: bool = False,
    ) -> None:
        self.model, self.world, self.loss, self.precision = model, world, loss, precision
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        self.forward = compiled(model) if compile else model
        self.statistics = RunningStatistics(model)
        self.sgd = FlatSgd(model, momentum, weight_decay)
        for tensor in (self.sgd.values, *model.buffers()):
            world.broadcast_(tensor)
        sizes = [self.sgd.values.numel(), self.statistics.numel(), NUM_SCALARS]
        self.sums = (TreeSum if exact else FlatSum)(sum(sizes), world)
        self.gradients, self.collected, self.scalars = self.sums.flat.split(sizes)
        for name, view in self.sgd.views(self.gradients).items():
            self.sgd.parameters[name].grad = view  # backward passes add up here

    def step(
        self, microbatches: Iterable[tuple[Tensor, Tensor]], num_workers: int, rate: float, ask_stop: bool = False
    ) -> StepResult:
        """One step.

        Args:
            microbatches: this process's (clips float [B, 3, T, H, W], labels [B]), on its device.
            num_workers: microbatches over all processes (V).
            rate: learning rate of this step.
            ask_stop: this process wishes to stop; `stop_asked` of the result is true on all if any one did.
        Raises:
            NonFiniteStepError: on every process, before anything was updated.
        """
        self.model.train()
        self.sums.begin(num_workers)
        self.statistics.begin()
        self.scalars[2] = float(ask_stop)
        losses = []
        with self._autocast(enabled=False):  # all around, so that weights are cast to bf16 once a step
            for clips, labels in microbatches:
                losses.append(self._accumulate(clips, labels))
                self.sums.close_term()
        self.sums.finish()
        self.sums.flat.mul_(1.0 / num_workers)
        loss, accuracy, stop_asked, gradient_norm = torch.cat([self.scalars, self.gradients.norm()[None]]).tolist()
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            faults = [number for number, value in enumerate(losses) if not math.isfinite(float(value))]
            self.statistics.restore()
            raise NonFiniteStepError(loss, gradient_norm, faults)
        self.statistics.finish(self.collected)
        self.sgd.step(self.gradients, rate)
        return StepResult(loss, accuracy, gradient_norm, stop_asked > 0)

    def _accumulate(self, clips_BCTHW: Tensor, labels: Tensor) -> Tensor:
        """Forward and backward of one microbatch, added to the sums; returns its loss, detached."""
        with self._autocast(enabled=self.precision == "bf16"):
            logits = self.forward(clips_BCTHW)
        self.statistics.collect(self.collected)
        loss = self.loss(logits.float(), labels)
        loss.backward()
        right = (logits.argmax(1) == labels).float().mean() if labels.dim() == 1 else loss.new_tensor(float("nan"))
        self.scalars[:2] += torch.stack([loss.detach(), right])
        return loss.detach()

    def _autocast(self, enabled: bool) -> torch.autocast:
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled=enabled)

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """Momentum by parameter name, of the shapes in the model's `state_dict`."""
        return strip(self.sgd.views(self.sgd.momenta), self.model)

    def load(self, model_tensors: dict[str, Tensor], optimizer_tensors: dict[str, Tensor]) -> None:
        """Take up what `model.state_dict()` and `optimizer_tensors()` gave."""
        self.model.load_state_dict(model_tensors)
        for name, view in self.optimizer_tensors().items():
            view.copy_(optimizer_tensors[name])
