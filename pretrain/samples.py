"""The videos of a dataset or target split that can be trained on: where their bytes lie, and what is known of them.

One table, made of the marker, the manifest, the shards' indices and the exclusions (see `sample_index`); bytes are read
from the tars by offset, and checked. in = kept + dropped by reason, exactly.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from pipeline import artifacts, members, progress, storage
from pipeline.artifacts import DatasetFiles
from pipeline.exclusions import read_exclusions
from pipeline.shard_cache import ShardCache, Whole
from pipeline.storage import StorageError
from pretrain import sample_index
from pretrain.sample_index import Arrays, Summary
from pretrain.sample_rows import UNKNOWN, RowsJob


class SampleError(StorageError):
    """A stored sample cannot be read; the message names it and its shard."""


@dataclass(frozen=True)
class Samples:
    """N stored videos, in the order of the manifest."""

    name: str
    """Of the dataset."""
    labels: tuple[str, ...]
    """Names of the K labels; their places are the label ids."""
    shards: tuple[str, ...]
    """Paths of the tars."""
    wholes: tuple[Whole, ...]
    """Size and SHA-256 of each tar, as far as they are known."""
    keys: pa.LargeStringArray
    """[N], the video_ids."""
    columns: dict[str, np.ndarray]
    """[N] each, perhaps mapped from a file: shard, video_offset, video_size, video_crc32, num_frames, fps, height, width,
    weight; and of the stored file behind a video that is a part of it (long-center datasets): first_frame, stored_frames."""
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

    def read(self, sample: int, *, verify: bool = True, cache: ShardCache | None = None) -> bytes:
        """The stored MP4; DamagedError when it is not the one that was written. `cache` keeps copies of remote shards."""
        number, offset, size, crc32 = (
            self.columns[name].item(sample) for name in ("shard", "video_offset", "video_size", "video_crc32")
        )
        shard, expected = self.shards[number], crc32 if verify and crc32 != UNKNOWN else None
        if cache is not None:
            data = cache.read_range(shard, offset, size, self.wholes[number], partial(members.check, expected=expected))
        else:
            data = storage.read_range(shard, offset, size)
            members.check(data, expected)
        return data

    def describe(self, sample: int) -> str:
        """For messages: the key and its shard."""
        return f"sample '{self.key(sample)}' of shard '{self.shards[self.columns['shard'][sample]]}'"


def open_samples(files: DatasetFiles, remedy: str, scratch: str = "") -> Samples:
    """Samples of a finished dataset or target split.

    Args:
        remedy: the command that makes it, for the message.
        scratch: local folder for the index of a large dataset whose own folder cannot be written to.
    """
    marker = artifacts.read_marker(files.marker, remedy)
    excluded, exclusions_digest = read_exclusions(files)
    job = RowsJob(files.manifest, artifacts.shard_paths(files, marker), excluded, marker.get("base") is not None)
    digests = {"dataset": marker["digest"], "exclusions": exclusions_digest}
    arrays, summary = sample_index.open_arrays(files, job, digests, scratch)
    _say_unchecked(files.name, summary)
    return Samples(
        name=files.name,
        labels=tuple(label["name"] for label in marker["labels"]),
        shards=tuple(f"{shard}.tar" for shard in job.shards),
        wholes=tuple(Whole(shard.get("bytes"), shard.get("sha256")) for shard in marker["shards"]),
        keys=_keys(arrays),
        columns={name: values for name, values in arrays.items() if name not in RAGGED},
        label_offsets=arrays["label_offsets"],
        label_ids=arrays["label_ids"],
        total=summary.total,
        dropped=summary.dropped,
        digests=digests,
    )


RAGGED = ("label_offsets", "label_ids", "key_offsets", "key_bytes")


def _keys(arrays: Arrays) -> pa.LargeStringArray:
    """Strings over the memory of the columns: none is read before it is asked for."""
    offsets, data = (pa.py_buffer(arrays[name]) for name in ("key_offsets", "key_bytes"))
    return pa.LargeStringArray.from_buffers(len(arrays["key_offsets"]) - 1, offsets, data)


def _say_unchecked(name: str, summary: Summary) -> None:
    if summary.unchecked:
        progress.say(
            f"'{name}': {summary.unchecked:,} of {summary.kept:,} videos have no checksum in their shards' indices (an "
            "earlier build did not write one): they are read unchecked; `tagreel inspect` compares whole shards"
        )
