"""Virtual workers: what a recipe fixes, and which process does it.

A recipe names V workers of B clips (the paper: 128 × 16 or 128 × 6). Gradients are averaged over them and batch-norm
statistics belong to each one. A process ("rank") runs V / world_size of them in turn, so the same recipe means the same
batch, rate and batch norm on any number of processes that divides V.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.config import ConfigError


@dataclass(frozen=True)
class VirtualWorkers:
    """The share of one rank in a recipe's V workers of B clips."""

    num_workers: int
    batch: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.num_workers % self.world_size:
            divisors = [str(n) for n in range(1, self.num_workers + 1) if self.num_workers % n == 0]
            raise ConfigError(
                f"{self.world_size} processes cannot share recipe.virtual_workers = {self.num_workers} evenly; "
                f"start {', '.join(divisors)} processes"
            )

    @property
    def global_batch(self) -> int:
        """Clips per step, over all workers."""
        return self.num_workers * self.batch

    @property
    def mine(self) -> range:
        """Numbers of this rank's workers."""
        share = self.num_workers // self.world_size
        return range(self.rank * share, (self.rank + 1) * share)

    def positions(self, step: int) -> Iterator[range]:
        """Positions in the sample order of this rank's microbatches: worker v takes s·V·B + v·B … + B − 1."""
        for worker in self.mine:
            first = step * self.global_batch + worker * self.batch
            yield range(first, first + self.batch)


class RunningStatistics:
    """Batch norm's running statistics, averaged over virtual workers.

    If every worker kept its own, r_v ← (1 − m)·r_v + m·s_v, their average would follow r ← (1 − m)·r + m·mean(s_v),
    because the rule is linear. That average is kept here: during a step the modules collect the mean of the
    microbatches' statistics s_v; `finish` blends it, after the mean over ranks, into the value before the step. All
    ranks hold the same numbers after every step, for any number of ranks.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        self.momenta = [module.momentum for module in self.modules]
        self.before: list[Tensor] = []
        self.num_microbatches = 0

    @property
    def buffers(self) -> list[Tensor]:
        return [buffer for module in self.modules for buffer in (module.running_mean, module.running_var)]

    def numel(self) -> int:
        return sum(buffer.numel() for buffer in self.buffers)

    def begin(self) -> None:
        """Start of a step: remember the running values; the modules now collect a mean."""
        self.before = [buffer.clone() for buffer in self.buffers]
        self.num_microbatches = 0

    def next_microbatch(self) -> None:
        """Call before each forward pass: a momentum of 1/n at the n-th one makes a running mean."""
        self.num_microbatches += 1
        for module in self.modules:
            module.momentum = 1.0 / self.num_microbatches

    def pack(self, out: Tensor, share: float) -> None:
        """Write this rank's mean statistics, times `share`, to the flat `out` [numel]: to be summed over ranks."""
        if self.modules:
            torch.cat([buffer.flatten() for buffer in self.buffers], out=out)
            out.mul_(share)

    def finish(self, collected: Tensor) -> None:
        """Blend the mean over all workers, flat [numel], into the values before the step."""
        parts = collected.split([buffer.numel() for buffer in self.buffers])
        momenta = [momentum for momentum in self.momenta for _ in ("mean", "variance")]
        for buffer, before, part, momentum in zip(self.buffers, self.before, parts, momenta, strict=True):
            buffer.copy_(before.lerp_(part, momentum))
        for module, momentum in zip(self.modules, self.momenta, strict=True):
            module.momentum = momentum
            module.num_batches_tracked += 1 - self.num_microbatches  # counts steps, whatever the number of ranks
