"""Frames → the stored form, and back: constant rate, scaling, H.264 in closed short GOPs, random access.

Seeking (`read_clip`) is for files that `Encoder` wrote; uploads of unknown make are read sequentially (upload.py).
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple, TypeVar

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from pipeline.mp4_table import FrameTable, read_table

# Bit-exact area averaging: the same pixels on every machine, and one resize for ingest, training and evaluation.
RESIZE = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
MAX_DECODERS = 16  # of a thread, one for each size and rate of stored videos

T = TypeVar("T")


_CHANNELS = {"gbrp": ((1,), (2,), (0,)), "rgb24": ((0, 1, 2),)}  # of each plane


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
        return self._scale_rgb(frame, height, width).to_ndarray()

    def rgb_into(self, out: np.ndarray, frame: av.VideoFrame, size_hw: tuple[int, int], window: Window) -> None:
        """Write a window of the frame, scaled to `size_hw`, to uint8 [window.height, window.width, 3]."""
        scaled = self._scale_rgb(frame, *size_hw)
        rows = slice(window.top, window.top + window.height)
        for plane, channels in zip(scaled.planes, _CHANNELS[scaled.format.name], strict=True):
            depth = len(channels)
            columns = slice(depth * window.left, depth * (window.left + window.width))
            pixels = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[rows, columns]
            if depth == 1:
                out[..., channels[0]] = pixels
            else:
                out[...] = pixels.reshape(*out.shape)

    def _scale_rgb(self, frame: av.VideoFrame, height: int, width: int) -> av.VideoFrame:
        # swscale packs RGB of odd widths in a slow path; planes that are packed afterwards hold the same pixels.
        pixels = "gbrp" if width % 2 else "rgb24"
        return self._reformatter.reformat(frame, width, height, pixels, interpolation=RESIZE, threads=1)

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
        self._to_stored = VideoReformatter()
        self._time_base = 1 / rate
        self.fps = float(rate)
        self.num_frames = 0

    def write(self, frame: av.VideoFrame) -> None:
        """Append one yuv420p frame of the encoder's size; its own time stamp is not used."""
        frame.pts, frame.time_base = self.num_frames, self._time_base
        frame.pict_type = av.video.frame.PictureType.NONE  # an upload's I frames must not force keyframes here
        self._container.mux(self._stream.encode(frame))
        self.num_frames += 1

    def write_rgb(self, pixels: np.ndarray) -> None:
        """Append uint8 [H, W, 3] RGB of the encoder's size."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        self.write(self._to_stored.reformat(frame, format="yuv420p", interpolation=RESIZE, threads=1))

    def finish(self) -> bytes:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._buffer.getvalue()


class Window(NamedTuple):
    """A part of every frame."""

    top: int
    left: int
    height: int
    width: int


def read_clip(
    data: bytes,
    indices: Iterable[int],
    size_hw: tuple[int, int] | None = None,
    window: Window | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Frames of a file that `Encoder` wrote, in the order asked for.

    Args:
        data: the MP4.
        indices: frame numbers, in any order, repeats allowed.
        size_hw: scale to this height and width; None keeps the stored size.
        window: keep this part of the scaled frames; None keeps all.
        out: uint8 [T, H, W, 3] to write to, of the window's size.

    Returns: uint8 [T, H, W, 3] RGB.
    Raises: VideoError `decode_error` when a frame is missing.
    """
    indices = list(indices)
    rows = {index: row for row, index in reversed([*enumerate(indices)])}
    try:
        for index, frame in _decode_wanted(data, rows.keys()):
            size_hw = size_hw or (frame.height, frame.width)
            window = window or Window(0, 0, *size_hw)
            if out is None:
                out = np.empty((len(indices), window.height, window.width, 3), np.uint8)
            if index in rows:
                _scaler().rgb_into(out[rows.pop(index)], frame, size_hw, window)
    except av.FFmpegError as error:
        raise VideoError("decode_error", str(error)) from error
    if rows:
        raise VideoError("decode_error", f"frames {sorted(rows)[:5]} are not in the file")
    for row, index in enumerate(indices):
        if row != (first := indices.index(index)):
            out[row] = out[first]
    return out


Decoded = Iterator[tuple[int, av.VideoFrame]]
"""(number, frame)."""


def _decode_wanted(data: bytes, wanted: Collection[int]) -> Decoded:
    """The frames asked for, in the order of the file; numbers that are not there are left out."""
    table = read_table(data)
    return _demux_wanted(data, set(wanted)) if table is None else _decode_by_table(data, table, set(wanted))


def _decode_by_table(data: bytes, table: FrameTable, wanted: set[int]) -> Decoded:
    """GOP by GOP, each up to the last frame that is wanted of it."""
    for gop in sorted({table.gop_of(number) for number in wanted if 0 <= number < len(table.numbers)}):
        places, decoder = table.gop(gop), _decoder(table.extradata)
        unsent = wanted.intersection(range(places.start, places.stop))  # as GOPs are closed, these are its numbers too
        columns = (table.offsets, table.sizes, table.numbers)
        for offset, size, number in zip(
            *(column[places.start : places.stop].tolist() for column in columns), strict=True
        ):
            packet = av.Packet(data[offset : offset + size])
            packet.pts = number
            frames = _send(decoder, packet, number in wanted)
            unsent.discard(number)
            if not unsent:  # what is still inside the decoder needs no further packets
                frames += decoder.decode(None)
            yield from ((frame.pts, frame) for frame in frames if frame.pts in wanted)
            if not unsent:
                break


def _send(decoder: av.VideoCodecContext, packet: av.Packet, is_wanted: bool) -> list[av.VideoFrame]:
    # Frames that no other frame refers to are never decoded unless asked for: bit-exact, and faster.
    decoder.skip_frame = "DEFAULT" if is_wanted else "NONREF"
    return decoder.decode(packet)


def _decoder(extradata: bytes) -> av.VideoCodecContext:
    """This thread's decoder for files that begin like this one, with nothing inside it."""
    decoders = _of_thread("decoders", OrderedDict)
    decoder = decoders.pop(extradata, None)
    if decoder is None:
        decoder = av.CodecContext.create("h264", "r")
        decoder.extradata, decoder.thread_count, decoder.thread_type = extradata, 1, "NONE"
    else:
        decoder.flush_buffers()
    decoders[extradata] = decoder
    if len(decoders) > MAX_DECODERS:
        decoders.popitem(last=False)
    return decoder


def _demux_wanted(data: bytes, wanted: set[int]) -> Decoded:
    """For files that have no table: a demuxer seeks to the first one."""
    with av.open(io.BytesIO(data), format="mp4") as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        context.thread_count, context.thread_type = 1, "NONE"
        ticks = 1 / (
            stream.average_rate * stream.time_base
        )  # pts of frame i is i * ticks, exactly: constant rate from 0
        numbers = {int(i * ticks): i for i in wanted}
        container.seek(min(numbers), stream=stream)
        for packet in container.demux(stream):
            for frame in _send(context, packet, packet.pts is None or packet.pts in numbers):
                if frame.pts in numbers:
                    yield numbers.pop(frame.pts), frame
            if not numbers:
                return


_local = threading.local()


def _of_thread(name: str, make: Callable[[], T]) -> T:
    """An object that each thread makes once; a new one for every clip would cost as much as a few frames."""
    if not hasattr(_local, name):
        setattr(_local, name, make())
    return getattr(_local, name)


def _scaler() -> Scaler:
    return _of_thread("scaler", Scaler)


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
