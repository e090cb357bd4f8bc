"""Frames → the stored form, and back: constant rate, scaling, H.264 in closed short GOPs, random access.

Seeking (`read_clip`) is for files that `Encoder` wrote; uploads of unknown make are read sequentially (upload.py).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

# Bit-exact area averaging: the same pixels on every machine, and one resize for ingest, training and evaluation.
RESIZE = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


class VideoError(ValueError):
    """A file that cannot become a video; `reason` is the short word that counts and quarantine lists use."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class Resampler:
    """Frames with times → a constant rate: each grid slot k/fps takes the frame nearest to it, repeated over gaps."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._next_slot = 0
        self._held: object | None = None

    def push(self, time_s: float, frame: object) -> Iterator[object]:
        """Frames that are now due, in order; `frame` may be any object (the held one is repeated, not copied)."""
        slot = int(time_s * self._fps + 0.5)
        while self._held is not None and self._next_slot < slot:
            yield self._held
            self._next_slot += 1
        self._held = frame

    def finish(self) -> Iterator[object]:
        if self._held is not None:
            yield self._held
            self._held = None


class Scaler:
    """Scales decoded frames, applies their rotation; one swscale context each, single-threaded."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def gray(self, frame: av.VideoFrame, height: int, width: int) -> np.ndarray:
        """uint8 [height, width] luma, upright."""
        turns = quarter_turns(frame)
        if turns % 2:
            height, width = width, height
        scaled = self._reformatter.reformat(frame, width, height, "gray", interpolation=RESIZE, threads=1)
        return np.rot90(scaled.to_ndarray(), turns)

    def rgb(self, frame: av.VideoFrame, height: int, width: int) -> np.ndarray:
        """uint8 [height, width, 3]; the frame must be upright (files of `Encoder` are)."""
        # swscale packs RGB of odd widths in a slow path; planes that are packed afterwards hold the same pixels.
        pixels = "gbrp" if width % 2 else "rgb24"
        return self._reformatter.reformat(frame, width, height, pixels, interpolation=RESIZE, threads=1).to_ndarray()

    def upright(self, frame: av.VideoFrame, height: int, width: int) -> av.VideoFrame:
        """yuv420p frame in video range (luma 16 to 235) of the given size (even), with the rotation applied."""
        turns = quarter_turns(frame)
        if turns % 2:
            height, width = width, height
        options = {
            "interpolation": RESIZE,
            "threads": 1,
            "dst_color_range": ColorRange.MPEG,
        }  # phones record full range
        scaled = self._reformatter.reformat(frame, width, height, "yuv420p", **options)
        return _rotate_yuv420p(scaled, turns) if turns else scaled


def quarter_turns(frame: av.VideoFrame) -> int:
    """Counter-clockwise quarter turns that bring a frame upright (phones store a rotation instead of turning pixels)."""
    return round(frame.rotation / 90) % 4


def _rotate_yuv420p(frame: av.VideoFrame, turns: int) -> av.VideoFrame:
    width, height = frame.width, frame.height
    flat = frame.to_ndarray().reshape(-1)
    luma, chroma = width * height, width * height // 4
    planes = [flat[:luma].reshape(height, width)] + [
        flat[luma + i * chroma : luma + (i + 1) * chroma].reshape(height // 2, width // 2) for i in range(2)
    ]
    turned = np.concatenate([np.rot90(plane, turns).reshape(-1) for plane in planes])
    if turns % 2:
        width, height = height, width
    return av.VideoFrame.from_ndarray(turned.reshape(height * 3 // 2, width), format="yuv420p")


def upright_size(frame: av.VideoFrame) -> tuple[int, int]:
    """(height, width) after rotation."""
    return (frame.width, frame.height) if quarter_turns(frame) % 2 else (frame.height, frame.width)


def short_side_size(height: int, width: int, short_side_px: int) -> tuple[int, int]:
    """(height, width), both even, with the shorter one at `short_side_px` and the aspect kept."""
    scale = short_side_px / min(height, width)

    def even(side: int) -> int:
        return max(2, 2 * round(side * scale / 2))

    return even(height), even(width)


class Encoder:
    """Writes the stored form: H.264 in MP4, constant rate, closed GOPs of fixed length, in memory.

    One thread, because x264's output is the same from run to run only with a fixed number of threads.
    """

    def __init__(
        self, height: int, width: int, fps: float, *, gop: int = 16, crf: int = 20, preset: str = "veryfast"
    ) -> None:
        self._buffer = io.BytesIO()
        self._container = av.open(self._buffer, "w", format="mp4", options={"fflags": "+bitexact"})
        rate = Fraction(fps).limit_denominator(1001)
        self._stream = self._container.add_stream("libx264", rate=rate)
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, "yuv420p"
        self._stream.codec_context.thread_count = 1
        self._stream.codec_context.gop_size = gop
        self._stream.options = {
            "preset": preset,
            "crf": str(crf),
            "tune": "fastdecode",
            # mbtree=0: on some CPUs x264's macroblock tree gives other bytes for the same frames from run to run.
            "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0:mbtree=0",
        }
        self._time_base = 1 / rate
        self.fps = float(rate)
        self.num_frames = 0

    def write(self, frame: av.VideoFrame) -> None:
        """Append one yuv420p frame of the encoder's size; its own time stamp is not used."""
        frame.pts, frame.time_base = self.num_frames, self._time_base
        frame.pict_type = av.video.frame.PictureType.NONE  # an upload's I frames must not force keyframes here
        self._container.mux(self._stream.encode(frame))
        self.num_frames += 1

    def finish(self) -> bytes:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._buffer.getvalue()


def read_clip(data: bytes, indices: Iterable[int], size_hw: tuple[int, int] | None = None) -> np.ndarray:
    """Frames of a file that `Encoder` wrote, in the order asked for.

    Args:
        data: the MP4.
        indices: frame numbers, in any order, repeats allowed.
        size_hw: scale to this height and width; None keeps the stored size.

    Returns: uint8 [T, H, W, 3] RGB.
    Raises: VideoError `decode_error` when a frame is missing.
    """
    indices = list(indices)
    try:
        with av.open(io.BytesIO(data), format="mp4") as container:
            frames = _decode_wanted(container, set(indices), size_hw)
    except av.FFmpegError as error:
        raise VideoError("decode_error", str(error)) from error
    missing = sorted(set(indices) - frames.keys())
    if missing:
        raise VideoError("decode_error", f"frames {missing[:5]} are not in the file")
    return np.stack([frames[i] for i in indices])


def _decode_wanted(
    container: av.container.InputContainer, wanted: set[int], size_hw: tuple[int, int] | None
) -> dict[int, np.ndarray]:
    stream = container.streams.video[0]
    context = stream.codec_context
    context.thread_count, context.thread_type = 1, "NONE"
    ticks = 1 / (stream.average_rate * stream.time_base)  # pts of frame i is i * ticks, exactly: constant rate from 0
    wanted_pts = {int(i * ticks) for i in wanted}
    height, width = size_hw or (context.height, context.width)
    scaler, frames = Scaler(), {}
    container.seek(min(wanted_pts), stream=stream)
    for packet in container.demux(stream):
        # Frames that no other frame refers to are never decoded unless asked for: bit-exact, and a quarter faster.
        context.skip_frame = "DEFAULT" if packet.pts is None or packet.pts in wanted_pts else "NONREF"
        for frame in packet.decode():
            if frame.pts in wanted_pts:
                frames[round(frame.pts / ticks)] = scaler.rgb(frame, height, width)
        if len(frames) == len(wanted):
            break
    return frames


def read_video(data: bytes, size_hw: tuple[int, int] | None = None, *, step: int = 1) -> np.ndarray:
    """Every `step`-th frame of a file that `Encoder` wrote, in one sequential pass: uint8 [T, H, W, 3] RGB."""
    try:
        with av.open(io.BytesIO(data), format="mp4") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count, stream.codec_context.thread_type = 1, "NONE"
            height, width = size_hw or (stream.codec_context.height, stream.codec_context.width)
            scaler = Scaler()
            frames = [scaler.rgb(f, height, width) for i, f in enumerate(container.decode(stream)) if i % step == 0]
    except av.FFmpegError as error:
        raise VideoError("decode_error", str(error)) from error
    if not frames:
        raise VideoError("no_frames")
    return np.stack(frames)
