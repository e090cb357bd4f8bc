"""Verbs as motions. A motion is the only thing that tells a verb: no single frame does.

Position is measured from the centre of the frame in units of the short side, angle in radians, size as a number in
[0, 1] from the smallest diameter to the largest. Every motion starts at a random phase. Angle and size are uniform at
every moment under every verb; position has the same mean (the centre) and the same variance along each axis under every
verb: a motion that swings far gets a narrower range of places to do it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

TRAVEL = 0.48
"""Side of the square that holds the object's centre, in short sides. A motion that leaves it re-enters opposite."""


@dataclass(frozen=True)
class Poses:
    """Where the object is, frame by frame: four float64 arrays [T]."""

    x: np.ndarray
    """Rightwards from the centre, in short sides."""
    y: np.ndarray
    """Downwards from the centre, in short sides."""
    angle: np.ndarray
    """Radians, growing from x towards y."""
    size: np.ndarray
    """0 (smallest diameter) to 1 (largest)."""


@dataclass(frozen=True)
class Motion:
    """How one verb moves the object: displacements as functions of the phase (in cycles); None is no movement."""

    x: Callable | None = None
    y: Callable | None = None
    angle: Callable | None = None
    size: Callable | None = None
    rate: float = 1.0
    """Cycles per motion period."""
    wraps_x: bool = False
    wraps_y: bool = False
    """The motion goes on and on along this axis; it re-enters opposite when it leaves the square."""
    rolls: bool = False
    """The angle follows the way along x, as of a wheel on the ground."""


def _triangle(phase):
    """0 → 1 → 0 over one cycle, at constant speed."""
    return 1 - np.abs(2 * (phase % 1) - 1)


def _hop(phase, share=1.0):
    """Height 0 → 1 → 0 of a thrown object during the first `share` of a cycle, 0 in the rest."""
    flight = np.minimum((phase % 1) / share, 1)
    return 4 * flight * (1 - flight)


def _sine(phase):
    return np.sin(2 * np.pi * phase)


def _cosine(phase):
    return np.cos(2 * np.pi * phase)


def _travel(phase):
    return TRAVEL * phase


MOTIONS: dict[str, Motion] = {
    "roll": Motion(x=_travel, wraps_x=True, rolls=True),
    "bounce": Motion(y=lambda p: -0.34 * _hop(p), rate=1.4),
    "spin": Motion(angle=lambda p: 2 * np.pi * p, rate=0.75),
    "shake": Motion(x=lambda p: 0.09 * _sine(p), rate=2.2),
    "fall": Motion(y=_travel, wraps_y=True, rate=1.2),
    "grow": Motion(size=lambda p: p % 1, rate=0.75),
    "shrink": Motion(size=lambda p: -p % 1, rate=0.75),
    "orbit": Motion(x=lambda p: 0.19 * _cosine(p), y=lambda p: 0.19 * _sine(p)),
    "zigzag": Motion(x=_travel, y=lambda p: 0.3 * (_triangle(2 * p) - 0.5), wraps_x=True, rate=0.8),
    "swing": Motion(
        x=lambda p: 0.19 * _sine(p), y=lambda p: 0.1 * _cosine(p) ** 2, angle=lambda p: -0.7 * _sine(p), rate=0.9
    ),
    "jump": Motion(y=lambda p: -0.36 * _hop(p, share=0.5)),
    "slide": Motion(x=_travel, wraps_x=True),
    "rise": Motion(y=lambda p: -TRAVEL * p, wraps_y=True, rate=1.2),
    "wobble": Motion(angle=lambda p: 0.6 * _sine(p), rate=1.5),
    "pulse": Motion(size=_triangle, rate=1.3),
    "dash": Motion(x=lambda p: TRAVEL * (np.floor(p) + np.minimum(3 * (p % 1), 1)), wraps_x=True),
}


def _wrap(position):
    return (position + TRAVEL / 2) % TRAVEL - TRAVEL / 2


def _place(displace: Callable | None, wraps: bool, phase: np.ndarray, where: float) -> np.ndarray:
    """Positions along one axis; `where` in [0, 1) is the random part."""
    if displace is None:
        return np.full(len(phase), TRAVEL * (where - 0.5))
    if wraps:
        return _wrap(displace(phase) + TRAVEL * where)
    cycle = displace(np.arange(256) / 256)
    # Uniform over `room`, the place has just the variance that the motion leaves over.
    room = np.sqrt(max(TRAVEL**2 - 12 * cycle.var(), 0.0))
    return displace(phase) - cycle.mean() + room * (where - 0.5)


def poses(verb: str, time_s: np.ndarray, period_s: float, mean_radius: float, rng: np.random.Generator) -> Poses:
    """The object's poses at `time_s` (float [T], seconds since the action began).

    `mean_radius` (in short sides) sets how fast a rolling object turns. Every verb draws the same random numbers.
    """
    motion = MOTIONS[verb]
    phase0, where_x, where_y, turn, size0 = rng.random(5)
    direction = 1.0 if rng.random() < 0.5 else -1.0
    phase = phase0 + np.asarray(time_s, dtype=np.float64) * motion.rate / period_s
    angle = np.full(len(phase), 2 * np.pi * turn)
    if motion.angle is not None:
        angle += motion.angle(phase)
    if motion.rolls:
        angle += motion.x(phase) / mean_radius
    size = motion.size(phase) if motion.size is not None else np.full(len(phase), size0)
    x = _place(motion.x, motion.wraps_x, phase, where_x)
    y = _place(motion.y, motion.wraps_y, phase, where_y)
    return Poses(direction * x, y, direction * angle, size)  # a mirrored motion is the same verb
