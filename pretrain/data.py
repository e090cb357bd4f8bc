"""Clips at positions of the sample order (`pretrain.order`): read, cropped, in microbatches, on their way to the device.

Whatever is random about a clip is a draw of (seed, position), so loader workers, processes and restarts cannot change it.
"""

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from pipeline.config import ClipConfig
from pretrain import clips, draws, transforms
from pretrain.order import SampleOrder
from pretrain.reading import FrameReader
from pretrain.samples import SampleError, Samples
from pretrain.virtual_workers import VirtualWorkers

UNREADABLE = "Restore its shard, or go on without what cannot be read: --on-unreadable replace"
ATTEMPTS = 32
"""Samples tried for one position. If half of all are unreadable, all of these are once in four thousand million times."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Batch(NamedTuple):
    """Clips of consecutive positions, cropped, not yet flipped or normalised."""

    clips_BTHWC: Tensor
    """uint8 [B, T, crop_px, crop_px, 3]."""
    labels: Tensor
    """int64 [B], for each clip one of its video's labels, drawn."""
    positions: Tensor
    """int64 [B]."""
    samples: list[int]
    """[B], the sample that each clip is of."""
    replaced: list[str]
    """Why samples that the order names were replaced by others: an entry for each of these clips."""


class TrainingClips(Dataset):
    """Map-style: position → clip; its start, crop and label are draws of (seed, position).

    Args:
        samples, clip, seed: what to read, in which shape, in the order of which seed.
        cache_mb: memory for decoded videos.
        shuffle_shards: shards that are shuffled together, 0 for all.
        replace: another sample takes the place of one that cannot be read; without it SampleError is raised.
        reader: of the same samples and clips, where several share one, or it is to be more than the plain one.
    """

    def __init__(
        self,
        samples: Samples,
        clip: ClipConfig,
        seed: int,
        cache_mb: int = 0,
        shuffle_shards: int = 0,
        replace: bool = False,
        reader: FrameReader | None = None,
    ) -> None:
        self.samples, self.clip, self.seed = samples, clip, seed
        self.order = SampleOrder(samples.columns["weight"], seed, samples.columns["shard"], shuffle_shards)
        self.reader = reader or FrameReader(samples, clip, cache_mb)
        self.replaces = replace

    def __getitem__(self, position: int) -> tuple[np.ndarray, int]:
        """(uint8 [T, crop_px, crop_px, 3], label id)."""
        side = self.clip.crop_px
        pixels = np.empty((self.clip.length, side, side, 3), np.uint8)
        _, label, _ = self.read(position, pixels)
        return pixels, label

    def __getitems__(self, positions: list[int]) -> Batch:
        """A microbatch, filled in place; in a loader process, in memory that the training process sees too."""
        side = self.clip.crop_px
        pixels = _shareable((len(positions), self.clip.length, side, side, 3))
        labels, samples, replaced = [], [], []
        for clip_THWC, position in zip(pixels.numpy(), positions, strict=True):
            sample, label, errors = self.read(position, clip_THWC)
            labels.append(label)
            samples.append(sample)
            replaced += errors[:1]
        return Batch(pixels, torch.tensor(labels), torch.tensor(positions), samples, replaced)

    def read(self, position: int, out: np.ndarray) -> tuple[int, int, list[str]]:
        """Write a clip to `out`, uint8 [T, crop_px, crop_px, 3].

        A replacement is a function of the position and of which samples are unreadable, nothing else.

        Returns: its sample, its label, and the messages of samples that could not be read instead.
        Raises: SampleError for a sample that cannot be read, or for one and all that were drawn in its place.
        """
        errors: list[SampleError] = []
        for attempt in range(ATTEMPTS if self.replaces else 1):
            sample = self.order.instead(position, attempt) if attempt else self.order(position)
            window = transforms.random_window(self.reader.frame_size(sample), self.clip.crop_px, self.seed, position)
            try:
                self.reader.read(sample, self.frame_numbers(sample, position), window, out, position)
            except SampleError as error:
                errors.append(error)
            else:
                return sample, self.label(sample, position), [str(error) for error in errors]
        if self.replaces:
            raise SampleError(f"{errors[0]}; nor can the {ATTEMPTS - 1} that were drawn in its place")
        raise errors[0]

    def frame_numbers(self, sample: int, position: int) -> list[int]:
        """Temporal jitter: the clip starts anywhere it fits."""
        step, num_frames = self.reader.frame_step(sample), self.samples.columns["num_frames"].item(sample)
        u = draws.uniform_at(self.seed, "clip start", position)
        start = clips.random_start(u, num_frames, self.clip.length, step)
        return clips.clip_frames(start, self.clip.length, step, num_frames)

    def label(self, sample: int, position: int) -> int:
        """One of the video's labels, all equally likely."""
        choices = self.samples.labels_of(sample)
        return int(choices[draws.below_at(len(choices), self.seed, "label", position)])


def _shareable(shape: tuple[int, ...]) -> Tensor:
    """uint8, not initialised; in shared memory when this is a loader process, whose batches are not copied then."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    storage = torch.UntypedStorage._new_shared(math.prod(shape))
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)


class MicrobatchSampler(Sampler):
    """Positions of a rank's microbatches, step after step; no state but where to begin."""

    def __init__(self, workers: VirtualWorkers, first_step: int, num_steps: int) -> None:
        self.workers, self.steps = workers, range(first_step, num_steps)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            for positions in self.workers.positions(step):
                yield list(positions)

    def __len__(self) -> int:
        return len(self.steps) * len(self.workers.mine)


def microbatches(
    dataset: TrainingClips, sampler: Sampler, loader_workers: int = 0, pin: bool = False
) -> Iterator[Batch]:
    """`Batch`es in the sampler's order, read ahead by `loader_workers` processes (0: read here, when asked for).

    Raises: SampleError, with the message it had where it was raised.
    """
    loader = DataLoader(
        _Told(dataset),
        batch_sampler=sampler,
        num_workers=loader_workers,
        collate_fn=_as_is,
        pin_memory=pin,
        worker_init_fn=_outlive_signals,
    )
    for batch in loader:
        if isinstance(batch, SampleError):
            if not dataset.replaces:
                batch.add_note(UNREADABLE)
            raise batch
        yield batch


def _outlive_signals(_: int) -> None:
    """In a loader process: obey signals of the training process only.

    Ctrl-C and many schedulers tell whole groups of processes to stop; who trains still needs its loaders to finish a step.
    """
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        threading.Thread(target=_obey_parent, daemon=True).start()


def _obey_parent() -> None:
    while signal.sigwaitinfo(STOP_SIGNALS).si_pid != os.getppid():
        pass
    os._exit(0)


class _Told(Dataset):
    """Hands a SampleError on as a value: a loader process would wrap it into its traceback."""

    def __init__(self, dataset: TrainingClips) -> None:
        self.dataset = dataset

    def __getitems__(self, positions: list[int]) -> Batch | SampleError:
        try:
            return self.dataset.__getitems__(positions)
        except SampleError as error:
            return error


def _as_is(batch: Batch | SampleError) -> Batch | SampleError:
    return batch


class Share:
    """A rank's microbatches of one step, ready for the network; remembers what was in them and the time spent waiting."""

    def __init__(self, batches: Iterator[Batch], seed: int, device: torch.device) -> None:
        self.batches, self.seed, self.device = batches, seed, device
        self.positions: list[list[int]] = []
        self.samples: list[list[int]] = []
        self.replaced: list[str] = []
        self.waited_s = 0.0

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while (batch := self._next()) is not None:
            self.positions.append(batch.positions.tolist())
            self.samples.append(batch.samples)
            self.replaced += batch.replaced
            clips_BTHWC = batch.clips_BTHWC.to(self.device, non_blocking=True)
            flipped = transforms.random_flip(clips_BTHWC, self.seed, batch.positions.numpy())
            yield transforms.normalise(flipped), batch.labels.to(self.device, non_blocking=True)

    def _next(self) -> Batch | None:
        asked = time.perf_counter()
        batch = next(self.batches, None)
        self.waited_s += time.perf_counter() - asked
        return batch
