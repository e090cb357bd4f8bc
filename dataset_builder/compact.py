"""A dataset without its excluded videos: the same artefacts with shards of their own, members copied byte for byte.

Readers honour the exclusions anyway; this is for those who want to hand on, or to store, only what is kept. Nothing is
decoded. The new dataset names the dedup it was made from among its inputs, and needs none of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dataset_builder.dataset import describe, seal_dataset
from dataset_builder.manifest import manifest_part
from dataset_builder.tar import TarWriter
from pipeline import artifacts, progress, storage
from pipeline.artifacts import DatasetFiles
from pipeline.cli import run_stage
from pipeline.config import CompactConfig, ConfigError
from pipeline.exclusions import read_exclusions
from pipeline.execute import run_parts
from pipeline.members import checksum, read_member
from pipeline.storage import StorageError


@dataclass(frozen=True)
class Job:
    """What every shard needs. Part i of a dataset's manifest lists what is taken from the i-th of its shards."""

    files: DatasetFiles
    parts: tuple[str, ...]  # of the old manifest
    shards: tuple[str, ...]  # old ones, paths without suffix
    excluded: frozenset[str]
    label_names: tuple[str, ...]


def compact(config: CompactConfig) -> dict[str, Any]:
    """Write `config.to`, or skip it when it is whole; returns the content of its dataset.json."""
    if config.to in ("", config.dataset):
        raise ConfigError("--to must be the name of a new dataset")
    base, files = (artifacts.dataset_files(config.root, name) for name in (config.dataset, config.to))
    marker = artifacts.read_marker(base.marker, f"run `tagreel build --dataset {config.dataset}` first")
    excluded, dedup_digest = read_exclusions(base)
    if not dedup_digest:
        raise ConfigError(f"dataset '{config.dataset}' has no exclusions: run `tagreel dedup` first")
    inputs = {"dataset": marker["digest"], "dedup": dedup_digest}
    if done := artifacts.open_stage(files.folder, files.marker, config, inputs):
        progress.say(f"dataset '{config.to}' is whole: {done['num_videos']:,} videos")
        return done

    storage.write_json(files.label_space, {**storage.read_json(base.label_space), "name": config.to})
    job = _make_job(files, base, marker, excluded)
    sidecars = run_parts(copy_shard, range(len(job.shards)), config.execution, desc="compact", shared=job)
    described = _describe(files, marker, sidecars)
    dropped = {"excluded": sum(sidecar["excluded"] for sidecar in sidecars), **described["quarantined"]}
    total = sum(sidecar["attempted"] + sidecar["excluded"] for sidecar in sidecars)
    progress.say_counts(f"compact {config.dataset}", total, described["num_videos"], dropped)
    counts = {"in": total, "kept": described["num_videos"], "dropped": dropped}
    return seal_dataset(files, config, {"compact": counts}, described)


def _make_job(files: DatasetFiles, base: DatasetFiles, marker: dict[str, Any], excluded: set[str]) -> Job:
    parts = storage.listing(storage.join(base.manifest, "part-*.parquet"))
    shards = artifacts.shard_paths(base, marker)
    if len(parts) != len(shards):
        raise ConfigError(
            f"dataset '{base.name}' has {len(shards)} shards and {len(parts)} manifest parts: build it again"
        )
    names = tuple(label["name"] for label in marker["labels"])
    return Job(files, tuple(parts), tuple(shards), frozenset(excluded), names)


# ------------------------------------------------------------------------------------------------------ shards


def copy_shard(index: int, job: Job) -> dict[str, Any]:
    """Write shard and manifest part `index`, without what is excluded; returns the sidecar. Skipped when it is there."""
    old, new = job.shards[index], job.files.shard(index)
    if storage.exists(f"{new}.json"):
        return storage.read_json(f"{new}.json")
    manifest = storage.read_parquet(job.parts[index])
    kept = manifest.filter(pc.invert(_is_among(manifest["video_id"], job.excluded)))
    label_ids = dict(zip(*(kept[name].to_pylist() for name in ("video_id", "label_ids")), strict=True))
    rows = [row for row in storage.read_parquet(f"{old}.parquet").to_pylist() if row["key"] in label_ids]
    if len(rows) != kept.num_rows:
        raise StorageError(f"'{old}.parquet' lacks videos that '{job.parts[index]}' lists: build the dataset again")
    with TarWriter(f"{new}.tar") as tar:
        entries = [_copy(row, label_ids[row["key"]], old, tar, job.label_names) for row in rows]
    signatures = storage.read_parquet(f"{old}.sig.parquet")
    signatures = signatures.filter(_is_among(signatures["video_id"], label_ids))
    storage.write_parquet(manifest_part(job.files, index), kept, artifacts.MANIFEST)
    storage.write_parquet(f"{new}.sig.parquet", signatures, artifacts.SIGNATURES)
    storage.write_parquet(f"{new}.parquet", pa.Table.from_pylist(entries, artifacts.SHARD_INDEX))
    sidecar = {**_sidecar(entries, tar), "excluded": manifest.num_rows - kept.num_rows}
    storage.write_json(f"{new}.json", sidecar)
    return sidecar


def _is_among(video_ids: pa.ChunkedArray, wanted: Iterable[str]) -> pa.ChunkedArray:
    return pc.is_in(video_ids, value_set=pa.array(sorted(wanted), pa.string()))


def _copy(
    row: dict[str, Any], label_ids: list[int], shard: str, tar: TarWriter, names: tuple[str, ...]
) -> dict[str, Any]:
    """The index entry of a video in its new place; quarantined ones have nothing to be copied."""
    entry = row | {"label_ids": label_ids}
    if row["status"] != "ok":
        return entry
    mp4 = read_member(shard, row, "video")
    described = _relabel(read_member(shard, row, "json"), label_ids, names)
    return entry | {
        "video_offset": tar.add(f"{row['key']}.mp4", mp4),
        "video_crc32": checksum(mp4),
        "json_offset": tar.add(f"{row['key']}.json", described),
        "json_size": len(described),
    }


def _relabel(described: bytes, label_ids: list[int], names: tuple[str, ...]) -> bytes:
    """KEY.json as it is, unless the dataset is a subset that numbers its labels otherwise than its base."""
    content = json.loads(described)
    labels = {"label_ids": label_ids, "labels": [names[i] for i in label_ids]}
    if content == content | labels:
        return described
    return json.dumps(content | labels, ensure_ascii=False).encode()


def _sidecar(entries: list[dict[str, Any]], tar: TarWriter) -> dict[str, Any]:
    """As of a built shard: attempted = written + quarantined by reason."""
    written = [entry for entry in entries if entry["status"] == "ok"]
    label_counts = Counter(label for entry in written for label in entry["label_ids"])
    return {
        "attempted": len(entries),
        "written": len(written),
        "quarantined": dict(sorted(Counter(e["reason"] for e in entries if e["status"] != "ok").items())),
        "bytes": tar.size,
        "sha256": tar.sha256,
        "duration_s": sum(entry["duration_s"] for entry in written),
        "label_counts": {str(label): count for label, count in sorted(label_counts.items())},
    }


def _describe(files: DatasetFiles, marker: dict[str, Any], sidecars: list[dict[str, Any]]) -> dict[str, Any]:
    """Content of the new dataset.json: what the old one says of its labels, with the counts of what is kept."""
    label_counts, quarantined = Counter(), Counter()
    for sidecar in sidecars:
        label_counts.update(sidecar["label_counts"])
        quarantined.update(sidecar["quarantined"])
    shards = [
        {"path": f"shards/{files.name}-{i:06d}", "num_videos": s["written"], "bytes": s["bytes"], "sha256": s["sha256"]}
        for i, s in enumerate(sidecars)
    ]
    if not any(shard["num_videos"] for shard in shards):
        raise ConfigError(f"nothing is left for dataset '{files.name}': all videos are excluded")
    names = [label["name"] for label in marker["labels"]]
    counts = [label_counts[str(label["id"])] for label in marker["labels"]]
    duration_s = sum(sidecar["duration_s"] for sidecar in sidecars)
    described = describe(files, marker["kind"], names, counts, shards, duration_s=duration_s, quarantined=quarantined)
    # Spans in the manifest of what was drawn from another dataset are for readers to cut.
    return described | {key: marker[key] for key in ("base",) if key in marker}


def main(argv: Sequence[str] | None = None) -> None:
    """`tagreel compact`."""
    run_stage(CompactConfig, compact, argv)


if __name__ == "__main__":
    main()
