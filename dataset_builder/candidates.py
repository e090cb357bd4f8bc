"""The videos that a dataset is drawn from, part by part in order of video_id: a source's matches, or a finished dataset."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from dataset_builder.label_space import VIDEOS, LabelledVideos, labelled_videos, list_offsets
from pipeline import artifacts, storage
from pipeline.artifacts import DatasetFiles, SourceFiles
from pipeline.storage import StorageError


class Candidates(Protocol):
    """Parts 0 … num_parts − 1; read inside workers, so it must pickle."""

    @property
    def names(self) -> list[str]:
        """The K labels; `LabelledVideos.label_ids` are places in this list."""

    @property
    def num_parts(self) -> int: ...

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """{stage: its reasons to drop} of what `read` leaves out."""

    def read(self, part: int, uris: bool) -> tuple[LabelledVideos, Counter[str]]:
        """Videos of one part in order of video_id, and how many others are listed there, by reason.

        `duration_s` is null where unknown; `uri` is there if `uris`.
        """


@dataclass(frozen=True)
class MatchedVideos:
    """All matched videos of a source."""

    names: list[str]
    paths: list[str]
    """matches/part-*.parquet."""

    @property
    def num_parts(self) -> int:
        return len(self.paths)

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        return {}

    def read(self, part: int, uris: bool) -> tuple[LabelledVideos, Counter[str]]:
        columns = ["video_id", "duration_s", "labels", *(["uri"] if uris else [])]
        matches = storage.read_parquet(self.paths[part], columns)
        durations = matches["duration_s"].fill_null(float("nan")).to_numpy()
        stated = pa.array(durations, mask=~(durations > 0))  # neither missing nor nonsense
        whole = pa.nulls(matches.num_rows, pa.float32())
        table = pa.table({"video_id": matches["video_id"], "start_s": whole, "end_s": whole, "duration_s": stated})
        table = table.append_column("uri", matches["uri"]) if uris else table
        return labelled_videos(table, matches["labels"].combine_chunks(), self.names), Counter()


def matched_videos(files: SourceFiles, names: list[str]) -> MatchedVideos:
    """Raises StorageError when the source has no part."""
    paths = storage.parts_in(files.matches)
    if not paths:
        raise StorageError(f"no part-*.parquet in '{files.matches}': build the source again with --force")
    return MatchedVideos(names, paths)


@dataclass(frozen=True)
class StoredVideos:
    """Videos of a finished dataset that are in its shards and not excluded; part i is its shard i."""

    names: list[str]
    manifests: list[str]
    """manifest/part-*.parquet; part i lists what shard i attempted."""
    shards: list[str]
    """Paths without suffix."""
    excluded: pa.Array
    """string, video_ids that a dedup excludes."""
    spans_are_stored: bool
    """Whether `start_s` and `end_s` of the manifest are spans of the stored videos, and not of the uploads behind them."""

    @property
    def num_parts(self) -> int:
        return len(self.shards)

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        return {"base": ("quarantined", "overlaps_a_target")}

    def read(self, part: int, uris: bool) -> tuple[LabelledVideos, Counter[str]]:
        listed = storage.read_parquet(self.manifests[part])
        stored = storage.read_parquet(f"{self.shards[part]}.parquet", ["key", "duration_s", "status"])
        stored = stored.filter(pc.equal(stored["status"], "ok"))
        rows = pc.index_in(listed["video_id"], value_set=stored["key"].combine_chunks())
        is_excluded = pc.is_in(listed["video_id"], value_set=self.excluded)
        keep = pc.and_(pc.is_valid(rows), pc.invert(is_excluded))
        kept = listed.filter(keep)
        num_stored = listed.num_rows - rows.null_count
        dropped = Counter(quarantined=rows.null_count, overlaps_a_target=num_stored - kept.num_rows)
        lists = kept["label_ids"].combine_chunks()
        offsets = list_offsets(pc.list_value_length(lists).to_numpy(zero_copy_only=False))
        label_ids = pc.list_flatten(lists).to_numpy(zero_copy_only=False)
        table = self._spans(kept, stored["duration_s"].take(rows.filter(keep)))
        return LabelledVideos(table.select([*VIDEOS.names, "duration_s"]), label_ids, offsets), dropped

    def _spans(self, kept: pa.Table, durations_s: pa.ChunkedArray) -> pa.Table:
        """`start_s`, `end_s` and `duration_s` of what a reader of the stored video is to see."""
        if not self.spans_are_stored:
            for name in ("start_s", "end_s"):
                kept = kept.set_column(kept.schema.get_field_index(name), name, pa.nulls(kept.num_rows, pa.float32()))
        span_s = pc.subtract(kept["end_s"], kept["start_s"])
        return kept.append_column("duration_s", pc.coalesce(span_s, durations_s))


def stored_videos(files: DatasetFiles, marker: dict[str, Any], names: list[str], excluded: set[str]) -> StoredVideos:
    """Candidates from the dataset with this content of dataset.json.

    Raises StorageError when the manifest has other parts than the dataset has shards.
    """
    manifests = storage.parts_in(files.manifest)
    shards = artifacts.shard_paths(files, marker)
    if len(manifests) != len(shards):
        raise StorageError(
            f"dataset '{files.name}' has {len(shards)} shards and {len(manifests)} parts in '{files.manifest}': "
            "build it again with --force"
        )
    ids = pa.array(sorted(excluded), pa.string())
    return StoredVideos(names, manifests, shards, ids, spans_are_stored=marker.get("base") is not None)
