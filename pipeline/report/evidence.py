"""Pairs of videos to judge by eye: the strongest exclusions, and those just above and just below the thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import DedupConfig
from pipeline.report import pictures
from pipeline.report.artefacts import Dataset, Dedup
from pipeline.report.markup import Safe, join, percent, plural, tag, void
from pipeline.report.points import number, section
from pipeline.report.stored import Shelf, StoredVideo, read_frames
from pipeline.storage import StorageError

FRAMES = 3
MAX_PAIRS = 48
"""In the page; a pair has two pictures."""
MAX_PER_KIND = 4
WITHIN = "(within)"
KINDS = {
    "strongest": "Strongest exclusions",
    "above": "Exclusions just above the thresholds",
    "below": "Listed, not excluded: just below the thresholds",
    "same": "Videos of the dataset that are the same as a longer one of it",
}

Targets = Mapping[str, Mapping[str, Dataset]]

# ------------------------------------------------------------------------------------------------------- pairs


@dataclass(frozen=True)
class Listed:
    """The strongest pair of each video with each target, of those that a dedup listed, as columns."""

    table: pa.Table
    excluded: np.ndarray
    """bool [M]"""
    margin: np.ndarray
    """float [M]: overlap and matched frames, each over what the thresholds ask for, the lesser one; excluded from 1 on."""

    @property
    def overlaps(self) -> np.ndarray:
        """float [M]: shares of informative source frames."""
        return self.table["valid_overlap"].to_numpy()

    @property
    def distances(self) -> np.ndarray:
        """int [M]: bits by which the codes of the two closest frames differ."""
        return self.table["min_distance"].to_numpy()


def thresholds(dedup: Dedup) -> tuple[float, int]:
    """(least overlap, least frames) of an exclusion."""
    config = section(dedup.marker, "config")
    overlap, frames = number(config.get("min_overlap")), number(config.get("min_frames"))
    return (
        DedupConfig.min_overlap if overlap is None else overlap,
        DedupConfig.min_frames if frames is None else int(frames),
    )


def listed_pairs(dedup: Dedup) -> Listed | None:
    """None where pairs.parquet is gone or of an older kind."""
    pairs, exclusions = dedup.pairs, dedup.exclusions
    wanted = {
        "video_id",
        "target",
        "target_video_id",
        "valid_overlap",
        "matched_frames",
        "valid_frames",
        "min_distance",
        "decoy",
    }
    if pairs is None or exclusions is None or not wanted <= set(pairs.column_names):
        return None
    found = pairs.filter(pc.invert(pairs["decoy"]))
    margin, codes = _margins(found, *thresholds(dedup)), _codes(_keys(found))
    order = np.lexsort((-found["valid_overlap"].to_numpy(), -margin, codes))
    rows = np.sort(order[np.flatnonzero(np.diff(codes[order], prepend=-1))])
    chosen, gone = found.take(pa.array(rows)), set(_keys(exclusions))
    return Listed(chosen, np.array([key in gone for key in _keys(chosen)], bool), margin[rows])


def _keys(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["video_id"].to_pylist(), table["target"].to_pylist(), strict=True))


def _codes(keys: Sequence[tuple[str, str]]) -> np.ndarray:
    """int [M]: equal keys have equal codes."""
    known: dict[tuple[str, str], int] = {}
    return np.array([known.setdefault(key, len(known)) for key in keys], np.int64)


def _margins(pairs: pa.Table, min_overlap: float, min_frames: int) -> np.ndarray:
    valid = np.maximum(pairs["valid_frames"].to_numpy(), 1)
    matched = pairs["matched_frames"].to_numpy()
    return np.minimum(matched / valid / min_overlap, matched / np.minimum(min_frames, valid))


def choose(listed: Listed, count: int) -> list[tuple[str, dict[str, Any]]]:
    """(kind, row of the pairs): `count` of each kind, no pair twice."""
    ids, margin = listed.table["video_id"].to_pylist(), listed.margin
    gone, kept = (np.flatnonzero(listed.excluded == flag).tolist() for flag in (True, False))
    by_overlap = sorted(gone, key=lambda row: (-listed.overlaps[row], -margin[row], ids[row]))
    num_strongest = min(count, -(-len(gone) // 2))
    picked = {
        "strongest": by_overlap[:num_strongest],
        "above": sorted(by_overlap[num_strongest:], key=lambda row: (margin[row], ids[row]))[:count],
        "below": sorted(kept, key=lambda row: (-margin[row], ids[row]))[:count],
    }
    return [
        (kind, row)
        for kind, rows in picked.items()
        for row in listed.table.take(pa.array(rows, pa.int64())).to_pylist()
    ]


# ----------------------------------------------------------------------------------------------------- pictures


def pair_blocks(dedup: Dedup, listed: Listed | None, targets: Targets, per_kind: int) -> list[Safe]:
    """Pairs side by side, by kind."""
    rows = choose(listed, per_kind) if listed is not None else []
    if dedup.within is not None:
        rows += [("same", row) for row in dedup.within.slice(0, per_kind).to_pylist()]
    album = _Album(dedup, targets)
    return [
        join(
            tag("h4", title), tag("div", *(album.pair(row) for k, row in rows if k == kind), class_="pairs wide-pairs")
        )
        for kind, title in KINDS.items()
        if any(k == kind for k, _ in rows)
    ]


@dataclass(frozen=True)
class _Side:
    """One video of a pair: what is known of it, and why there are no frames, if there are none."""

    video: StoredVideo | None
    problem: str = ""


class _Album:
    """Where the videos of a dedup's pairs are."""

    def __init__(self, dedup: Dedup, targets: Targets) -> None:
        self._own = Shelf(dedup.dataset)
        self._targets = {(t, s): Shelf(dataset) for t, splits in targets.items() for s, dataset in splits.items()}
        self._taken = {(e["video_id"], e["target"], e["target_video_id"]): e for e in dedup.evidence}

    def pair(self, row: dict[str, Any]) -> Safe:
        """Frames of both videos, above each other, and the facts below."""
        source = _find(self._own, row["source_shard"], row["video_id"])
        shelf = self._own if row["target"] == WITHIN else self._targets.get((row["target"], row["target_split"]))
        target = _find(shelf, row["target_shard"], row["target_video_id"])
        taken = self._taken.get((row["video_id"], row["target"], row["target_video_id"]), {})
        aligned = _align(row, source, target) or _from_evidence(row, taken)
        name = "longer video" if row["target"] == WITHIN else f"target video of {row['target']}, {row['target_split']}"
        return tag(
            "figure",
            _picture(f"video {row['video_id']}", source, aligned, 0),
            _picture(f"{name} {row['target_video_id']}", target, aligned, 1),
            tag("figcaption", _caption(row, name, source.video, target.video, aligned, taken.get("phash_distance"))),
        )


def _find(shelf: Shelf | None, shard: str, video_id: str) -> _Side:
    if shelf is None:
        return _Side(None, "the target is not there")
    try:
        video = shelf.find(shard, video_id)
    except StorageError as error:
        return _Side(None, str(error))
    return _Side(video)


@dataclass(frozen=True)
class _Aligned:
    frames: tuple[np.ndarray | None, np.ndarray | None]
    """uint8 [T, H, W, 3] of source and target; the source's are mirrored if the match is."""
    times_s: tuple[Sequence[float], Sequence[float]]
    problems: tuple[str, str] = ("", "")


def _align(row: dict[str, Any], source: _Side, target: _Side) -> _Aligned | None:
    """Frames spread over the matched span of the source, and those of the target at the offset that fits them best.

    The dedup states the two closest frames and the spans that matches cover; in motion that repeats itself, or pictures that
    stand still, any of these may be off. So each offset that they suggest is tried, and that with the least difference taken.
    """
    if source.video is None or target.video is None:
        return None
    start, end = row["start_s"], row["end_s"]
    times = [start + (end - start) * (2 * i + 1) / (2 * FRAMES) for i in range(FRAMES)]
    stretch = (row["target_end_s"] - row["target_start_s"]) / max(end - start, 1e-3)
    offsets = (row["target_start_s"] - start, row["target_time_s"] - row["source_time_s"], row["target_end_s"] - end)
    options = [
        [row["target_start_s"] + (t - start) * stretch for t in times],
        *([t + o for t in times] for o in offsets),
    ]
    last_s = (target.video.duration_s or 0.0) + 0.1
    options = [option for option in options if option[0] >= -0.1 and option[-1] <= last_s] or options[:1]
    mine, problem = read_frames(source.video, [source.video.nearest(t) for t in times])
    indices = [target.video.nearest(t) for option in options for t in option]
    theirs, target_problem = read_frames(target.video, indices)
    if mine is not None and row["mirrored"]:
        mine = mine[:, :, ::-1]
    best = 0
    if mine is not None and theirs is not None:
        groups = [theirs[FRAMES * i : FRAMES * (i + 1)] for i in range(len(options))]
        best = int(np.argmin([pictures.difference(mine, group) for group in groups]))
        theirs = groups[best]
    elif theirs is not None:
        theirs = theirs[:FRAMES]
    return _Aligned((mine, theirs), (times, options[best]), (problem, target_problem))


def _from_evidence(row: dict[str, Any], taken: dict[str, Any]) -> _Aligned | None:
    """The two closest frames, as the dedup kept them, where shards are not at hand."""
    jpegs = taken.get("source_jpeg"), taken.get("target_jpeg")
    if not all(isinstance(jpeg, bytes) for jpeg in jpegs):
        return None
    frames = pictures.shrunk(jpegs[0], mirror=row["mirrored"]), pictures.shrunk(jpegs[1])
    return _Aligned(frames, ([row["source_time_s"]], [row["target_time_s"]]))


def _picture(name: str, side: _Side, aligned: _Aligned | None, index: int) -> Safe:
    if aligned is None:
        return pictures.strip(None, name, side.problem or "the other video of the pair is not there")
    times = ", ".join(f"{time_s:.1f}" for time_s in aligned.times_s[index])
    alt = f"Frames of {name} at {times} s"
    return pictures.strip(aligned.frames[index], alt, aligned.problems[index] or "no frame")


# ----------------------------------------------------------------------------------------------------- captions


def _caption(
    row: dict[str, Any],
    name: str,
    source: StoredVideo | None,
    target: StoredVideo | None,
    aligned: _Aligned | None,
    phash_distance: int | None,
) -> Safe:
    matched = f"{row['matched_frames']:,} of {plural(row['valid_frames'], 'informative frame')} match"
    facts = [
        f"overlap {percent(row['valid_overlap'])} % ({matched})",
        f"{percent(row['overlap'])} % of all its frames",
        f"{percent(row['target_overlap'])} % of the {'longer' if row['target'] == WITHIN else 'target'} video's",
        f"distance {row['min_distance']} of 64 bits",
    ]
    if phash_distance is not None:
        facts.append(f"pHash distance {phash_distance} of 64 bits")
    facts.append("mirrored (the upper frames are shown mirrored)" if row["mirrored"] else "not mirrored")
    above, below = aligned.times_s if aligned else ([], [])
    return join(
        _who("Above: video", row["video_id"], source, above),
        void("br"),
        _who(f"Below: {name}", row["target_video_id"], target, below),
        void("br"),
        "; ".join(facts),
    )


def _who(what: str, video_id: str, video: StoredVideo | None, times_s: Sequence[float]) -> Safe:
    when = f" at {', '.join(f'{t:.1f}' for t in times_s)} s" if times_s else ""
    labels = f", {', '.join(video.labels[:3])}" if video and video.labels else ""
    uri = join(" ", tag("code", video.uri)) if video and video.uri else None
    return join(f"{what} ", tag("code", video_id), f"{labels}{when}", uri)
