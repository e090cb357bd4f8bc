"""The videos that benchmarks of the data path read: files of whatever folder is named, sorted into groups by picture size."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import pyarrow as pa

from dataset_builder.manifest import manifest_part
from dataset_builder.shard import ShardJob
from pipeline import artifacts, storage
from pipeline.config import StorageConfig

SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"}
GROUPS = {"240p": (200, 288), "720p": (700, 1100)}
"""Short sides in pixels, first and last: like rescaled Kinetics, and like uploads."""
LARGE_SHARE = 4  # a large video for so many small ones: it has about ten times the pixels
MIN_DURATION_S, USUAL_DURATION_S = 5.0, 10.0
MAX_ASPECT = 2.0
MIN_FPS, MAX_FPS = 15.0, 30.5
"""Faster ones lose frames when stored; the work of reading and writing one would not be the same for everybody."""


@dataclass(frozen=True)
class Clip:
    path: Path
    width: int
    height: int
    fps: float
    duration_s: float


def arguments(description: str | None, rounds: int, at_most: int = 24) -> argparse.Namespace:
    """Command line of a benchmark: `clips` (folder), `rounds` and `at_most` (small videos)."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=default_folder(), help="folder of videos (searched in depth)")
    parser.add_argument("--rounds", type=int, default=rounds, help="times that everything is measured")
    parser.add_argument(
        "--at-most",
        type=int,
        default=at_most,
        help="small videos, and a quarter as many large ones; those nearest 10 s are taken",
    )
    return parser.parse_args()


def default_folder() -> Path:
    """Clips of the folder of real data beside the checkout, which tests read too."""
    data = Path(os.environ.get("TAGREEL_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    return data / "clips"


def choose(folder: Path, at_most: int) -> dict[str, list[Clip]]:
    """Per group of `GROUPS`, videos of the folder, each content once; groups without any are left out."""
    seen: dict[str, Clip] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and (clip := _probe(path)) is not None:
            seen.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), clip)
    clips = sorted(seen.values(), key=lambda clip: (abs(clip.duration_s - USUAL_DURATION_S), clip.path))
    groups = {name: [c for c in clips if low <= min(c.width, c.height) <= high] for name, (low, high) in GROUPS.items()}
    limits = {"240p": at_most, "720p": max(1, at_most // LARGE_SHARE)}
    groups = {name: found[: limits[name]] for name, found in groups.items() if found}
    if not groups:
        raise SystemExit(f"no H.264 video of {MIN_DURATION_S:.0f} s or more in {folder}: name a folder with --clips")
    return groups


def _probe(path: Path) -> Clip | None:
    """None for what decoders do not agree on or cannot read: not H.264, rotated, at a variable rate, damaged, short."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if stream.codec_context.name != "h264" or not (stream.duration and stream.average_rate):
                return None
            fps, duration_s = float(stream.average_rate), float(stream.duration * stream.time_base)
            width, height = stream.codec_context.width, stream.codec_context.height
            is_usual = MIN_FPS <= fps <= MAX_FPS and max(width, height) <= MAX_ASPECT * min(width, height)
            if not is_usual or duration_s < MIN_DURATION_S or next(container.decode(stream)).rotation:
                return None
            container.seek(0)
            times = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
    except (av.FFmpegError, IndexError, StopIteration):
        return None
    return Clip(path, width, height, fps, duration_s) if _is_constant_rate(times, duration_s * fps) else None


def _is_constant_rate(times: Sequence[int], expected: float) -> bool:
    """Whether time stamps are as many as expected and evenly spaced (but for their rounding)."""
    steps = [later - earlier for earlier, later in pairwise(sorted(times))]
    return abs(len(times) - expected) < 1.5 and max(steps) - min(steps) <= max(2, max(steps) // 20)


def describe(clips: Sequence[Clip]) -> dict[str, float]:
    """Number, mean duration and mean size of videos, for results."""
    return {
        "videos": len(clips),
        "mean_duration_s": round(sum(clip.duration_s for clip in clips) / len(clips), 2),
        "mean_kb": round(sum(clip.path.stat().st_size for clip in clips) / len(clips) / 1000),
    }


def shard_job(folder: str, clips: Sequence[Clip], config: StorageConfig) -> ShardJob:
    """A dataset in `folder` whose manifest has one part, the videos, keys `clip-000` and so on; no shard is written."""
    rows = [
        {"video_id": f"clip-{i:03d}", "uri": str(clip.path.resolve()), "start_s": None, "end_s": None}
        for i, clip in enumerate(clips)
    ]
    files = artifacts.DatasetFiles(folder, "clips")
    table = pa.Table.from_pylist([{**row, "label_ids": [0], "weight": 1.0} for row in rows], artifacts.MANIFEST)
    storage.write_parquet(manifest_part(files, 0), table, artifacts.MANIFEST)
    return ShardJob(files, ["clip"], config)
