"""`tagreel inspect SHARD`: what is inside a shard, as text and as a picture of its videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from tyro.conf import Positional

from dataset_builder.shard_contents import ShardContents, StoredSample, read_shard
from pipeline import progress, storage, video
from pipeline.cli import run_stage
from pipeline.config import ConfigError
from pipeline.report.markup import clean
from pipeline.storage import StorageError
from pipeline.video import VideoError

FRAMES_PER_VIDEO = 4
MAX_FRAMES = 60  # of the one video that --key names
MAX_EXAMPLES = 3
MAX_LABELS = 20


@dataclass(frozen=True)
class InspectConfig:
    """A shard → its counts, whether its files agree, and a picture of its videos."""

    shard: Positional[str] = ""
    """Path or URL of a shard's tar, with or without ".tar"."""
    num_videos: int = 24
    """Videos on the picture, spread evenly over the shard."""
    key: str | None = None
    """Show this one video instead, with its frames thinned to a grid."""
    output: str = ""
    """PNG to write; empty takes SHARD-contact.png (or SHARD-KEY.png) in the current folder."""


def inspect(config: InspectConfig) -> ShardContents:
    """Say what is in the shard and write the picture; StorageError when the shard's files contradict each other."""
    if not config.shard:
        raise ConfigError("no shard to look into: name a tar (tagreel inspect DATASET/shards/DATASET-000000.tar)")
    if config.num_videos < 1:
        raise ConfigError(f"--num-videos must be at least 1, not {config.num_videos}")
    contents = read_shard(config.shard)
    for line in describe(contents):
        progress.say(line)
    if contents.samples:
        picture = _one_video(contents, config.key) if config.key else _many_videos(contents, config.num_videos)
        path = config.output or _default_output(contents, config.key)
        storage.write_bytes(path, picture)
        progress.say(path)
    return contents


def _default_output(contents: ShardContents, key: str | None) -> str:
    return f"{contents.path.rsplit('/', 1)[-1]}-{key or 'contact'}.png"


# -------------------------------------------------------------------------------------------------------- text

_RANGES = (
    ("duration (s)", "duration_s"),
    ("frames", "num_frames"),
    ("frames per second", "fps"),
    ("width (px)", "width"),
    ("height (px)", "height"),
)


def describe(contents: ShardContents) -> list[str]:
    """Lines of text: counts, checks, quarantine, ranges, labels."""
    checked = "as its sidecar says" if contents.sidecar else "no sidecar to compare with: the shard is not finished"
    lines = [
        f"{contents.path}.tar: {len(contents.samples):,} videos, {contents.num_bytes:,} bytes",
        f"sha256 {contents.sha256} ({checked})",
        *_attempted(contents),
    ]
    if not contents.samples:
        return [*lines, "no video is stored: there is nothing to show"]
    for name, attribute in _RANGES:
        values = [getattr(sample, attribute) for sample in contents.samples]
        low, middle, high = (f"{value:.4g}" for value in (min(values), median(values), max(values)))
        lines.append(f"{name}: {low} to {high}, median {middle}")
    return [*lines, *_labels(contents.samples)]


def _attempted(contents: ShardContents) -> list[str]:
    """attempted = written + quarantined by reason, as far as the files beside the tar tell."""
    if contents.quarantined is None:
        lines = ["no index beside it: read through the tar itself; which videos were quarantined is not known"]
        reasons = contents.sidecar and contents.sidecar["quarantined"]
    else:
        lines = [f"quarantined, {reason}: {_some(keys, MAX_EXAMPLES)}" for reason, keys in contents.quarantined.items()]
        reasons = {reason: len(keys) for reason, keys in contents.quarantined.items()}
    if reasons is None:
        return lines
    written = len(contents.samples)
    text = "".join(f" + {count:,} {reason}" for reason, count in reasons.items())
    return [f"attempted: {written + sum(reasons.values()):,} = {written:,} written{text}", *lines]


def _some(names: Sequence[str], limit: int) -> str:
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _labels(samples: Iterable[StoredSample]) -> list[str]:
    counts = Counter(label for sample in samples for label in sample.labels)
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [f"labels: {len(ranked):,}: {_some([f'{clean(name)} {count:,}' for name, count in ranked], MAX_LABELS)}"]


# ----------------------------------------------------------------------------------------------------- pictures


def evenly(count: int, total: int) -> list[int]:
    """The middles of `count` equal parts of 0..total-1; all of them when there are no more than that."""
    return list(range(total)) if total <= count else [(2 * i + 1) * total // (2 * count) for i in range(count)]


def _many_videos(contents: ShardContents, num_videos: int) -> bytes:
    """Strips of a few frames of videos spread over the shard; the same numbers stand on the terminal."""
    sheets = _contact_sheets()
    strips = []
    for number, position in enumerate(evenly(num_videos, len(contents.samples)), start=1):
        sample = contents.samples[position]
        progress.say(f"{number:3d}  {sample.key}  {_facts(sample)}  {clean(', '.join(sample.labels))}")
        frames, problem = _frames(contents, sample, evenly(FRAMES_PER_VIDEO, sample.num_frames))
        strips.append(sheets.Strip(frames, (f"{number}  {', '.join(sample.labels)}", problem or _facts(sample))))
    return sheets.contact_sheet(strips, columns=3, frames_per_strip=FRAMES_PER_VIDEO, frame_px=(128, 96))


def _one_video(contents: ShardContents, key: str) -> bytes:
    """Every n-th frame of one video with its time, at most MAX_FRAMES."""
    sample = next((sample for sample in contents.samples if sample.key == key), None)
    if sample is None:
        reason = next((r for r, keys in (contents.quarantined or {}).items() if key in keys), None)
        why = f"was quarantined ({reason})" if reason else f"is not in it; its first is '{contents.samples[0].key}'"
        raise ConfigError(f"--key: video '{key}' of '{contents.path}.tar' {why}")
    progress.say(f"{sample.key}  {_facts(sample)}  {clean(', '.join(sample.labels))}")
    step = -(-sample.num_frames // MAX_FRAMES)
    try:
        frames = video.read_video(contents.video(sample), step=step)
    except VideoError as error:
        raise StorageError(f"video '{key}' of '{contents.path}.tar' cannot be decoded: {error}") from error
    sheets = _contact_sheets()
    strips = [sheets.Strip(frame[None], (f"{i * step / sample.fps:.2f} s",)) for i, frame in enumerate(frames)]
    width = max(64, round(132 * sample.width / sample.height))
    return sheets.contact_sheet(strips, columns=8, frames_per_strip=1, frame_px=(width, 132))


def _frames(contents: ShardContents, sample: StoredSample, indices: list[int]) -> tuple[np.ndarray | None, str | None]:
    """(uint8 [T, H, W, 3] RGB, None), or (None, what is wrong with the video)."""
    try:
        return video.read_clip(contents.video(sample), indices), None
    except VideoError as error:
        progress.say(f"{sample.key}: {error}")
        return None, str(error)


def _facts(sample: StoredSample) -> str:
    return f"{sample.duration_s:.1f} s, {sample.fps:.4g} fps, {sample.width}x{sample.height} px"


def _contact_sheets() -> Any:
    try:
        from pipeline import contact_sheet
    except ImportError as error:
        raise ConfigError("the picture needs Pillow: pip install 'tagreel[report]'") from error
    return contact_sheet


def main(argv: Sequence[str] | None = None) -> None:
    run_stage(InspectConfig, inspect, argv)


if __name__ == "__main__":
    main()
