"""dataset.json: what a finished dataset says of itself, on disk and on the screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from dataset_builder.croissant import write_croissant
from dataset_builder.eligible import merge_counts
from dataset_builder.provenance import WriterConfig
from pipeline import artifacts, progress, storage
from pipeline.artifacts import DatasetFiles
from pipeline.config import ConfigError


def describe(
    files: DatasetFiles,
    kind: str,
    names: Sequence[str],
    label_counts: Iterable[int],
    shards: list[dict[str, Any]],
    *,
    duration_s: float,
    quarantined: dict[str, int],
) -> dict[str, Any]:
    """Content of dataset.json.

    Args:
        names: the K labels.
        label_counts: [K], videos of each; a video counts for each of its labels.
        shards: [{path, num_videos, bytes, sha256}]; `num_videos` are the dataset's, the rest is of the whole file.
        duration_s: of what a reader is to see of the videos.
        quarantined: videos by reason.
    """
    counted = enumerate(zip(names, label_counts, strict=True))
    return {
        "name": files.name,
        "kind": kind,
        "num_videos": sum(shard["num_videos"] for shard in shards),
        "minutes": round(duration_s / 60, 3),
        "num_bytes": sum(shard["bytes"] for shard in shards),
        "labels": [{"id": i, "name": name, "num_videos": int(count)} for i, (name, count) in counted],
        "quarantined": dict(sorted(quarantined.items())),
        "shards": shards,
    }


def describe_shards(
    files: DatasetFiles, kind: str, names: Sequence[str], sidecars: list[dict[str, Any]]
) -> dict[str, Any]:
    """`describe` from what `write_shards` returned; ConfigError when no video could be stored."""
    quarantined: Counter[str] = Counter()
    for sidecar in sidecars:
        quarantined.update(sidecar["quarantined"])
    if not any(sidecar["written"] for sidecar in sidecars):
        raise ConfigError(
            f"dataset '{files.name}': none of the videos could be stored ({dict(quarantined)}). If they can be read now, "
            "run the same command with --retry-failed; else correct video_uri in the posts (--source.uri-prefix) or path "
            "in the target's tables, and build again with --force"
        )
    shards = [
        {"path": f"shards/{files.name}-{i:06d}", "num_videos": s["written"], "bytes": s["bytes"], "sha256": s["sha256"]}
        for i, s in enumerate(sidecars)
    ]
    label_counts = merge_counts(([s["label_counts"]] for s in sidecars), len(names))[0]
    duration_s = sum(s["duration_s"] for s in sidecars)
    described = describe(files, kind, names, label_counts, shards, duration_s=duration_s, quarantined=quarantined)
    return described | {"num_copied": sum(s["copied"] for s in sidecars)}


def seal_dataset(
    files: DatasetFiles, config: WriterConfig, counts: dict[str, Any], described: dict[str, Any]
) -> dict[str, Any]:
    """Write croissant.json and then, last of all, dataset.json; returns the latter's content."""
    write_croissant(files, config, counts, described)
    return artifacts.seal(files.folder, files.marker, counts, **described)


def reopened(files: DatasetFiles, marker: dict[str, Any] | None, retry_failed: bool) -> dict[str, Any] | None:
    """The marker of a whole dataset; None, and the dataset is whole no more, where quarantined videos are tried again."""
    if marker is None or not (retry_failed and marker["quarantined"]):
        return marker
    storage.remove(files.marker)
    return None


def say_whole(files: DatasetFiles, marker: dict[str, Any]) -> dict[str, Any]:
    """The last line of a build, and the only one where there was nothing to do; returns the marker."""
    progress.say(
        f"'{files.name}' is whole in {files.folder}: videos {marker['num_videos']:,}, minutes {marker['minutes']:,.1f}, "
        f"labels {len(marker['labels']):,}, shards {len(marker['shards']):,}"
    )
    return marker
