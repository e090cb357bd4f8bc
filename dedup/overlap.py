"""Frame matches → how much of each source video is in each target video.

Frames of one video that have the same codes are one *occurrence* with a count: matches are found per distinct code, spread
to the occurrences on both sides, checked with the 256-bit codes, and summed up to pairs of videos. Raw matches live only
inside `compare`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from dedup import census
from dedup.census import SIGNATURE_FPS, Signature
from dedup.lsh import CodeIndex

CHUNK_PAIRS = 1 << 20  # occurrence pairs checked at a time: bounds memory


@dataclass(frozen=True)
class View:
    """How source codes are changed before they are compared."""

    name: str
    of_codes64: Callable[[np.ndarray], np.ndarray]
    of_codes256: Callable[[np.ndarray], np.ndarray]


PLAIN = View("plain", lambda codes: codes, lambda codes: codes)
MIRRORED = View("mirrored", census.mirrored, census.mirrored256)
# Nobody uploads videos upside down, so what an upside-down source still matches is chance: the rate of false matches.
FLIPPED = View("flipped", census.flipped, census.flipped256)
TURNED = View(
    "turned", lambda codes: census.flipped(census.mirrored(codes)),
    lambda codes: census.flipped256(census.mirrored256(codes)),
)  # fmt: skip


@dataclass(frozen=True)
class Frames:
    """Informative frames of N videos as P occurrences of C distinct codes, sorted by code.

    Of target videos parts of the picture are coded too. Each part is a layer; layer 0 is the whole picture.
    """

    num_frames: np.ndarray  # int64 [N], all frames
    num_valid: np.ndarray  # int64 [N], informative frames, of the layer that has most
    codes: np.ndarray  # uint64 [C], ascending
    offsets: np.ndarray  # int64 [C + 1]: occurrences of code c are rows offsets[c] to offsets[c + 1]
    video: np.ndarray  # int64 [P]
    layer: np.ndarray  # int64 [P]
    codes256: np.ndarray  # uint64 [P, 4]
    count: np.ndarray  # int64 [P], frames of the occurrence, or that it stands for where not every frame is coded
    first: np.ndarray  # int64 [P], its first frame
    last: np.ndarray  # int64 [P], its last frame


@dataclass(frozen=True)
class Pairs:
    """M pairs of videos with matching frames, and the matched target codes; rows refer to the two `Frames`."""

    source: np.ndarray  # int64 [M]
    target: np.ndarray  # int64 [M]
    matched: np.ndarray  # int64 [M], matched source frames
    span: np.ndarray  # float64 [M, 2], seconds in the source from the first to the end of the last matched frame
    target_matched: np.ndarray  # int64 [M], matched target frames
    target_span: np.ndarray  # float64 [M, 2]
    min_distance: np.ndarray  # int64 [M]
    best_s: np.ndarray  # float64 [M, 2], seconds of the closest two frames in source and target
    code: np.ndarray  # int64 [K], rows of matched target codes
    code_videos: np.ndarray  # int64 [K], source videos that match each


def gather(signatures: Iterable[Signature], *, crops: bool = False) -> Frames:
    """Occurrences of all informative frames of some videos; with `crops` also of parts of them, for targets."""
    signatures = list(signatures)
    layers = [(v, k, part) for v, s in enumerate(signatures) for k, part in enumerate((s, *(s.crops if crops else ())))]
    valid = [np.flatnonzero(census.informative(part.quality)) for _, _, part in layers]
    sizes = [len(frames) for frames in valid]
    video, layer = (np.repeat(np.array([row[i] for row in layers], np.int64), sizes) for i in (0, 1))
    codes = _concatenate([part.codes64[f] for (_, _, part), f in zip(layers, valid, strict=True)], np.uint64, (0,))
    fine = _concatenate([part.codes256[f] for (_, _, part), f in zip(layers, valid, strict=True)], np.uint64, (0, 4))
    num_frames = np.array([len(s.codes64) for s in signatures], np.int64)
    every = np.where(layer > 0, census.CROP_EVERY, 1)
    frame = _concatenate(valid, np.int64, (0,)) * every
    count = np.minimum(every, num_frames[video] - frame)

    order = np.lexsort((frame, layer, *fine.T, video, codes))
    video, layer, frame, count = (column[order] for column in (video, layer, frame, count))
    codes, fine = codes[order], fine[order]
    begins = _changes(codes, video, *fine.T, layer)
    ends = np.append(begins, len(codes))[1:]
    distinct, offsets = np.unique(codes[begins], return_index=True)
    return Frames(
        num_frames=num_frames,
        num_valid=_most_valid(video, layer, count, len(signatures)),
        codes=distinct,
        offsets=np.append(offsets, len(begins)),
        video=video[begins],
        layer=layer[begins],
        codes256=fine[begins],
        count=np.add.reduceat(count, begins) if len(begins) else count,
        first=frame[begins],
        last=(frame + count)[ends - 1] - 1,
    )


def _most_valid(video: np.ndarray, layer: np.ndarray, count: np.ndarray, num_videos: int) -> np.ndarray:
    """int64 [N]: informative frames of each video, of the layer that has most."""
    num_layers = int(layer.max(initial=0)) + 1
    by_layer = np.bincount(video * num_layers + layer, count, num_videos * num_layers)
    return by_layer.reshape(num_videos, num_layers).max(1).astype(np.int64)


def compare(source: Frames, target: Frames, index: CodeIndex, view: View, max_fine_distance: int | None) -> Pairs:
    """Pairs of videos that share at least one frame.

    Args:
        index: of `target.codes`; its radius is what counts as a match of 64-bit codes.
        max_fine_distance: matches must also be this near in their 256-bit codes; None does without.
    """
    num_target, num_occurrences = max(1, len(target.num_frames)), max(1, len(target.video))
    fine = view.of_codes256(source.codes256) if max_fine_distance is not None else source.codes256
    sides, target_sides, best = [], [], []
    for s, t, distance in _occurrence_pairs(source, target, *_join(source, target, index, view)):
        if max_fine_distance is not None:
            near = np.bitwise_count(fine[s] ^ target.codes256[t]).sum(1) <= max_fine_distance
            s, t, distance = s[near], t[near], distance[near]
        sides.append(_distinct(s * num_target + target.video[t]))
        target_sides.append(_distinct(source.video[s] * num_occurrences + t))
        best.append(
            _closest(source.video[s] * num_target + target.video[t], distance, source.first[s], target.first[t])
        )
    s, t_video = np.divmod(_distinct(_concatenate(sides, np.int64, (0,))), num_target)
    s_video, t = np.divmod(_distinct(_concatenate(target_sides, np.int64, (0,))), num_occurrences)
    pair, matched, span = _sum_by_pair(source.video[s] * num_target + t_video, source, s)
    target_matched, target_span = _of_strongest_layer(s_video * num_target + target.video[t], target, t)
    closest = _closest(*_concatenate(best, np.int64, (4, 0), axis=1))
    code, code_videos = _count_videos(np.searchsorted(target.offsets, t, "right") - 1, s_video)
    return Pairs(
        *np.divmod(pair, num_target), matched, span, target_matched, target_span,
        closest[1], closest[2:].T / SIGNATURE_FPS, code, code_videos,
    )  # fmt: skip


def is_overlap(matched: np.ndarray, valid: np.ndarray, min_overlap: float, min_frames: int) -> np.ndarray:
    """bool [M]: matched frames are at least this share of the valid ones and this many (or all, if there are fewer)."""
    return (matched / np.maximum(valid, 1) >= min_overlap) & (matched >= np.minimum(min_frames, np.maximum(valid, 1)))


# ------------------------------------------------------------------------------------------------------- steps


def _join(source: Frames, target: Frames, index: CodeIndex, view: View) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matching codes: (row of source.codes, row of target.codes, distance), int64 [H] each."""
    queries = view.of_codes64(source.codes)
    q, c = index.join(queries)
    return q, c, np.bitwise_count(queries[q] ^ target.codes[c]).astype(np.int64)


def _occurrence_pairs(
    source: Frames, target: Frames, q: np.ndarray, c: np.ndarray, distance: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Matching codes → every pair of their occurrences, in chunks: (source row, target row, distance)."""
    num_source, num_target = np.diff(source.offsets)[q], np.diff(target.offsets)[c]
    ends = np.cumsum(num_source * num_target)
    total = int(ends[-1]) if len(ends) else 0
    for begin in range(0, total, CHUNK_PAIRS):
        flat = np.arange(begin, min(begin + CHUNK_PAIRS, total))
        hit = np.searchsorted(ends, flat, "right")
        within_source, within_target = np.divmod(
            flat - (ends[hit] - num_source[hit] * num_target[hit]), num_target[hit]
        )
        yield source.offsets[q[hit]] + within_source, target.offsets[c[hit]] + within_target, distance[hit]


def _sum_by_pair(pair: np.ndarray, frames: Frames, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct pairs, ascending, with the frames of their occurrences `rows` and the span these cover in seconds."""
    order = np.argsort(pair, kind="stable")
    pair, rows = pair[order], rows[order]
    begins = _changes(pair)
    if not len(begins):
        return pair, pair, np.empty((0, 2))
    start, end = np.minimum.reduceat(frames.first[rows], begins), np.maximum.reduceat(frames.last[rows], begins) + 1
    return pair[begins], np.add.reduceat(frames.count[rows], begins), np.stack([start, end], 1) / SIGNATURE_FPS


def _of_strongest_layer(pair: np.ndarray, frames: Frames, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `_sum_by_pair`, but one frame may occur in several layers: the sum of the layer with most, the span of all."""
    num_layers = int(frames.layer.max(initial=0)) + 1
    pair_layer, matched, span = _sum_by_pair(pair * num_layers + frames.layer[rows], frames, rows)
    begins = _changes(pair_layer // num_layers)
    if not len(begins):
        return matched, span
    start, end = np.minimum.reduceat(span[:, 0], begins), np.maximum.reduceat(span[:, 1], begins)
    return np.maximum.reduceat(matched, begins), np.stack([start, end], 1)


def _closest(pair: np.ndarray, distance: np.ndarray, frame: np.ndarray, target_frame: np.ndarray) -> np.ndarray:
    """int64 [4, M]: of each distinct pair the match of least distance (the earliest of equals), pairs ascending."""
    order = np.lexsort((target_frame, frame, distance, pair))
    return np.stack([pair, distance, frame, target_frame])[:, order[_changes(pair[order])]]


def _count_videos(code: np.ndarray, video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct codes and the number of distinct videos that occur with each."""
    num_videos = int(video.max()) + 1 if len(video) else 1
    return np.unique(_distinct(code * num_videos + video) // num_videos, return_counts=True)


def _distinct(values: np.ndarray) -> np.ndarray:
    """Distinct values, ascending: sorting is many times faster than the hash table of `np.unique`."""
    values = np.sort(values)
    return values[_changes(values)]


def _changes(*columns: np.ndarray) -> np.ndarray:
    """Rows at which any of some sorted columns takes a new value, the first row included."""
    new = np.ones(len(columns[0]), bool)
    if len(new):
        new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return np.flatnonzero(new)


def _concatenate(arrays: list[np.ndarray], kind: type, empty_shape: tuple[int, ...], axis: int = 0) -> np.ndarray:
    return np.concatenate([np.empty(empty_shape, kind), *arrays], axis=axis)
