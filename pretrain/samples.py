"""The videos of a dataset or target split that can be trained on: where their bytes lie, and what is known of them.

One table in memory, built from the marker, the manifest, the shards' indices and the exclusions; bytes are read from
the tars by offset. in = kept + dropped by reason, exactly.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import artifacts, storage
from pipeline.artifacts import DatasetFiles
from pipeline.config import ConfigError
from pipeline.exclusions import read_exclusions
from pipeline.storage import StorageError

INDEX_COLUMNS = ["key", "video_offset", "video_size", "num_frames", "fps", "height", "width"]


@dataclass(frozen=True)
class Samples:
    """N stored videos, in the order of the manifest."""

    name: str
    """Of the dataset."""
    labels: tuple[str, ...]
    """Names of the K labels; their places are the label ids."""
    shards: tuple[str, ...]
    """Paths of the tars."""
    keys: pa.ChunkedArray
    """string [N], the video_ids."""
    columns: dict[str, np.ndarray]
    """[N] each: shard, video_offset, video_size, num_frames, fps, height, width, weight; and of the stored file behind
    a video that is a part of it (long-center datasets): first_frame, stored_frames."""
    label_offsets: np.ndarray
    """int64 [N + 1]: the labels of video i are label_ids[label_offsets[i] : label_offsets[i + 1]]."""
    label_ids: np.ndarray
    """int32, all videos' labels one after the other."""
    total: int
    """Videos in the manifest."""
    dropped: dict[str, int]
    """Videos of the manifest that are not here, by reason."""
    digests: dict[str, str]
    """Of the dataset and of the exclusions: the inputs of whatever is trained on these samples."""

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def num_labels(self) -> int:
        return len(self.labels)

    def key(self, sample: int) -> str:
        return self.keys[sample].as_py()

    def labels_of(self, sample: int) -> np.ndarray:
        """int32 label ids of one video."""
        return self.label_ids[self.label_offsets[sample] : self.label_offsets[sample + 1]]

    def read(self, sample: int) -> bytes:
        """The stored MP4."""
        at = self.columns
        return storage.read_range(
            self.shards[at["shard"][sample]], int(at["video_offset"][sample]), int(at["video_size"][sample])
        )

    def describe(self, sample: int) -> str:
        """For messages: the key and its shard."""
        return f"sample '{self.key(sample)}' of shard '{self.shards[self.columns['shard'][sample]]}'"


def open_samples(files: DatasetFiles, remedy: str) -> Samples:
    """Samples of a finished dataset or target split; `remedy` is the command that makes it, for the message."""
    marker = artifacts.read_marker(files.marker, remedy)
    excluded, exclusions_digest = read_exclusions(files)
    shards = artifacts.shard_paths(files, marker)
    manifest = storage.read_parquet_parts(files.manifest, ["video_id", "start_s", "end_s", "label_ids", "weight"])
    stored = _stored(shards)
    kept, rows, dropped = _select(manifest, stored, excluded)
    if not kept.num_rows:
        raise ConfigError(f"dataset '{files.name}' has no video to train on: {manifest.num_rows} = 0 kept + {dropped}")
    label_lists = kept["label_ids"].combine_chunks()
    found = stored.take(rows)
    columns = {name: found[name].to_numpy() for name in ("shard", *INDEX_COLUMNS[1:])}
    columns |= _spans(kept, columns, cut_by_readers=marker.get("base") is not None)
    return Samples(
        name=files.name,
        labels=tuple(label["name"] for label in marker["labels"]),
        shards=tuple(f"{shard}.tar" for shard in shards),
        keys=kept["video_id"],
        columns={**columns, "weight": kept["weight"].fill_null(1.0).to_numpy()},
        label_offsets=np.concatenate([[0], np.cumsum(label_lists.value_lengths().to_numpy(), dtype=np.int64)]),
        label_ids=label_lists.flatten().to_numpy(),
        total=manifest.num_rows,
        dropped=dropped,
        digests={"dataset": marker["digest"], "exclusions": exclusions_digest},
    )


def _stored(shards: list[str]) -> pa.Table:
    """Rows of the shards' indices that hold a video, with the number of their shard."""
    tables = []
    for number, shard in enumerate(shards):
        table = storage.read_parquet(f"{shard}.parquet", [*INDEX_COLUMNS, "status"])
        table = table.filter(pc.equal(table["status"], "ok")).select(INDEX_COLUMNS)
        tables.append(table.append_column("shard", pa.array(np.full(table.num_rows, number, np.int32))))
    return pa.concat_tables(tables)


def _select(
    manifest: pa.Table, stored: pa.Table, excluded: set[str]
) -> tuple[pa.Table, pa.ChunkedArray, dict[str, int]]:
    """Kept rows of the manifest, their rows in `stored`, and the dropped ones by reason."""
    rows = pc.index_in(manifest["video_id"], value_set=stored["key"].combine_chunks())
    is_excluded = pc.is_in(manifest["video_id"], value_set=pa.array(sorted(excluded), pa.string()))
    is_stored = pc.is_valid(rows)
    keep = pc.and_(is_stored, pc.invert(is_excluded))
    overlapping, kept = (pc.sum(mask).as_py() or 0 for mask in (is_excluded, keep))
    dropped = {"overlaps_a_target": overlapping, "quarantined": manifest.num_rows - overlapping - kept}
    return manifest.filter(keep), rows.filter(keep), dropped


def _spans(kept: pa.Table, columns: dict[str, np.ndarray], cut_by_readers: bool) -> dict[str, np.ndarray]:
    """first_frame, num_frames and stored_frames, int32 [N]: frames that begin within [start_s, end_s), at least one.

    Spans of a dataset built from posts were cut when it was; those of a subset are spans of its base's stored videos.
    """
    stored_frames, fps = columns["num_frames"], columns["fps"].astype(np.float64)
    if not cut_by_readers:
        return {
            "first_frame": np.zeros_like(stored_frames),
            "num_frames": stored_frames,
            "stored_frames": stored_frames,
        }
    start_s, end_s = (kept[name].cast(pa.float64()) for name in ("start_s", "end_s"))
    first = np.ceil(start_s.fill_null(0.0).to_numpy() * fps).clip(0, stored_frames - 1).astype(np.int32)
    end = np.ceil(end_s.fill_null(np.inf).to_numpy() * fps).clip(first + 1, stored_frames).astype(np.int32)
    return {"first_frame": first, "num_frames": end - first, "stored_frames": stored_frames}


class SampleError(StorageError):
    """A stored sample cannot be read; the message names it and its shard."""
