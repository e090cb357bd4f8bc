"""Nouns as objects: a shape and a texture that tell the noun in any colour, size and orientation.

A sprite is the object drawn once in its own coordinates; a frame is painted by looking up sprite pixels (`paint`).
Coordinates: u rightwards, v downwards, the object inside the unit circle.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from pipeline.world.vocabulary import NOUNS

SPRITE_PX = 96
"""Side of a sprite; it spans [-1, 1] along u and v."""
_SUPERSAMPLING = 3


def _polygon(u, v, corners: list[tuple[float, float]]):
    """Inside of a simple polygon, by counting crossings."""
    inside = np.zeros(u.shape, dtype=bool)
    for (u0, v0), (u1, v1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if v0 == v1:
            continue
        crosses = (v0 > v) != (v1 > v)
        inside ^= crosses & (u < (u1 - u0) * (v - v0) / (v1 - v0) + u0)
    return inside


def _round_corners(num: int, radii: tuple[float, ...], turn: float = -np.pi / 2) -> list[tuple[float, float]]:
    """`num` corners around the centre whose distances cycle through `radii`."""
    angles = turn + 2 * np.pi * np.arange(num) / num
    return [(radii[i % len(radii)] * np.cos(a), radii[i % len(radii)] * np.sin(a)) for i, a in enumerate(angles)]


def _shape(noun: str, u, v):
    """Boolean mask of the noun."""
    r = np.hypot(u, v)
    corners = {
        "cube": [(-0.7, -0.7), (0.7, -0.7), (0.7, 0.7), (-0.7, 0.7)],
        "star": _round_corners(10, (0.96, 0.4)),
        "triangle": _round_corners(3, (0.96,)),
        "diamond": [(0, -0.98), (0.58, 0), (0, 0.98), (-0.58, 0)],
        "arrow": [(0, -0.98), (0.75, -0.1), (0.28, -0.1), (0.28, 0.9), (-0.28, 0.9), (-0.28, -0.1), (-0.75, -0.1)],
        "hexagon": _round_corners(6, (0.95,)),
        "bolt": [(0.25, -0.95), (-0.55, 0.15), (-0.05, 0.15), (-0.25, 0.95), (0.55, -0.2), (0.05, -0.2)],
        "kite": [(0, -0.95), (0.62, -0.3), (0, 0.95), (-0.62, -0.3)],
    }
    if noun in corners:
        return _polygon(u, v, corners[noun])
    if noun == "ball":
        return r < 0.85
    if noun == "cross":
        return ((np.abs(u) < 0.3) & (np.abs(v) < 0.92)) | ((np.abs(v) < 0.3) & (np.abs(u) < 0.92))
    if noun == "ring":
        return (r < 0.95) & (r > 0.5)
    if noun == "heart":
        a, b = 1.3 * u, 0.15 - 1.3 * v
        return (a**2 + b**2 - 1) ** 3 - a**2 * b**3 < 0
    if noun == "moon":
        return (r < 0.95) & (np.hypot(u - 0.5, v) > 0.72)
    if noun == "drop":
        return (np.hypot(u, v - 0.3) < 0.62) | _polygon(u, v, [(0, -0.98), (0.56, 0.05), (-0.56, 0.05)])
    if noun == "gear":
        return (r < 0.72 + 0.22 * (np.cos(8 * np.arctan2(v, u)) > 0)) & (r > 0.25)
    if noun == "leaf":
        return (np.hypot(u - 0.6, v) < 1.08) & (np.hypot(u + 0.6, v) < 1.08)
    raise ValueError(f"no object {noun!r}; there are {', '.join(NOUNS)}")


def _texture(noun: str, u, v):
    """Where the second colour goes. Never symmetric under a turn, so that a turning object is seen to turn."""
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    return {
        "ball": (angle % (2 * np.pi)) < 0.9 * np.pi,
        "cube": (u > 0.1) ^ ((np.abs(u + 0.35) < 0.15) & (np.abs(v) < 0.3)),
        "star": v < -0.15,
        "cross": (u > -0.3) & (np.abs(v) < 0.3),
        "ring": (angle % (2 * np.pi)) < 0.8 * np.pi,
        "triangle": v > 0.15,
        "heart": u > 0.0,
        "moon": v < -0.1,
        "diamond": (v < 0) & (u < 0.12),
        "arrow": v < -0.1,
        "hexagon": np.hypot(u - 0.3, v) < 0.42,
        "drop": np.hypot(u - 0.15, v - 0.35) < 0.36,
        "gear": np.abs(angle) < 0.9,
        "leaf": u > 0.04,
        "bolt": v < 0.0,
        "kite": (u < 0) & (v < 0.2) | (r < 0.2),
    }[noun]


@cache
def sprite_layers(noun: str) -> np.ndarray:
    """Cover of the first and the second colour: float32 [SPRITE_PX, SPRITE_PX, 2] in [0, 1], 0 outside the object."""
    side = SPRITE_PX * _SUPERSAMPLING
    axis = (np.arange(side) + 0.5) * 2 / side - 1
    u, v = np.meshgrid(axis, axis)
    shape, texture = _shape(noun, u, v), _texture(noun, u, v)
    layers = np.stack([shape & ~texture, shape & texture], axis=-1).astype(np.float32)
    return layers.reshape(SPRITE_PX, _SUPERSAMPLING, SPRITE_PX, _SUPERSAMPLING, 2).mean(axis=(1, 3))


def sprite(noun: str, colours: np.ndarray) -> np.ndarray:
    """The object in two colours (uint8 [2, 3]): float32 [SPRITE_PX ** 2, 4], RGB times cover, and 1 − cover."""
    layers = sprite_layers(noun).reshape(-1, 2)
    return np.concatenate([layers @ colours.astype(np.float32), 1 - layers.sum(axis=1, keepdims=True)], axis=1)


def paint(
    frame: np.ndarray, sprite_pixels: np.ndarray, x_px: float, y_px: float, radius_px: float, angle: float
) -> None:
    """Paint a sprite into `frame` (uint8 [H, W, 3], changed in place), centred at (x_px, y_px), `angle` in radians."""
    height, width = frame.shape[:2]
    left, right = max(int(x_px - radius_px), 0), min(int(x_px + radius_px) + 2, width)
    top, bottom = max(int(y_px - radius_px), 0), min(int(y_px + radius_px) + 2, height)
    if left >= right or top >= bottom:
        return
    scale = SPRITE_PX / (2 * radius_px)
    dx = (np.arange(left, right, dtype=np.float32) + 0.5 - x_px) * scale
    dy = ((np.arange(top, bottom, dtype=np.float32) + 0.5 - y_px) * scale)[:, None]
    cosine, sine, half = math.cos(angle), math.sin(angle), SPRITE_PX / 2
    column = (dx * cosine + dy * sine + half).astype(np.int32)
    row = (dy * cosine - dx * sine + half).astype(np.int32)
    # Corners of the box lie outside the sprite; its border is transparent, so clamping to it paints nothing.
    np.clip(column, 0, SPRITE_PX - 1, out=column)
    np.clip(row, 0, SPRITE_PX - 1, out=row)
    pixels = sprite_pixels.take(row * SPRITE_PX + column, axis=0)
    box = frame[top:bottom, left:right]
    box[...] = box * pixels[..., 3:] + pixels[..., :3]
