"""Which codes lie within a Hamming radius of which: exact locality-sensitive hashing of 64-bit codes.

A code is cut into 4 bands of 16 bits. Two codes that differ in at most 4k + 3 bits differ in at most k bits of some band
(pigeonhole), so looking up every band with every choice of up to k flipped bits finds every pair: k = 0 up to radius 3,
k = 1 up to radius 7. Queries are sorted by band like the codes are, so each bucket is one dense block that stays in cache
while all of its queries are compared with it.

Neighbouring cells of a census code are correlated, and a band of neighbours makes a few huge buckets; band (x + 2y) mod 4
of cell (y, x) keeps neighbours apart.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import numpy as np

try:
    import numba
except ImportError:
    numba = None


Backend = Literal["numba", "numpy", "faiss"]
BACKENDS = ("numba", "numpy", "faiss")
MAX_RADIUS = 7
NUM_BANDS, BAND_BITS = 4, 16
_BATCH_PAIRS = 1 << 22  # candidate pairs expanded at a time by the numpy backend
_BAND_MASK = np.uint64((1 << BAND_BITS) - 1)


class CodeIndex:
    """Codes prepared for joins.

    Args:
        codes: uint64 [N], N < 2**31; equal codes are separate rows.
        radius: largest Hamming distance that counts as a match, 0 to 7.
        backend: `numba` (fast), `numpy` (needs nothing) or `faiss` (brute force): the same answer from each.
    """

    def __init__(self, codes: np.ndarray, radius: int, backend: Backend = "numba") -> None:
        if not 0 <= radius <= MAX_RADIUS:
            raise ValueError(f"radius must be 0 to {MAX_RADIUS}, not {radius}")
        if backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
        if backend == "numba" and numba is None:
            raise ImportError("backend 'numba' needs numba: pip install 'tagreel[dedup]'")
        if backend == "faiss":
            _import_faiss()
        self.radius, self.backend = radius, backend
        codes = np.ascontiguousarray(codes, np.uint64)
        self._codes = codes if backend == "faiss" else None
        self._bands = [] if backend == "faiss" else _make_bands(codes)

    def join(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All pairs within the radius: (query_rows, code_rows), int64 [M] each, sorted by query row, then code row.

        Args:
            queries: uint64 [Q], Q < 2**31.
        """
        queries = np.ascontiguousarray(queries, np.uint64)
        found = _join_faiss(self._codes, queries, self.radius) if self.backend == "faiss" else self._join_bands(queries)
        found.sort()
        return (found >> np.uint64(32)).astype(np.int64), (found & np.uint64(0xFFFFFFFF)).astype(np.int64)

    def _join_bands(self, queries: np.ndarray) -> np.ndarray:
        spread = _spread_bits(queries)
        join_band = _join_band_numba if self.backend == "numba" else _join_band_numpy
        return np.concatenate([join_band(band, _Band(spread, band.band), self.radius) for band in self._bands])

    @property
    def num_bytes(self) -> int:
        """Memory that the index takes."""
        arrays = [array for band in self._bands for array in (band.codes, band.rows, band.offsets)]
        return sum(array.nbytes for array in (arrays if self._codes is None else [self._codes]))


class _Band:
    """Codes sorted by one of their bands: bucket `key` is rows offsets[key] to offsets[key + 1]."""

    def __init__(self, spread_codes: np.ndarray, band: int) -> None:
        keys = _band_key(spread_codes, band)
        rows = np.argsort(keys, kind="stable")
        self.band = band
        self.codes = spread_codes[rows]  # uint64 [N]
        self.rows = rows.astype(np.uint32)  # [N]
        self.offsets = np.zeros((1 << BAND_BITS) + 1, np.int64)
        np.cumsum(np.bincount(keys, minlength=1 << BAND_BITS), out=self.offsets[1:])


def _make_bands(codes: np.ndarray) -> list[_Band]:
    spread = _spread_bits(codes)
    return [_Band(spread, band) for band in range(NUM_BANDS)]


def _band_key(spread_codes: np.ndarray, band: int) -> np.ndarray:
    """uint16 [N]: one band of each code."""
    return ((spread_codes >> np.uint64(BAND_BITS * band)) & _BAND_MASK).astype(np.uint16)


def _flip_masks(radius: int) -> np.ndarray:
    """What to flip in a band's key: nothing, and from radius 4 on each single bit."""
    single = [1 << bit for bit in range(BAND_BITS)] if radius > NUM_BANDS - 1 else []
    return np.array([0, *single], np.int64)


def _spread_bits(codes: np.ndarray) -> np.ndarray:
    """Codes with their bits in band order: band b, bits 16b to 16b + 15, holds the cells with (x + 2y) mod 4 = b."""
    octets = codes.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)
    spread = np.zeros(len(codes), np.uint64)
    for row in range(8):
        spread |= _SPREAD_TABLE[row][octets[:, row]]
    return spread


def _make_spread_table() -> np.ndarray:
    """uint64 [8, 256]: where the bits of each value of byte (cell row) y go."""
    cells = sorted(((x + 2 * y) % NUM_BANDS, y, x) for y in range(8) for x in range(8))
    new_bit = {(y, x): bit for bit, (_, y, x) in enumerate(cells)}
    table = [[sum(1 << new_bit[y, x] for x in range(8) if value >> x & 1) for value in range(256)] for y in range(8)]
    return np.array(table, np.uint64)


_SPREAD_TABLE = _make_spread_table()


# ------------------------------------------------------------------------------------------------------- numba


def _compile(function):
    """numba.njit, kept on disk where there is a folder to keep it in; without numba the function as it is."""
    if numba is None:
        return function
    try:  # the default error model would keep loops from being vectorised
        return numba.njit(cache=True, error_model="numpy")(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(error_model="numpy")(function)


def _join_band_numba(codes: _Band, queries: _Band, radius: int) -> np.ndarray:
    arrays = (codes.codes, codes.rows, codes.offsets, queries.codes, queries.rows, queries.offsets, _flip_masks(radius))
    return _join_kernel(*map(_read_only, arrays), np.uint64(codes.band), np.uint64(radius))


def _read_only(array: np.ndarray) -> np.ndarray:
    """A view as arrays from a shared object store are: the kernel is compiled for this one kind."""
    view = array.view()
    view.flags.writeable = False
    return view


@_compile
def _count_bits(x):
    """Set bits of a uint64; LLVM knows this idiom and emits the processor's (vector) instruction."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (x * np.uint64(0x0101010101010101)) >> np.uint64(56)


@_compile
def _nearest(query, block):
    """Smallest distance to a block of codes: the loop that takes the time, free of branches so that it is vectorised."""
    nearest = np.uint64(65)
    for i in range(len(block)):
        nearest = min(nearest, _count_bits(query ^ block[i]))
    return nearest


@_compile
def _in_earlier_band(difference, band, flips):
    """Whether an earlier band finds this pair as well: each pair is reported once, by the first band that can."""
    for earlier in range(band):
        bits = (difference >> np.uint64(16 * earlier)) & np.uint64(0xFFFF)
        if _count_bits(bits) <= flips:
            return True
    return False


@_compile
def _join_kernel(codes, code_rows, code_offsets, queries, query_rows, query_offsets, masks, band, radius):
    """Matches of one band: uint64 [M], query row << 32 | code row."""
    found, num_found = np.empty(1024, np.uint64), 0
    flips = np.uint64(1 if len(masks) > 1 else 0)
    for key in range(len(query_offsets) - 1):
        if query_offsets[key] == query_offsets[key + 1]:
            continue
        for mask in masks:
            begin, end = code_offsets[key ^ mask], code_offsets[(key ^ mask) + 1]
            block, block_rows = codes[begin:end], code_rows[begin:end]
            for q in range(query_offsets[key], query_offsets[key + 1]):
                query = queries[q]
                if _nearest(query, block) > radius:
                    continue
                if num_found + len(block) > len(found):
                    grown = np.empty(2 * (num_found + len(block)), np.uint64)
                    grown[:num_found] = found[:num_found]
                    found = grown
                for i in range(len(block)):
                    difference = query ^ block[i]
                    if _count_bits(difference) <= radius and not _in_earlier_band(difference, band, flips):
                        found[num_found] = (np.uint64(query_rows[q]) << np.uint64(32)) | np.uint64(block_rows[i])
                        num_found += 1
    return found[:num_found].copy()


# ------------------------------------------------------------------------------------------------------- numpy


def _join_band_numpy(codes: _Band, queries: _Band, radius: int) -> np.ndarray:
    keys = _band_key(queries.codes, codes.band).astype(np.int64)
    found = [np.empty(0, np.uint64)]
    for mask in _flip_masks(radius):
        begin = codes.offsets[keys ^ mask]
        num_candidates = codes.offsets[(keys ^ mask) + 1] - begin
        for chosen in _batches(num_candidates):
            q, c = _expand(begin[chosen], num_candidates[chosen], chosen.start)
            difference = queries.codes[q] ^ codes.codes[c]
            near = np.bitwise_count(difference) <= radius
            q, c, difference = q[near], c[near], difference[near]
            first = ~_found_earlier(difference, codes.band, int(radius >= NUM_BANDS))
            found.append(queries.rows[q[first]].astype(np.uint64) << np.uint64(32) | codes.rows[c[first]])
    return np.concatenate(found)


def _batches(sizes: np.ndarray) -> list[slice]:
    """Consecutive rows whose sizes add up to about `_BATCH_PAIRS`."""
    batch = np.cumsum(sizes) // _BATCH_PAIRS
    edges = [0, *(np.flatnonzero(np.diff(batch)) + 1).tolist(), len(sizes)]
    return [slice(a, b) for a, b in pairwise(edges) if a < b]


def _expand(begin: np.ndarray, sizes: np.ndarray, first_row: int) -> tuple[np.ndarray, np.ndarray]:
    """(row, index) for every index in begin[row] to begin[row] + sizes[row]."""
    rows = np.repeat(np.arange(len(sizes)), sizes)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rows + first_row, begin[rows] + within


def _found_earlier(difference: np.ndarray, band: int, flips: int) -> np.ndarray:
    earlier = np.zeros(len(difference), bool)
    for other in range(band):
        earlier |= np.bitwise_count(_band_key(difference, other)) <= flips
    return earlier


# ------------------------------------------------------------------------------------------------------- faiss


def _import_faiss():
    try:
        import faiss
    except ImportError as error:
        raise ImportError("backend 'faiss' needs faiss: pip install 'tagreel[dedup]'") from error
    return faiss


def _join_faiss(codes: np.ndarray, queries: np.ndarray, radius: int) -> np.ndarray:
    """Brute force."""
    if not len(codes) or not len(queries):
        return np.empty(0, np.uint64)
    index = _import_faiss().IndexBinaryFlat(64)
    index.add(codes.view(np.uint8).reshape(-1, 8))
    limits, _, rows = index.range_search(queries.view(np.uint8).reshape(-1, 8), radius + 1)  # strictly below
    query_rows = np.repeat(np.arange(len(queries), dtype=np.uint64), np.diff(limits.astype(np.int64)))
    return query_rows << np.uint64(32) | rows.astype(np.uint64)
