"""Frames → codes: a census transform on a coarse grid, exact in integers, so that every machine finds the same bits.

A frame is averaged by area over 10×10 cells; bit (row y, column x) of the 64-bit code says whether interior cell (y, x)
is brighter than the mean of its own 3×3 window. The same on 18×18 cells gives 256 bits for a second look. Areas are
counted in whole sub-pixels (of 112 px over 10 cells, a pixel is 5 wide and a cell 56), so cell sums are integers and
nothing is rounded. They are computed as float matrix products in which every partial sum is an integer that the float
type holds exactly: as fast as BLAS, and independent of the order of summation.

Bit 8y + x of a code is cell (y, x): byte y is row y, so a mirrored picture has each byte's bits reversed and a picture
upside down has its bytes swapped, exactly.

A tenth of the picture cut away moves the cells too far for the codes to stay near. Videos of target sets, which are few,
are therefore also coded as such copies would be, from parts of their picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

SIGNATURE_FPS = 16  # frames per second that signatures are taken at (paper, A.2)
SIDE_PX = 112  # ... and the height and width of those frames (paper, A.2)
MIN_QUALITY = 24  # reliable bits from which a frame is informative
RELIABLE_LEVELS = 2  # a bit is reliable when its cell differs from the window's mean by more than so many grey levels
CELLS, CELLS_FINE = 10, 18

MIN_BAR_PX = 3  # thinner bars are left alone
MIN_PICTURE_PX = 28  # what bars leave must be this high and wide (a phone's picture within 16:9 is 35/112 wide)
BAR_LEVELS, BAR_ODD_SHARE = 12, 0.02  # all but this share of a bar's pixels, in all frames, is so near its grey level
BAR_MEAN_LEVELS = 3  # ... and so near on average
HIDDEN_SHARE = 0.6  # so much of each line must still be of the bar's level where a logo hides the rest of it
MAX_TEXT_PX = 12  # a line of text within a bar is at most so high
BLACK_LEVEL = 32  # bars are at most so bright,
EDGE_SHARE = 0.25  # ... or at their end at least this share of the pixels changes: else they are a flat background
CHUNK_FRAMES = 32  # frames per matrix product: what stays in cache

CROP_EVERY = 8  # of so many frames of a target video, parts of one are coded:
_CROP_MARGINS_PX = (1, 11), (6, 6), (11, 1)  # nine tenths of the height (top, bottom) and of the width (left, right)
CROPS = tuple((*rows, *columns) for rows in _CROP_MARGINS_PX for columns in _CROP_MARGINS_PX)

_FLOAT32_EXACT, _FLOAT64_EXACT = 2**24, 2**53
_REVERSED_BYTE = np.array([int(f"{byte:08b}"[::-1], 2) for byte in range(256)], np.uint8)


@dataclass(frozen=True)
class Signature:
    """What the dedup knows of a video, one entry per 16 fps frame."""

    codes64: np.ndarray  # uint64 [T]
    quality: np.ndarray  # uint8 [T], reliable bits of the code, 0 for uniform frames
    codes256: np.ndarray  # uint64 [T, 4]
    bars: tuple[int, int, int, int]  # what is trimmed before coding, in px of 112: top, bottom, left, right
    crops: tuple[Signature, ...] = ()  # of parts of the picture, every `CROP_EVERY`-th frame: only of target videos


def frame_codes(frames: np.ndarray) -> np.ndarray:
    """64-bit codes of whole frames (no bars are trimmed).

    Args:
        frames: uint8 [T, H, W] luma or [T, H, W, 3] RGB, at least 10 px high and wide.

    Returns: uint64 [T].
    """
    luma = frames if frames.ndim == 3 else _luma(frames)
    return _collect(luma, lambda chunk: (_pack(_census(_cell_sums(chunk, (CELLS,))[0])[0]),))[0][:, 0]


def signature(frames: np.ndarray) -> Signature:
    """Signature of a video from its luma frames at 16 fps, uint8 [T, 112, 112]; static bars are trimmed first."""
    return _signature_within(frames, find_bars(frames))


def target_signature(frames: np.ndarray) -> Signature:
    """Signature of a video of a target set, in which tight crops are found too, from luma frames as in `signature`."""
    whole = signature(frames)
    crops = [_signature_within(frames[::CROP_EVERY], margins) for margins in _crop_margins(whole.bars)]
    return replace(whole, crops=tuple(crops))


def _crop_margins(bars: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    """What to trim for each part: its own margins, and these or the bars, whichever is more.

    If there are bars also nothing, and a little less than the bars: copies whose own bars are not found, or too short.
    """
    less = [(0, 0, 0, 0), tuple(max(0, bar - MIN_BAR_PX) for bar in bars)]
    within = [tuple(map(max, margins, bars)) for margins in CROPS]
    return [part for part in dict.fromkeys([*less, *CROPS, *within]) if part != bars]


def _signature_within(frames: np.ndarray, margins: tuple[int, int, int, int]) -> Signature:
    top, bottom, left, right = margins
    picture = frames[:, top : SIDE_PX - bottom, left : SIDE_PX - right]
    codes, quality, fine = _collect(picture, _codes_of_chunk)
    return Signature(codes[:, 0], quality, fine, margins)


def informative(quality: np.ndarray) -> np.ndarray:
    """bool, shape of `quality`: frames with enough reliable bits to be compared."""
    return quality >= MIN_QUALITY


def mirrored(codes: np.ndarray) -> np.ndarray:
    """Codes of the frames mirrored left to right: uint64 [...] → uint64 [...]."""
    return _swap_bytes(codes, lambda by_row: _REVERSED_BYTE[by_row])


def flipped(codes: np.ndarray) -> np.ndarray:
    """Codes of the frames turned upside down: uint64 [...] → uint64 [...]."""
    return _swap_bytes(codes, lambda by_row: by_row[..., ::-1])


def mirrored256(codes: np.ndarray) -> np.ndarray:
    """256-bit codes of the frames mirrored left to right: uint64 [..., 4] → uint64 [..., 4]."""
    return _swap_bytes(codes, lambda rows: _REVERSED_BYTE[_rows_of_256(rows)[..., ::-1]].reshape(rows.shape))


def flipped256(codes: np.ndarray) -> np.ndarray:
    """256-bit codes of the frames turned upside down: uint64 [..., 4] → uint64 [..., 4]."""
    return _swap_bytes(codes, lambda rows: _rows_of_256(rows)[..., ::-1, :].reshape(rows.shape))


def _swap_bytes(codes: np.ndarray, change: Any) -> np.ndarray:
    octets = np.ascontiguousarray(codes, "<u8")[..., None].view(np.uint8)  # [..., 8], the lowest byte first
    return np.ascontiguousarray(change(octets)).view("<u8")[..., 0].astype(np.uint64, copy=False)


def _rows_of_256(octets: np.ndarray) -> np.ndarray:
    return octets.reshape(*octets.shape[:-2], 16, 2)


# ------------------------------------------------------------------------------------------------------ tables


def signature_row(video_id: str, signature: Signature) -> dict[str, Any]:
    """A row of `artifacts.SIGNATURES`."""
    crops = [_columns(crop) for crop in signature.crops]
    named = {"video_id": video_id, "num_frames": len(signature.codes64), "crops": crops or None}
    return named | _columns(signature)


def _columns(signature: Signature) -> dict[str, Any]:
    return {
        "codes64": signature.codes64.astype("<u8").tobytes(),
        "quality": signature.quality.tobytes(),
        "codes256": signature.codes256.astype("<u8").tobytes(),
        "bars": list(signature.bars),
    }


def read_signatures(table: pa.Table) -> dict[str, Signature]:
    """Rows of `artifacts.SIGNATURES` as arrays, by video_id, in table order; columns that differ in length raise.

    Tables without the column `crops` are read as signatures without crops.
    """
    return {row["video_id"]: _parse(row) for row in table.to_pylist()}


def _parse(row: dict[str, Any]) -> Signature:
    num_frames = row["num_frames"]
    crops = [_parse_columns(crop, -(-num_frames // CROP_EVERY), row["video_id"]) for crop in row.get("crops") or ()]
    return replace(_parse_columns(row, num_frames, row["video_id"]), crops=tuple(crops))


def _parse_columns(columns: dict[str, Any], num_frames: int, video_id: str) -> Signature:
    codes = np.frombuffer(columns["codes64"], "<u8").astype(np.uint64, copy=False)
    quality = np.frombuffer(columns["quality"], np.uint8)
    fine = np.frombuffer(columns["codes256"], "<u8").astype(np.uint64, copy=False)
    if not len(codes) == len(quality) == len(fine) / 4 == num_frames:
        raise ValueError(f"signature of video '{video_id}' is damaged: its columns differ in length")
    return Signature(codes, quality, fine.reshape(-1, 4), tuple(columns["bars"]))


# -------------------------------------------------------------------------------------------------------- bars


def find_bars(frames: np.ndarray) -> tuple[int, int, int, int]:
    """Bars that stay uniform through the whole video (letter-box, pillar-box): (top, bottom, left, right) in px.

    There are bars at both ends or none: one on one side only (a caption, a sky) is part of the picture. Those of a crop
    differ in length, but where a logo or a codec's ringing cuts one short, it is as long as the opposite one.

    Args:
        frames: uint8 [T, H, W], T at least 1.
    """
    top, bottom = _bars_along(frames.transpose(1, 0, 2))
    left, right = _bars_along(frames[:, top : frames.shape[1] - bottom].transpose(2, 0, 1))
    return top, bottom, left, right


def _bars_along(lines: np.ndarray) -> tuple[int, int]:
    """Lengths of the bars at both ends of the first axis of uint8 [lines, T, px]; 0, 0 without bars."""
    first, last = _bar_length(lines), _bar_length(lines[::-1])
    if min(first, last) < MIN_BAR_PX:
        return 0, 0
    first, last = _with_hidden(lines, first, last), _with_hidden(lines[::-1], last, first)
    return (first, last) if len(lines) - 2 * max(first, last) >= MIN_PICTURE_PX else (0, 0)


def _with_hidden(lines: np.ndarray, length: int, opposite: int) -> int:
    """Length of the bar that begins here with the part of it that something small hides: up to that of the opposite bar."""
    mostly = _odd(lines[length:opposite], _level(lines)).mean((1, 2)) <= 1 - HIDDEN_SHARE
    length += next((i for i, of_bar in enumerate(mostly) if not of_bar), len(mostly))
    return max(length, opposite) if opposite - length < MIN_BAR_PX else length


def _bar_length(lines: np.ndarray) -> int:
    """Lines, from the first on, of one level but for a codec's ringing, text and a few odd frames; 0 if these are no bar."""
    level = _level(lines)
    length = _uniform_lines(lines, level)
    if length >= MIN_BAR_PX:
        length = _beyond_text(lines, level, length)
    picture = lines[length + 1 : length + 2]  # the line in between may be half bar, half picture
    if level <= BLACK_LEVEL or np.count_nonzero(_odd(picture, level)) >= EDGE_SHARE * lines[0].size:
        return length
    return 0


def _beyond_text(lines: np.ndarray, level: int, length: int) -> int:
    """Where a bar ends that goes on after text in the lines from `length` on; `length` if it does not go on."""
    starts = range(length + 1, length + MAX_TEXT_PX + 1)
    ends = [start + _uniform_lines(lines[start:], level) for start in starts]
    return max((end for start, end in zip(starts, ends, strict=True) if end >= start + MIN_BAR_PX), default=length)


def _level(lines: np.ndarray) -> int:
    """Grey level of the bar that these lines may begin with."""
    return int(np.median(lines[0, :, ::8]))  # every 8th pixel will do, and a median of all would take longest here


def _uniform_lines(lines: np.ndarray, level: int) -> int:
    """How many lines, from the first on, are of this level."""
    return next((i for i, line in enumerate(lines) if not _is_uniform(line, level)), len(lines))


def _is_uniform(line: np.ndarray, level: int) -> bool:
    few_odd = np.count_nonzero(_odd(line, level)) <= BAR_ODD_SHARE * line.size  # the quicker question first
    return bool(few_odd and np.abs(line - np.int16(level)).mean() <= BAR_MEAN_LEVELS)


def _odd(pixels: np.ndarray, level: int) -> np.ndarray:
    """Which pixels, uint8, are not near the level."""
    return (pixels < level - BAR_LEVELS) | (pixels > level + BAR_LEVELS)


# ------------------------------------------------------------------------------------------------------- codes


def _collect(frames: np.ndarray, function: Any) -> tuple[np.ndarray, ...]:
    """`function` on chunks of frames, each of its results put together again."""
    chunks = [function(frames[i : i + CHUNK_FRAMES]) for i in range(0, max(1, len(frames)), CHUNK_FRAMES)]
    return tuple(np.concatenate(results) for results in zip(*chunks, strict=True))


def _codes_of_chunk(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Luma [T, H, W] → (uint64 [T, 1], quality uint8 [T], uint64 [T, 4])."""
    sums, sums_fine = _cell_sums(frames, (CELLS, CELLS_FINE))
    bits, differences = _census(sums)
    reliable = np.abs(differences) > 9 * RELIABLE_LEVELS * _cell_area(frames, CELLS)
    quality = reliable.sum((1, 2)).astype(np.uint8)
    return _pack(bits), quality, _pack(_census(sums_fine)[0])


def _census(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cell sums int [T, n, n] → bits bool and differences int [T, n-2, n-2] = 9 × (cell - mean of its 3×3 window)."""
    rows = sums[:, :-2] + sums[:, 1:-1] + sums[:, 2:]
    windows = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    differences = 9 * sums[:, 1:-1, 1:-1] - windows
    return differences > 0, differences


def _pack(bits: np.ndarray) -> np.ndarray:
    """bool [T, n, n] → uint64 [T, n*n/64], bit n*y + x (from the lowest) = cell (y, x)."""
    flat = bits.reshape(len(bits), bits.shape[1] * bits.shape[2])
    return np.packbits(flat, axis=1, bitorder="little").view("<u8").astype(np.uint64, copy=False)


def _cell_area(frames: np.ndarray, cells: int) -> int:
    """Sub-pixels in a cell: what a cell's sum has to be divided by to give grey levels."""
    height, width = frames.shape[1:]
    return (height // math.gcd(height, cells)) * (width // math.gcd(width, cells))


def _cell_sums(frames: np.ndarray, grids: tuple[int, ...]) -> list[np.ndarray]:
    """Luma uint8 [T, H, W] → for each grid of n×n cells, their sums int [T, n, n] in grey levels × sub-pixels."""
    height, width = frames.shape[1:]
    largest = 255 * max(_cell_area(frames, cells) for cells in grids)
    if largest >= _FLOAT64_EXACT or min(height, width) < max(grids):
        raise ValueError(f"frames of {height}×{width} px cannot be coded")
    kind = np.float32 if largest < _FLOAT32_EXACT else np.float64
    weights = np.concatenate([_weights(height, cells, kind) for cells in grids])
    # Small products, one per frame: a BLAS does not spread those over threads, which would only get in each other's way.
    by_row = np.split(np.matmul(weights, frames.astype(kind)), np.cumsum(grids)[:-1], axis=1)
    whole = np.int32 if 18 * largest < 2**31 else np.int64
    return [np.matmul(rows, _weights(width, rows.shape[1], kind).T).astype(whole) for rows in by_row]


@lru_cache(64)
def _weights(pixels: int, cells: int, kind: type) -> np.ndarray:
    """[cells, pixels]: how many sub-pixels of each pixel lie in each cell."""
    per_pixel, per_cell = cells // math.gcd(pixels, cells), pixels // math.gcd(pixels, cells)
    pixel, cell = np.arange(pixels) * per_pixel, np.arange(cells)[:, None] * per_cell
    shared = np.minimum(pixel + per_pixel, cell + per_cell) - np.maximum(pixel, cell)
    return np.maximum(shared, 0).astype(kind)


def _luma(frames: np.ndarray) -> np.ndarray:
    """uint8 RGB [T, H, W, 3] → luma [T, H, W] by BT.601 weights in 1/256."""
    red, green, blue = (frames[..., i].astype(np.uint32) for i in range(3))
    return ((77 * red + 150 * green + 29 * blue + 128) >> 8).astype(np.uint8)
