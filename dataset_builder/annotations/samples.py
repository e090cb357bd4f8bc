"""Annotations of one split → samples: each a video or a segment of one, with its labels; every row used or dropped by reason."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pyarrow as pa

from dataset_builder.annotations.files import VideoFiles, check_template
from dataset_builder.annotations.rows import Annotation
from dataset_builder.match import ID_DIGITS, video_id
from dataset_builder.post_rows import folder_of, resolve_uris
from pipeline.config import TargetConfig

_HALF = ID_DIGITS // 2


@dataclass(frozen=True)
class Sample:
    """One video, or segment of one, of a target."""

    video_id: str
    uri: str
    labels: frozenset[str]
    start_s: float | None = None
    end_s: float | None = None
    group: str | None = None


@dataclass
class Collected:
    """Samples by id, and what became of the rows: in = kept + dropped."""

    table: str
    """Files it was read from, for messages."""
    samples: dict[str, Sample] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    missing: str = ""
    """Paths that the video of the first row without one was looked for at."""

    @property
    def counts(self) -> dict[str, object]:
        kept, dropped = len(self.samples), {reason: n for reason, n in sorted(self.dropped.items()) if n}
        return {"in": kept + sum(dropped.values()), "kept": kept, "dropped": dropped}

    def drop(self, video_id: str, reason: str) -> None:
        del self.samples[video_id]
        self.dropped[reason] += 1

    def add(self, sample: Sample) -> None:
        """A sample that is there already gains the labels of the other rows, which count as dropped."""
        known = self.samples.get(sample.video_id)
        if known is None:
            self.samples[sample.video_id] = sample
            return
        self.dropped["repeated_row" if sample.labels <= known.labels else "further_label"] += 1
        self.samples[sample.video_id] = replace(known, labels=known.labels | sample.labels)


def segment_id(uri: str, start_s: float | None, end_s: float | None, uid: str = "") -> str:
    """Identity of a segment; half of it is that of the video, so that segments of one video are neighbours in the manifest.

    A whole video has its `video_id`.
    """
    if start_s is None and end_s is None and not uid:
        return video_id(uri)
    span = hashlib.sha256(f"{uri}\n{start_s}\n{end_s}\n{uid}".encode("utf-8", "replace")).hexdigest()
    return video_id(uri)[:_HALF] + span[: ID_DIGITS - _HALF]


def collect_listed(annotations: Iterable[Annotation], paths: list[str], config: TargetConfig) -> Collected:
    """Samples of a table that names its videos itself: by --videos or its own folder; whether they are there shows later."""
    listed = list(annotations)
    prefix = config.videos or (folder_of(paths[0]) if "/" in paths[0] else ".")
    named = pa.array([annotation.fields["path"] for annotation in listed], pa.string())
    collected = Collected(", ".join(paths))
    for uri, annotation in zip(resolve_uris(named, prefix).to_pylist(), listed, strict=True):
        collected.add(_sample(annotation, uri, cut=config.cut != "never"))
    return collected


def collect_found(
    annotations: Iterable[Annotation], paths: list[str], files: VideoFiles, config: TargetConfig
) -> tuple[Collected, str]:
    """Samples whose videos are looked for among `files`, and a digest of which was found for each."""
    collected, digest = Collected(", ".join(paths)), hashlib.sha256()
    for annotation in annotations:
        found = files.find(annotation.fields)
        digest.update(f"{found and found.name}\n".encode("utf-8", "replace"))
        if found is None:
            if not collected.missing:
                check_template(files, annotation.fields)
            collected.missing = collected.missing or " or ".join(files.tried(annotation.fields))
            collected.dropped["missing_file"] += 1
            continue
        cut = config.cut == "always" or (config.cut == "auto" and not found.is_segment)
        collected.add(_sample(annotation, found.uri, cut=cut))
    return collected, digest.hexdigest()[:16]


def _sample(annotation: Annotation, uri: str, *, cut: bool) -> Sample:
    start_s, end_s = (annotation.start_s, annotation.end_s) if cut else (None, None)
    identity = segment_id(uri, start_s, end_s, annotation.uid)
    return Sample(identity, uri, frozenset(annotation.labels), start_s, end_s, annotation.group)
