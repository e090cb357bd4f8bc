"""Rows between the two rounds of matching: a file per part, in order of the video, read back by ranges of video_id."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_builder.read_posts import open_parquet
from pipeline import storage

SCHEMA = pa.schema(
    [
        ("prefix", pa.uint32()),  # first 8 hex digits of video_id
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("duration_s", pa.float32()),
        ("post_id", pa.string()),
        ("label_ids", pa.list_(pa.int32())),
    ]
)
RUN_BYTES = 64 << 20  # sorted at a time
_GROUP_ROWS = 1 << 12  # a bucket's reader skips the row groups of other buckets


def path(folder: str, part: int) -> str:
    return storage.join(folder, f"{part:06d}.parquet")


def write(file: BinaryIO, tables: Iterable[pa.Table]) -> int:
    """Write the rows as sorted runs of about `RUN_BYTES`; returns their bytes in memory."""
    total, waiting = 0, [SCHEMA.empty_table()]
    with pq.ParquetWriter(file, SCHEMA, use_dictionary=False, compression="lz4", write_statistics=["prefix"]) as writer:
        for table in tables:
            waiting.append(table)
            if sum(t.nbytes for t in waiting) >= RUN_BYTES:
                total += _write_run(writer, waiting)
                waiting = [SCHEMA.empty_table()]
        return total + _write_run(writer, waiting)


def _write_run(writer: pq.ParquetWriter, tables: list[pa.Table]) -> int:
    run = pa.concat_tables(tables)
    if run.num_rows:
        writer.write_table(run.sort_by("prefix"), row_group_size=_GROUP_ROWS)
    return run.nbytes


def read_bucket(paths: Iterable[str], bucket: int, num_buckets: int) -> pa.Table:
    """Rows of the `bucket`-th of `num_buckets` equal ranges of video_id."""
    low, high = (-(-(b << 32) // num_buckets) for b in (bucket, bucket + 1))
    return pa.concat_tables([SCHEMA.empty_table(), *(_read_range(path, low, high) for path in paths)])


def _read_range(path: str, low: int, high: int) -> pa.Table:
    with open_parquet(path) as file:
        groups = [file.metadata.row_group(i).column(0).statistics for i in range(file.metadata.num_row_groups)]
        meeting = [i for i, group in enumerate(groups) if group.min < high and group.max >= low]
        table = file.read_row_groups(meeting, use_threads=False)
    prefix = table["prefix"].to_numpy()
    return table.filter(pa.array((prefix >= low) & (prefix < high)))
