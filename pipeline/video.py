"""Bytes → uint8 frames, frames → bytes. The only file that knows a decoder (PyAV).

Uploads are read once, sequentially (`Upload`): seeking in files of unknown make is wrong somewhere for every reader. Random
access (`read_clip`) is only for files that `Encoder` wrote: constant rate, closed short GOPs, H.264.
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
# Containers of self-contained media files; playlists (HLS, DASH, concat) could make the demuxer open other files.
CONTAINERS = "mov,mp4,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,m4v,asf,ogg,gif,h264,hevc,3gp"
IMAGES = "jpeg_pipe,png_pipe,webp_pipe"
FALLBACK_FPS = 25.0
MAX_STREAMS = 64
MAX_READ_FPS = 240  # an upload has at most so many frames per second of the longest duration allowed
DAMAGED = (av.FFmpegError, OSError, ValueError)


class VideoError(ValueError):
    """A file that cannot become a video; `reason` is the short word that counts and quarantine lists use."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class Upload:
    """One sequential pass over an untrusted file held in memory.

    Args:
        data: the whole file.
        max_pixels, max_duration_s: limits; beyond them VideoError `too_large`, `too_long` or `too_many_frames`.
        images: also accept JPEG, PNG and WebP, as a video of one frame.

    Raises: VideoError with reason empty | not_a_video | no_video_stream | too_many_streams | too_large | too_long |
        too_many_frames | no_frames | decode_error. MemoryError when the process may not have more.
    """

    def __init__(
        self, data: bytes, *, max_pixels: int = 4096 * 2304, max_duration_s: float = 3600.0, images: bool = False
    ) -> None:
        if not data:
            raise VideoError("empty", "the file has no bytes")
        self._max_duration_s, self._max_frames = max_duration_s, int(max_duration_s * MAX_READ_FPS) + 1
        # Opening decodes frames to learn what the streams are: the limit on pixels has to be there already.
        options = {
            "format_whitelist": f"{CONTAINERS},{IMAGES}" if images else CONTAINERS,
            "max_streams": str(MAX_STREAMS),
            "max_pixels": str(max_pixels),
        }
        try:
            self._container = av.open(io.BytesIO(data), options=options, metadata_errors="replace")
        except MemoryError:
            raise
        except DAMAGED as error:
            raise VideoError("not_a_video", str(error)) from error
        try:
            self._stream = self._checked_stream(max_pixels)
        except VideoError:
            self.close()
            raise
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = float(rate) if rate and 0 < float(rate) <= 1000 else FALLBACK_FPS
        self.num_damaged_packets = 0

    def _checked_stream(self, max_pixels: int) -> av.VideoStream:
        streams = self._container.streams
        if len(streams) > MAX_STREAMS:
            raise VideoError("too_many_streams", f"{len(streams)}, limit {MAX_STREAMS}")
        stream = next((stream for stream in streams.video if stream.codec_context is not None), None)
        if stream is None:
            raise VideoError("no_video_stream", f"container {self._container.format.name}")
        context = stream.codec_context
        context.thread_count, context.thread_type = 1, "NONE"
        context.options = {"max_pixels": str(max_pixels)}  # for pictures that are larger than the header says
        if context.width * context.height > max_pixels:
            raise VideoError("too_large", f"{context.width}x{context.height}")
        self._check_frames(stream.frames)
        if stream.duration and stream.time_base:
            self._check_duration(float(stream.duration * stream.time_base))
        elif self._container.duration:
            self._check_duration(self._container.duration / av.time_base)
        return stream

    def _check_duration(self, seconds: float) -> None:
        if seconds > self._max_duration_s:
            raise VideoError("too_long", f"{seconds:.0f} s, limit {self._max_duration_s:.0f} s")

    def _check_frames(self, count: int) -> None:
        if count > self._max_frames:
            raise VideoError("too_many_frames", f"{count:,}, limit {self._max_frames:,}")

    def frames(self, *, first_packet: int = 0, origin_s: float | None = None) -> Iterator[tuple[float, av.VideoFrame]]:
        """(seconds since the first frame, frame as stored: `frame.rotation` not applied), times never decreasing.

        Damaged packets are skipped and counted; a file without one whole frame raises VideoError. Packets before number
        `first_packet` (see `packets`) are not decoded; `origin_s` is then the time of the first frame.
        """
        last, count = 0.0, 0
        for frame in self._decoded(first_packet):
            now = _seconds(frame, first_packet + count, self.fps)
            origin_s = now if origin_s is None else origin_s
            last = max(last, now - origin_s)
            self._check_duration(last)
            count += 1
            yield last, frame
        if not count:
            raise VideoError("decode_error" if self.num_damaged_packets else "no_frames", "no frame could be decoded")

    def packets(self) -> list[tuple[int, float, bool]]:
        """(number, presentation time in seconds, whether decoding can begin here) of every packet; none is decoded.

        A pass of its own: `frames` gives nothing after it.
        """
        packets = enumerate(self._demuxed())
        return [(i, _seconds(packet, i, self.fps), packet.is_keyframe) for i, packet in packets if packet.size]

    def _decoded(self, first_packet: int) -> Iterator[av.VideoFrame]:
        for number, packet in enumerate(self._demuxed()):
            if number < first_packet:
                continue
            try:
                yield from packet.decode()
            except MemoryError:
                raise
            except av.FFmpegError:
                self.num_damaged_packets += 1

    def _demuxed(self) -> Iterator[av.Packet]:
        packets, count = self._container.demux(self._stream), 0
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except MemoryError:
                raise
            except DAMAGED:  # a damaged container ends here; what came before is kept
                self.num_damaged_packets += 1
                return
            count += 1
            self._check_frames(count)
            yield packet

    def close(self) -> None:
        self._container.close()


def _seconds(timed: av.VideoFrame | av.Packet, number: int, fps: float) -> float:
    """Presentation time; where the file has none, that of frame `number` at a constant rate."""
    return float(timed.pts * timed.time_base) if timed.pts is not None and timed.time_base else number / fps


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
        return self._reformatter.reformat(frame, width, height, "rgb24", interpolation=RESIZE, threads=1).to_ndarray()

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
