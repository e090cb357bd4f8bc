"""Other ways of finding copies, as their makers ship them (no bars trimmed, no mirror index), for the same frames.

Perceptual hashes are taken of one frame per second. imagehash gives pHash and the wavelet hash of a collage (as videohash
makes it). PDQ is written here after its published description, because its wheel needs an older numpy: of 833 frames of
112×112 px it gave the same bits and the same quality as pdqhash 0.2.8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import imagehash
import numpy as np
from PIL import Image

from dedup.census import SIGNATURE_FPS

PHASH_BITS, PHASH_SHARE = 10, 0.1  # pHash: frames at most so many of 64 bits apart match; so many must
COLLAGE_BITS = 9  # videohash: "similar" is below 15 % of 64 bits
PDQ_BITS, PDQ_MIN_QUALITY = 31, 50  # vPDQ's defaults, of 256 bits
PDQ_SHARES = {
    "vPDQ-like, 80 %": 0.8,
    "vPDQ-like, 10 %": 0.1,
}  # its default share of frames, and the share that dedup uses
_SIDE, _FREQUENCIES = 64, 16
_DCT = math.sqrt(2 / _SIDE) * np.cos(
    np.pi / 2 / _SIDE * np.arange(1, _FREQUENCIES + 1)[:, None] * (2 * np.arange(_SIDE)[None] + 1)
)


@dataclass(frozen=True)
class Hashes:
    """Of one video, at 1 frame per second."""

    phash: np.ndarray  # uint64 [T]
    collage: np.ndarray  # uint64 [1]
    pdq: np.ndarray  # uint64 [T, 4], of frames whose quality is high enough


def hashes(frames: np.ndarray) -> Hashes:
    """Of luma frames uint8 [T, 112, 112] at 16 fps."""
    each_second = frames[::SIGNATURE_FPS]
    pictures = [Image.fromarray(frame) for frame in each_second]
    codes, quality = pdq(each_second)
    collage = imagehash.whash(_collage(each_second))
    return Hashes(
        np.array([_as_integer(imagehash.phash(picture)) for picture in pictures], np.uint64),
        np.array([_as_integer(collage)], np.uint64),
        codes[quality >= PDQ_MIN_QUALITY],
    )


def _as_integer(code: imagehash.ImageHash) -> int:
    return int(str(code), 16)


def _collage(frames: np.ndarray) -> Image.Image:
    """All frames in one square picture, row by row."""
    columns = math.ceil(math.sqrt(len(frames)))
    side = frames.shape[1]
    canvas = np.zeros((columns * side, columns * side), np.uint8)
    for i, frame in enumerate(frames):
        y, x = divmod(i, columns)
        canvas[y * side : (y + 1) * side, x * side : (x + 1) * side] = frame
    return Image.fromarray(canvas)


def pdq(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """PDQ of luma frames uint8 [T, H, W], sides below 128 px (larger ones would be blurred first).

    Returns: (bits as uint64 [T, 4], quality int64 [T], 0 to 100).
    """
    rows, columns = (((np.arange(_SIDE) + 0.5) * side / _SIDE).astype(int) for side in frames.shape[1:])
    small = frames[:, rows][:, :, columns].astype(np.float64)
    spectrum = _DCT @ small @ _DCT.T
    bits = spectrum > np.median(spectrum, axis=(1, 2), keepdims=True)
    packed = np.packbits(bits.reshape(len(frames), -1), axis=1).view(np.uint64)
    steps = [np.abs(np.trunc(np.diff(small, axis=axis) * 100 / 255)).sum((1, 2)) for axis in (1, 2)]
    return packed, np.minimum(100, (steps[0] + steps[1]) // 90).astype(np.int64)


def flags(source: list[Hashes], target: list[Hashes]) -> dict[str, np.ndarray]:
    """Which pairs each peer calls copies: name → bool [sources, targets]."""
    found = {
        "pHash": _pairs(source, target, "phash", PHASH_BITS) >= PHASH_SHARE,
        "collage hash": _pairs(source, target, "collage", COLLAGE_BITS) >= 1,
    }
    shares = _pairs(source, target, "pdq", PDQ_BITS)
    return found | {name: shares >= share for name, share in PDQ_SHARES.items()}


def _pairs(source: list[Hashes], target: list[Hashes], kind: str, bits: int) -> np.ndarray:
    """float [sources, targets]: share of the source's frames within so many bits of some frame of the target."""
    found = np.zeros((len(source), len(target)))
    for i, mine in enumerate(source):
        for j, other in enumerate(target):
            a, b = (np.atleast_2d(getattr(x, kind).T).T for x in (mine, other))
            if len(a) and len(b):
                near = np.bitwise_count(a[:, None] ^ b[None]).sum(2) <= bits
                found[i, j] = near.any(1).mean()
    return found
