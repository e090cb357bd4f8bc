"""Activation maps over a whole video, as pictures: a strip of frames with times (PNG) and the video itself (MP4).

Shape letters: L explained labels, F frames of the video, T H W places of a layer's output, h w pixels of a frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from finetune import activation_maps, evaluate
from finetune.views import crops
from pipeline.video import Encoder
from pretrain.clips import span, uniform_starts
from pretrain.models import VideoResNet
from pretrain.reading import FrameReader
from pretrain.transforms import normalise

MAX_CLIPS = 64  # of a video; a longer one has gaps between them
CLIPS_AT_A_TIME = 8
FRAMES_AT_A_TIME = 32
MIN_SHOWN_PX = 224
HEAT = np.array([[20, 20, 120], [0, 130, 200], [60, 190, 90], [250, 220, 50], [220, 30, 30]], np.float32)
HEAT_LEVELS = 1024
OPACITY = 0.65


@dataclass(frozen=True)
class VideoMaps:
    """What speaks for some labels in one video."""

    frames: np.ndarray
    """uint8 [F, h, w, 3], what the network sees of each frame."""
    fps: float
    labels: tuple[str, ...]
    """[L]"""
    evidence: np.ndarray
    """float32 [L, F, H, W]: each frame's share in the maps of the clips that hold it."""
    probabilities: np.ndarray
    """float32 [L, F], of the clips that hold the frame."""

    @property
    def peak_s(self) -> float:
        """The moment with most evidence for the first label."""
        return float(self.evidence[0].sum(axis=(1, 2)).argmax() / self.fps)


def video_maps(
    model: VideoResNet,
    reader: FrameReader,
    sample: int,
    labels: Sequence[int],
    names: Sequence[str],
    layer: str,
    device: torch.device,
) -> VideoMaps:
    """Maps of clips laid end to end over the whole video, `names` of `labels`.

    Raises: SampleError when it cannot be read.
    """
    num_frames, step = int(reader.samples.columns["num_frames"][sample]), reader.frame_step(sample)
    length = span(reader.clip.length, step)
    num_clips = min(MAX_CLIPS, math.ceil(num_frames / length))
    starts = uniform_starts(num_frames, reader.clip.length, num_clips, step)
    clips = torch.from_numpy(evaluate.video_clips(reader, sample, num_clips))
    found = [
        activation_maps.maps_of(model, normalise(part.to(device)), labels, layer)
        for part in clips.split(CLIPS_AT_A_TIME)
    ]
    maps, logits = (torch.cat(parts).float().cpu() for parts in zip(*found, strict=True))
    probabilities = logits.softmax(dim=1)[:, list(labels)]
    whole = reader.read(sample, list(range(num_frames)))
    return VideoMaps(
        frames=crops(whole, reader.clip.crop_px, 1)[0],
        fps=float(reader.samples.columns["fps"][sample]),
        labels=tuple(names),
        evidence=over_frames(maps, starts, length, num_frames).numpy(),
        probabilities=over_frames(probabilities[:, :, None, None, None], starts, length, num_frames)[..., 0, 0].numpy(),
    )


def over_frames(maps_BLTHW: Tensor, starts: Sequence[int], length: int, num_frames: int) -> Tensor:
    """Maps of clips → [L, F, H, W]: the mean over the clips that hold a frame, between two of a map's moments their blend.

    A frame that no clip holds takes the nearest one that is held; places keep their units.

    Args:
        starts: first frames of the clips.
        length: frames from the first to the last of a clip.
    """
    num_labels, height, width = maps_BLTHW.shape[1], *maps_BLTHW.shape[3:]
    total = torch.zeros(num_labels, num_frames, height, width)
    times = torch.zeros(num_frames)
    for maps_LTHW, start in zip(maps_BLTHW, starts, strict=True):
        flat = maps_LTHW.movedim(1, -1).flatten(1, 2)  # [L, H · W, T]
        blended = functional.interpolate(flat, size=length, mode="linear").unflatten(1, (height, width)).movedim(-1, 1)
        held = slice(start, min(start + length, num_frames))
        total[:, held] += blended[:, : held.stop - start]
        times[held] += 1
    covered = torch.nonzero(times).flatten()
    nearest = (covered[None] - torch.arange(num_frames)[:, None]).abs().argmin(dim=1)
    return (total[:, covered] / times[covered, None, None])[:, nearest]


# -------------------------------------------------------------------------------------------------------- pictures


def shown(maps: VideoMaps, frames: Sequence[int]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Some frames, uint8 [n, h', w', 3] with even sides, and for each label the same under its evidence.

    Evidence against a label is left out; the most for any label anywhere in the video is the hottest colour in all.
    """
    scale = max(1, math.ceil(MIN_SHOWN_PX / min(maps.frames.shape[1:3])))
    height, width = (side * scale - side * scale % 2 for side in maps.frames.shape[1:3])
    plain = _resized(torch.from_numpy(maps.frames[list(frames)]).movedim(3, 1), height, width).movedim(1, 3).numpy()
    most = max(float(maps.evidence.max()), 1e-12)
    covered = []
    for evidence in maps.evidence[:, list(frames)]:
        heat = _resized(torch.from_numpy(evidence / most).clamp_(min=0)[:, None], height, width)[:, 0].numpy()
        covered.append(painted(plain, heat))
    return plain, covered


def _resized(pictures_NCHW: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(pictures_NCHW, (height, width), mode="bilinear")


def _palette() -> tuple[np.ndarray, np.ndarray]:
    """For heat in `HEAT_LEVELS` equal steps: the share of the picture that stays, float32 [levels, 1], and the paint that is
    added, float32 [levels, 3]."""
    heat = np.linspace(0, 1, HEAT_LEVELS)
    places = np.linspace(0, 1, len(HEAT))
    colours = np.stack([np.interp(heat, places, HEAT[:, channel]) for channel in range(3)], axis=-1)
    opacity = OPACITY * np.sqrt(heat)[:, None]
    return (1 - opacity).astype(np.float32), (colours * opacity).astype(np.float32)


STAYS, PAINT = _palette()


def painted(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Colours over pictures, the more the hotter.

    Args:
        pixels: uint8 or float [n, h, w, 3] of 0 to 255.
        heat: float [n, h, w] of 0 to 1.

    Returns: uint8 [n, h, w, 3].
    """
    levels = (heat * (HEAT_LEVELS - 1) + 0.5).astype(np.int32)
    mixed = pixels * STAYS.take(levels, axis=0)
    mixed += PAINT.take(levels, axis=0)
    return (mixed + 0.5).astype(np.uint8)


def strip(maps: VideoMaps, num_frames: int, sheets: Any) -> bytes:
    """A PNG: frames spread over the video with their times, below them each label's evidence and probability.

    `sheets` is `pipeline.contact_sheet`, which needs Pillow.
    """
    total = len(maps.frames)
    frames = sorted({(2 * i + 1) * total // (2 * num_frames) for i in range(num_frames)})
    plain, covered = shown(maps, frames)
    cells = [sheets.Strip(p[None], (f"{frame / maps.fps:.2f} s",)) for p, frame in zip(plain, frames, strict=True)]
    for label, pictures, probabilities in zip(maps.labels, covered, maps.probabilities, strict=True):
        cells += [
            sheets.Strip(picture[None], (f"{probabilities[frame]:.2f} {label}",))
            for picture, frame in zip(pictures, frames, strict=True)
        ]
    height, width = plain.shape[1:3]
    frame_px = (round(144 * width / height), 144)
    return sheets.contact_sheet(cells, columns=len(frames), frames_per_strip=1, frame_px=frame_px)


def film(maps: VideoMaps) -> bytes:
    """An MP4 of the video, beside it the same under each label's evidence."""
    encoder, total = None, len(maps.frames)
    for begin in range(0, total, FRAMES_AT_A_TIME):
        plain, covered = shown(maps, range(begin, min(begin + FRAMES_AT_A_TIME, total)))
        for picture in np.concatenate([plain, *covered], axis=2):
            encoder = encoder or Encoder(*picture.shape[:2], maps.fps)
            encoder.write_rgb(picture)
    return encoder.finish()
