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

from dataset_builder.tar import TarWriter
from pipeline import artifacts, progress, storage
from pipeline.artifacts import DatasetFiles
from pipeline.cli import run_stage
from pipeline.config import CompactConfig, ConfigError
from pipeline.execute import run_parts


@dataclass(frozen=True)
class Job:
    """What every shard needs."""

    files: DatasetFiles
    shards: tuple[str, ...]  # of the dataset that is compacted, paths without suffix
    label_ids: dict[str, list[int]]  # of the videos that are kept
    label_names: tuple[str, ...]


def compact(config: CompactConfig) -> dict[str, Any]:
    """Write `config.to`, or skip it when it is whole; returns the content of its dataset.json."""
    base, files = (artifacts.dataset_files(config.root, name) for name in (config.dataset, config.to))
    if not config.to or base.folder == files.folder:
        raise ConfigError("--to must be the name of a new dataset")
    marker = artifacts.read_marker(base.marker, f"run `tagreel build --dataset {config.dataset}` first")
    excluded, dedup_digest = artifacts.read_exclusions(base)
    if not dedup_digest:
        raise ConfigError(f"dataset '{config.dataset}' has no exclusions: run `tagreel dedup` first")
    inputs = {"dataset": marker["digest"], "dedup": dedup_digest}
    if done := artifacts.open_stage(files.folder, files.marker, config, inputs):
        progress.say(f"dataset '{config.to}' is whole: {done['num_videos']:,} videos")
        return done

    manifest = storage.read_parquet_parts(base.manifest)
    kept = manifest.filter(pc.invert(_is_among(manifest["video_id"], excluded)))
    storage.write_json(files.label_space, {**storage.read_json(base.label_space), "name": config.to})
    storage.write_parquet(storage.join(files.manifest, "part-000000.parquet"), kept, artifacts.MANIFEST)

    shards = tuple(artifacts.shard_paths(base, marker))
    label_ids = dict(zip(*(kept[name].to_pylist() for name in ("video_id", "label_ids")), strict=True))
    job = Job(files, shards, label_ids, tuple(label["name"] for label in marker["labels"]))
    sidecars = run_parts(copy_shard, range(len(shards)), config.execution, desc="compact", shared=job)
    described = _describe(files, marker, sidecars)
    dropped = {"excluded": manifest.num_rows - kept.num_rows, **described["quarantined"]}
    counts = {"in": manifest.num_rows, "kept": described["num_videos"], "dropped": dropped}
    progress.say_counts(f"compact {config.dataset}", counts["in"], counts["kept"], dropped)
    return artifacts.seal(files.folder, files.marker, {"compact": counts}, **described)


def _is_among(video_ids: pa.ChunkedArray, wanted: Iterable[str]) -> pa.ChunkedArray:
    return pc.is_in(video_ids, value_set=pa.array(sorted(wanted), pa.string()))


# ------------------------------------------------------------------------------------------------------ shards


def copy_shard(index: int, job: Job) -> dict[str, Any]:
    """Write shard `index`: the kept videos of the shard of that number; returns its sidecar. Skipped when it has one."""
    old, new = job.shards[index], job.files.shard(index)
    if storage.exists(f"{new}.json"):
        return storage.read_json(f"{new}.json")
    rows = [row for row in storage.read_parquet(f"{old}.parquet").to_pylist() if row["key"] in job.label_ids]
    with TarWriter(f"{new}.tar") as tar:
        entries = [_copy(row, old, tar, job) for row in rows]
    signatures = storage.read_parquet(f"{old}.sig.parquet")
    signatures = signatures.filter(_is_among(signatures["video_id"], job.label_ids))
    storage.write_parquet(f"{new}.sig.parquet", signatures, artifacts.SIGNATURES)
    storage.write_parquet(f"{new}.parquet", pa.Table.from_pylist(entries, artifacts.SHARD_INDEX))
    sidecar = _sidecar(entries, tar)
    storage.write_json(f"{new}.json", sidecar)
    return sidecar


def _copy(row: dict[str, Any], shard: str, tar: TarWriter, job: Job) -> dict[str, Any]:
    """The index entry of a video in its new place; quarantined ones have nothing to be copied."""
    entry = row | {"label_ids": job.label_ids[row["key"]]}
    if row["status"] != "ok":
        return entry
    mp4, described = (
        storage.read_range(f"{shard}.tar", row[f"{m}_offset"], row[f"{m}_size"]) for m in ("video", "json")
    )
    described = _relabel(described, entry["label_ids"], job.label_names)
    return entry | {
        "video_offset": tar.add(f"{row['key']}.mp4", mp4),
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
        if s["written"]
    ]
    if not shards:
        raise ConfigError(f"nothing is left of the dataset for '{files.name}': all of its videos are excluded")
    return {
        "name": files.name,
        "kind": marker["kind"],
        "num_videos": sum(sidecar["written"] for sidecar in sidecars),
        "minutes": round(sum(sidecar["duration_s"] for sidecar in sidecars) / 60, 3),
        "num_bytes": sum(sidecar["bytes"] for sidecar in sidecars),
        "labels": [{**label, "num_videos": label_counts[str(label["id"])]} for label in marker["labels"]],
        "quarantined": dict(sorted(quarantined.items())),
        "shards": shards,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """`tagreel compact`."""
    run_stage(CompactConfig, compact, argv)


if __name__ == "__main__":
    main()
