"""Frames as small pictures inside the page (Pillow): the same frames give the same bytes, and no picture is large."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from pipeline.config import ConfigError
from pipeline.report.markup import Safe, tag, void

FRAME_PX = (120, 90)
"""Width and height into which a frame is scaled, with its aspect kept."""
MAX_BYTES = 9_000
"""JPEG bytes of a picture; one of more is compressed more."""
QUALITIES = (72, 55, 40, 25, 10)
_GAP_PX = 2


def strip(frames: np.ndarray | None, alt: str, missing: str = "no frame") -> Safe:
    """Frames (uint8 [T, H, W, 3] RGB) in a row, or a place that says what is `missing`."""
    if frames is None or not len(frames):
        return tag("span", missing, class_="noframe", role="img", aria_label=f"{alt}: {missing}")
    return image(_jpeg(_row(frames)), alt)


def image(jpeg: bytes, alt: str) -> Safe:
    """A picture as part of the page."""
    return void("img", src="data:image/jpeg;base64," + base64.b64encode(jpeg).decode(), alt=alt, loading="lazy")


def shrunk(jpeg: bytes, *, mirror: bool = False) -> np.ndarray | None:
    """uint8 [1, H, W, 3] of a JPEG file; None when it is not one."""
    pillow = _pillow()
    try:
        with pillow.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
            picture.draft("RGB", FRAME_PX)
            pixels = np.asarray(picture.convert("RGB"))[None]
    except (OSError, ValueError, pillow.DecompressionBombError):
        return None
    return pixels[:, :, ::-1] if mirror else pixels


def difference(frames: np.ndarray, others: np.ndarray) -> float:
    """Mean difference of the grey levels of two groups of as many frames (uint8 [T, H, W, 3]) of any sizes, 0 to 255."""
    return float(np.mean([np.abs(_coarse(a) - _coarse(b)).mean() for a, b in zip(frames, others, strict=True)]))


def _coarse(frame: np.ndarray) -> np.ndarray:
    """float32 [16, 16]"""
    pillow = _pillow()
    picture = pillow.fromarray(np.ascontiguousarray(frame)).convert("L")
    return np.asarray(picture.resize((16, 16), pillow.Resampling.BOX), np.float32)


def _row(frames: np.ndarray) -> Any:
    """The frames scaled, side by side."""
    pillow = _pillow()
    height, width = frames.shape[1:3]
    scale = min(FRAME_PX[0] / width, FRAME_PX[1] / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    row = pillow.new("RGB", (len(frames) * (size[0] + _GAP_PX) - _GAP_PX, size[1]), (128, 128, 128))
    for place, frame in enumerate(frames):
        scaled = pillow.fromarray(np.ascontiguousarray(frame)).resize(size, pillow.Resampling.LANCZOS)
        row.paste(scaled, (place * (size[0] + _GAP_PX), 0))
    return row


def _jpeg(picture: Any) -> bytes:
    for quality in QUALITIES:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MAX_BYTES:
            break
    return buffer.getvalue()


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ConfigError("the report's pictures need Pillow: pip install 'tagreel[report]'") from error
    return Image
