"""A smaller dataset drawn from a finished one: same shards, another manifest; no video is read and no tar copied.

What `IG-Kinetics-{500K, 1M, ...}` are to IG-Kinetics-65M (paper, Section 4.1.1). Videos that a dedup excluded are left out.
Part i of the new manifest lists what the dataset takes from the i-th of its shards, so that a subset of a subset is the
same work again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dataset_builder.candidates import stored_videos
from dataset_builder.choose import choose_videos
from dataset_builder.dataset import describe, say_whole, seal_dataset
from dataset_builder.label_space import read_label_space, write_label_space
from dataset_builder.manifest import say_stages, write_chosen
from pipeline import artifacts
from pipeline.artifacts import DatasetFiles
from pipeline.config import BuildConfig
from pipeline.exclusions import read_exclusions


def draw_subset(config: BuildConfig) -> dict[str, Any]:
    """Draw `config.dataset` from `config.base`; returns the content of its dataset.json."""
    base, files = (artifacts.dataset_files(config.root, name) for name in (config.base, config.dataset))
    remedy = f"build it first (tagreel build --dataset {config.base})"
    base_marker = artifacts.read_marker(base.marker, remedy)
    excluded, dedup_digest = read_exclusions(base)
    digests = {"base": base_marker["digest"], "dedup": dedup_digest}
    if done := artifacts.open_stage(files.folder, files.marker, config, digests):
        return say_whole(files, done)

    base_space = read_label_space(base)
    left_out = set() if config.sampling.keep_duplicates else excluded
    candidates = stored_videos(base, base_marker, base_space.names, left_out)
    space, choice, stages = choose_videos(
        candidates, config.sampling, config.execution, name=config.dataset, kind=base_space.kind
    )
    write_label_space(files, space)
    bounds = np.unique(choice.ends)  # one part for each shard that something is taken from
    manifest, durations_s = write_chosen(files, choice, stages, bounds, config.sampling.square_root, config.execution)
    say_stages(stages)
    shards = _shards(base, base_marker, np.diff(choice.ends))
    described = describe(
        files, space.kind, space.names, manifest.label_counts, shards, duration_s=sum(durations_s), quarantined={}
    )
    return say_whole(files, seal_dataset(files, config, stages, {"base": base.name, **described}))


def _shards(base: DatasetFiles, marker: dict[str, Any], taken: np.ndarray) -> list[dict[str, Any]]:
    """Those of the base's shards from which something is taken (`taken`: int64, videos of each)."""
    return [
        {**shard, "path": _relative(base, shard["path"]), "num_videos": int(count)}
        for shard, count in zip(marker["shards"], taken, strict=True)
        if count
    ]


def _relative(base: DatasetFiles, path: str) -> str:
    """Path of a shard of the base, as seen from a dataset beside it."""
    return path if path.startswith("../") else f"../{base.name}/{path}"
