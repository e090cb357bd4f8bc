"""path,label tables → a target: the same artefacts as a dataset, training and test split apart."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dataset_builder.checks import check
from dataset_builder.dataset import describe_shards, reopened, say_whole
from dataset_builder.label_space import VIDEOS, LabelledVideos, LabelSpace, labelled_videos, write_label_space
from dataset_builder.manifest import write_manifest
from dataset_builder.match import video_id
from dataset_builder.post_rows import folder_of, resolve_uris
from dataset_builder.posts import posts_digest
from dataset_builder.sampling import label_counts
from dataset_builder.shard import ShardJob, write_shards
from pipeline import artifacts, progress, storage
from pipeline.cli import run_stage
from pipeline.config import ConfigError, TargetConfig

SPLITS = ("train", "test")


@dataclass(frozen=True)
class SplitTable:
    """One CSV: its videos with their labels, rows without a path or a label left out."""

    labels: dict[str, set[str]]
    """resolved URI → labels"""
    counts: dict[str, Any]
    """Rows: in = kept + dropped; kept rows are videos."""
    digest: str


def build_target(config: TargetConfig) -> dict[str, dict[str, Any]]:
    """Build both splits of `config.target`; returns their dataset.json by split."""
    check(config)
    tables = {split: _read_split(getattr(config, split), split) for split in SPLITS}
    names = _check_splits(tables)
    digests = {split: table.digest for split, table in tables.items()}
    return {split: _build_split(config, split, tables[split], names, digests) for split in SPLITS}


def _build_split(
    config: TargetConfig, split: str, table: SplitTable, names: list[str], digests: dict[str, str]
) -> dict[str, Any]:
    files = artifacts.target_files(config.root, config.target, split)
    done = artifacts.open_stage(files.folder, files.marker, config, digests)
    if done := reopened(files, done, config.retry_failed):
        return say_whole(files, done)
    videos = _labelled(table, names)
    space = _label_space(files.name, videos, names)
    write_label_space(files, space)
    weights = np.ones(len(videos), dtype=np.float32)
    num_shards = write_manifest(files, videos, weights, rows_per_part=config.storage.samples_per_shard)
    job = ShardJob(files, names, config.storage, config.execution, config.retry_failed, of_target=True)
    described = describe_shards(files, space.kind, names, write_shards(job, num_shards))
    shards = {"in": len(videos), "kept": described["num_videos"], "dropped": described["quarantined"]}
    for stage, counts in (("rows", table.counts), ("shards", shards)):
        progress.say_counts(f"{files.name} {stage}", counts["in"], counts["kept"], counts["dropped"])
    counts = {"rows": table.counts, "shards": shards}
    return say_whole(files, artifacts.seal(files.folder, files.marker, counts, **described))


def _labelled(table: SplitTable, names: list[str]) -> LabelledVideos:
    uris = sorted(table.labels, key=video_id)
    whole = pa.nulls(len(uris), pa.float32())
    columns = [pa.array([video_id(uri) for uri in uris]), pa.array(uris), whole, whole]
    lists = pa.array([sorted(table.labels[uri]) for uri in uris], pa.list_(pa.string()))
    return labelled_videos(pa.table(columns, schema=VIDEOS), lists, names)


def _label_space(name: str, videos: LabelledVideos, names: list[str]) -> LabelSpace:
    counts = label_counts(videos.label_ids, len(names))
    labels = [{"id": i, "name": label, "num_videos": int(counts[i])} for i, label in enumerate(names)]
    return LabelSpace(name=name, kind="target", min_videos=0, labels=labels, dropped=[])


# ------------------------------------------------------------------------------------------------- the tables


def _read_split(path: str, split: str) -> SplitTable:
    if not path:
        raise ConfigError(f"a target needs both splits: set --{split} to a CSV with the columns path,label")
    try:
        data = storage.read_bytes(path)
        rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig")), skipinitialspace=True)
        columns = [name.strip() for name in rows.fieldnames or []]
        rows.fieldnames = columns
        listed = list(rows) if {"path", "label"} <= set(columns) else []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"cannot read the target table '{path}' (--{split}): {error}") from error
    missing = [name for name in ("path", "label") if name not in columns]
    if missing:
        raise ConfigError(
            f"target table '{path}' has no column {' and no column '.join(missing)}; it has: "
            f"{', '.join(columns) or 'nothing'}. Its first line must be path,label"
        )
    table = _collect(listed, path)
    if not table.labels:
        raise ConfigError(f"target table '{path}' (--{split}) has no row with a path and a label")
    return table


def _collect(rows: list[dict[str, str | None]], path: str) -> SplitTable:
    """Labels by file; a file listed with several labels has them all, and the further rows count as repeated."""
    pairs = [((row["path"] or "").strip(), (row["label"] or "").strip()) for row in rows]
    whole = [pair for pair in pairs if all(pair)]
    folder = folder_of(path) if "/" in path else "."
    labels: dict[str, set[str]] = {}
    uris = resolve_uris(pa.array([path for path, _ in whole], pa.string()), folder).to_pylist()
    for uri, (_, label) in zip(uris, whole, strict=True):
        labels.setdefault(uri, set()).add(label)
    dropped = {"incomplete_row": len(pairs) - len(whole), "repeated_path": len(whole) - len(labels)}
    counts = {"in": len(pairs), "kept": len(labels), "dropped": {k: v for k, v in dropped.items() if v}}
    return SplitTable(labels, counts, posts_digest([path]))


def _check_splits(tables: dict[str, SplitTable]) -> list[str]:
    """Label names of both splits, sorted; ConfigError for what makes a score meaningless."""
    train, test = (tables[split].labels for split in SPLITS)
    shared = sorted(train.keys() & test.keys())
    if shared:
        raise ConfigError(
            f"{len(shared):,} files are in both --train and --test, e.g. '{shared[0]}': take them out of one"
        )
    in_train, in_test = (set().union(*labels.values()) for labels in (train, test))
    if len(in_train | in_test) < 2:
        raise ConfigError(
            f"a target with one class ({next(iter(in_train))!r}) cannot be learnt: list at least two labels"
        )
    if unseen := sorted(in_test - in_train):
        raise ConfigError(
            f"labels only in --test: {', '.join(map(repr, unseen[:5]))}: a classifier never sees them in --train"
        )
    if untested := sorted(in_train - in_test):
        progress.say(f"target: {len(untested):,} labels have no test video, e.g. {untested[0]!r}")
    return sorted(in_train)


def main(argv: Sequence[str] | None = None) -> None:
    run_stage(TargetConfig, build_target, argv)


if __name__ == "__main__":
    main()
