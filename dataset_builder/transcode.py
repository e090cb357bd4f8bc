"""One upload, held in memory → its stored form and its signature, decoded once. Runs where a crash does no harm (decoder.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np

from dedup import census
from pipeline import video
from pipeline.config import StorageConfig
from pipeline.stored_form import StoredForm, stored_form
from pipeline.upload import Upload
from pipeline.video import VideoError

MIN_FPS = 1.0


@dataclass(frozen=True)
class Request:
    """What of an upload is wanted."""

    video_id: str
    config: StorageConfig
    start_s: float | None = None
    end_s: float | None = None
    of_target: bool = False
    """A video of a target set, whose signature covers parts of the picture too."""

    @property
    def segment(self) -> tuple[float, float]:
        return self.start_s or 0.0, float("inf") if self.end_s is None else self.end_s


@dataclass(frozen=True)
class StoredVideo:
    """What one pass over an upload yields."""

    mp4: bytes
    fps: float
    num_frames: int
    height: int
    width: int
    signature: census.Signature
    copied: bool = False
    """Whether `mp4` is the upload itself."""

    @property
    def duration_s(self) -> float:
        return self.num_frames / self.fps


def transcode(data: bytes, request: Request) -> StoredVideo:
    """Decode an upload once: stored form and signature of its frames between `start_s` and `end_s`.

    Raises: VideoError; whatever else a decoder or encoder throws at a strange file becomes the reason `failed`.
        MemoryError passes: it says more of this process than of the file.
    """
    try:
        if request.config.frames == "one":
            return _one_frame(data, request)
        return _copy(data, request) or _encode(data, request)
    except (VideoError, MemoryError):
        raise
    except Exception as error:
        raise VideoError("failed", f"{type(error).__name__}: {error}") from error


def _encode(data: bytes, request: Request) -> StoredVideo:
    upload = _open(data, request.config)
    try:
        return _one_pass(_segment(upload, *request.segment), upload.fps, request)
    finally:
        upload.close()


def _open(data: bytes, config: StorageConfig, *, images: bool = False) -> Upload:
    return Upload(data, max_pixels=config.max_pixels, max_duration_s=config.max_duration_s, images=images)


def _one_pass(frames: Iterator[tuple[float, Any]], upload_fps: float, request: Request) -> StoredVideo:
    config, first = request.config, next(frames, None)
    if first is None:
        raise VideoError("no_frames", "none in the segment")
    height, width = video.short_side_size(*video.upright_size(first[1]), config.short_side_px)
    fps = max(MIN_FPS, min(upload_fps, config.max_fps))
    encoder = video.Encoder(height, width, fps, gop=config.gop, crf=config.crf, preset=config.preset)
    scaler, luma = video.Scaler(), _Luma()
    output = _AtRate(encoder.fps, lambda frame: scaler.upright(frame, height, width), encoder.write)
    for time_s, frame in chain([first], frames):
        output.push(time_s, frame)
        luma.push(time_s, frame)
    output.finish()
    return StoredVideo(encoder.finish(), encoder.fps, encoder.num_frames, height, width, luma.signature(request))


def _segment(upload: Upload, start_s: float, end_s: float) -> Iterator[tuple[float, Any]]:
    """(seconds since `start_s`, frame) of the frames that begin within the segment."""
    for time_s, frame in upload.frames():
        if time_s >= end_s:
            return
        if time_s >= start_s:
            yield time_s - start_s, frame


class _AtRate:
    """Frames at one constant rate, scaled only when due, once each, and handed on."""

    def __init__(self, fps: float, scale: Callable[[Any], Any], write: Callable[[Any], None]) -> None:
        self._resampler, self._scale, self._write = video.Resampler(fps), lru_cache(1)(scale), write

    def push(self, time_s: float, frame: Any) -> None:
        self._hand_on(self._resampler.push(time_s, frame))

    def finish(self) -> None:
        self._hand_on(self._resampler.finish())

    def _hand_on(self, due: Iterator[Any]) -> None:
        for frame in due:
            self._write(self._scale(frame))


class _Luma(_AtRate):
    """The luma frames that signatures are taken of.

    They are scaled from the upload, not from the stored picture: scaled twice, logos and text blur into bars, and copies
    with such bars are no longer found.
    """

    def __init__(self) -> None:
        scaler, side = video.Scaler(), census.SIDE_PX
        self._frames: list[np.ndarray] = []
        super().__init__(census.SIGNATURE_FPS, lambda frame: scaler.gray(frame, side, side), self._frames.append)

    def signature(self, request: Request) -> census.Signature:
        self.finish()
        return (census.target_signature if request.of_target else census.signature)(np.stack(self._frames))


# --------------------------------------------------------------------------------------------- copied, unchanged


def _copy(data: bytes, request: Request) -> StoredVideo | None:
    """The upload itself, when it is asked for whole, is in the stored form and decodes without damage; or None."""
    config = request.config
    if not config.copy_through or request.start_s is not None or request.end_s is not None:
        return None
    upload, luma, num_whole = _open(data, config), _Luma(), 0
    try:
        form = stored_form(data, short_side_px=config.short_side_px, max_fps=config.max_fps, gop=config.gop)
        if form is None:
            return None
        for time_s, frame in upload.frames():
            luma.push(time_s, frame)
            num_whole += _is_plain(frame, form)
        if upload.num_damaged_packets or num_whole != form.num_frames:
            return None
    finally:
        upload.close()
    signature = luma.signature(request)
    return StoredVideo(data, form.fps, form.num_frames, form.height, form.width, signature, copied=True)


def _is_plain(frame: Any, form: StoredForm) -> bool:
    is_whole = not (frame.is_corrupt or frame.interlaced_frame or frame.rotation)
    return is_whole and (frame.height, frame.width, frame.format.name) == (form.height, form.width, "yuv420p")


# -------------------------------------------------------------------------------------------------- one frame


def _one_frame(data: bytes, request: Request) -> StoredVideo:
    """One frame of the segment, drawn by the video's id; decoding begins at the keyframe before it and ends with it."""
    packets, first_s = _packets(data, request.config)
    start_s, end_s = request.segment
    times = [time - first_s for _, time, _ in packets if start_s <= time - first_s < end_s]
    if not times:
        raise VideoError("no_frames", f"none between {start_s} and {end_s} s")
    wanted_s = sorted(times)[_draw(request.video_id, len(times))]
    begins = max((number for number, time, is_key in packets if is_key and time - first_s <= wanted_s), default=0)
    upload = _open(data, request.config, images=True)
    try:
        frame = _frame_at(upload.frames(first_packet=begins, origin_s=first_s), wanted_s)
        return _one_pass(iter([(0.0, frame)]), upload.fps, request)
    finally:
        upload.close()


def _packets(data: bytes, config: StorageConfig) -> tuple[list[tuple[int, float, bool]], float]:
    """Packets of an upload and the time of the first frame."""
    upload = _open(data, config, images=True)
    try:
        packets = upload.packets()
    finally:
        upload.close()
    if not packets:
        raise VideoError("no_frames", "the container holds no packet")
    return packets, min(time for _, time, _ in packets)


def _draw(video_id: str, count: int) -> int:
    """A number below `count` that depends on the id alone."""
    return int.from_bytes(hashlib.sha256(f"frame {video_id}".encode()).digest()[:8], "big") % count


def _frame_at(frames: Iterator[tuple[float, Any]], wanted_s: float) -> Any:
    """The first frame not before `wanted_s`, or the last there is (where what follows is damaged)."""
    found = None
    for time_s, frame in frames:
        found = frame
        if time_s >= wanted_s - 1e-6:
            break
    return found
