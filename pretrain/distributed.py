"""Processes: join the group that torchrun started (or be the only one), pick the device, talk, leave cleanly."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """This process among its peers."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace `tensor` on every rank by the sum over ranks."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def broadcast_(self, tensor: Tensor) -> Tensor:
        """Replace `tensor` on every rank by rank 0's."""
        if self.size > 1:
            dist.broadcast(tensor, src=0)
        return tensor

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.sum_(torch.zeros(1, device=self.device))


@contextlib.contextmanager
def joined(device: str | None = None) -> Iterator[World]:
    """The world of this process for the length of a `with` block; the group is left on the way out.

    Under torchrun (RANK, WORLD_SIZE, LOCAL_RANK in the environment) the group is NCCL on GPUs and gloo on CPUs; without
    it the world is this process alone. `device` ("cpu", "cuda") overrides the choice: CUDA where there is one.
    """
    local_rank, local_size = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda":
        chosen = torch.device("cuda", local_rank)
        torch.cuda.set_device(chosen)
    else:
        chosen = torch.device("cpu")
        prepare_cpu(local_size)
    if "RANK" not in os.environ:
        yield World(device=chosen)
        return
    dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()


def prepare_cpu(local_processes: int) -> None:
    """Share the cores among the processes of this machine and keep freed memory for the next step."""
    torch.set_num_threads(max(1, available_cores() // local_processes))
    keep_freed_memory()


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """glibc: do not return large blocks to the system at each free.

    By default every large activation is mapped and zeroed by the kernel anew: 16,000 page faults and a fifth of the
    time of a small model's step. Other C libraries have no `mallopt`; nothing is done there.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        trim_threshold, mmap_threshold = -1, -3
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, 2**31 - 1)
