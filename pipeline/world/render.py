"""One video: a plan of a few numbers (`plan_video`), and its frames (`render_frames`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.world.config import WorldConfig
from pipeline.world.motion import poses
from pipeline.world.objects import paint, sprite
from pipeline.world.randomness import Purpose, generator
from pipeline.world.scenes import SOURCE_BACKGROUNDS, TARGET_BACKGROUNDS, camera_path, make_scene

_PLAN, _SCENE, _MOTION, _CAMERA, _OTHER_SCENE = range(5)
"""Independent random numbers of one video (`part` of the generator)."""


@dataclass(frozen=True)
class VideoPlan:
    """All that is decided about a video before a pixel is drawn."""

    purpose: Purpose
    index: int
    verb: str
    noun: str
    height: int
    width: int
    fps: float
    num_frames: int
    start_s: float
    """The action begins."""
    end_s: float
    """The action ends."""
    rest: str
    """Outside the action: the object is `still`, `absent`, or the video shows an `other_scene`."""
    background: str
    period_s: float
    """One cycle of the motion."""
    crf: int
    """x264 quality of the upload."""

    @property
    def duration_s(self) -> float:
        return self.num_frames / self.fps


def _even(pixels: float) -> int:
    return max(round(pixels / 2) * 2, 16)


def plan_video(
    config: WorldConfig,
    purpose: Purpose,
    index: int,
    verb: str,
    noun: str,
    duration_s: tuple[float, float] | None = None,
) -> VideoPlan:
    """Decide everything about one video. `duration_s` (lowest, highest) overrides how long it may be.

    The same numbers are drawn whatever the verb and noun, so neither has a say in size, rate or length.
    """
    rng = generator(config.seed, purpose, index, _PLAN)
    short_side = rng.integers(config.short_side_px[0], config.short_side_px[1] + 1)
    aspect = config.aspect_ratios[rng.integers(len(config.aspect_ratios))]
    fps = float(config.frame_rates[rng.integers(len(config.frame_rates))])
    is_long, length = rng.random() < config.long_rate, rng.random()
    low, high = duration_s or (config.long_duration_s if is_long else config.duration_s)
    if duration_s is None and is_long:
        seconds = low * (high / low) ** length
    else:
        seconds = low + (high - low) * length**1.2  # short ones are commoner
    num_frames = max(round(seconds * fps), 2)
    seconds = num_frames / fps
    share, where = rng.uniform(*config.long_action_share), rng.random()
    action_s = seconds if seconds < config.long_duration_s[0] else max(share * seconds, 1.5)
    start_s = where * (seconds - action_s)
    backgrounds = TARGET_BACKGROUNDS if purpose == Purpose.TARGET_VIDEO else SOURCE_BACKGROUNDS
    return VideoPlan(
        purpose=purpose, index=index, verb=verb, noun=noun,
        height=_even(short_side * max(1.0, 1 / aspect)), width=_even(short_side * max(1.0, aspect)),
        fps=fps, num_frames=num_frames, start_s=start_s, end_s=start_s + action_s,
        rest=("still", "absent", "other_scene")[rng.integers(3)],
        background=backgrounds[rng.integers(len(backgrounds))],
        period_s=rng.uniform(*config.motion_period_s),
        crf=int(rng.integers(20, 29)),
    )  # fmt: skip


def render_frames(config: WorldConfig, plan: VideoPlan) -> Iterator[np.ndarray]:
    """The frames of a planned video, each uint8 [height, width, 3]."""

    def numbers(part: int) -> np.random.Generator:
        return generator(config.seed, plan.purpose, plan.index, part)

    short_side = min(plan.height, plan.width)
    time_s = np.arange(plan.num_frames) / plan.fps
    scene = make_scene(config, plan.background, plan.height, plan.width, plan.noun, numbers(_SCENE))
    camera = camera_path(time_s, config.camera_shake * short_side, numbers(_CAMERA))
    low, high = config.object_diameter
    action_s = np.clip(time_s, plan.start_s, plan.end_s) - plan.start_s  # before and after, the object rests
    path = poses(plan.verb, action_s, plan.period_s, (low + high) / 4, numbers(_MOTION))
    radius_px = low * (high / low) ** path.size * short_side / 2
    pixels = sprite(plan.noun, scene.object_colours)
    acting = (time_s >= plan.start_s) & (time_s < plan.end_s)
    elsewhere = scene
    if plan.rest == "other_scene" and not acting.all():
        elsewhere = make_scene(config, plan.background, plan.height, plan.width, None, numbers(_OTHER_SCENE))

    for t in range(plan.num_frames):
        camera_x, camera_y = camera[t]
        left, top = scene.margin_px + camera_x, scene.margin_px + camera_y
        view = scene if acting[t] or plan.rest != "other_scene" else elsewhere
        frame = view.background[top : top + plan.height, left : left + plan.width].copy()
        if acting[t] or plan.rest == "still":
            x_px = plan.width / 2 + path.x[t] * short_side - camera_x
            y_px = plan.height / 2 + path.y[t] * short_side - camera_y
            paint(frame, pixels, x_px, y_px, radius_px[t], path.angle[t])
        yield frame
