"""When a run saves, and how training goes on meanwhile: a copy on the host is written by a thread.

The state is the same on every process after each step, so the first one writes alone, and the others go on at once.
None can run ahead of a restart: torchrun ends all processes of a run before it starts new ones, and these begin from
what the first one finds. Only those that leave must wait for the write (`train.interrupted`), or the launcher, which
ends all soon after the first one that leaves, would cut it short.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline import config as configs
from pipeline.config import PretrainConfig
from pretrain import checkpoint
from pretrain.distributed import World
from pretrain.engine import Engine
from pretrain.provenance import provenance


class Saver:
    """Checkpoints of a run. All processes ask and tell the same; only the first one's writes.

    Leaving the `with` block waits for the last write.

    Args:
        config: of the run.
        folder: of its checkpoints.
        engine: whose state is saved.
        identity: of the run (see `identity`), stored in every checkpoint.
        clips_seen: where this process begins.
    Raises:
        StorageError: at the start, when there is no room for a checkpoint; later, from any method, when the last write
            failed. The checkpoints before it are intact.
    """

    def __init__(
        self, config: PretrainConfig, folder: str, engine: Engine, identity: dict[str, Any], clips_seen: int
    ) -> None:
        self.config, self.folder, self.engine = config, folder, engine
        self.state = {**identity, "provenance": provenance(engine.world)}
        self.saved = clips_seen
        self.timer = Timer(config.checkpoint_minutes * 60, engine.world, clips_seen)
        self.copies: tuple[dict[str, Tensor], ...] = ({}, {})
        self.thread = ThreadPoolExecutor(1, "checkpoint")
        self.writing: Future[Path] | None = None
        self.num_saved, self.held_s = 0, 0.0
        if engine.world.is_first:
            checkpoint.check_room(folder, checkpoint.size(*self._tensors()))

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.thread.shutdown()
        failed = self.writing and self.writing.exception()
        if error is not None and failed:
            error.add_note(f"Besides: {failed}")

    def is_due(self, clips_seen: int) -> bool:
        """Whether to save after this step: every `checkpoint_clips`, and `checkpoint_minutes` after the last time."""
        if self.writing is not None and self.writing.done():
            self._wait()
        at_mark = self.saved // self.config.checkpoint_clips != clips_seen // self.config.checkpoint_clips
        return self.timer.is_over(clips_seen) or at_mark

    def save(self, clips_seen: int, **state: Any) -> None:
        """Copy what is to be saved, with more `state` as JSON, and begin to write it."""
        began = time.monotonic()
        if self.engine.world.is_first:
            self._begin(clips_seen, {**self.state, **state})
        self.saved = clips_seen
        self.timer.restart()
        self.num_saved += 1
        self.held_s += time.monotonic() - began

    def close(self, clips_seen: int, **state: Any) -> None:
        """Save what is not saved yet, and wait until it is on disk."""
        if self.saved < clips_seen:
            self.save(clips_seen, **state)
        began = time.monotonic()
        self._wait()
        self.held_s += time.monotonic() - began

    def summary(self) -> str:
        """For the end of a run."""
        return f"{self.num_saved} checkpoint(s) held it up for {self.held_s:.1f} s"

    def _begin(self, clips_seen: int, state: dict[str, Any]) -> None:
        self._wait()
        for copies, tensors in zip(self.copies, self._tensors(), strict=True):
            copy_to_host(tensors, copies)
        keep = {"keep_last": self.config.keep_last, "keep_every": self.config.keep_every}
        self.writing = self.thread.submit(checkpoint.save, self.folder, clips_seen, *self.copies, **keep, **state)

    def _tensors(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self.engine.model.state_dict(), self.engine.optimizer_tensors()

    def _wait(self) -> None:
        """Until nothing is being written; raises what went wrong."""
        writing, self.writing = self.writing, None
        if writing is not None:
            writing.result()


class Timer:
    """Whether so many seconds have passed since the last restart, by the first process's clock.

    All processes must agree, so the clock is asked at steps that they all know: a few dozen times in a period, by the
    speed since it was asked last.

    Args:
        seconds: the period; 0 is never over.
        world: this process among its peers.
        clips_seen: where this process begins; the clock is asked after the first step.
    """

    ASKED = 30  # times in a period

    def __init__(self, seconds: float, world: World, clips_seen: int) -> None:
        self.seconds, self.world = seconds, world
        self.asked_at, self.ask_at = clips_seen, clips_seen + 1
        self.began = self.asked = time.monotonic()

    def restart(self) -> None:
        self.began = time.monotonic()

    def is_over(self, clips_seen: int) -> bool:
        """To be asked after each step, by all processes."""
        if self.seconds <= 0 or clips_seen < self.ask_at:
            return False
        now = time.monotonic()
        clips_per_s = (clips_seen - self.asked_at) / (now - self.asked)
        mine = [float(now - self.began >= self.seconds), clips_per_s * self.seconds / self.ASKED]
        is_over, clips_until_next = self.world.broadcast_(torch.tensor(mine, device=self.world.device)).tolist()
        self.asked, self.asked_at, self.ask_at = now, clips_seen, clips_seen + max(1, int(clips_until_next))
        return bool(is_over)


def copy_to_host(tensors: dict[str, Tensor], copies: dict[str, Tensor]) -> None:
    """Copy tensors into contiguous ones on the CPU, made at the first call (in pinned memory for a GPU's)."""
    for name, tensor in tensors.items():
        if name not in copies:
            copies[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        copies[name].copy_(tensor.detach(), non_blocking=True)
    if any(tensor.is_cuda for tensor in tensors.values()):
        torch.cuda.synchronize()


def identity(config: PretrainConfig, input_digests: dict[str, str]) -> dict[str, Any]:
    """What a run may resume from: a checkpoint of the same config and the same data."""
    return {"config_digest": configs.digest(config), "input_digests": input_digests}
