"""Near-duplicates of target videos: how many were excluded, how many of those by chance, and how near the thresholds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report import evidence, plots
from pipeline.report.artefacts import Dedup, Source
from pipeline.report.data import flat
from pipeline.report.evidence import Listed, Targets
from pipeline.report.funnel import make_step, reasons_text
from pipeline.report.markup import Safe, details, join, percent, plural, pre, section, table, tag, value
from pipeline.report.points import section as part

MAX_LISTED = 50
"""Ids of a list."""
MAX_SHOWN = 12
"""Dedups with plots and pictures."""


def exclusions_section(sources: Sequence[Source], targets: Targets) -> Safe:
    dedups = [source.dedup for source in sources if source.dedup]
    missing = [_missing(source) for source in sources if source.dedup is None]
    if not dedups:
        text = (
            "No dataset of this sweep has a finished dedup: nothing is known about test videos in the pretraining data."
        )
        return section("exclusions", "Exclusions", tag("p", text, class_="callout"), *missing)
    intro = (
        "Pretraining videos that overlap a target video are left out of every dataset and run. Overlap is the share of the "
        "pretraining video's informative frames that match frames of one target video."
    )
    shown = dedups[:MAX_SHOWN]
    per_kind = max(1, min(evidence.MAX_PER_KIND, evidence.MAX_PAIRS // (len(evidence.KINDS) * len(shown))))
    blocks = [_dedup(i, dedup, targets, per_kind if i < MAX_SHOWN else 0) for i, dedup in enumerate(dedups)]
    left = len(dedups) - len(shown)
    note = f"{plural(left, 'dedup')} without plots and pictures, to keep this page small." if left else None
    return section(
        "exclusions", "Exclusions", tag("p", intro), *missing, *blocks, tag("p", note, class_="note") if note else None
    )


def _missing(source: Source) -> Safe:
    why = "its dedup is planned and not finished" if source.is_dedup_planned else "no dedup is planned"
    text = f"Dataset {source.dataset.name}: {why}. Nothing is known about target videos in it."
    return tag("p", text, class_="callout")


def _dedup(index: int, dedup: Dedup, targets: Targets, per_kind: int) -> Safe:
    stale = "The dataset has changed since this dedup; what follows is about its former state."
    listed = evidence.listed_pairs(dedup)
    return join(
        tag("h3", "Dataset ", dedup.dataset.name),
        tag("p", stale, class_="callout") if dedup.is_stale else None,
        _account(dedup, listed),
        _per_target(dedup.exclusions),
        _histograms(f"d{index}", dedup, listed) if per_kind else None,
        _facts(dedup.marker),
        *(evidence.pair_blocks(dedup, listed, targets, per_kind) if per_kind else ()),
    )


# ------------------------------------------------------------------------------------------------------ account


def _account(dedup: Dedup, listed: Listed | None) -> Safe:
    """Searched = kept + excluded by target and reason; listed pairs = excluded + not excluded; and whether files agree."""
    step = make_step("dedup", "dedup", dedup.marker.get("counts"))
    facts, problems = [], []
    if step:
        lost = reasons_text(step.dropped) or "none"
        facts.append(
            f"{step.total:,} videos searched = {step.kept:,} kept + {sum(step.dropped.values()):,} excluded ({lost})"
        )
        problems += [f"the sum is off by {step.gap:,}"] if step.gap else []
    if dedup.exclusions is None:
        problems.append("exclusions.parquet is not there")
    elif step and (found := pc.count_distinct(dedup.exclusions["video_id"]).as_py()) != step.total - step.kept:
        problems.append(f"exclusions.parquet has {found:,} videos, and {step.total - step.kept:,} were excluded")
    if listed is None:
        facts.append("which pairs were listed is not known: pairs.parquet is not there")
    else:
        gone = int(listed.excluded.sum())
        facts.append(
            f"{plural(len(listed.excluded), 'pair')} of a video and a target listed as candidates = {gone:,} excluded + "
            f"{len(listed.excluded) - gone:,} not excluded"
        )
        problems += _unlisted(dedup.exclusions, gone)
    config = part(dedup.marker, "config")
    overlap, frames = evidence.thresholds(dedup)
    rule = f"excluded from {100 * overlap:g} % of the informative frames and {plural(frames, 'frame')} on"
    facts.append(rule + (f", mode {config['mode']}" if config.get("mode") else ""))
    alarm = tag("p", "Counts that do not agree: ", "; ".join(problems), class_="callout") if problems else None
    return join(alarm, tag("ul", *(tag("li", fact) for fact in facts)))


def _unlisted(exclusions: pa.Table | None, num_listed: int) -> list[str]:
    """Exclusions for a target that are not among the listed pairs."""
    if exclusions is None:
        return []
    targets = exclusions["target"].to_pylist()
    wanted = len([t for t in targets if not t.startswith("(")])  # "(within)" and "(undecidable)" stand for no target
    return [f"{wanted:,} exclusions by target, of which {num_listed:,} are listed"] if wanted != num_listed else []


def _per_target(exclusions: pa.Table | None) -> Safe:
    if exclusions is None or not exclusions.num_rows:
        return tag("p", "No video was excluded.")
    keys = [key for key in ("target", "target_split") if key in exclusions.column_names]
    share = "valid_overlap" if "valid_overlap" in exclusions.column_names else "overlap"  # which older ones have alone
    wanted = [("video_id", "count_distinct"), ("target_video_id", "count_distinct"), (share, "approximate_median")]
    grouped = exclusions.group_by(keys).aggregate(wanted).sort_by([(key, "ascending") for key in keys]).to_pylist()
    rows = [[" · ".join(str(g[key]) for key in keys if g[key]), f"{g['video_id_count_distinct']:,}",
             f"{g['target_video_id_count_distinct']:,}", percent(g[f"{share}_approximate_median"])] for g in grouped]  # fmt: skip
    total = pc.count_distinct(exclusions["video_id"]).as_py()
    rows.append([tag("b", "any"), tag("b", f"{total:,}"), None, None])
    headers = ("Target", "Videos excluded", "Target videos matched", "Median overlap (%)")
    return table(headers, rows, label="Exclusions per target")


# --------------------------------------------------------------------------------------------------- histograms


def _histograms(name: str, dedup: Dedup, listed: Listed | None) -> Safe | None:
    """Overlaps and distances of the listed pairs, those found by chance beside them."""
    if listed is None or not len(listed.excluded):
        return None
    decoys = dedup.pairs.filter(dedup.pairs["decoy"])
    chance = decoys["valid_overlap"].to_numpy(), decoys["min_distance"].to_numpy()
    overlap, _ = evidence.thresholds(dedup)
    keys = [("excluded", 2), ("listed, not excluded", 1), *([("upside down, by chance", 6)] if decoys.num_rows else [])]
    legend = [tag("span", text, class_="key", style=f"--k:var(--c{i})") for text, i in keys]
    alike = (listed.overlaps, listed.distances)
    figures = []
    for suffix, title, values, decoy, edges, line in (
        ("o", "Overlap of the listed pairs", alike[0], chance[0], np.linspace(0, 1, 21), overlap),
        ("b", "Distance of the two closest frames", alike[1], chance[1], _bit_edges(alike[1], chance[1]), None),
    ):
        groups = [values[listed.excluded], values[~listed.excluded], decoy]
        counts = [np.histogram(group, edges)[0] for group in groups]
        text = f"{title}: {len(groups[0]):,} excluded, {len(groups[1]):,} listed and not excluded, {len(decoy):,} by chance."
        label = "overlap (share of informative frames)" if line is not None else "distance (bits of 64)"
        image = plots.stacked(name + suffix, text, edges, counts, label, line)
        figures.append(tag("figure", tag("figcaption", tag("b", title), " ", *legend), image))
    return tag("div", *figures, class_="grid")


def _bit_edges(*groups: np.ndarray) -> np.ndarray:
    """One bin for each number of bits, from 0 on."""
    return np.arange(max((int(group.max()) for group in groups if len(group)), default=0) + 2) - 0.5


# -------------------------------------------------------------------------------------------------------- facts

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
        elif key in _LISTS:
            parts.append(_listed_ids(_LISTS[key], thing))
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


_LISTS = {
    "undecidable": "Undecidable videos, without an informative frame (black or uniform)",
    "undecidable_targets": "Target videos without an informative frame: copies of them cannot be found",
    "contain_target": "Kept videos that hold half or more of a target video, in too little of their own frames",
}


def _listed_ids(text: str, thing: Any) -> Safe:
    """How many, and the first of their ids."""
    ids = thing if isinstance(thing, list) else []
    count = len(ids) if isinstance(thing, list) else thing
    if not ids:
        return tag("p", f"{text}: {_plain(count)}")
    left = f"\n… and {len(ids) - MAX_LISTED:,} more" if len(ids) > MAX_LISTED else ""
    return details(f"{text}: {_plain(count)}", pre("\n".join(str(_plain(i))[:200] for i in ids[:MAX_LISTED]) + left))
