"""Tables of the dedup stage: pairs of videos, and the exclusions, counts and thresholds that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup.census import SIGNATURE_FPS
from dedup.overlap import Frames, Pairs, is_overlap
from pipeline.artifacts import EXCLUSIONS

UNDECIDABLE, WITHIN = "(undecidable)", "(within)"  # in place of a target's name: why else a video is excluded
PAIRS = pa.schema(
    [
        *EXCLUSIONS,
        ("valid_frames", pa.int32()),  # informative source frames
        ("source_time_s", pa.float32()),  # of the two closest frames
        ("target_time_s", pa.float32()),
        ("source_shard", pa.string()),  # path without suffix
        ("target_shard", pa.string()),
        ("decoy", pa.bool_()),  # found upside down: chance
    ]
)
STOP_CODES = pa.schema(
    [
        ("code", pa.uint64()),
        ("num_videos", pa.int64()),  # source videos that match it
        ("num_target_videos", pa.int64()),
        ("target", pa.string()),  # one video that has it, and when
        ("target_split", pa.string()),
        ("target_video_id", pa.string()),
        ("target_time_s", pa.float32()),
    ]
)
STOP_SHARE, STOP_MIN_VIDEOS = 1e-5, 20  # a stop code matches more source videos than both allow
THRESHOLD_OVERLAPS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
THRESHOLD_FRAMES = (1, 4, 8, 16, 32)
CONTAINED = 0.5  # of a target video's frames: a long source video may hold all of a short target one below any overlap
_STRONGEST_FIRST = [
    ("valid_overlap", "descending"), ("matched_frames", "descending"), ("min_distance", "ascending"),
    ("target_split", "ascending"), ("target_video_id", "ascending"), ("mirrored", "ascending"),
]  # fmt: skip


def pair_table(
    pairs: Pairs,
    source: Frames,
    target: Frames,
    source_videos: Sequence[tuple[str, str]],
    target_videos: Sequence[Any],
    *,
    mirrored: bool,
    decoy: bool,
    floor: float,
) -> pa.Table:
    """Rows of `PAIRS` for the pairs whose overlap is at least `floor`, or that hold a good part of the target video.

    Args:
        source_videos: (video_id, shard) of each video of `source`.
        target_videos: find.TargetVideo of each video of `target`.
    """
    contained = pairs.target_matched >= CONTAINED * target.num_valid[pairs.target]
    keep = np.flatnonzero(contained | (pairs.matched >= floor * source.num_valid[pairs.source]))
    s, t = pairs.source[keep], pairs.target[keep]
    videos, targets = [source_videos[i] for i in s], [target_videos[i] for i in t]
    columns = {
        "video_id": [video_id for video_id, _ in videos],
        "target": [video.target for video in targets],
        "target_split": [video.split for video in targets],
        "target_video_id": [video.video_id for video in targets],
        "overlap": pairs.matched[keep] / source.num_frames[s],
        "valid_overlap": pairs.matched[keep] / source.num_valid[s],
        "target_overlap": pairs.target_matched[keep] / target.num_valid[t],
        "matched_frames": pairs.matched[keep],
        "min_distance": pairs.min_distance[keep],
        "start_s": pairs.span[keep, 0],
        "end_s": pairs.span[keep, 1],
        "target_start_s": pairs.target_span[keep, 0],
        "target_end_s": pairs.target_span[keep, 1],
        "mirrored": np.full(len(keep), mirrored),
        "valid_frames": source.num_valid[s],
        "source_time_s": pairs.best_s[keep, 0],
        "target_time_s": pairs.best_s[keep, 1],
        "source_shard": [shard for _, shard in videos],
        "target_shard": [video.shard for video in targets],
        "decoy": np.full(len(keep), decoy),
    }
    return pa.table(columns).cast(PAIRS, safe=False)


def sort_pairs(pairs: pa.Table) -> pa.Table:
    """By video, target and strength: an order that does not depend on how the work was cut into parts."""
    first = [("decoy", "ascending"), ("video_id", "ascending"), ("target", "ascending")]
    return pairs.sort_by([*first, *_STRONGEST_FIRST])


def _flagged(pairs: pa.Table, min_overlap: float, min_frames: int, decoy: bool) -> np.ndarray:
    """bool [M]: pairs, found as they are or upside down, that are overlaps at these thresholds."""
    enough = is_overlap(pairs["matched_frames"].to_numpy(), pairs["valid_frames"].to_numpy(), min_overlap, min_frames)
    return enough & (pairs["decoy"].to_numpy() == decoy)


def choose_exclusions(pairs: pa.Table, min_overlap: float, min_frames: int) -> pa.Table:
    """Rows of sorted `PAIRS`: the strongest overlap of each video with each target."""
    chosen = pairs.filter(pa.array(_flagged(pairs, min_overlap, min_frames, decoy=False)))
    videos, targets = (chosen[name].to_numpy() for name in ("video_id", "target"))
    first = np.ones(chosen.num_rows, bool)
    first[1:] = (videos[1:] != videos[:-1]) | (targets[1:] != targets[:-1])
    return chosen.filter(pa.array(first))


def count_flagged(pairs: pa.Table, min_overlap: float, min_frames: int, *, decoy: bool = False) -> int:
    """Source videos with an overlap at these thresholds."""
    flagged = _flagged(pairs, min_overlap, min_frames, decoy)
    return pc.count_distinct(pairs["video_id"].filter(pa.array(flagged))).as_py()


def contained_targets(pairs: pa.Table, exclusions: pa.Table, min_frames: int) -> list[str]:
    """Videos that are kept and yet hold a good part of a target video, which is little of their own length."""
    enough = _flagged(pairs, 0, min_frames, decoy=False) & (pairs["target_overlap"].to_numpy() >= CONTAINED)
    return sorted(set(pairs["video_id"].filter(pa.array(enough)).to_pylist()) - set(exclusions["video_id"].to_pylist()))


def count_by_target(exclusions: pa.Table) -> dict[str, int]:
    """Excluded videos by target; a video that overlaps several counts for the one it overlaps most (by name if equal)."""
    by_strength = [("video_id", "ascending"), ("valid_overlap", "descending"), ("target", "ascending")]
    strongest: dict[str, str] = {}
    for row in exclusions.select(["video_id", "valid_overlap", "target"]).sort_by(by_strength).to_pylist():
        strongest.setdefault(row["video_id"], row["target"])
    targets = list(strongest.values())
    return {target: targets.count(target) for target in sorted(set(targets))}


def undecidable_rows(video_ids: Sequence[str]) -> pa.Table:
    """Rows of `PAIRS` that exclude videos without an informative frame."""
    text = {"video_id": list(video_ids), "target": [UNDECIDABLE] * len(video_ids)}
    empty = {pa.string(): "", pa.bool_(): False}
    columns = [text.get(field.name, [empty.get(field.type, 0)] * len(video_ids)) for field in PAIRS]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, PAIRS, strict=True)], schema=PAIRS)


def threshold_table(pairs: pa.Table) -> list[dict[str, Any]]:
    """What other thresholds would remove, and how much of that upside down (by chance; of the parts compared so)."""
    return [
        {
            "min_overlap": min_overlap,
            "min_frames": min_frames,
            "videos": count_flagged(pairs, min_overlap, min_frames),
            "by_chance": count_flagged(pairs, min_overlap, min_frames, decoy=True),
        }
        for min_overlap in THRESHOLD_OVERLAPS
        for min_frames in THRESHOLD_FRAMES
    ]


def stop_code_table(
    counted: pa.Table, num_videos: int, frames: Frames, target_videos: Sequence[Any], target: str
) -> pa.Table:
    """Rows of `STOP_CODES` of one target, most matched first: likelier logos and title cards than copies.

    Args:
        counted: {code, num_videos} of the target, from each part of the source.
        num_videos: of the source.
        frames, target_videos: of this target and others.
    """
    sums = counted.group_by("code").aggregate([("num_videos", "sum")])
    stop = sums.filter(pc.greater(sums["num_videos_sum"], max(STOP_MIN_VIDEOS, STOP_SHARE * num_videos)))
    stop = stop.sort_by([("num_videos_sum", "descending"), ("code", "ascending")])
    rows = [_occurrences(frames, code, target_videos, target) for code in stop["code"].to_numpy()]
    videos = [target_videos[frames.video[found[0]]] for found in rows]
    columns = {
        "code": stop["code"],
        "num_videos": stop["num_videos_sum"],
        "num_target_videos": [len(np.unique(frames.video[found])) for found in rows],
        "target": [video.target for video in videos],
        "target_split": [video.split for video in videos],
        "target_video_id": [video.video_id for video in videos],
        "target_time_s": [frames.first[found[0]] / SIGNATURE_FPS for found in rows],
    }
    return pa.table(columns).cast(STOP_CODES)


def _occurrences(frames: Frames, code: np.uint64, target_videos: Sequence[Any], target: str) -> np.ndarray:
    """Rows of the occurrences of a code in one target's videos."""
    found = [np.arange(frames.offsets[c], frames.offsets[c + 1]) for c in np.flatnonzero(frames.codes == code)]
    return next(rows for rows in found if target_videos[frames.video[rows[0]]].target == target)
