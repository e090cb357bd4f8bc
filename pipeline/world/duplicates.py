"""Copies of target videos, planted among the posts: what a transfer study must find and leave out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from pipeline.world.config import WorldConfig
from pipeline.world.encode import resized
from pipeline.world.randomness import Purpose, generator
from pipeline.world.render import VideoPlan, plan_video, render_frames
from pipeline.world.targets import describe_target

TRANSFORMS = ("reencode", "rescale", "crop", "mirror", "embed", "trim")
"""Coarser quality; another size; 95 % of the picture; left for right; inside a longer video; without its beginning."""

_HOST_S = (6.0, 12.0)
"""Length of the unrelated video around an embedded copy, in seconds."""


@dataclass(frozen=True)
class Duplicate:
    """How one planted copy is made."""

    target_index: int
    transform: str
    height: int
    width: int
    fps: float
    num_frames: int
    first_frame: int
    """The copy begins here, in frames of the planted video."""
    num_copied: int
    """Frames of the copy."""
    crop_left_px: int
    crop_top_px: int
    host: VideoPlan | None
    """The unrelated video around an embedded copy, in the size and frame rate of the copy."""
    crf: int


def plan_duplicate(config: WorldConfig, index: int) -> Duplicate:
    """Decide how the video at `index` copies a target video."""
    rng = generator(config.seed, Purpose.DUPLICATE, index)
    target = describe_target(config, int(rng.integers(config.num_targets))).plan
    transform = TRANSFORMS[rng.integers(len(TRANSFORMS))]
    scale, cut, crop_x, crop_y, where = rng.uniform(0.7, 1.4), rng.uniform(0.1, 0.3), *rng.random(3)
    height, width, num_frames = target.height, target.width, target.num_frames
    first_frame, num_copied, host = 0, target.num_frames, None
    if transform == "rescale":
        height, width = int(height * scale / 2) * 2, int(width * scale / 2) * 2
    elif transform == "crop":
        height, width = int(height * 0.95 / 2) * 2, int(width * 0.95 / 2) * 2
    elif transform == "trim":
        num_copied = num_frames = num_frames - int(cut * num_frames)
    elif transform == "embed":
        host = _plan_host(config, index, target, rng)
        first_frame = int(where * host.num_frames)
        num_frames = host.num_frames + num_copied
    return Duplicate(
        target.index, transform, height, width, target.fps, num_frames, first_frame, num_copied,
        crop_left_px=int(crop_x * (target.width - width + 1)), crop_top_px=int(crop_y * (target.height - height + 1)),
        host=host, crf=32 if transform == "reencode" else int(rng.integers(20, 29)),
    )  # fmt: skip


def _plan_host(config: WorldConfig, index: int, target: VideoPlan, rng: np.random.Generator) -> VideoPlan:
    verb, noun = config.source_labels[rng.integers(len(config.source_labels))]
    plan = plan_video(config, Purpose.HOST_VIDEO, index, verb, noun, duration_s=_HOST_S)
    seconds = plan.duration_s
    return replace(plan, height=target.height, width=target.width, fps=target.fps, num_frames=int(seconds * target.fps))


def duplicate_frames(config: WorldConfig, duplicate: Duplicate) -> Iterable[np.ndarray]:
    """The frames of a planted copy, each uint8 [height, width, 3]."""
    plan = describe_target(config, duplicate.target_index).plan
    copied = list(render_frames(config, plan))[-duplicate.num_copied :]
    if duplicate.transform == "mirror":
        return (frame[:, ::-1] for frame in copied)
    if duplicate.transform == "rescale":
        return resized(copied, duplicate.height, duplicate.width)
    if duplicate.transform == "crop":
        top, left = duplicate.crop_top_px, duplicate.crop_left_px
        return (frame[top : top + duplicate.height, left : left + duplicate.width] for frame in copied)
    if duplicate.host is not None:
        host = list(render_frames(config, duplicate.host))
        return host[: duplicate.first_frame] + copied + host[duplicate.first_frame :]
    return copied
