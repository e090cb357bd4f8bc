"""Clips of a video, averaged: ten and their centre crops in the paper (Section 4); exact for any number of processes.

Shape letters: B clips, T frames, K labels, D features, N videos. A video is one forward pass of its own, so the numbers
do not depend on which process takes it or on what else is in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from finetune.data import read_ahead
from finetune.losses import probabilities
from finetune.views import Choose, crops, uniform
from pipeline import progress
from pretrain import clips as clip_frames
from pretrain.distributed import World
from pretrain.models import VideoResNet
from pretrain.reading import FrameReader
from pretrain.samples import SampleError
from pretrain.transforms import normalise

Compute = Callable[[Tensor], Tensor]  # clips [B, 3, T, H, W] → one row per clip [B, ...] or one for the video [...]


@dataclass(frozen=True)
class Outputs:
    """What was computed for each video that could be decoded, in the order asked for, on every process."""

    samples: np.ndarray
    """int64 [N], sample numbers."""
    values: np.ndarray
    """float32 [N, ...]."""
    undecodable: dict[int, str]
    """Sample number → reason, for the others."""


def video_scores(
    model: VideoResNet,
    reader: FrameReader,
    samples: Sequence[int],
    num_clips: int,
    world: World,
    precision: str = "fp32",
    multi_label: bool = False,
    num_crops: int = 1,
    choose: Choose = uniform,
) -> Outputs:
    """Probabilities of each video, float32 [N, K]: mean over the crops of its clips of the softmax; where `multi_label`, of
    the sigmoids.

    The network is fully convolutional: at crops beyond the head's 7×7 map they are also averaged over positions; at
    112×112 this is the plain head. `num_crops` and `choose` are those of `video_clips`.
    """

    def score(clips_BCTHW: Tensor) -> Tensor:
        return probabilities(model.forward_grid(clips_BCTHW).float(), multi_label).mean(dim=(0, 2, 3))

    return for_each_video(score, model, reader, samples, num_clips, world, precision, num_crops, choose)


def for_each_video(
    compute: Compute,
    model: VideoResNet,
    reader: FrameReader,
    samples: Sequence[int],
    num_clips: int,
    world: World,
    precision: str,
    num_crops: int = 1,
    choose: Choose = uniform,
) -> Outputs:
    """`compute` on the clips of every video; rank r takes samples r, r + size, …, and all get all results."""
    mine = samples[world.rank :: world.size]

    def read(sample: int) -> np.ndarray:
        return video_clips(reader, sample, num_clips, num_crops, choose)

    results = each_video(compute, model, read, mine, world, precision)
    return _collect(samples, list(progress.bar(results, desc="videos", total=len(mine), unit="video")), world)


def each_video(
    compute: Compute,
    model: VideoResNet,
    read: Callable[[int], np.ndarray],
    samples: Iterable[int],
    world: World,
    precision: str,
) -> Iterator[np.ndarray | str]:
    """`compute` on the clips that `read` gives of each sample, or the reason why there are none; in order, on this process.

    Videos are read ahead by threads, and a result is fetched from the device after the next video was sent to it.
    """

    def attempt(sample: int) -> Tensor | str:
        try:
            clips_BTHWC = torch.from_numpy(read(sample))
        except SampleError as error:
            return getattr(error.__cause__, "reason", "unreadable")
        return clips_BTHWC.pin_memory() if world.device.type == "cuda" else clips_BTHWC

    def forward(clips_BTHWC: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast(world.device.type, torch.bfloat16, enabled=precision == "bf16"):
            return compute(normalise(clips_BTHWC.to(world.device, non_blocking=True)))

    model.eval()
    torch.backends.cudnn.allow_tf32 = precision == "tf32"  # as in training; by itself a GPU's convolutions would
    sent: Tensor | str | None = None
    for clips_or_reason in read_ahead(attempt, samples):
        ready, sent = sent, clips_or_reason if isinstance(clips_or_reason, str) else forward(clips_or_reason)
        if ready is not None:
            yield _fetched(ready)
    if sent is not None:
        yield _fetched(sent)


def _fetched(result: Tensor | str) -> np.ndarray | str:
    return result if isinstance(result, str) else result.cpu().numpy()


def video_clips(
    reader: FrameReader, sample: int, num_clips: int, num_crops: int = 1, choose: Choose = uniform
) -> np.ndarray:
    """Crops of clips of a video, uint8 [num_clips · num_crops, T, h, w, 3]; the video is decoded once.

    Args:
        num_clips: of the video.
        num_crops: of each clip, 1 or 3 (`views.crops`), of `reader.clip.crop_px`.
        choose: where the clips begin.
    Raises: SampleError when it cannot be read.
    """
    clip, num_frames, step = reader.clip, int(reader.samples.columns["num_frames"][sample]), reader.frame_step(sample)
    starts = choose(reader, sample, num_clips)
    wanted = np.array([clip_frames.clip_frames(start, clip.length, step, num_frames) for start in starts])
    decoded, rows = np.unique(wanted, return_inverse=True)
    windows = crops(reader.read(sample, decoded.tolist()), clip.crop_px, num_crops)
    clips = np.stack([window[rows.reshape(wanted.shape)] for window in windows], axis=1)
    return clips.reshape(-1, *clips.shape[2:])


def _collect(samples: Sequence[int], mine: list[np.ndarray | str], world: World) -> Outputs:
    """Put the ranks' results back into one order."""
    parts = [mine]
    if world.size > 1:
        parts = [None] * world.size
        dist.all_gather_object(parts, mine)
    merged = [parts[place % world.size][place // world.size] for place in range(len(samples))]
    results = dict(zip(map(int, samples), merged, strict=True))
    scored = {sample: value for sample, value in results.items() if not isinstance(value, str)}
    return Outputs(
        samples=np.array(list(scored), dtype=np.int64),
        values=np.stack(list(scored.values())) if scored else np.empty((0, 0), np.float32),
        undecodable={sample: reason for sample, reason in results.items() if isinstance(reason, str)},
    )
