"""What stands around the object: its colours, the background with its distractors, and the camera's movement."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from pipeline.world.config import WorldConfig
from pipeline.world.objects import paint, sprite
from pipeline.world.vocabulary import NOUNS

SOURCE_BACKGROUNDS = ("gradient", "clouds", "spots")
TARGET_BACKGROUNDS = ("stripes", "checks", "waves")
"""Patterns that the source never shows."""


@dataclass(frozen=True)
class Scene:
    background: np.ndarray
    """uint8 [H + 2 margin, W + 2 margin, 3]; the camera moves over it."""
    margin_px: int
    object_colours: np.ndarray
    """uint8 [2, 3]: both colours of the object."""


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _smooth_noise(height: int, width: int, cells: int, rng: np.random.Generator) -> np.ndarray:
    """Random values on a coarse grid, interpolated: float [height, width] in [0, 1]."""
    grid = rng.random((cells + 1, cells + 1))
    columns = np.stack([np.interp(np.linspace(0, cells, width), np.arange(cells + 1), row) for row in grid])
    position = np.linspace(0, cells, height)
    low = np.minimum(position.astype(int), cells - 1)
    share = (position - low)[:, None]
    return columns[low] * (1 - share) + columns[low + 1] * share


def _pattern(kind: str, height: int, width: int, clutter: float, rng: np.random.Generator) -> np.ndarray:
    """The pattern between the two background colours: float [height, width] in [0, 1]; clutter makes it finer."""
    y, x = np.mgrid[0:height, 0:width] / min(height, width)
    turn = rng.uniform(0, 2 * np.pi)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    cycles = rng.uniform(1, 2) * (1 + 4 * clutter)
    if kind == "gradient":
        return (along - along.min()) / np.ptp(along)
    if kind == "clouds":
        return _smooth_noise(height, width, round(2 * cycles), rng)
    if kind == "spots":
        spots = np.zeros((height, width))
        for _ in range(round(4 * cycles)):
            centre_x, centre_y = rng.random(2) * (width, height) / min(height, width)
            radius = rng.uniform(0.3, 0.6) / cycles
            spots[(x - centre_x) ** 2 + (y - centre_y) ** 2 < radius**2] = rng.uniform(0.5, 1)
        return spots
    if kind == "stripes":
        return ((along * cycles) % 1 < 0.5).astype(float)
    if kind == "checks":
        return (np.floor(along * cycles) + np.floor(across * cycles)) % 2
    if kind == "waves":
        return 0.5 + 0.5 * np.sin(2 * np.pi * cycles * (along + 0.08 * np.sin(2 * np.pi * cycles * across)))
    raise ValueError(f"no background {kind!r}; there are {', '.join(SOURCE_BACKGROUNDS + TARGET_BACKGROUNDS)}")


def make_scene(
    config: WorldConfig, kind: str, height: int, width: int, noun: str | None, rng: np.random.Generator
) -> Scene:
    """A random scene with a background of pattern `kind`, for a video of `noun` (None: of no object)."""
    short_side = min(height, width)
    margin = int(np.ceil(2 * config.camera_shake * short_side)) + 1
    shape = (height + 2 * margin, width + 2 * margin)
    contrast = config.colour_contrast
    dull, value = rng.uniform(0.05, 0.4), rng.uniform(0.15, 0.7 - 0.3 * contrast)
    hue = rng.random()
    base = _rgb(hue, dull, value)
    other_value = np.clip(value + rng.choice([-0.3, 0.3]), 0.1, 0.8 - 0.3 * contrast)
    other = _rgb(hue + rng.uniform(-0.2, 0.2), rng.uniform(0.05, 0.4), other_value)
    strength = min(0.2 + config.background_clutter, 1.0)
    share = strength * _pattern(kind, *shape, config.background_clutter, rng)[..., None]
    background = (base * (1 - share) + other * share).astype(np.uint8)
    _paint_distractors(background, config.num_distractors, short_side, noun, rng)
    strong = _rgb(rng.random(), rng.uniform(0.7, 1), rng.uniform(0.85, 1))
    light = _rgb(rng.random(), rng.uniform(0, 0.3), 1.0)
    middle = (base + other) / 2
    colours = np.stack([contrast * colour + (1 - contrast) * middle for colour in (strong, light)])
    return Scene(background, margin, colours.astype(np.uint8))


def _paint_distractors(
    background: np.ndarray, mean: float, short_side: int, noun: str | None, rng: np.random.Generator
) -> None:
    """Small objects that stay where they are, never the noun that the video shows."""
    others = [name for name in NOUNS if name != noun]
    for _ in range(rng.poisson(mean)):
        colours = np.stack([_rgb(rng.random(), rng.uniform(0.3, 0.9), rng.uniform(0.3, 0.9)) for _ in range(2)])
        pixels = sprite(others[rng.integers(len(others))], colours)
        x, y = rng.random(2) * (background.shape[1], background.shape[0])
        paint(background, pixels, x, y, rng.uniform(0.05, 0.09) * short_side, rng.uniform(0, 2 * np.pi))


def camera_path(time_s: np.ndarray, amplitude_px: float, rng: np.random.Generator) -> np.ndarray:
    """A hand-held camera's offsets (x, y): int [T, 2] pixels, at most twice `amplitude_px` away from 0."""
    frequencies, phases = rng.uniform(0.2, 1.5, (2, 2)), rng.uniform(0, 2 * np.pi, (2, 2))
    waves = np.sin(2 * np.pi * time_s[:, None, None] * frequencies + phases)
    return np.rint(amplitude_px * waves.sum(axis=1)).astype(int)
