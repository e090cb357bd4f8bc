"""Frames with their times → the stored form and the signature, as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from dedup import census
from pipeline import video
from pipeline.config import StorageConfig

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
    def is_segment(self) -> bool:
        return self.start_s is not None or self.end_s is not None

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


class Recorder:
    """Frames with their times → stored form and signature."""

    def __init__(self, first: Any, upload_fps: float, request: Request) -> None:
        config, self._request, scaler = request.config, request, video.Scaler()
        self._size = height, width = video.short_side_size(*video.upright_size(first), config.short_side_px)
        fps = max(MIN_FPS, min(upload_fps, config.max_fps))
        self._encoder = video.Encoder(height, width, fps, gop=config.gop, crf=config.crf, preset=config.preset)
        self._output = _AtRate(
            self._encoder.fps, lambda frame: scaler.upright(frame, height, width), self._encoder.write
        )
        self._luma = Luma()

    def push(self, time_s: float, frame: Any) -> None:
        self._output.push(time_s, frame)
        self._luma.push(time_s, frame)

    def finish(self) -> StoredVideo:
        self._output.finish()
        encoder, signature = self._encoder, self._luma.signature(self._request)
        return StoredVideo(encoder.finish(), encoder.fps, encoder.num_frames, *self._size, signature)


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


class Luma(_AtRate):
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
