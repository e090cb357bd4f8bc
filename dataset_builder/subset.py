"""A smaller dataset drawn from a finished one: same shards, another manifest; no video is read and no tar copied.

What `IG-Kinetics-{500K, 1M, ...}` are to IG-Kinetics-65M (paper, Section 4.1.1). Videos that a dedup excluded are left out.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset_builder.label_space import (
    VIDEOS,
    LabelledVideos,
    LabelSpace,
    make_label_space,
    read_label_space,
    write_label_space,
)
from dataset_builder.manifest import choose_videos, video_weights, write_manifest
from dataset_builder.sampling import label_counts
from pipeline import artifacts, progress, storage
from pipeline.artifacts import DatasetFiles
from pipeline.config import BuildConfig, ConfigError


def draw_subset(config: BuildConfig) -> dict[str, Any]:
    """Draw `config.dataset` from `config.base`; returns the content of its dataset.json."""
    base, files = (artifacts.dataset_files(config.root, name) for name in (config.base, config.dataset))
    if base.folder == files.folder:
        raise ConfigError(f"--base and --dataset are both '{config.dataset}': give the subset another name")
    remedy = f"build it first (tagreel build --dataset {config.base})"
    base_marker = artifacts.read_marker(base.marker, remedy)
    excluded, dedup_digest = artifacts.read_exclusions(base)
    digests = {"base": base_marker["digest"], "dedup": dedup_digest}
    if done := artifacts.open_stage(files.folder, files.marker, config, digests):
        progress.say(f"dataset '{config.dataset}' is whole: {done['num_videos']:,} videos")
        return done

    available, stored, counts = _available(base, base_marker, excluded)
    base_space = read_label_space(base)
    space, labelled = make_label_space(
        available, base_space.names, config.sampling.min_videos, name=config.dataset, kind=base_space.kind
    )
    write_label_space(files, space)
    chosen = choose_videos(labelled, config.sampling)
    weights = video_weights(chosen, len(space.labels), config.sampling.square_root)
    rows = config.storage.samples_per_shard
    write_manifest(files, chosen, weights, seed=config.sampling.seed, rows_per_part=rows)

    counts |= {
        "label_space": _counts(len(available), len(labelled), {"no_label_with_enough_videos": None}),
        "sampling": _counts(len(labelled), len(chosen), {"not_sampled": None}),
    }
    for stage, numbers in counts.items():
        progress.say_counts(stage.replace("_", " "), numbers["in"], numbers["kept"], numbers["dropped"])
    return artifacts.seal(
        files.folder, files.marker, counts, **_describe(files, space, chosen, stored, base_marker, base)
    )


def _counts(total: int, kept: int, dropped: dict[str, int | None]) -> dict[str, Any]:
    """in = kept + dropped; the one reason without a number takes the rest."""
    known = sum(count or 0 for count in dropped.values())
    return {
        "in": total,
        "kept": kept,
        "dropped": {r: total - kept - known if c is None else c for r, c in dropped.items()},
    }


def _available(
    base: DatasetFiles, marker: dict[str, Any], excluded: set[str]
) -> tuple[LabelledVideos, pa.Table, dict[str, Any]]:
    """(videos of the base that are stored and not excluded, where each stored video is, counts)."""
    manifest = storage.read_parquet_parts(base.manifest)
    stored = pa.concat_tables([_stored(base, shard, index) for index, shard in enumerate(marker["shards"])])
    is_stored = pc.is_in(manifest["video_id"], value_set=stored["key"].combine_chunks())
    is_excluded = pc.is_in(manifest["video_id"], value_set=pa.array(sorted(excluded), pa.string()))
    kept = manifest.filter(pc.and_not(is_stored, is_excluded))
    num_stored = pc.sum(is_stored).as_py()
    dropped = {"quarantined": manifest.num_rows - num_stored, "overlaps_a_target": num_stored - kept.num_rows}
    lists = kept["label_ids"].combine_chunks()
    sizes = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    label_ids = pc.list_flatten(lists).to_numpy(zero_copy_only=False)
    videos = LabelledVideos(kept.select(VIDEOS.names), label_ids, offsets)
    return videos, stored, {"base": {"in": manifest.num_rows, "kept": len(videos), "dropped": dropped}}


def _stored(base: DatasetFiles, shard: dict[str, Any], index: int) -> pa.Table:
    """key, duration_s, shard index of the stored videos of one shard."""
    path = artifacts.shard_path(base.folder, shard["path"]) + ".parquet"
    table = storage.read_parquet(path, columns=["key", "duration_s", "status"])
    table = table.filter(pc.equal(table["status"], "ok")).drop_columns("status")
    return table.append_column("shard", pa.array(np.full(table.num_rows, index, np.int32)))


def _describe(
    files: DatasetFiles,
    space: LabelSpace,
    chosen: LabelledVideos,
    stored: pa.Table,
    base_marker: dict[str, Any],
    base: DatasetFiles,
) -> dict[str, Any]:
    """Content of dataset.json; the shard list names the base's shards that hold a chosen video."""
    is_chosen = pc.is_in(stored["key"], value_set=chosen.table["video_id"].combine_chunks())
    rows = stored.filter(is_chosen)
    per_shard = Counter(rows["shard"].to_pylist())
    counts = label_counts(chosen.label_ids, len(space.labels))
    shards = [
        {**base_marker["shards"][i], "path": _relative(base, base_marker["shards"][i]["path"]), "num_videos": count}
        for i, count in sorted(per_shard.items())
    ]
    return {
        "name": files.name,
        "kind": space.kind,
        "base": base.name,
        "num_videos": len(chosen),
        "minutes": round((pc.sum(rows["duration_s"]).as_py() or 0.0) / 60, 3),
        "num_bytes": sum(shard["bytes"] for shard in shards),
        "labels": [{"id": i, "name": name, "num_videos": int(counts[i])} for i, name in enumerate(space.names)],
        "quarantined": {},
        "shards": shards,
    }


def _relative(base: DatasetFiles, path: str) -> str:
    """Path of a shard of the base, as seen from a dataset beside it."""
    return path if path.startswith("../") else f"../{base.name}/{path}"
