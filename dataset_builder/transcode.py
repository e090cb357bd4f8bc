"""One upload → its stored form and its signature, or those of its segments, decoded once.

Runs where a crash does no harm (decoder.py).
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, BinaryIO

from dataset_builder.recorder import Luma, Recorder, Request, StoredVideo
from pipeline.stored_form import StoredForm, stored_form
from pipeline.upload import Upload, open_regular
from pipeline.video import VideoError

MAX_SOURCE_S = 86_400.0  # of a video that segments are cut from; `max_duration_s` is the limit on each of them
TICK_S = 1e-6  # times of frames are quotients: one that is this little before a bound is at the bound


def transcode(data: bytes, request: Request) -> StoredVideo:
    """Decode an upload once: stored form and signature of its frames with `start_s` ≤ time < `end_s`.

    Raises: VideoError; whatever else a decoder or encoder throws at a strange file becomes the reason `failed`.
        MemoryError passes: it says more of this process than of the file.
    """
    result = _guarded(lambda: _transcode(data, request))
    if isinstance(result, VideoError):
        raise result
    return result


def transcode_segments(source: bytes | str, requests: Sequence[Request]) -> list[StoredVideo | VideoError]:
    """Decode a video once, up to the end of the last segment wanted; what `transcode` gives or raises for each of them.

    Args:
        source: the whole file in memory, or the path of a local one.
        requests: segments of it, in any order; they may overlap.
    """
    if not isinstance(source, str):
        return _segments(source, requests)
    with open_regular(source) as file:
        return _segments(file, requests)


def _segments(source: bytes | BinaryIO, requests: Sequence[Request]) -> list[StoredVideo | VideoError]:
    if requests[0].config.frames == "one":
        return [_guarded(lambda request=request: _one_frame(source, request)) for request in requests]
    results = _guarded(lambda: _cut(source, requests))
    return [results] * len(requests) if isinstance(results, VideoError) else results


def _guarded(function: Callable[[], Any]) -> Any:
    """What `function` returns, or why it could not. MemoryError passes."""
    try:
        return function()
    except MemoryError:
        raise
    except VideoError as error:
        return error
    except Exception as error:  # of whatever kind: a file never ends the run
        return VideoError("failed", f"{type(error).__name__}: {error}")


def _transcode(data: bytes, request: Request) -> StoredVideo:
    if request.config.frames == "one":
        return _one_frame(data, request)
    if stored := _copy(data, request):
        return stored
    (result,) = _cut(data, [request])
    if isinstance(result, VideoError):
        raise result
    return result


def _open(source: bytes | BinaryIO, request: Request, *, images: bool = False) -> Upload:
    max_duration_s = MAX_SOURCE_S if request.is_segment else request.config.max_duration_s
    if not isinstance(source, bytes):
        source.seek(0)
    return Upload(source, max_pixels=request.config.max_pixels, max_duration_s=max_duration_s, images=images)


# ----------------------------------------------------------------------------------------- segments, in one pass


def _cut(source: bytes | BinaryIO, requests: Sequence[Request]) -> list[StoredVideo | VideoError]:
    """Each frame goes to the segments that it begins within; what goes wrong in one of them does not touch the others."""
    with closing(_open(source, requests[0])) as upload:
        cuts = [_Segment(request, upload.fps) for request in requests]
        waiting, running = deque(sorted(cuts, key=lambda cut: cut.start_s)), []
        try:
            for time_s, frame in upload.frames():
                while waiting and waiting[0].start_s <= time_s + TICK_S:
                    running.append(waiting.popleft())
                running = [cut for cut in running if cut.push(time_s, frame)]
                if not waiting and not running:
                    break
        except VideoError as error:
            for cut in (*waiting, *running):
                cut.result = error
    return [cut.finish() for cut in cuts]


class _Segment:
    """One segment of the upload that is being decoded."""

    def __init__(self, request: Request, upload_fps: float) -> None:
        self._request, self._fps = request, upload_fps
        self.start_s, self._end_s = request.segment
        self._recorder: Recorder | None = None
        self._first_s = 0.0
        self.result: StoredVideo | VideoError | None = None

    def push(self, time_s: float, frame: Any) -> bool:
        """Take a frame that does not begin before the segment; returns whether more is wanted."""
        if time_s + TICK_S >= self._end_s:
            self.finish()
        else:
            self.result = _guarded(lambda: self._record(time_s, frame))
        return self.result is None

    def _record(self, time_s: float, frame: Any) -> None:
        if self._request.is_segment and time_s - self.start_s > self._request.config.max_duration_s:
            raise VideoError("too_long", f"a segment of more than {self._request.config.max_duration_s:g} s")
        if (
            self._recorder is None
        ):  # its first frame begins the stored video, so that no frame has to stand in for a gap
            self._recorder, self._first_s = Recorder(frame, self._fps, self._request), time_s
        self._recorder.push(time_s - self._first_s, frame)

    def finish(self) -> StoredVideo | VideoError:
        """The result; that of a segment in which the upload ended is made now."""
        if self.result is None and self._recorder is None:
            self.result = VideoError("no_frames", "none in the segment")
        elif self.result is None:
            self.result = _guarded(self._recorder.finish)
        self._recorder = None
        return self.result


# --------------------------------------------------------------------------------------------- copied, unchanged


def _copy(data: bytes, request: Request) -> StoredVideo | None:
    """The upload itself, when it is asked for whole, is in the stored form and decodes without damage; or None."""
    config = request.config
    if not config.copy_through or request.is_segment:
        return None
    upload, luma, num_whole = _open(data, request), Luma(), 0
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


def _one_frame(source: bytes | BinaryIO, request: Request) -> StoredVideo:
    """One frame of the segment, drawn by the video's id; decoding begins at the keyframe before it and ends with it."""
    packets, first_s = _packets(source, request)
    start_s, end_s = request.segment
    times = [t - first_s for _, t, _ in packets if start_s <= t - first_s + TICK_S < end_s]
    if not times:
        raise VideoError("no_frames", f"none between {start_s} and {end_s} s")
    wanted_s = sorted(times)[_draw(request.video_id, len(times))]
    begins = max((number for number, time, is_key in packets if is_key and time - first_s <= wanted_s), default=0)
    with closing(_open(source, request, images=True)) as upload:
        frame = _frame_at(upload.frames(first_packet=begins, origin_s=first_s), wanted_s)
        recorder = Recorder(frame, upload.fps, request)
        recorder.push(0.0, frame)
        return recorder.finish()


def _packets(source: bytes | BinaryIO, request: Request) -> tuple[list[tuple[int, float, bool]], float]:
    """Packets of an upload and the time of the first frame."""
    with closing(_open(source, request, images=True)) as upload:
        packets = upload.packets()
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
