"""Contact sheet: a few stored videos of each source, from head to tail, with what the tables say of them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.report import pictures
from pipeline.report.artefacts import Source
from pipeline.report.markup import Safe, join, plural, section, tag, void
from pipeline.report.stored import Shelf, StoredVideo, read_frames
from pipeline.storage import StorageError

MAX_VIDEOS, MIN_VIDEOS = 12, 4
"""Of a source: as many as fit, and fewer rather than none."""
MAX_PICTURES = 72
"""Over all sources."""
MAX_SHARDS = 4
"""Of a source, looked into; ids are hashes, so that any shard is a fair sample of its dataset."""
FRAMES = 3
MAX_HASHTAGS = 4
MAX_TEXT = 160
"""Characters of a label or URI in a caption."""


def videos_section(sources: Sequence[Source]) -> Safe:
    shown = sources[: MAX_PICTURES // MIN_VIDEOS]
    intro = (
        f"{FRAMES} frames of some stored videos of each source, in order of their labels' sizes, one of each part of the way "
        "from the head to the tail. Which ones they are follows from hashes of their ids alone. Excluded videos are left out."
    )
    blocks = [_source(source, min(MAX_VIDEOS, MAX_PICTURES // len(shown))) for source in shown]
    left = len(sources) - len(shown)
    note = tag("p", f"{plural(left, 'more source')} without pictures, to keep this page small.") if left else None
    nothing = None if sources else tag("p", "No dataset of this sweep is known.")
    return section("videos", "What the videos look like", tag("p", intro) if sources else nothing, *blocks, note)


def _source(source: Source, num_videos: int) -> Safe:
    title = tag("h3", "Dataset ", source.dataset.name)
    shelf = Shelf(source.dataset)
    if not shelf.shards:
        return join(title, tag("p", "Its shards are not there yet.", class_="warn"))
    places = _some_shards(shelf.shards)
    try:
        tried = [video for place in places for video in shelf.videos(place)]
    except StorageError as error:
        return join(title, tag("p", f"Its shards cannot be read: {error}", class_="warn"))
    excluded = _excluded(source)
    stored = [video for video in tried if video.reason is None and video.video_id not in excluded]
    chosen = choose([name for name, _ in source.dataset.labels.kept], stored, num_videos)
    hashtags = _hashtags(source, chosen)
    about = f"{plural(len(chosen), 'video')} of the {len(stored):,} in {len(places):,} of {plural(len(shelf.shards), 'shard')}"
    figures = (_figure(video, hashtags) for video in chosen)
    return join(title, tag("p", about, class_="sub"), tag("div", *figures, class_="pairs"))


def _some_shards(shards: Sequence[str]) -> list[int]:
    """Places of the shards to look into, in order."""
    names = [path.rsplit("/", 1)[-1] for path in shards]
    return sorted(sorted(range(len(names)), key=lambda place: _rank(names[place]))[:MAX_SHARDS])


def _rank(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _excluded(source: Source) -> frozenset[str]:
    table = source.dedup.exclusions if source.dedup else None
    return frozenset(table["video_id"].to_pylist()) if table is not None else frozenset()


# ------------------------------------------------------------------------------------------------------ choice


@dataclass(frozen=True)
class _Candidate:
    rank: bytes
    place: int
    """Of its largest label in the order of the labels."""
    video: StoredVideo


def choose(labels: Sequence[str], videos: Sequence[StoredVideo], count: int) -> list[StoredVideo]:
    """At most `count` videos: the labels that occur are cut into as many groups of about equal size, largest labels first, and
    each group gives the video with the least hash of its id; free places are filled by hash. In order of the labels."""
    places = {name: place for place, name in enumerate(labels)}
    candidates = [
        _Candidate(_rank(v.video_id), min((places.get(n, len(places)) for n in v.labels), default=len(places)), v)
        for v in videos
    ]
    present = sorted({candidate.place for candidate in candidates})
    num_groups = min(count, len(present))
    group_of = {place: i * num_groups // len(present) for i, place in enumerate(present)}
    groups: dict[int, list[_Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[group_of[candidate.place]].append(candidate)
    first = [min(group, key=lambda candidate: candidate.rank) for group in groups.values()]
    taken = {candidate.rank for candidate in first}
    rest = sorted((c for c in candidates if c.rank not in taken), key=lambda candidate: candidate.rank)
    chosen = [*first, *rest[: count - len(first)]]
    return [candidate.video for candidate in sorted(chosen, key=lambda c: (c.place, c.rank))]


# ----------------------------------------------------------------------------------------------------- captions


def _hashtags(source: Source, videos: Sequence[StoredVideo]) -> dict[str, list[str]]:
    """{label: its relevant hashtags, shortest first}, as far as source.json is that of the dataset."""
    if source.matches is None or source.matched is None or not storage.exists(source.matches.hashtags):
        return {}
    labels = sorted({label for video in videos for label in video.labels})
    try:
        table = storage.read_parquet(source.matches.hashtags, ["hashtag", "label"])
    except StorageError:
        return {}
    found: dict[str, list[str]] = defaultdict(list)
    wanted = table.filter(pc.is_in(table["label"], value_set=pa.array(labels, pa.string())))
    for hashtag, label in zip(wanted["hashtag"].to_pylist(), wanted["label"].to_pylist(), strict=True):
        found[label].append(hashtag)
    return {label: sorted(tags, key=_by_length) for label, tags in found.items()}


def _by_length(hashtag: str) -> tuple[int, str]:
    return len(hashtag), hashtag


def _figure(video: StoredVideo, hashtags: dict[str, list[str]]) -> Safe:
    indices = [(2 * i + 1) * video.num_frames // (2 * FRAMES) for i in range(FRAMES)]
    frames, problem = read_frames(video, indices)
    labels = ", ".join(_short(label) for label in video.labels) or "no label"
    length = f"{video.duration_s:.1f} s" if video.duration_s is not None else "length unknown"
    leading = {hashtag for label in video.labels for hashtag in hashtags.get(label, ())}
    caption = tag(
        "figcaption",
        tag("b", labels),
        void("br"),
        tag("code", video.video_id),
        f", {length}",
        join(void("br"), tag("code", _short(video.uri))) if video.uri else None,
        join(void("br"), "matched by any of ", _some(sorted(leading, key=_by_length))) if leading else None,
    )
    return tag("figure", pictures.strip(frames, f"Frames of video {video.video_id}: {labels}", problem), caption)


def _some(hashtags: Sequence[str]) -> str:
    more = f" and {len(hashtags) - MAX_HASHTAGS:,} more" if len(hashtags) > MAX_HASHTAGS else ""
    return " ".join(f"#{hashtag}" for hashtag in hashtags[:MAX_HASHTAGS]) + more


def _short(text: str) -> str:
    """A text without its middle when it is long."""
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT // 2]}…{text[-MAX_TEXT // 2 :]}"
