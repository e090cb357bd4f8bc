"""Videos of a dataset as they are stored: what the tables beside its shards say of them, and some of their frames."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import artifacts, members, storage, video
from pipeline.report.artefacts import Dataset
from pipeline.storage import StorageError
from pipeline.video import VideoError

_COLUMNS = ["key", "video_offset", "video_size", "label_ids", "duration_s", "num_frames", "fps", "status", "reason"]
_LATER_COLUMNS = ["video_crc32"]  # which older shards do not have


@dataclass(frozen=True)
class StoredVideo:
    """One video that the build tried to store."""

    video_id: str
    uri: str | None
    labels: tuple[str, ...]
    duration_s: float | None
    reason: str | None
    """Why it is not in the shard; None when it is."""
    shard: str
    row: dict[str, Any]
    """Of the shard's index."""

    @property
    def num_frames(self) -> int:
        return self.row["num_frames"]

    def nearest(self, time_s: float) -> int:
        """The frame that is shown at a time, the last one afterwards; 0 of a video that is not stored."""
        return 0 if self.reason else max(0, min(round(time_s * self.row["fps"]), self.num_frames - 1))

    def frames(self, indices: Sequence[int]) -> np.ndarray:
        """uint8 [T, H, W, 3] RGB; StorageError or VideoError when they cannot be read."""
        return video.read_clip(members.read_member(self.shard, self.row, "video"), indices)


class Shelf:
    """The shards of a dataset, each with its part of the manifest."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        marker = dataset.marker or {}
        self.shards: list[str] = artifacts.shard_paths(dataset.files, marker) if marker.get("shards") else []
        self._places = {path.rsplit("/", 1)[-1]: place for place, path in enumerate(self.shards)}
        self._names = {label["id"]: str(label["name"]) for label in marker.get("labels") or () if "id" in label}

    def videos(self, place: int) -> list[StoredVideo]:
        """All that were tried for a shard; StorageError when its index cannot be read."""
        return self._read(place, None)

    def find(self, shard: str, video_id: str) -> StoredVideo:
        """A video of a shard with this file name, wherever its folder is by now; StorageError when there is none."""
        name = shard.rsplit("/", 1)[-1]
        if name not in self._places:
            raise StorageError(f"'{self._dataset.name}' has no shard '{name}'")
        if not (found := self._read(self._places[name], video_id)):
            raise StorageError(f"shard '{name}' has no video '{video_id}'")
        return found[0]

    def _read(self, place: int, video_id: str | None) -> list[StoredVideo]:
        """The videos of a shard, or the one with this id."""
        path = self.shards[place]
        index = storage.read_parquet(f"{path}.parquet", _COLUMNS, _LATER_COLUMNS)
        if video_id is not None:
            index = index.filter(pc.equal(index["key"], video_id))
        uris = self._uris(place, index["key"].combine_chunks())
        return [self._video(path, row, uris.get(row["key"])) for row in index.to_pylist()]

    def _video(self, path: str, row: dict[str, Any], uri: str | None) -> StoredVideo:
        labels = tuple(self._names.get(label, str(label)) for label in row["label_ids"] or ())
        reason = None if row["status"] == "ok" else str(row["reason"])
        return StoredVideo(row["key"], uri, labels, row["duration_s"], reason, path, row)

    def _uris(self, place: int, video_ids: pa.Array) -> dict[str, str]:
        """{video_id: uri}; empty where the manifest is gone or has other parts than there are shards."""
        if len(self._parts) != len(self.shards):
            return {}
        try:
            rows = storage.read_parquet(self._parts[place], ["video_id", "uri"])
        except StorageError:
            return {}
        rows = rows.filter(pc.is_in(rows["video_id"], value_set=video_ids))
        return dict(zip(rows["video_id"].to_pylist(), rows["uri"].to_pylist(), strict=True))

    @functools.cached_property
    def _parts(self) -> list[str]:
        return storage.parts_in(self._dataset.files.manifest)


def read_frames(video: StoredVideo, indices: Sequence[int]) -> tuple[np.ndarray | None, str]:
    """(uint8 [T, H, W, 3] RGB, "") of a stored video, or (None, why there are none)."""
    if video.reason:
        return None, f"quarantined: {video.reason.replace('_', ' ')}"
    try:
        return video.frames(indices), ""
    except VideoError as error:
        return None, f"cannot be decoded: {error}"
    except StorageError as error:
        return None, f"cannot be read: {error}"
