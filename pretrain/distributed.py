"""Processes: join the group that torchrun started (or be the only one), pick the device, talk, leave cleanly."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline import progress
from pipeline.cli import PeerLostError

JOIN_TIMEOUT_S = 600.0  # the slowest import of torch, from a cold network disk

all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its name before torch 2.13


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

    def exchange(self, parts: Tensor, counts: Sequence[int]) -> Tensor:
        """Give parts[r] to each rank r and take what the ranks have for this one; nothing is added up.

        Args:
            parts: [size, K, N]; K is this rank's own, N the same on all.
            counts: K of every rank.
        Returns: [sum(counts), N], in the order of ranks.
        """
        if self.size == 1:
            return parts[0]
        received = parts.new_empty(sum(counts), parts.shape[2])
        dist.all_to_all_single(received, parts.flatten(0, 1), list(counts), [parts.shape[1]] * self.size)
        return received

    def gather_(self, whole: Tensor, part: Tensor) -> Tensor:
        """Replace `whole` [size · N] on every rank by the ranks' parts [N], one after the other."""
        if self.size == 1:
            return whole.copy_(part)
        all_gather(whole, part)
        return whole

    def broadcast_(self, tensor: Tensor) -> Tensor:
        """Replace `tensor` on every rank by rank 0's."""
        if self.size > 1:
            dist.broadcast(tensor, src=0)
        return tensor

    def max_(self, tensor: Tensor) -> Tensor:
        """Replace `tensor` on every rank by the greatest over ranks, element by element."""
        if self.size > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.sum_(torch.zeros(1, device=self.device))


@contextlib.contextmanager
def joined(device: str | None = None, timeout_s: float | None = None) -> Iterator[World]:
    """The world of this process for the length of a `with` block; the group is left on the way out.

    Under torchrun (RANK, WORLD_SIZE, LOCAL_RANK in the environment) the group is NCCL on GPUs and gloo on CPUs; without
    it the world is this process alone. `device` ("cpu", "cuda") overrides the choice: CUDA where there is one.

    Raises:
        PeerLostError: where a peer has gone or, with `timeout_s`, has kept this process waiting for so long.
    """
    local_rank, local_size = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda":
        chosen = torch.device("cuda", local_rank)
        torch.cuda.set_device(chosen)
        torch.backends.cudnn.benchmark = True  # clips have one shape: the fastest algorithms are looked for once
    else:
        chosen = torch.device("cpu")
        prepare_cpu(local_size)
    if "RANK" not in os.environ:
        yield World(device=chosen)
        return
    with peers_may_leave():
        meet("nccl" if kind == "cuda" else "gloo", timeout_s)
        try:
            yield World(dist.get_rank(), dist.get_world_size(), chosen)
        finally:
            dist.destroy_process_group()


def meet(backend: str, timeout_s: float | None) -> None:
    """Form the group that torchrun's environment describes: all may come late, but none may keep the others waiting later."""
    store, rank, size = next(dist.rendezvous("env://", timeout=timedelta(seconds=JOIN_TIMEOUT_S)))
    store.set(f"here/{rank}", "")
    store.wait([f"here/{peer}" for peer in range(size)], timedelta(seconds=JOIN_TIMEOUT_S))
    timeout = None if timeout_s is None else timedelta(seconds=timeout_s)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)


LOST = ("peer", "timed out", "timeout", "broken pipe", "refused", "remote", "network", "connection")


@contextlib.contextmanager
def peers_may_leave() -> Iterator[None]:
    """Broken communication becomes PeerLostError: what went wrong stands with the peer that went."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        of_communication = isinstance(error, dist.DistError) or "gloo" in reason
        if not of_communication or not any(word in reason.lower() for word in LOST):
            raise
        rank = os.environ["RANK"]
        raise PeerLostError(f"process {rank} lost its peers ({reason}); why stands with them") from error


def prepare_cpu(local_processes: int) -> None:
    """Share the cores among the processes of this machine and keep freed memory for the next step."""
    torch.set_num_threads(num_threads(local_processes))
    keep_freed_memory()


def num_threads(local_processes: int) -> int:
    """A process's share of this machine's cores, or OMP_NUM_THREADS where that is less.

    Of several processes, OMP_NUM_THREADS=1 is nobody's wish: torchrun says so where nothing was said.
    """
    share = max(1, available_cores() // local_processes)
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # OpenMP takes a list, one number a level
    wish = int(said) if said.isdecimal() else 0
    return min(share, wish) if wish > 1 or (wish == 1 and local_processes == 1) else share


def prepare_exact(device: torch.device) -> None:
    """Make what this process computes of a microbatch depend on nothing but the microbatch and the weights.

    CPU: one thread. Weight gradients and batch norm are sums that threads share, so their bits change with the number of
    threads, which in turn depends on how many processes share a machine. CUDA: deterministic algorithms, chosen without
    timing them. Other hardware or libraries may still have other bits, which is said once. Call it after `joined`,
    before anything is computed.
    """
    if device.type == "cpu":
        torch.set_num_threads(1)
        bound_to = f"one thread a process and of CPUs like this ({torch.backends.cpu.get_cpu_capability()})"
    else:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # a help in finding bugs, paid at each allocation
        torch.backends.cudnn.benchmark = False
        bound_to = f"{torch.cuda.get_device_name(device)} with cuDNN {torch.backends.cudnn.version()}"
    progress.say(
        f"exact: the bits are those of {bound_to} and torch {torch.__version__}; keep to these on every process and after "
        "every restart"
    )


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
        trim_threshold, mmap_threshold, never = -1, -3, -1
        mallopt(mmap_threshold, 2**31 - 1)
        mallopt(trim_threshold, never)
