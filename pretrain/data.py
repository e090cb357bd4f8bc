"""Sample number = f(seed, position): the order of training, and the clips at positions of it.

One pass over a dataset has as many slots as its videos' weights add up to (square-root sampling); a keyed permutation,
another for each pass, says which slot a position takes, and a cumulative table says whose slot it is. So the order
needs no state: a restart needs the number of clips seen, and loader workers or processes cannot change it.
"""

import functools
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
from pretrain.samples import SampleError, Samples
from pretrain.virtual_workers import VirtualWorkers


class SampleOrder:
    """position (0, 1, 2, …, without end) → sample number.

    Args:
        weights: float [N], slots of each video in a pass; the fraction is rounded by a draw that `seed` fixes.
        seed: of the recipe.
    """

    def __init__(self, weights: np.ndarray, seed: int) -> None:
        self.seed = seed
        slots = np.floor(weights + draws.uniform(seed, "slots", np.arange(len(weights)))).astype(np.int64)
        self.slot_ends = np.cumsum(slots)
        self.num_slots = int(self.slot_ends[-1])
        self._permutation = functools.lru_cache(maxsize=2)(
            lambda number: draws.Permutation(self.num_slots, seed, f"pass {number}")
        )

    def __call__(self, position: int) -> int:
        number, within = divmod(position, self.num_slots)
        slot = self._permutation(number)(within)
        return int(np.searchsorted(self.slot_ends, slot, side="right"))


class Batch(NamedTuple):
    """Clips of consecutive positions, cropped, not yet flipped or normalised."""

    clips_BTHWC: Tensor
    """uint8 [B, T, crop_px, crop_px, 3]."""
    labels: Tensor
    """int64 [B], for each clip one of its video's labels, drawn."""
    positions: Tensor
    """int64 [B]."""


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
    """Map-style: position → clip; its start, crop and label are draws of (seed, position)."""

    def __init__(self, samples: Samples, clip: ClipConfig, seed: int, cache_mb: int = 0) -> None:
        self.samples, self.clip, self.seed = samples, clip, seed
        self.order = SampleOrder(samples.columns["weight"], seed)
        self.reader = FrameReader(samples, clip, cache_mb)

    def __getitem__(self, position: int) -> tuple[np.ndarray, int]:
        """(uint8 [T, crop_px, crop_px, 3], label id)."""
        sample = self.order(position)
        frames = self.reader.read(sample, self.frame_numbers(sample, position))
        return transforms.random_crop(frames, self.clip.crop_px, self.seed, position), self.label(sample, position)

    def __getitems__(self, positions: list[int]) -> Batch:
        """A microbatch, filled in place."""
        side = self.clip.crop_px
        pixels = np.empty((len(positions), self.clip.length, side, side, 3), np.uint8)
        labels = np.empty(len(positions), np.int64)
        for row, position in enumerate(positions):
            pixels[row], labels[row] = self[position]
        return Batch(torch.from_numpy(pixels), torch.from_numpy(labels), torch.tensor(positions))

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


def microbatches(dataset: Dataset, sampler: Sampler, loader_workers: int = 0, pin: bool = False) -> Iterator[Batch]:
    """`Batch`es in the sampler's order, read ahead by `loader_workers` processes (0: read here, when asked for)."""
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=loader_workers, collate_fn=_as_is, pin_memory=pin)
    return iter(loader)


def _as_is(batch: Batch) -> Batch:
    return batch


class Share:
    """A rank's microbatches of one step, ready for the network; remembers positions and the time spent waiting."""

    def __init__(self, batches: Iterator[Batch], seed: int, device: torch.device) -> None:
        self.batches, self.seed, self.device = batches, seed, device
        self.positions: list[list[int]] = []
        self.waited_s = 0.0

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while (batch := self._next()) is not None:
            self.positions.append(batch.positions.tolist())
            clips_BTHWC = batch.clips_BTHWC.to(self.device, non_blocking=True)
            flipped = transforms.random_flip(clips_BTHWC, self.seed, batch.positions.numpy())
            yield transforms.normalise(flipped), batch.labels.to(self.device, non_blocking=True)

    def _next(self) -> Batch | None:
        asked = time.perf_counter()
        batch = next(self.batches, None)
        self.waited_s += time.perf_counter() - asked
        return batch
