"""Members of a shard: their bytes by the row of the index, and whether they are the bytes that were written.

The index holds the CRC-32 of every stored video: it detects every change of one bit (indeed of any 32 neighbouring bits),
and of all other changes all but one in 4 billion, at a third of the cost of SHA-256. KEY.json, the headers and the padding of
a tar are covered by the SHA-256 of the whole tar in its sidecar, which `tagreel inspect` compares.
"""

from __future__ import annotations

import zlib
from typing import Any, Literal

from pipeline import storage
from pipeline.storage import StorageError

checksum = zlib.crc32
"""bytes → unsigned 32-bit integer."""


class DamagedError(StorageError):
    """Stored bytes are not those that were written."""

    reason = "damaged"


def check(data: bytes, expected: int | None) -> None:
    """DamagedError unless `data` has the checksum `expected`; None, of an index that has none, passes."""
    if expected is not None and (found := checksum(data)) != expected:
        raise DamagedError(
            f"its {len(data):,} bytes have the CRC-32 {found:08x}, and the index says {expected:08x}: they are not those "
            "that were written; copy the shard again from where it came, or build the dataset again"
        )


def read_member(shard: str, row: dict[str, Any], member: Literal["video", "json"]) -> bytes:
    """A member of `shard` (path without suffix) by its row of SHARD_INDEX; DamagedError names a video that is damaged."""
    data = storage.read_range(f"{shard}.tar", row[f"{member}_offset"], row[f"{member}_size"])
    if member == "video":
        try:
            check(data, row.get("video_crc32"))
        except DamagedError as error:
            raise DamagedError(f"sample '{row['key']}' of shard '{shard}.tar' is damaged: {error}") from error
    return data
