"""A target split as training and evaluation need it: labels, undecodable videos by reason, reading ahead.

N videos, K labels. The table of videos and the frame reader are pretraining's.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pyarrow.compute as pc

from pipeline import artifacts, storage
from pipeline.artifacts import DatasetFiles
from pipeline.config import ConfigError
from pretrain import threads
from pretrain.distributed import available_cores
from pretrain.samples import Samples, open_samples

MAX_READING_THREADS = 16
PARTS = ("train", "test")

Item, Result = TypeVar("Item"), TypeVar("Result")


@dataclass(frozen=True)
class Split:
    """The train or test part of a target."""

    samples: Samples
    labels: np.ndarray
    """int64 [N], the one label of each stored video; or bool [N, K], which labels each has (multi-label)."""
    undecodable: dict[str, int]
    """Videos of the user's table that are not stored, by reason."""
    groups: list[str | None] | None = None
    """[N], what each video belongs to (one upload, one scene, one person), where the target knows."""

    @property
    def total(self) -> int:
        """Videos in the user's table."""
        return self.samples.total

    @property
    def multi_label(self) -> bool:
        return self.labels.ndim == 2

    @property
    def strata(self) -> list[int]:
        """[N], the label under which a video is held out or drawn: its own or, of several, the one that fewest videos have;
        K for a video without any."""
        if not self.multi_label:
            return self.labels.tolist()
        num_videos, num_labels = self.labels.shape
        own_sizes = np.where(self.labels, self.labels.sum(axis=0), num_videos + 1)
        return np.where(self.labels.any(axis=1), own_sizes.argmin(axis=1), num_labels).tolist()

    @property
    def digest(self) -> str:
        return self.samples.digests["dataset"]


def open_split(root: str, target: str, part: str) -> Split:
    """`part` is "train" or "test". Raises ConfigError for a target that is missing or unfinished, and for a video without a
    label where that cannot be: in training, and in a target of one label a video."""
    files = artifacts.target_files(root, target, part)
    samples = open_samples(files, f"run `tagreel target --target {target}` first")
    multi_label = is_multi_label(root, target)
    num_labels = np.diff(samples.label_offsets)
    is_wrong = num_labels < (part == "train") if multi_label else num_labels != 1
    if is_wrong.any():
        first = int(np.flatnonzero(is_wrong)[0])
        raise ConfigError(
            f"video '{samples.key(first)}' of target '{target}' ({part}) has {num_labels[first]} labels; it needs "
            f"{'at least' if multi_label else 'exactly'} one: make the target again"
        )
    return Split(samples, _labels(samples, multi_label), _undecodable(samples), groups_of(files, samples))


def is_multi_label(root: str, target: str) -> bool:
    """Do videos of a target have several labels? As its markers say; where they do not, if any video of any part has not
    exactly one."""
    return any(_is_multi_label(artifacts.target_files(root, target, part)) for part in PARTS)


def _is_multi_label(files: DatasetFiles) -> bool:
    if not storage.exists(files.marker):
        return False
    marker = storage.read_json(files.marker)
    if "multi_label" in marker:
        return bool(marker["multi_label"])
    label_ids = storage.read_parquet_parts(files.manifest, ["label_ids"])["label_ids"]
    return bool(pc.any(pc.not_equal(pc.list_value_length(label_ids), 1)).as_py())


def _labels(samples: Samples, multi_label: bool) -> np.ndarray:
    if not multi_label:
        return samples.label_ids.astype(np.int64)
    labels_NK = np.zeros((len(samples), samples.num_labels), dtype=bool)
    labels_NK[np.repeat(np.arange(len(samples)), np.diff(samples.label_offsets)), samples.label_ids] = True
    return labels_NK


def groups_of(files: DatasetFiles, samples: Samples) -> list[str | None] | None:
    """What each video belongs to: its `group` in the manifest, else the upload that several are segments of, else None;
    None altogether for a target of single videos."""
    manifest = storage.read_parquet_parts(files.manifest)
    uris = manifest["uri"].to_pylist()
    named = manifest["group"].to_pylist() if "group" in manifest.column_names else [None] * len(uris)
    segments = Counter(uris)
    groups = [group or (uri if uri and segments[uri] > 1 else None) for group, uri in zip(named, uris, strict=True)]
    if not any(groups):
        return None
    found = dict(zip(manifest["video_id"].to_pylist(), groups, strict=True))
    return [found[key] for key in samples.keys.to_pylist()]


def _undecodable(samples: Samples) -> dict[str, int]:
    """Quarantined videos by reason, from the shards' indices; what was dropped for no stated reason keeps its name."""
    counts: Counter[str] = Counter()
    for shard in samples.shards:
        index = storage.read_parquet(shard.removesuffix(".tar") + ".parquet", ["status", "reason"])
        counts.update(index.filter(pc.not_equal(index["status"], "ok"))["reason"].to_pylist())
    missing = samples.total - len(samples) - counts.total()
    return dict(counts) | ({"not_stored": missing} if missing else {})


def subset(samples: Samples, mask: np.ndarray) -> Samples:
    """The same table for a training order in which a video has one slot where `mask`, bool [N], and none elsewhere."""
    return replace(samples, columns={**samples.columns, "weight": mask.astype(np.float64)})


def read_ahead(read: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`map(read, items)`, in order, with the next few results being made by this process's share of the cores."""
    num_threads = min(MAX_READING_THREADS, max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))
    return threads.read_ahead(read, items, num_threads)
