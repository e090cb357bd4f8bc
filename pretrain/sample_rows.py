"""From the manifest and the shards' indices to rows of samples: which videos can be trained on, and where they lie.

Part i of a manifest lists what a dataset takes from the i-th of its shards, so that rows are made shard by shard.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage
from pipeline.storage import StorageError

MANIFEST_COLUMNS = ["video_id", "start_s", "end_s", "label_ids", "weight"]
INDEX_COLUMNS = ["key", "video_offset", "video_size", "num_frames", "fps", "height", "width"]
UNKNOWN = -1  # in place of a checksum

Piece = tuple[list[str], range]
"""Parts of the manifest, and the numbers of the shards that hold what they list."""


@dataclass(frozen=True)
class RowsJob:
    manifest: str
    """Folder of part-*.parquet."""
    shards: list[str]
    """Paths without suffix."""
    excluded: set[str]
    """video_ids."""
    cut_by_readers: bool
    """Whether the manifest's spans are of the stored videos: cut by who reads them, not when the dataset was built."""

    @cached_property
    def pieces(self) -> list[Piece]:
        """One for each shard; or everything at once, where parts and shards are not as many (nobody writes that now)."""
        parts = storage.parts_in(self.manifest)
        if not parts:
            raise StorageError(f"no part-*.parquet in '{self.manifest}'")
        if len(parts) != len(self.shards):
            return [(parts, range(len(self.shards)))]
        return [([part], range(number, number + 1)) for number, part in enumerate(parts)]


@dataclass(frozen=True)
class Rows:
    """N samples, in the order of the manifest."""

    columns: dict[str, np.ndarray]
    """[N] each; those of `artifacts.SAMPLE_INDEX` but offsets, label_ids and key_bytes."""
    label_sizes: np.ndarray
    """int [N], labels of each."""
    label_ids: np.ndarray
    """int32, one video's after the other's."""
    keys: pa.Array
    """string [N], the video_ids."""
    total: int
    """Videos in the manifest."""
    dropped: dict[str, int]
    """Videos of the manifest that are not here, by reason."""

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def key_sizes(self) -> np.ndarray:
        """int32 [N], bytes of each key."""
        return pc.binary_length(self.keys).to_numpy(zero_copy_only=False)

    @property
    def key_bytes(self) -> np.ndarray:
        """uint8, one key after the other."""
        return np.frombuffer("".join(self.keys.to_pylist()).encode(), np.uint8)


def read_rows(job: RowsJob, piece: Piece) -> Rows:
    """Rows of one piece; StorageError when a shard does not know a video that is to be taken from it."""
    parts, shards = piece
    manifest = pa.concat_tables([storage.read_parquet(part, MANIFEST_COLUMNS) for part in parts])
    stored = pa.concat_tables([_read_index(job.shards[number], number) for number in shards])
    known = pc.is_in(manifest["video_id"], value_set=stored["key"].combine_chunks())
    if len(job.pieces) > 1 and not pc.all(known).as_py():
        missing = manifest["video_id"].filter(pc.invert(known))[0]
        raise StorageError(
            f"'{job.shards[shards[0]]}.parquet' lacks '{missing}' of '{parts[0]}': build the dataset again"
        )
    stored = stored.filter(pc.equal(stored["status"], "ok"))
    found = pc.index_in(manifest["video_id"], value_set=stored["key"].combine_chunks())
    is_excluded = np.fromiter(
        (key in job.excluded for key in manifest["video_id"].to_pylist()), bool, manifest.num_rows
    )
    keep = pa.array(pc.is_valid(found).to_numpy() & ~is_excluded)
    kept, place = manifest.filter(keep), stored.take(found.filter(keep))
    columns = {name: place[name].to_numpy() for name in ("shard", *INDEX_COLUMNS[1:], "video_crc32")}
    labels = kept["label_ids"].combine_chunks()
    overlapping = int(is_excluded.sum())
    return Rows(
        columns=columns
        | _spans(kept, columns, job.cut_by_readers)
        | {"weight": kept["weight"].fill_null(1.0).to_numpy()},
        label_sizes=labels.value_lengths().to_numpy(zero_copy_only=False),
        label_ids=labels.flatten().to_numpy(zero_copy_only=False),
        keys=kept["video_id"].combine_chunks(),
        total=manifest.num_rows,
        dropped={
            "overlaps_a_target": overlapping,
            "quarantined": manifest.num_rows - overlapping - kept.num_rows,
        },
    )


def _read_index(shard: str, number: int) -> pa.Table:
    """All rows of a shard's index, with the shard's number and checksums; `UNKNOWN` where an older build stored none."""
    table = storage.read_parquet(f"{shard}.parquet", [*INDEX_COLUMNS, "status"], optional=["video_crc32"])
    if "video_crc32" in table.column_names:
        checksums = table["video_crc32"].cast(pa.int64()).fill_null(UNKNOWN)
    else:
        checksums = pa.array(np.full(table.num_rows, UNKNOWN))
    numbers = pa.array(np.full(table.num_rows, number, np.int32))
    table = table.select([*INDEX_COLUMNS, "status"])
    return table.append_column("shard", numbers).append_column("video_crc32", checksums)


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
