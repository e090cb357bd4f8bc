"""Frames → the bytes of an H.264 MP4, the same bytes every time; and files that are no video."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import VideoReformatter

BREAKS = ("empty", "truncated", "garbage", "text")
"""Ways in which a file is broken."""


def encode_mp4(frames: Iterable[np.ndarray], fps: float, crf: int = 23, preset: str = "superfast") -> bytes:
    """Encode frames (uint8 [H, W, 3], even sides) as H.264 in MP4, on one thread.

    One reformatter with one thread for all frames: a frame's own would start a pool of threads each time.
    """
    buffer, reformatter, stream = io.BytesIO(), VideoReformatter(), None
    with av.open(buffer, mode="w", format="mp4", options={"fflags": "+bitexact"}) as container:
        for array in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                stream.height, stream.width = array.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.options = {
                    "preset": preset,
                    "crf": str(crf),
                    "x264-params": "mbtree=0",
                }  # mbtree: not reproducible
                stream.codec_context.thread_count = 1
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            container.mux(stream.encode(reformatter.reformat(frame, format="yuv420p", threads=1)))
        if stream is None:
            raise ValueError("a video needs one frame at least")
        container.mux(stream.encode(None))
    return buffer.getvalue()


def resized(frames: Iterable[np.ndarray], height: int, width: int) -> Iterable[np.ndarray]:
    """Scale frames (uint8 [H, W, 3]) to height × width, bicubic."""
    reformatter = VideoReformatter()
    for array in frames:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
        yield reformatter.reformat(frame, width=width, height=height, interpolation="BICUBIC", threads=1).to_ndarray()


def black_frames(height: int, width: int, num_frames: int) -> Iterable[np.ndarray]:
    """Black frames, uint8 [height, width, 3]."""
    return (np.zeros((height, width, 3), dtype=np.uint8) for _ in range(num_frames))


def broken(video: bytes, how: str, rng: np.random.Generator) -> bytes:
    """A file that cannot be decoded, made from the bytes of a good one. `how` is one of `BREAKS`."""
    if how == "empty":
        return b""
    if how == "truncated":  # an upload that stopped: the index of an MP4 stands at its end
        return video[: int(len(video) * rng.uniform(0.2, 0.8))]
    if how == "garbage":
        return rng.bytes(int(rng.integers(1000, 8000)))
    if how == "text":
        return b"<!DOCTYPE html><html><body><h1>404 Not Found</h1>This video is no longer available.</body></html>\n"
    raise ValueError(f"no way to break a file {how!r}; there are {', '.join(BREAKS)}")
