"""Near-duplicates of target videos: how many were excluded, how many of those by chance, and the frames to judge by eye."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.data import flat
from pipeline.report.inputs import Dedup, number
from pipeline.report.markup import Safe, details, join, plural, pre, section, table, tag, value, void

MAX_UNDECIDABLE = 50
MAX_PAIRS = 12
"""Pairs of frames shown per kind of evidence."""
MAX_FRAME_BYTES = 2_000_000
"""JPEG bytes in the page, over all pairs."""
KINDS = {
    "strongest": "Strongest matches kept as evidence",
    "weakest": "Weakest matches kept as evidence",
    "random": "Random matches kept as evidence",
    "within": "Videos of the dataset that are the same as one another",
}


def exclusions_section(dedups: Sequence[Dedup]) -> Safe:
    if not dedups:
        text = (
            "No dataset of this sweep has a finished dedup: nothing is known about test videos in the pretraining data."
        )
        return section("exclusions", "Exclusions", tag("p", text, class_="callout"))
    intro = (
        "Pretraining videos that overlap a target video are left out of every dataset and run. Overlap is the share of the "
        "pretraining video's frames that match; valid overlap counts informative frames only."
    )
    blocks, share = [], MAX_FRAME_BYTES // len(dedups)
    for dedup in dedups:
        frames = _frames(dedup.evidence, share)
        blocks += [tag("h3", "Dataset ", dedup.dataset), _per_target(dedup.exclusions), _facts(dedup.marker), *frames]
    return section("exclusions", "Exclusions", tag("p", intro), *blocks)


def _per_target(exclusions: pa.Table | None) -> Safe:
    if exclusions is None or not exclusions.num_rows:
        return tag("p", "No video was excluded.")
    keys = [key for key in ("target", "target_split") if key in exclusions.column_names]
    wanted = [("video_id", "count_distinct"), ("target_video_id", "count_distinct"), ("overlap", "approximate_median")]
    grouped = exclusions.group_by(keys).aggregate(wanted).sort_by([(key, "ascending") for key in keys]).to_pylist()
    rows = [[" · ".join(str(g[key]) for key in keys if g[key]), f"{g['video_id_count_distinct']:,}",
             f"{g['target_video_id_count_distinct']:,}", value(g["overlap_approximate_median"])] for g in grouped]  # fmt: skip
    total = pc.count_distinct(exclusions["video_id"]).as_py()
    rows.append([tag("b", "any"), tag("b", f"{total:,}"), None, None])
    headers = ("Target", "Videos excluded", "Target videos matched", "Median overlap")
    return table(headers, rows, label="Exclusions per target")


_CHANCE = (
    "Estimate of the videos removed by chance: the same search against the target videos turned upside down, which nothing "
    "should match."
)
_THRESHOLDS = (
    "Videos that other thresholds would remove; in brackets those found upside down, by chance, in the parts compared so. "
    "The thresholds in use are bold."
)


def _facts(marker: dict[str, Any]) -> Safe:
    """Decoy estimate, thresholds and undecidable videos, in whichever form the marker has them."""
    parts = []
    for key, thing in marker.items():
        if key == "chance" or "decoy" in key:
            parts += [tag("h4", "Removed by chance"), tag("p", _CHANCE), _anything(key, thing)]
        elif "threshold" in key:
            grid = _threshold_grid(thing, marker.get("config"))
            parts += [tag("h4", "Thresholds"), *([tag("p", _THRESHOLDS), grid] if grid else [_anything(key, thing)])]
        elif "undecidable" in key:
            parts.append(_undecidable(thing))
        elif key == "stop_codes":
            text = (
                "Frames of target videos that match unusually many videos (logos, titles; kept in stop_codes.parquet): "
            )
            parts.append(tag("p", text, _plain(thing)))
    return join(*parts)


def _threshold_grid(rows: Any, config: Any) -> Safe | None:
    """Overlaps down, frames across; None when the rows are not [{min_overlap, min_frames, videos, by_chance}]."""
    keys = ("min_overlap", "min_frames", "videos", "by_chance")
    if not isinstance(rows, list) or not rows or not all(isinstance(r, dict) and r.keys() >= set(keys) for r in rows):
        return None
    cells = {(r["min_overlap"], r["min_frames"]): f"{value(r['videos'])} ({value(r['by_chance'])})" for r in rows}
    used = tuple((config or {}).get(key) for key in keys[:2])
    if used in cells:
        cells[used] = tag("b", cells[used])
    overlaps, frames = (sorted({r[key] for r in rows}) for key in keys[:2])
    body = [[value(overlap), *(cells.get((overlap, n)) for n in frames)] for overlap in overlaps]
    headers = ("Least overlap", *(f"from {plural(n, 'frame')}" for n in frames))
    return table(headers, body, label="Exclusions at other thresholds")


def _anything(label: str, thing: Any) -> Safe:
    """A list of dicts as a table, a dict as pairs, anything else as it is."""
    if isinstance(thing, list) and thing and all(isinstance(row, dict) for row in thing):
        headers = list(dict.fromkeys(key for row in thing for key in row))
        rows = [[_plain(row.get(key)) for key in headers] for row in thing]
        return table([header.replace("_", " ") for header in headers], rows, label=label)
    if isinstance(thing, dict):
        return table(("Quantity", "Value"), [list(pair) for pair in flat(thing)], label=label)
    return tag("p", _plain(thing))


def _plain(thing: Any) -> Any:
    return json.dumps(thing, ensure_ascii=False) if isinstance(thing, dict | list) else value(thing)


def _undecidable(thing: Any) -> Safe:
    ids = thing if isinstance(thing, list) else []
    count = len(ids) if isinstance(thing, list) else thing
    text = f"Undecidable, no informative frame (black or uniform): {_plain(count)}"
    if not ids:
        return tag("p", text)
    left = f"\n… and {len(ids) - MAX_UNDECIDABLE:,} more" if len(ids) > MAX_UNDECIDABLE else ""
    return details(text, pre("\n".join(str(_plain(i))[:200] for i in ids[:MAX_UNDECIDABLE]) + left))


# ------------------------------------------------------------------------------------------------------- frames


def _frames(evidence: list[dict[str, Any]], budget: int) -> list[Safe]:
    """Frames side by side, by kind; each kind may use what the ones before it left of its share of the budget."""
    kinds = dict.fromkeys((*KINDS, *(str(row.get("kind")) for row in evidence)))
    by_kind = {kind: [row for row in evidence if str(row.get("kind")) == kind] for kind in kinds}
    by_kind, blocks = {kind: rows for kind, rows in by_kind.items() if rows}, []
    for place, (kind, rows) in enumerate(by_kind.items()):
        shown = _affordable(rows, budget // (len(by_kind) - place))
        budget -= sum(map(_num_bytes, shown))
        left = f", {len(rows) - len(shown):,} more in evidence.parquet" if len(shown) < len(rows) else ""
        title = tag("h4", f"{KINDS.get(kind, kind)} ({len(shown)}{left})")
        blocks.append(join(title, tag("div", *map(_pair, shown), class_="pairs")))
    return blocks


def _affordable(rows: list[dict[str, Any]], budget: int) -> list[dict[str, Any]]:
    """The first rows, at most MAX_PAIRS, whose frames fit into the budget of bytes."""
    chosen = []
    for row in rows[:MAX_PAIRS]:
        if _num_bytes(row) <= budget:
            chosen.append(row)
            budget -= _num_bytes(row)
    return chosen


def _num_bytes(row: dict[str, Any]) -> int:
    return len(row.get("source_jpeg") or b"") + len(row.get("target_jpeg") or b"")


def _pair(row: dict[str, Any]) -> Safe:
    source = f"{row.get('video_id')} at {_seconds(row.get('source_time_s'))}"
    place = "/".join(str(row[key]) for key in ("target", "target_split") if row.get(key))
    target = f"{place} {row.get('target_video_id')} at {_seconds(row.get('target_time_s'))}"
    images = tag("div", _image(row.get("source_jpeg"), source), _image(row.get("target_jpeg"), target), class_="pair")
    facts = [f"{name} {value(row[key])}" for name, key in _PAIR_FACTS if row.get(key) is not None]
    facts += ["mirrored"] if row.get("mirrored") else []
    names = join(tag("code", source), " ↔ ", tag("code", target), void("br"))
    return tag("figure", images, tag("figcaption", names, ", ".join(facts)))


_PAIR_FACTS = (
    ("overlap", "overlap"),
    ("valid overlap", "valid_overlap"),
    ("matched frames", "matched_frames"),
    ("pHash distance", "phash_distance"),
)


def _seconds(time_s: Any) -> str:
    return "?" if number(time_s) is None else f"{time_s:.1f} s"


def _image(jpeg: Any, alt: str) -> Safe:
    if not isinstance(jpeg, bytes) or not jpeg.startswith(b"\xff\xd8"):
        return tag("span", "no frame", class_="noframe")
    return void(
        "img", src="data:image/jpeg;base64," + base64.b64encode(jpeg).decode(), alt=f"Frame of {alt}", loading="lazy"
    )
