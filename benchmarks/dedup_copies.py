"""How well copies of target videos are found, perturbation by perturbation, and what else is flagged.

    python -m benchmarks.dedup_copies --data FOLDER --cache FOLDER

FOLDER of the data holds real clips and a MANIFEST.json (see `copies_clips.choose`). A first run takes about 12 minutes on one
core, nearly all of it for making the copies, whose frames stay in the cache (about 3 GB).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks import copies_clips, copies_scenes, peer_hashes, record
from benchmarks.copies_clips import HALVES, Clip
from benchmarks.copies_search import Found, Targets, false_flags, percent, wilson
from benchmarks.perturbations import PERTURBATIONS
from dedup import census, find, overlap
from dedup.census import Signature

TARGETS = {"core_mean": 98.0, "core_worst": 92.0, "frame": 96.0, "crop 90 %": 95.0}


@dataclass(frozen=True)
class Options:
    data: Path
    """Folder of real clips with a MANIFEST.json."""
    cache: Path
    """Folder for the frames of copies."""
    seed: int = 0
    """Of places that crops are cut from, and of scenes."""
    short: bool = False
    """Also copy the clips that are shorter than the protocol asks for."""
    max_clips: int | None = None
    """Fewer clips, for a quick look."""


@dataclass(frozen=True)
class Copies:
    """Of N clips under one perturbation."""

    signatures: list[Signature]
    hashes: list[peer_hashes.Hashes]


def make_copies(clips: tuple[Clip, ...], options: Options) -> list[Copies]:
    """Per perturbation; frames of one copy at a time are in memory."""
    rows = [Copies([], []) for _ in PERTURBATIONS]
    for clip in clips:
        for row, frames in zip(
            rows, copies_clips.copies(clip, PERTURBATIONS, options.seed, options.cache), strict=True
        ):
            row.signatures.append(census.signature(frames))
            row.hashes.append(peer_hashes.hashes(frames))
    return rows


def measure(clips: tuple[Clip, ...], options: Options) -> dict[str, Any]:
    """Every perturbation of every clip against all clips."""
    originals = [copies_clips.luma(clip.data, copies_clips.MAX_S) for clip in clips]
    signatures = [census.target_signature(frames) for frames in originals]
    targets, whole = Targets(signatures), Targets(signatures, crops=False)
    hashes = [peer_hashes.hashes(frames) for frames in originals]
    is_half = {half: np.array([clip.half == half for clip in clips]) for half in HALVES}
    rows, missed = [], {}
    for perturbation, copies in zip(PERTURBATIONS, make_copies(clips, options), strict=True):
        sources = overlap.gather(copies.signatures)
        row = _own(sources, targets, whole, is_half)
        row["peers"] = _peers(copies, hashes)
        rows.append({"name": perturbation.name, "group": perturbation.group} | row)
        lost = np.flatnonzero(~np.diag(targets.search(sources).flagged))
        missed[perturbation.name] = [clips[i].name for i in lost]
    return {
        "clips": len(clips), "barred_clips": sum(any(s.bars) for s in signatures),
        "unrelated_pairs": len(clips) * (len(clips) - 1),
        "index": {"whole": _size(whole.frames), "with crops": _size(targets.frames)},
        "rows": rows, "missed": {name: clips for name, clips in missed.items() if clips},
    } | _summary(rows)  # fmt: skip


def _own(sources: overlap.Frames, targets: Targets, whole: Targets, is_half: dict[str, np.ndarray]) -> dict[str, Any]:
    found = {mode: targets.search(sources, mode) for mode in find.MODES}
    flagged = np.diag(found["default"].flagged)
    without = whole.search(sources)
    return {
        "frames": {mode: percent(np.diag(f.share)) for mode, f in found.items()},
        "flagged": {mode: percent(np.diag(f.flagged)) for mode, f in found.items()},
        "wilson": wilson(int(flagged.sum()), len(flagged)),
        "halves": {half: percent(flagged[rows]) for half, rows in is_half.items()},
        "false_flags": {mode: false_flags(f.flagged) for mode, f in found.items()},
        "upside_down": false_flags(targets.search(sources, upside_down=True).flagged),
        "unrelated_frames_per_million": _unrelated(found["default"]),
        "without_crops": {
            "frames": percent(np.diag(without.share)),
            "flagged": percent(np.diag(without.flagged)),
            "unrelated_frames_per_million": _unrelated(without),
        },
        "uninformative": percent(1 - sources.num_valid / sources.num_frames),
    }


def _unrelated(found: Found) -> float:
    """Informative frames of sources, in a million, that match an unrelated target."""
    share = np.nan_to_num(found.share)
    return round(1e6 * float((share.sum() - np.trace(share)) / max(1, share.size - len(share))), 1)


def _peers(copies: Copies, hashes: list[peer_hashes.Hashes]) -> dict[str, Any]:
    flags = peer_hashes.flags(copies.hashes, hashes)
    return {name: {"flagged": percent(np.diag(f)), "false_flags": false_flags(f)} for name, f in flags.items()}


def _size(frames: overlap.Frames) -> dict[str, int]:
    return {"codes": len(frames.codes), "occurrences": len(frames.video)}


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the core perturbations, worst rows, and false flags of all rows."""
    core = [row for row in rows if row["group"] == "core"]
    worst = min(core, key=lambda row: row["flagged"]["default"])
    return {
        "core": {
            "flagged": _means(row["flagged"] for row in core),
            "frames": _means(row["frames"] for row in core),
            "halves": _means(row["halves"] for row in core),
            "without_crops": _means(row["without_crops"] for row in core),
            "worst": [worst["name"], worst["flagged"]["default"]],
            "peers": {name: _mean(row["peers"][name]["flagged"] for row in core) for name in core[0]["peers"]},
        },
        "false_flags": {mode: sum(row["false_flags"][mode] for row in rows) for mode in find.MODES},
        "peers_false_flags": {n: sum(row["peers"][n]["false_flags"] for row in rows) for n in core[0]["peers"]},
        "upside_down": sum(row["upside_down"] for row in rows),
        "unrelated_frames_per_million": _mean(row["unrelated_frames_per_million"] for row in rows),
        "unrelated_frames_per_million_without_crops": _mean(
            row["without_crops"]["unrelated_frames_per_million"] for row in rows
        ),
    }


def _means(rows: Any) -> dict[str, float]:
    rows = list(rows)
    return {name: _mean(row[name] for row in rows) for name in rows[0]}


def _mean(values: Any) -> float:
    return round(float(np.mean([value for value in values if value is not None])), 1)


# ------------------------------------------------------------------------------------------------------ output


def _print(title: str, results: dict[str, Any]) -> None:
    core, modes = results["core"], tuple(find.MODES)
    print(f"\n{title}: {results['clips']} clips, {results['unrelated_pairs']:,} unrelated ordered pairs a row")
    print(f"{'':50}{'frames %':>20} {'flagged %':>20}   tuned held-out  false   no crops  pHash vPDQ-like")
    for row in results["rows"]:
        frames, flagged = (" ".join(f"{row[what][mode]:6.1f}" for mode in modes) for what in ("frames", "flagged"))
        halves = " ".join(f"{row['halves'][half] or 0:7.1f}" for half in HALVES)
        peers = " ".join(f"{row['peers'][name]['flagged']:7.1f}" for name in ("pHash", "vPDQ-like, 10 %"))
        false = row["false_flags"]["default"]
        print(f"{row['name']:50}{frames} {flagged} {halves} {false:6} {row['without_crops']['flagged']:10.1f} {peers}")
    print(f"core: {core}")
    for name in ("missed", "false_flags", "peers_false_flags", "upside_down", "index"):
        print(f"{name}: {results[name]}")


def main(options: Options) -> None:
    record.one_core()
    options.cache.mkdir(parents=True, exist_ok=True)
    choice = copies_clips.choose(options.data)
    clips = choice.clips[: options.max_clips]
    results: dict[str, Any] = {"seed": options.seed, "modes": tuple(find.MODES), "targets": TARGETS}
    results["perturbations"] = [dataclasses.asdict(perturbation) for perturbation in PERTURBATIONS]
    results["real"] = measure(clips, options)
    _print("real clips", results["real"])
    if options.short:
        results["short"] = measure(choice.short, options)
        _print("short clips", results["short"])
    results["simulated"] = measure(copies_clips.simulated(options.seed), options)
    _print("simulated clips", results["simulated"])
    results["scenes"] = copies_scenes.measure(clips, choice.short, options.seed, options.cache)
    results["families"] = copies_scenes.families(options.data)
    for name in ("scenes", "families"):
        print(f"\n{name}")
        for row in results[name]:
            print("  ", row)
    results["clips"] = [{"file": clip.name, "half": clip.half} for clip in clips]
    results["excluded"] = choice.excluded
    print(record.write("dedup_copies", results, "av", "numpy", "imagehash", "numba"))


if __name__ == "__main__":
    main(tyro.cli(Options))
