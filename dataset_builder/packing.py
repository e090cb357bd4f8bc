"""What became of a video ↔ a JSON header and blobs: how it comes back from the process that decodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from dataset_builder.recorder import StoredVideo
from dedup.census import Signature
from pipeline.video import VideoError

SIGNATURE_ARRAYS = {"codes64": "<u8", "quality": "u1", "codes256": "<u8"}


def pack(stored: StoredVideo | VideoError) -> tuple[dict[str, Any], list[bytes]]:
    """(what JSON can say, with the number of blobs; the blobs)."""
    if isinstance(stored, VideoError):
        return {"reason": stored.reason, "detail": str(stored), "num_blobs": 0}, []
    fields = {name: getattr(stored, name) for name in ("fps", "num_frames", "height", "width", "copied")}
    parts = [stored.signature, *stored.signature.crops]
    arrays = [getattr(part, name).astype(kind).tobytes() for part in parts for name, kind in SIGNATURE_ARRAYS.items()]
    bars = [list(part.bars) for part in parts]
    return {"fields": fields, "bars": bars, "num_blobs": 1 + len(arrays)}, [stored.mp4, *arrays]


def unpack(header: dict[str, Any], blobs: list[bytes]) -> StoredVideo | VideoError:
    if "reason" in header:
        return VideoError(header["reason"], header["detail"])
    mp4, *arrays = blobs
    size = len(SIGNATURE_ARRAYS)
    whole, *crops = (_signature(arrays[size * i : size * (i + 1)], bars) for i, bars in enumerate(header["bars"]))
    return StoredVideo(mp4=mp4, signature=replace(whole, crops=tuple(crops)), **header["fields"])


def _signature(arrays: list[bytes], bars: list[int]) -> Signature:
    codes, quality, fine = (np.frombuffer(a, kind) for a, kind in zip(arrays, SIGNATURE_ARRAYS.values(), strict=True))
    return Signature(codes, quality, fine.reshape(-1, 4), tuple(bars))
