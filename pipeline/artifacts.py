"""The map of everything on disk: each artefact's path, schema, writer and readers; and the seal that says it is whole.

| artefact    | written by                | read by                                   |
|-------------|---------------------------|-------------------------------------------|
| source      | dataset_builder.build     | dataset_builder.build, report             |
| dataset     | dataset_builder.build     | dedup.find, pretrain.train, report        |
|             | dataset_builder.compact   |                                           |
| target      | dataset_builder.targets   | dedup.find, finetune.transfer, report     |
| exclusions  | dedup.find                | dataset_builder.build, pretrain, report   |
| index       | pretrain (first reader)   | pretrain, finetune; of large datasets     |
| run         | pretrain.train            | finetune.transfer, report                 |
| features    | finetune.features         | finetune.fc_only, finetune.few_shot       |
| transfer    | finetune.transfer         | finetune.joint, finetune.explain, report  |
|             | finetune.joint            |                                           |
| scorer      | finetune.salient          | finetune.salient                          |
| explanation | finetune.explain          | people                                    |
| sweep       | pipeline.launch           | report                                    |

Every artefact is a folder with `config.json`, written first, and a marker, written last: {config, config_digest,
input_digests, counts, ...}. `open_stage` compares the two digests with what is asked for now.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline import config as configs
from pipeline import storage
from pipeline.config import ConfigError, TransferConfig

HASHTAGS = pa.schema([("hashtag", pa.string()), ("label", pa.string())])
MATCHES = pa.schema(
    [
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("duration_s", pa.float32()),  # null when the posts table does not say
        ("labels", pa.list_(pa.string())),
        ("post_ids", pa.list_(pa.string())),
    ]
)
MANIFEST = pa.schema(
    [
        ("video_id", pa.string()),
        ("uri", pa.string()),
        # Of the upload, cut when the shards are built; in a subset (`base`), of the stored video, cut by its readers.
        ("start_s", pa.float64()),  # null: from the beginning
        ("end_s", pa.float64()),  # null: to the end
        ("label_ids", pa.list_(pa.int32())),
        ("weight", pa.float32()),  # slots of the video in one virtual pass (square-root sampling), before rounding
        ("group", pa.string()),  # of a target's videos that belong together (one source, one person); null: not known
    ]
)
SHARD_INDEX = pa.schema(  # one row per ATTEMPTED video
    [
        ("key", pa.string()),  # = video_id
        ("video_offset", pa.int64()),  # of the .mp4 member's bytes within the tar; null when quarantined
        ("video_size", pa.int64()),
        ("video_crc32", pa.uint32()),  # of the .mp4 member's bytes; older indices do not have it
        ("json_offset", pa.int64()),
        ("json_size", pa.int64()),
        ("source_sha256", pa.string()),
        ("label_ids", pa.list_(pa.int32())),
        ("duration_s", pa.float32()),  # of the stored video
        ("num_frames", pa.int32()),
        ("fps", pa.float32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("status", pa.string()),  # "ok" or "quarantined"
        ("reason", pa.string()),  # null when ok
    ]
)
_CROP = pa.struct(  # of one in several frames; columns as below
    [
        ("codes64", pa.binary()),
        ("quality", pa.binary()),
        ("codes256", pa.binary()),
        ("bars", pa.list_(pa.int32())),  # all that is trimmed
    ]
)
SIGNATURES = (
    pa.schema(  # one row per stored video; all binary columns are little-endian and hold one entry per 16 fps frame
        [
            ("video_id", pa.string()),
            ("num_frames", pa.int32()),
            ("codes64", pa.binary()),  # uint64 [num_frames]
            ("quality", pa.binary()),  # uint8 [num_frames], reliable bits of the code
            ("codes256", pa.binary()),  # uint64 [num_frames, 4]
            ("bars", pa.list_(pa.int32())),  # static bars trimmed, in 1/112 of the picture: top, bottom, left, right
            ("crops", pa.list_(_CROP)),  # parts of the picture; null but in target sets
        ]
    )
)
# Of the samples that can be trained on: one .npy file of one dimension a column, little-endian. N + 1 offsets lead into
# label_ids and key_bytes (video_ids, UTF-8); the other columns have N values, in the order of the manifest.
SAMPLE_INDEX = {
    "shard": "<i4",  # in dataset.json's list
    "video_offset": "<i8",
    "video_size": "<i8",
    "video_crc32": "<i8",  # -1: not known
    "stored_frames": "<i4",  # of the stored file
    "first_frame": "<i4",  # of the video, which may be a part of it
    "num_frames": "<i4",
    "fps": "<f4",
    "height": "<i4",
    "width": "<i4",
    "weight": "<f4",
    "label_offsets": "<i8",
    "label_ids": "<i4",
    "key_offsets": "<i8",
    "key_bytes": "|u1",
}
EXCLUSIONS = pa.schema(
    [
        ("video_id", pa.string()),
        ("target", pa.string()),
        ("target_split", pa.string()),
        ("target_video_id", pa.string()),
        ("overlap", pa.float32()),  # matched source frames / all source frames (the paper's measure)
        ("valid_overlap", pa.float32()),  # matched source frames / informative source frames
        ("target_overlap", pa.float32()),  # matched target frames / informative target frames
        ("matched_frames", pa.int32()),
        ("min_distance", pa.int32()),
        ("start_s", pa.float32()),  # matched span in the source
        ("end_s", pa.float32()),
        ("target_start_s", pa.float32()),
        ("target_end_s", pa.float32()),
        ("mirrored", pa.bool_()),
    ]
)
# Of a transfer: one row per final training and stored test video; every metric can be computed again.
PREDICTIONS = pa.schema(
    [
        ("key", pa.string()),
        ("seed", pa.int32()),  # of the final training (or of the draw)
        ("labels", pa.list_(pa.int32())),  # places among `labels` of result.json, as in scores
        ("scores", pa.list_(pa.float32())),  # [K], sum 1 where a video has one label; null when undecodable
        ("reason", pa.string()),  # null when scored
    ]
)


@dataclass(frozen=True)
class SourceFiles:
    folder: str

    @property
    def hashtags(self) -> str:
        return storage.join(self.folder, "hashtags.parquet")

    @property
    def matches(self) -> str:
        """Folder of part-*.parquet."""
        return storage.join(self.folder, "matches")

    @property
    def marker(self) -> str:
        return storage.join(self.folder, "source.json")


@dataclass(frozen=True)
class DatasetFiles:
    """Files of a dataset, or of one split of a target: the same schemas."""

    folder: str
    name: str

    @property
    def label_space(self) -> str:
        return storage.join(self.folder, "label_space.json")

    @property
    def manifest(self) -> str:
        """Folder of part-*.parquet."""
        return storage.join(self.folder, "manifest")

    @property
    def manifest_marker(self) -> str:
        """Written after the last part of the manifest: its existence means that the manifest is whole."""
        return storage.join(self.folder, "manifest.json")

    @property
    def shards(self) -> str:
        return storage.join(self.folder, "shards")

    def shard(self, index: int) -> str:
        """Path of a shard without its suffix: + .tar, .json (sidecar, last), .parquet (index), .sig.parquet."""
        return storage.join(self.shards, f"{self.name}-{index:06d}")

    @property
    def index(self) -> str:
        """Folder of the sample index, {digest}/: index.json (its marker) and the columns of `SAMPLE_INDEX`."""
        return storage.join(self.folder, "index")

    @property
    def exclusions(self) -> str:
        return storage.join(self.folder, "exclusions.parquet")

    @property
    def dedup(self) -> str:
        """Folder of the dedup stage: config.json, its parts, evidence, and the marker."""
        return storage.join(self.folder, "dedup")

    @property
    def dedup_marker(self) -> str:
        return storage.join(self.dedup, "dedup.json")

    @property
    def croissant(self) -> str:
        """What the dataset is, in the vocabulary of Croissant; for people and their tools, read by no stage."""
        return storage.join(self.folder, "croissant.json")

    @property
    def marker(self) -> str:
        return storage.join(self.folder, "dataset.json")


@dataclass(frozen=True)
class RunFiles:
    folder: str

    @property
    def marker(self) -> str:
        return storage.join(self.folder, "run.json")

    @property
    def metrics(self) -> str:
        return storage.join(self.folder, "metrics.jsonl")

    @property
    def tensorboard(self) -> str:
        """Folder of event files: what metrics.jsonl says, for TensorBoard."""
        return storage.join(self.folder, "tensorboard")

    @property
    def checkpoints(self) -> str:
        return storage.join(self.folder, "checkpoints")

    def transfer(self, target: str, protocol: str, result: str = "") -> str:
        """Folder of one transfer; `result` tells it from others with other settings."""
        return storage.join(self.folder, "transfer", "-".join(filter(None, (target, protocol, result))))

    def features(self, digest: str) -> str:
        """Folder of the features of one split: config.json, part-*.arrow, features.json (its marker)."""
        return storage.join(self.folder, "features", digest)


@dataclass(frozen=True)
class TransferFiles:
    folder: str

    @property
    def marker(self) -> str:
        return storage.join(self.folder, "result.json")

    @property
    def predictions(self) -> str:
        return storage.join(self.folder, "predictions.parquet")

    @property
    def metrics(self) -> str:
        return storage.join(self.folder, "metrics.jsonl")

    @property
    def unfinished(self) -> str:
        """Folder of what an interrupted transfer goes on from; gone when it is finished."""
        return storage.join(self.folder, "unfinished")


def source_files(root: str, source: str) -> SourceFiles:
    return SourceFiles(storage.join(root, "sources", _checked_name("source", source)))


def dataset_files(root: str, dataset: str) -> DatasetFiles:
    return DatasetFiles(storage.join(root, "datasets", _checked_name("dataset", dataset)), dataset)


def target_files(root: str, target: str, split: str) -> DatasetFiles:
    """`split` is "train" or "test"."""
    return DatasetFiles(storage.join(root, "targets", _checked_name("target", target), split), f"{target}-{split}")


def scorer_folder(root: str, target: str, digest: str) -> str:
    """Folder of a scorer of salient clips, beside the splits of its target: model.safetensors, scorer.json (its marker)."""
    return storage.join(root, "targets", _checked_name("target", target), "scorers", digest)


def explanation_folder(result_folder: str, name: str) -> str:
    """Folder of one explanation of a transfer; explain.json is its marker."""
    return storage.join(result_folder, "explain", _checked_name("explanation", name))


def run_files(root: str, run: str) -> RunFiles:
    return RunFiles(storage.join(root, "runs", _checked_name("run", run)))


def transfer_files(config: TransferConfig) -> TransferFiles:
    if config.result:
        _checked_name("result", config.result)
    _checked_name("target", config.target)
    return TransferFiles(transferred_run_files(config).transfer(config.target, config.protocol, config.result))


def transferred_run_files(config: TransferConfig) -> RunFiles:
    """Of a weights file, results are in the folder of a run of its name where `config.run` is left at its default."""
    run = config.run
    if config.run_from and run == TransferConfig.run:
        run = os.path.splitext(os.path.basename(config.run_from))[0]
    return run_files(config.root, run)


def sweep_folder(root: str, sweep: str) -> str:
    return storage.join(root, "sweeps", _checked_name("sweep", sweep))


def label_report(root: str, name: str) -> str:
    """Path of a report on label spaces without its suffix: + .json, .html."""
    return storage.join(root, "reports", "labels", _checked_name("report", name))


def _checked_name(kind: str, name: str) -> str:
    """A name is one folder or file: `--force` removes it, so it must not lead elsewhere."""
    if not name or name.startswith(".") or {"/", "\\"} & {*name} or not name.isprintable():
        raise ConfigError(
            f"the name of a {kind} cannot be {name!r}: it must not be empty, begin with '.', or hold a slash or what "
            "cannot be printed"
        )
    return name


# ------------------------------------------------------------------------------------------------- seals


def open_stage(
    folder: str, marker: str, config: Any, input_digests: dict[str, str], unused: Collection[str] = ()
) -> dict[str, Any] | None:
    """Begin, resume or skip a stage that writes `folder`; fields of `config` that are `unused` may change.

    Returns the marker's content when the artefact is whole and was made by the same config from the same inputs (skip);
    None when there is work to do (config.json is then in place). Raises ConfigError naming the fields that differ when
    another config or other inputs began the same path; `config.force` removes the folder first.
    """
    if getattr(config, "force", False):
        storage.remove(folder)
    asked = {"config": configs.determining(config, unused), "input_digests": input_digests}
    begun = storage.join(folder, "config.json")
    if storage.exists(begun):
        found = storage.read_json(begun)
        _refuse_changes(folder, {k: found[k] for k in asked}, asked)
        return storage.read_json(marker) if storage.exists(marker) else None
    storage.write_json(
        begun, {**asked, "config_digest": configs.digest(asked["config"]), "resolved": configs.to_dict(config)}
    )
    return None


def check_config(folder: str, config: Any) -> None:
    """ConfigError as from `open_stage`, for a stage that has hours of work to do before its inputs are known."""
    begun = storage.join(folder, "config.json")
    if not getattr(config, "force", False) and storage.exists(begun):
        _refuse_changes(folder, {"config": storage.read_json(begun)["config"]}, {"config": configs.determining(config)})


def _refuse_changes(folder: str, found: dict[str, Any], asked: dict[str, Any]) -> None:
    if changed := configs.differences(found, asked):
        raise ConfigError(
            f"'{folder}' was made with another configuration or from other inputs:\n  "
            + "\n  ".join(changed)
            + "\nGive this one another name, or pass --force to discard what is there."
        )


def seal(folder: str, marker: str, counts: dict[str, Any], **content: Any) -> dict[str, Any]:
    """Write a stage's marker, last of all: {config_digest, input_digests, digest, counts, **content}; returns it."""
    begun = storage.read_json(storage.join(folder, "config.json"))
    sealed = {
        "config": begun["config"],
        "config_digest": begun["config_digest"],
        "input_digests": begun["input_digests"],
        "counts": counts,
        **content,
    }
    sealed["digest"] = configs.digest(sealed)
    storage.write_json(marker, sealed)
    return sealed


def read_marker(marker: str, remedy: str) -> dict[str, Any]:
    """Content of an input's marker; a missing one raises ConfigError with the remedy (the command that makes it)."""
    if not storage.exists(marker):
        raise ConfigError(f"'{marker}' does not exist: {remedy}")
    return storage.read_json(marker)


def shard_path(folder: str, relative: str) -> str:
    """A path of dataset.json's shard list as seen from anywhere; a subset's shards are its base's, `../BASE/shards/…`."""
    while relative.startswith("../"):  # by hand: a URL cannot express it
        folder, relative = folder.rstrip("/").rpartition("/")[0], relative.removeprefix("../")
    return storage.join(folder, relative)


def shard_paths(files: DatasetFiles, marker: dict[str, Any]) -> list[str]:
    """Paths, without suffix, of a dataset's shards; `marker` is the content of its dataset.json."""
    folder = files.folder.rstrip("/")
    paths = [shard["path"] for shard in marker["shards"]]
    return [shard_path(folder, path) if path.startswith("../") else f"{folder}/{path}" for path in paths]
