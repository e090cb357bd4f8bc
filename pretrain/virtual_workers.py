"""Virtual workers: what a recipe fixes, and which process does it.

A recipe names V workers of B clips (the paper: 128 × 16 or 128 × 6). Gradients are averaged over them and batch-norm
statistics belong to each one. A process ("rank") runs about V / world_size of them in turn, so the same recipe means
the same batch, rate and batch norm on any number of processes up to V.
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
        if self.world_size > self.num_workers:
            raise ConfigError(
                f"{self.world_size} processes cannot share recipe.virtual_workers = {self.num_workers}: "
                f"some would have nothing to do; start at most {self.num_workers}"
            )

    @property
    def global_batch(self) -> int:
        """Clips per step, over all workers."""
        return self.num_workers * self.batch

    @property
    def mine(self) -> range:
        """Numbers of this rank's workers."""
        return share(self.num_workers, self.rank, self.world_size)

    @property
    def imbalance(self) -> str:
        """What to tell whoever chose the number of processes; empty where all have equally many workers."""
        sizes = [len(share(self.num_workers, rank, self.world_size)) for rank in range(self.world_size)]
        if min(sizes) == max(sizes):
            return ""
        listed = ", ".join(map(str, sizes)) if self.world_size <= 8 else f"{min(sizes)} or {max(sizes)} each"
        return (
            f"{self.world_size} processes share {self.num_workers} virtual workers unevenly: {listed}; "
            "the slowest sets the pace"
        )

    def positions(self, step: int) -> Iterator[range]:
        """Positions in the sample order of this rank's microbatches: worker v takes s·V·B + v·B … + B − 1."""
        for worker in self.mine:
            first = step * self.global_batch + worker * self.batch
            yield range(first, first + self.batch)


def share(num_workers: int, rank: int, world_size: int) -> range:
    """Numbers of a rank's workers: neighbours, and in all ranks equally many or one more."""
    return range(rank * num_workers // world_size, (rank + 1) * num_workers // world_size)


class RunningStatistics:
    """Batch norm's running statistics, averaged over virtual workers.

    If every worker kept its own, r_v ← (1 − m)·r_v + m·s_v, their average would follow r ← (1 − m)·r + m·mean(s_v),
    because the rule is linear. That average is kept here: during a step the modules' momentum is 1, so that they hold
    the statistics s_v of the microbatch just seen; these are added up over all workers and `finish` blends their mean
    into the values before the step. All ranks hold the same numbers after every step, for any number of ranks.
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
        """Start of a step: remember the running values; from now on modules hold those of a microbatch."""
        self.before = [buffer.clone() for buffer in self.buffers]
        self.num_microbatches = 0
        for module in self.modules:
            module.momentum = 1.0

    def collect(self, sums: Tensor) -> None:
        """After each forward pass: add the statistics of its microbatch to the flat `sums` [numel]."""
        self.num_microbatches += 1
        if self.modules:
            sums += torch.cat([buffer.flatten() for buffer in self.buffers])

    def restore(self) -> None:
        """Undo the step so far."""
        for buffer, before in zip(self.buffers, self.before, strict=True):
            buffer.copy_(before)
        for module, momentum in zip(self.modules, self.momenta, strict=True):
            module.momentum = momentum
            module.num_batches_tracked -= self.num_microbatches

    def finish(self, mean: Tensor) -> None:
        """End of a step: blend the mean over all workers, flat [numel], into the values before it."""
        self.restore()
        parts = mean.split([buffer.numel() for buffer in self.buffers])
        momenta = [momentum for momentum in self.momenta for _ in ("mean", "variance")]
        for buffer, part, momentum in zip(self.buffers, parts, momenta, strict=True):
            buffer.lerp_(part, momentum)
        for module in self.modules:
            module.num_batches_tracked += 1  # counts steps, whatever the number of ranks
