"""Datasets with real shards, as the report reads them: a few small videos each, and a dedup with a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import artifacts, members, storage
from pipeline.artifacts import DatasetFiles
from pipeline.report.artefacts import Dataset, Dedup, Source
from pipeline.video import Encoder

FPS, SIDE = 8.0, 48


def mp4(first: int, num_frames: int = 24) -> bytes:
    """A white column on grey that walks one pixel a frame from column `first`."""
    encoder = Encoder(SIDE, SIDE, FPS)
    for i in range(num_frames):
        frame = np.full((SIDE, SIDE, 3), 60, np.uint8)
        frame[:, (first + i) % SIDE : (first + i) % SIDE + 6] = 250
        encoder.write_rgb(frame)
    return encoder.finish()


def write_shard(files: DatasetFiles, videos: Mapping[str, tuple[Sequence[int], bytes | str]], name: str) -> None:
    """{video_id: (label ids, MP4, or why there is none)} as a tar without headers, its index, and its part of the manifest."""
    rows, data = [], b""
    for video_id, (label_ids, stored) in videos.items():
        row = dict.fromkeys(artifacts.SHARD_INDEX.names) | {"key": video_id, "label_ids": label_ids, "status": "ok"}
        if isinstance(stored, str):
            row |= {"status": "quarantined", "reason": stored}
        else:
            place = {"video_offset": len(data), "video_size": len(stored), "video_crc32": members.checksum(stored)}
            row |= place | {"duration_s": 3.0, "num_frames": 24, "fps": FPS, "width": SIDE, "height": SIDE}
            data += stored
        rows.append(row)
    path = storage.join(files.shards, name)
    storage.write_bytes(path + ".tar", data)
    storage.write_parquet(path + ".parquet", pa.Table.from_pylist(rows, artifacts.SHARD_INDEX))
    listed = [dict.fromkeys(artifacts.MANIFEST.names) | {"video_id": v, "uri": f"s3://posts/{v}.mp4"} for v in videos]
    storage.write_parquet(
        storage.join(files.manifest, "part-000000.parquet"), pa.Table.from_pylist(listed, artifacts.MANIFEST)
    )


def dataset(files: DatasetFiles, labels: Sequence[str], shard: str = "", **marker: Any) -> Dataset:
    """A dataset whose only shard is its own, or the one at `shard`."""
    names = [{"id": i, "name": name, "num_videos": 100 - i} for i, name in enumerate(labels)]
    path = shard or f"shards/{files.name}-000000"
    return Dataset(files, {"labels": names, "shards": [{"path": path}], "num_videos": 3, **marker})


def source(made: Dataset, dedup: Dedup | None = None) -> Source:
    return Source(made, None, None, dedup, False, (), ())


def pair(video_id: str, overlap: float, **fields: Any) -> dict[str, Any]:
    """A row of dedup's pairs: 100 informative frames, a match of all of a target video `t`."""
    return {
        "video_id": video_id, "target": "hmdb", "target_split": "test", "target_video_id": "t", "overlap": overlap,
        "valid_overlap": overlap, "target_overlap": 0.5, "matched_frames": round(100 * overlap), "valid_frames": 100,
        "min_distance": 2, "start_s": 0.0, "end_s": 2.0, "target_start_s": 1.0, "target_end_s": 3.0, "mirrored": False,
        "source_time_s": 0.5, "target_time_s": 1.5, "source_shard": "/gone/source-000000",
        "target_shard": "/gone/hmdb-test-000000", "decoy": False, **fields,
    }  # fmt: skip


def dedup(made: Dataset, pairs: Sequence[dict[str, Any]], excluded: Sequence[str], **marker: Any) -> Dedup:
    """A finished dedup that listed these pairs and excluded those videos."""
    names = ("video_id", "target", "target_split", "target_video_id", "overlap")
    gone = [{name: row[name] for name in names} for row in pairs if row["video_id"] in excluded and not row["decoy"]]
    schema = pa.Table.from_pylist([pair("x", 0.5)]).schema
    storage.write_parquet(storage.join(made.files.dedup, "pairs.parquet"), pa.Table.from_pylist(list(pairs), schema))
    storage.write_parquet(
        made.files.exclusions, pa.Table.from_pylist(gone, pa.schema([schema.field(n) for n in names]))
    )
    counts = {"videos": 1000, "kept": 1000 - len(excluded), "dropped": {"hmdb": len(excluded)}}
    return Dedup(made, {"counts": counts, "config": {"min_overlap": 0.1, "min_frames": 8}, **marker})


def files(root: Path, name: str = "source") -> DatasetFiles:
    return artifacts.dataset_files(str(root), name)
