"""One sequential pass over an upload of unknown make, within limits; every reader that seeks in such files is wrong somewhere."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

import av

from pipeline.video import VideoError

# Containers of self-contained media files; playlists (HLS, DASH, concat) could make the demuxer open other files.
CONTAINERS = "mov,mp4,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,m4v,asf,ogg,gif,h264,hevc,3gp"
IMAGES = "jpeg_pipe,png_pipe,webp_pipe"
FALLBACK_FPS = 25.0
MAX_STREAMS = 64
MAX_READ_FPS = 240  # an upload has at most so many frames per second of the longest duration allowed
DAMAGED = (av.FFmpegError, OSError, ValueError)


def open_regular(path: str) -> BinaryIO:
    """A local file to read; OSError when it cannot be opened, VideoError `unreadable` when it is not a regular one."""
    # Without O_NONBLOCK, opening a named pipe would wait for its other end for ever.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise VideoError("unreadable", "not a regular file")
    return open(descriptor, "rb")


class Upload:
    """One sequential pass over an untrusted file.

    Args:
        data: the whole file in memory, or an open one, which stays the caller's to close.
        max_pixels, max_duration_s: limits; beyond them VideoError `too_large`, `too_long` or `too_many_frames`.
        images: also accept JPEG, PNG and WebP, as a video of one frame.

    Raises: VideoError with reason empty | not_a_video | no_video_stream | too_many_streams | too_large | too_long |
        too_many_frames | no_frames | decode_error. MemoryError when the process may not have more.
    """

    def __init__(
        self,
        data: bytes | BinaryIO,
        *,
        max_pixels: int = 4096 * 2304,
        max_duration_s: float = 3600.0,
        images: bool = False,
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
            file = io.BytesIO(data) if isinstance(data, bytes) else data
            self._container = av.open(file, options=options, metadata_errors="replace")
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
    base = timed.time_base
    return timed.pts * base.numerator / base.denominator if timed.pts is not None and base else number / fps
