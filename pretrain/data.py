"""Clips at positions of the sample order (`pretrain.order`): read, cropped, in microbatches, on their way to the device.

Whatever is random about a clip is a draw of (seed, position), so loader workers, processes and restarts cannot change it.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline import video
from pipeline.config import ClipConfig
from pretrain import clips, draws, transforms
from pretrain.order import SampleOrder
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


class FrameReader:
    """Frames of stored videos at a clip config's size; may keep whole decoded videos in memory.

    The memory is filled once and not replaced: videos come in random order, all equally often, so no other choice of
    what to keep hits more often.
    """

    def __init__(self, samples: Samples, clip: ClipConfig, cache_mb: int = 0) -> None:
        self.samples, self.clip = samples, clip
        self.cache: dict[int, np.ndarray] = {}
        self.cache_room = cache_mb << 20

    def read(self, sample: int, frames: list[int]) -> np.ndarray:
        """uint8 [T, H, W, 3] of the frame numbers asked for; SampleError names a sample that cannot be read."""
        if sample in self.cache:
            return self.cache[sample][frames]
        size_hw = self.frame_size(sample)
        at = self.samples.columns
        first, num_frames, in_file = (int(at[name][sample]) for name in ("first_frame", "num_frames", "stored_frames"))
        try:
            data = self.samples.read(sample)
            if num_frames * size_hw[0] * size_hw[1] * 3 > self.cache_room:
                return video.read_clip(data, [first + frame for frame in frames], size_hw)
            whole = video.read_video(data, size_hw)
            if len(whole) != in_file:
                raise video.VideoError("decode_error", f"{len(whole)} frames, the index says {in_file}")
            whole = whole[first : first + num_frames].copy() if num_frames < in_file else whole
        except (video.VideoError, OSError) as error:
            raise SampleError(f"cannot read {self.samples.describe(sample)}: {error}") from error
        self.cache[sample] = whole
        self.cache_room -= whole.nbytes
        return whole[frames]

    def frame_size(self, sample: int) -> tuple[int, int]:
        """Height and width that the frames of a video are scaled to."""
        if not self.clip.short_edge:
            return self.clip.size_hw
        at = self.samples.columns
        return video.short_side_size(int(at["height"][sample]), int(at["width"][sample]), self.clip.size_hw[0])

    def frame_step(self, sample: int) -> float:
        """Stored frames between two frames of a clip."""
        return clips.frame_step(self.clip.stride, self.clip.fps, float(self.samples.columns["fps"][sample]))


class TrainingClips(Dataset):
    """Map-style: position → clip; its start, crop and label are draws of (seed, position).

    Args:
        samples, clip, seed: what to read, in which shape, in the order of which seed.
        cache_mb: memory for decoded videos.
        shuffle_shards: shards that are shuffled together, 0 for all.
        replace: another sample takes the place of one that cannot be read; without it SampleError is raised.
    """

    def __init__(
        self,
        samples: Samples,
        clip: ClipConfig,
        seed: int,
        cache_mb: int = 0,
        shuffle_shards: int = 0,
        replace: bool = False,
    ) -> None:
        self.samples, self.clip, self.seed = samples, clip, seed
        self.order = SampleOrder(samples.columns["weight"], seed, samples.columns["shard"], shuffle_shards)
        self.reader = FrameReader(samples, clip, cache_mb)
        self.replaces = replace

    def __getitem__(self, position: int) -> tuple[np.ndarray, int]:
        """(uint8 [T, crop_px, crop_px, 3], label id)."""
        return self.read(position)[1:3]

    def __getitems__(self, positions: list[int]) -> Batch:
        """A microbatch, filled in place."""
        side = self.clip.crop_px
        pixels = np.empty((len(positions), self.clip.length, side, side, 3), np.uint8)
        labels, samples, replaced = np.empty(len(positions), np.int64), [], []
        for row, position in enumerate(positions):
            sample, pixels[row], labels[row], errors = self.read(position)
            samples.append(sample)
            replaced += errors[:1]
        return Batch(torch.from_numpy(pixels), torch.from_numpy(labels), torch.tensor(positions), samples, replaced)

    def read(self, position: int) -> tuple[int, np.ndarray, int, list[str]]:
        """The sample at a position, its clip, its label, and the messages of samples that could not be read instead.

        A replacement is a function of the position and of which samples are unreadable, nothing else.

        Raises: SampleError for a sample that cannot be read, or for one and all that were drawn in its place.
        """
        errors: list[SampleError] = []
        for attempt in range(ATTEMPTS if self.replaces else 1):
            sample = self.order.instead(position, attempt) if attempt else self.order(position)
            try:
                frames = self.reader.read(sample, self.frame_numbers(sample, position))
            except SampleError as error:
                errors.append(error)
            else:
                crop = transforms.random_crop(frames, self.clip.crop_px, self.seed, position)
                return sample, crop, self.label(sample, position), [str(error) for error in errors]
        if self.replaces:
            raise SampleError(f"{errors[0]}; nor can the {ATTEMPTS - 1} that were drawn in its place")
        raise errors[0]

    def frame_numbers(self, sample: int, position: int) -> list[int]:
        """Temporal jitter: the clip starts anywhere it fits."""
        step, num_frames = self.reader.frame_step(sample), int(self.samples.columns["num_frames"][sample])
        u = float(draws.uniform(self.seed, "clip start", position))
        start = clips.random_start(u, num_frames, self.clip.length, step)
        return clips.clip_frames(start, self.clip.length, step, num_frames)

    def label(self, sample: int, position: int) -> int:
        """One of the video's labels, all equally likely."""
        choices = self.samples.labels_of(sample)
        return int(choices[draws.below(len(choices), self.seed, "label", position)])


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
