"""Where each frame's bytes lie in a stored MP4, read from its own tables.

A demuxer probes every file by decoding some of it, which for a short clip costs as much as the clip. The stored form needs no
probing: one H.264 track, constant rate, closed GOPs. A file that is anything else, or damaged, has no table here, and is left
to the demuxer. Boxes as in ISO/IEC 14496-12 and -15.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

Span = tuple[int, int]
"""From, to: the content of a box."""
SAMPLE_ENTRY_SIZE = 78  # of avc1's fixed fields


@dataclass(frozen=True)
class FrameTable:
    """N coded frames, in the order of decoding."""

    offsets: np.ndarray
    """int64 [N], of the bytes."""
    sizes: np.ndarray
    """int64 [N]."""
    numbers: np.ndarray
    """int64 [N], which frame of the video each is: a permutation of 0 … N − 1 that keeps to GOPs."""
    gop_starts: np.ndarray
    """int64 [G], the first frame of each GOP: the same in both orders."""
    extradata: bytes
    """What a decoder needs to know beforehand (avcC)."""

    def gop_of(self, number: int) -> int:
        return int(self.gop_starts.searchsorted(number, "right")) - 1

    def gop(self, index: int) -> range:
        """Places, in the order of decoding, of a GOP's frames."""
        end = self.gop_starts[index + 1] if index + 1 < len(self.gop_starts) else len(self.numbers)
        return range(int(self.gop_starts[index]), int(end))


def read_table(data: bytes) -> FrameTable | None:
    """The table of an MP4 in the stored form; None for any other file."""
    try:
        return _read(data)
    except (ValueError, IndexError, KeyError, struct.error, OverflowError):
        return None


def _read(data: bytes) -> FrameTable:
    moov = _boxes(data, (0, len(data)))[b"moov"]
    (track,) = (span for kind, span in _walk(data, moov) if kind == b"trak")
    track_boxes = _boxes(data, track)
    stbl = _boxes(data, _boxes(data, track_boxes[b"mdia"])[b"minf"])[b"stbl"]
    tables = _boxes(data, stbl)
    sizes = _sizes(data, tables[b"stsz"])
    times, step = _times(data, tables, len(sizes))
    if times.min() != _media_start(data, track_boxes):
        raise ValueError("an edit list leaves out frames, or shifts them")
    numbers = np.empty(len(times), np.int64)
    numbers[times.argsort(kind="stable")] = np.arange(len(times))
    if not np.array_equal(times - times.min(), numbers * step):
        raise ValueError("not a constant rate")
    offsets = _offsets(data, tables, sizes)
    if (offsets + sizes).max() > len(data):
        raise ValueError("frames outside the file")
    return FrameTable(offsets, sizes, numbers, _gop_starts(data, tables, numbers), _extradata(data, tables[b"stsd"]))


def _sizes(data: bytes, stsz: Span) -> np.ndarray:
    """int64 [N]."""
    one_for_all, count = struct.unpack_from(">II", data, stsz[0] + 4)
    if one_for_all:
        return np.full(min(count, len(data)), one_for_all)
    return np.frombuffer(data, ">u4", count, stsz[0] + 12).astype(np.int64)


def _times(data: bytes, tables: dict[bytes, Span], num_frames: int) -> tuple[np.ndarray, int]:
    """int64 [N], when each frame is shown, in ticks of the media; and the ticks of a frame."""
    counts, ticks = _entries(data, tables[b"stts"], ">u4", 2).T
    lasting = _repeat(ticks, counts, num_frames)
    decoded = lasting.cumsum() - lasting
    if b"ctts" not in tables:
        return decoded, int(ticks[0])
    counts, shifts = _entries(data, tables[b"ctts"], ">i4", 2).T
    return decoded + _repeat(shifts, counts, num_frames), int(ticks[0])


def _media_start(data: bytes, track: dict[bytes, Span]) -> int:
    """Time of the media with which the track begins, by its edit list."""
    if b"edts" not in track:
        return 0
    begin, _ = _boxes(data, track[b"edts"])[b"elst"]
    version, count = data[begin], struct.unpack_from(">I", data, begin + 4)[0]
    if count != 1:
        raise ValueError("an edit list of several parts")
    return struct.unpack_from(">Qq" if version else ">Ii", data, begin + 8)[1]


def _offsets(data: bytes, tables: dict[bytes, Span], sizes: np.ndarray) -> np.ndarray:
    """int64 [N]: frames lie one after the other in chunks."""
    chunks = _entries(data, tables[b"stco"], ">u4", 1)[:, 0]
    firsts, per_chunk, _ = _entries(data, tables[b"stsc"], ">u4", 3).T
    counts = _repeat(per_chunk, np.diff(firsts, append=len(chunks) + 1), len(chunks))
    within = sizes.cumsum() - sizes
    return within + _repeat(chunks - within[counts.cumsum() - counts], counts, len(sizes))


def _repeat(values: np.ndarray, counts: np.ndarray, total: int) -> np.ndarray:
    """int64 [total]; a table that says another number may ask for more memory than there is."""
    if counts.min() < 0 or counts.sum() != total:
        raise ValueError("tables of different lengths")
    return np.repeat(values, counts)


def _gop_starts(data: bytes, tables: dict[bytes, Span], numbers: np.ndarray) -> np.ndarray:
    """int64 [G]; ValueError unless GOPs are shown one after the other too, each from its keyframe on."""
    if b"stss" in tables:
        starts = _entries(data, tables[b"stss"], ">u4", 1)[:, 0] - 1
    else:  # every frame is a GOP of its own
        starts = np.arange(len(numbers))
    ends = np.append(starts[1:], len(numbers))
    lowest, highest = (of.reduceat(numbers, starts) for of in (np.minimum, np.maximum))
    if starts[0] or (numbers[starts] != starts).any() or (lowest != starts).any() or (highest != ends - 1).any():
        raise ValueError("open GOPs")
    return starts


def _extradata(data: bytes, stsd: Span) -> bytes:
    if struct.unpack_from(">I", data, stsd[0] + 4)[0] != 1:
        raise ValueError("several kinds of frames")
    begin, end = _boxes(data, (stsd[0] + 8, stsd[1]))[b"avc1"]
    entry = _boxes(data, (begin + SAMPLE_ENTRY_SIZE, end))
    if b"colr" in entry:
        raise ValueError("colours that the decoder does not learn from the frames")
    return data[slice(*entry[b"avcC"])]


# ------------------------------------------------------------------------------------------------------- boxes


def _walk(data: bytes, span: Span) -> Iterator[tuple[bytes, Span]]:
    """(type, content) of the boxes within a span."""
    begin, end = span
    while begin < end:
        size, kind = struct.unpack_from(">I4s", data, begin)
        header = 8
        if size == 1:
            size, header = struct.unpack_from(">Q", data, begin + 8)[0], 16
        if not header <= size <= end - begin:
            raise ValueError("a box does not fit into its parent")
        yield kind, (begin + header, begin + size)
        begin += size


def _boxes(data: bytes, span: Span) -> dict[bytes, Span]:
    return dict(_walk(data, span))


def _entries(data: bytes, span: Span, kind: str, columns: int) -> np.ndarray:
    """int64 [count, columns]: what most tables are, after version, flags and count."""
    count = struct.unpack_from(">I", data, span[0] + 4)[0]
    return np.frombuffer(data, kind, count * columns, span[0] + 8).reshape(count, columns).astype(np.int64)
