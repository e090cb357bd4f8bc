"""A set of strings that is asked by whole batches: NumPy over the bytes of Arrow arrays, no hash table made per call.

A batch of raw tags passes through two filters first, which leave the few that may be members; only these are normalised and
compared. The index is a few flat arrays, so the workers of one machine read one copy of it (Ray maps them from its store).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PLACES_A_STRING = 8  # in a filter: at most 1 in 8 of the other tags passes it
_BLOCK = 1 << 15  # tags at a time: what is computed of them stays in the processor's cache
_SMALL = np.uint64(0x2020202020202020)  # set in every byte, it makes ASCII letters small and leaves digits as they are
_NOTHING = np.uint64(0)
_FIRST_BYTE = np.uint64(0xFF)
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_FIRST_BYTES = np.array([(1 << 8 * n) - 1 for n in range(9)], dtype=np.uint64)  # masks of the first n of eight bytes


@dataclass(frozen=True)
class TagIndex:
    """U distinct strings, in the order of their hashes."""

    strings: pa.Array
    """string [U]."""
    hashes: np.ndarray
    """uint64 [U], ascending and distinct."""
    heads: np.ndarray
    """bool [2^n], a filter: place `hash >> (64 - n)` is set for the size and first eight bytes of every string."""
    wholes: np.ndarray
    """The same for all bytes of every string."""
    seed: int
    max_length: int
    """Bytes of the longest string."""

    def candidates(self, tags: pa.Array, lengths: range = range(0)) -> np.ndarray:
        """Positions of the raw tags whose normal form may be a member or has one of `lengths`: int64, ascending.

        These are the ASCII words (letters, digits, a leading "#") that pass the filter, and all tags that are no such words.
        """
        found = [np.zeros(0, np.int64)]
        for first, starts, sizes, data in _blocks(tags):
            odd = _is_no_alnum(data)
            words = _words(data)[starts]
            marked = np.flatnonzero((words & _FIRST_BYTE) == ord("#"))
            marked = marked[sizes[marked] > 0]
            odd[starts[marked]] = False
            starts[marked] += 1
            sizes[marked] -= 1
            words[marked] = _words(data)[starts[marked]]
            stays = self._may_hold(words, data, starts, sizes)
            if lengths:
                stays |= (sizes >= lengths.start) & (sizes < lengths.stop)
            if odd.any():
                stays[np.searchsorted(starts, np.flatnonzero(odd), "right") - 1] = True
            found.append(first + np.flatnonzero(stays))
        return np.concatenate(found)

    def _may_hold(self, words: np.ndarray, data: np.ndarray, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        stays = np.zeros(len(starts), dtype=bool)
        heads = _head_hashes(words, sizes, self.seed, _SMALL)
        near = np.flatnonzero(_passes(heads, self.heads))
        hashes = _whole_hashes(heads[near], data, starts[near], sizes[near], self.max_length, _SMALL)
        stays[near[_passes(hashes, self.wholes)]] = True
        return stays

    def find(self, strings: pa.Array) -> np.ndarray:
        """Index of each string among `self.strings`, or -1: int64 [M]."""
        found = np.full(len(strings), -1)
        hashes = hash_strings(strings, self.seed, self.max_length)
        asked = np.flatnonzero(_passes(hashes, self.wholes))
        index = np.searchsorted(self.hashes, hashes[asked])
        asked, index = asked[index < len(self.hashes)], index[index < len(self.hashes)]
        alike = self.hashes[index] == hashes[asked]
        asked, index = asked[alike], index[alike]
        equal = pc.equal(strings.take(pa.array(asked)), self.strings.take(pa.array(index)))
        equal = equal.to_numpy(zero_copy_only=False).astype(bool)
        found[asked[equal]] = index[equal]
        return found


def make_tag_index(strings: pa.Array) -> tuple[TagIndex, np.ndarray]:
    """(index of the distinct ones of N strings, index of each of them: int64 [N])."""
    max_length = int(pc.max(pc.binary_length(strings)).as_py() or 0)
    for seed in itertools.count():
        hashes = hash_strings(strings, seed, max_length)
        order = np.argsort(hashes, kind="stable")
        new = np.diff(hashes[order], prepend=~hashes[order[:1]]) != 0
        ordered = strings.take(pa.array(order))
        differs = pc.not_equal(ordered[1:], ordered[:-1]).to_numpy(zero_copy_only=False).astype(bool)
        if not (differs & ~new[1:]).any():  # else two strings share a hash (of 10 million: once in 400,000 runs)
            break
    index = np.empty(len(order), np.int64)
    index[order] = np.cumsum(new) - 1
    members, hashes = ordered.filter(pa.array(new)), hashes[order[new]]
    heads = _make_filter(hash_strings(members, seed, 0))
    return TagIndex(members, hashes, heads, _make_filter(hashes), seed, max_length), index


def _make_filter(hashes: np.ndarray) -> np.ndarray:
    places = np.zeros(1 << max(10, (PLACES_A_STRING * len(hashes) - 1).bit_length()), dtype=bool)
    places[_places(hashes, places)] = True
    return places


def _passes(hashes: np.ndarray, places: np.ndarray) -> np.ndarray:
    return places[_places(hashes, places)]


def _places(hashes: np.ndarray, places: np.ndarray) -> np.ndarray:
    return (hashes >> np.uint64(65 - len(places).bit_length())).view(np.int64)  # NumPy would copy an unsigned index


# ------------------------------------------------------------------------------------------------------ hashes


def hash_strings(strings: pa.Array, seed: int, max_length: int) -> np.ndarray:
    """uint64 [M] of the bytes of each string; of one that is longer than `max_length`, of its size and first eight bytes."""
    found = [np.zeros(0, np.uint64)]
    for _, starts, sizes, data in _blocks(strings):
        heads = _head_hashes(_words(data)[starts], sizes, seed)
        found.append(_whole_hashes(heads, data, starts, sizes, max_length))
    return np.concatenate(found)


def _head_hashes(words: np.ndarray, sizes: np.ndarray, seed: int, also: np.uint64 = _NOTHING) -> np.ndarray:
    """Of the sizes and the first eight bytes; `also` are bits to set in these."""
    return _mix(sizes.astype(np.uint64) + np.uint64(seed << 32), _first(words, sizes, also))


def _whole_hashes(
    heads: np.ndarray,
    data: np.ndarray,
    starts: np.ndarray,
    sizes: np.ndarray,
    max_length: int,
    also: np.uint64 = _NOTHING,
) -> np.ndarray:
    """`heads` with all other bytes mixed in, eight at a time."""
    hashes = heads.copy()
    for offset in range(8, max_length, 8):
        longer = np.flatnonzero((sizes > offset) & (sizes <= max_length))
        words = _first(_words(data)[starts[longer] + offset], sizes[longer] - offset, also)
        hashes[longer] = _mix(hashes[longer], words)
    return hashes


def _words(data: np.ndarray) -> np.ndarray:
    """Eight bytes from every place on: uint64, a view."""
    return np.ndarray(len(data) - 7, "<u8", data, strides=(1,))


def _first(words: np.ndarray, sizes: np.ndarray, also: np.uint64) -> np.ndarray:
    """`words` with the bits `also`, and zeros behind the first `sizes` bytes."""
    return (words | also) & _FIRST_BYTES.take(sizes, mode="clip")


def _mix(hashes: np.ndarray, words: np.ndarray) -> np.ndarray:
    mixed = (hashes ^ words) * _FACTOR
    mixed ^= mixed >> np.uint64(32)
    mixed *= _FACTOR
    return mixed


def _blocks(strings: pa.Array) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """(position of the first string, start int32 [n] and bytes int32 [n] of each, the block's bytes and 16 more)."""
    if not len(strings):
        return
    offsets = np.frombuffer(strings.buffers()[1], np.int32)[strings.offset :][: len(strings) + 1]
    values = np.frombuffer(strings.buffers()[2] or b"", np.uint8)
    for first in range(0, len(strings), _BLOCK):
        block = offsets[first : first + _BLOCK + 1]
        data = np.full(block[-1] - block[0] + 16, ord("0"), dtype=np.uint8)
        data[:-16] = values[block[0] : block[-1]]
        yield first, block[:-1] - block[0], np.diff(block), data


def _is_no_alnum(data: np.ndarray) -> np.ndarray:
    """Whether each byte is none of an ASCII letter or digit."""
    letters = data | 32
    letters -= ord("a")
    odd = letters >= 26
    odd &= data - ord("0") >= 10
    return odd
