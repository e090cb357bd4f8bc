"""Pictures of exclusions: the two closest frames side by side, for people to judge in the report."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage, video

MAX_PER_KIND = 12  # strongest, weakest and random exclusions, each
JPEG_QUALITY = 85
EVIDENCE = pa.schema(
    [
        ("video_id", pa.string()),
        ("target", pa.string()),
        ("target_split", pa.string()),
        ("target_video_id", pa.string()),
        ("kind", pa.string()),  # strongest | weakest | random, of the exclusions; within
        ("overlap", pa.float32()),
        ("valid_overlap", pa.float32()),
        ("matched_frames", pa.int32()),
        ("source_time_s", pa.float32()),
        ("target_time_s", pa.float32()),
        ("mirrored", pa.bool_()),
        ("phash_distance", pa.int32()),  # bits of 64 by which another library's hashes of the two pictures differ
        ("source_jpeg", pa.binary()),
        ("target_jpeg", pa.binary()),
    ]
)


def exclusion_pages(exclusions: pa.Table, duplicates: pa.Table) -> pa.Table:
    """Rows of `EVIDENCE` for some exclusions and duplicates (rows of tables.PAIRS): the same ones of the same."""
    picked = _pick(exclusions) + [("within", row) for _, row in _pick(duplicates)][:MAX_PER_KIND]
    pages = [_page(row, kind) for kind, row in picked]
    return pa.Table.from_pylist(pages, EVIDENCE)


def _pick(exclusions: pa.Table) -> list[tuple[str, dict[str, Any]]]:
    """(kind, row): up to `MAX_PER_KIND` of each kind, no exclusion twice."""
    order = [
        ("valid_overlap", "descending"),
        ("matched_frames", "descending"),
        ("video_id", "ascending"),
        ("target", "ascending"),
    ]
    rows = exclusions.sort_by(order).to_pylist()
    count = min(MAX_PER_KIND, -(-len(rows) // 3))
    strongest, rest = rows[:count], rows[count:]
    weakest, rest = rest[::-1][:count], rest[: max(0, len(rest) - count)]
    chosen = sorted(rest, key=_rank)[:count]
    kinds = (("strongest", strongest), ("weakest", weakest), ("random", chosen))
    return [(kind, row) for kind, picked in kinds for row in picked]


def _rank(row: dict[str, Any]) -> bytes:
    return hashlib.sha256(f"{row['video_id']}\n{row['target']}".encode()).digest()


def _page(row: dict[str, Any], kind: str) -> dict[str, Any]:
    source = _read_frame(row["source_shard"], row["video_id"], row["source_time_s"])
    target = _read_frame(row["target_shard"], row["target_video_id"], row["target_time_s"])
    upright = source[:, ::-1] if row["mirrored"] else source
    made = {
        "kind": kind,
        "phash_distance": _phash_distance(upright, target),
        "source_jpeg": _jpeg(source),
        "target_jpeg": _jpeg(target),
    }
    return {name: made.get(name, row.get(name)) for name in EVIDENCE.names}


def _read_frame(shard: str, video_id: str, time_s: float) -> np.ndarray:
    """uint8 [H, W, 3]: the stored frame that a signature's frame at this time was nearest to."""
    index = storage.read_parquet(f"{shard}.parquet", ["key", "video_offset", "video_size", "fps", "num_frames"])
    row = index.filter(pc.equal(index["key"], video_id)).to_pylist()[0]
    data = storage.read_range(f"{shard}.tar", row["video_offset"], row["video_size"])
    frame = min(round(time_s * row["fps"]), row["num_frames"] - 1)
    return video.read_clip(data, [frame])[0]


def _phash_distance(source: np.ndarray, target: np.ndarray) -> int:
    imagehash, image = _libraries()
    return int(imagehash.phash(image.fromarray(source)) - imagehash.phash(image.fromarray(target)))


def _jpeg(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    _libraries()[1].fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _libraries() -> tuple[Any, Any]:
    """(imagehash, PIL.Image)."""
    try:
        import imagehash
        from PIL import Image
    except ImportError as error:
        raise ImportError("pictures of exclusions need imagehash and pillow: pip install 'tagreel[dedup]'") from error
    return imagehash, Image
