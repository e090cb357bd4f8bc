"""The stored form beside its neighbours: bytes, PSNR of luma, and the time that a random clip of 8 frames takes to read.

`python -m benchmarks.stored_form --clips FOLDER`. Every setting encodes the same frames (scaled to the short side of 128 px)
and is read at the same places as the source; times are CPU seconds of things done in turn in one process.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import av
import numpy as np

from benchmarks import clips, record
from pipeline import video
from pipeline.config import StorageConfig
from pipeline.upload import Upload

CLIP_FRAMES, CLIPS_PER_VIDEO = 8, 4
READ_SIZE_HW = (128, 171)


@dataclass(frozen=True)
class Setting:
    preset: str = "veryfast"
    gop: int = 16
    crf: int = 20
    mbtree: bool = False

    @property
    def name(self) -> str:
        return f"{self.preset} gop {self.gop} crf {self.crf}{' mbtree' if self.mbtree else ''}"


STORED = Setting()
SETTINGS = (
    STORED,
    Setting(mbtree=True),
    Setting(crf=23),
    Setting(gop=32),
    Setting(gop=32, crf=23),
    Setting(gop=250),
    Setting(preset="medium"),
    Setting(preset="medium", mbtree=True),
    Setting(preset="medium", crf=23),
    Setting(preset="medium", gop=250, crf=23),
)


class Encoder(video.Encoder):
    """The stored form's encoder, with x264's macroblock tree where a setting wants it."""

    def __init__(self, height: int, width: int, fps: float, setting: Setting) -> None:
        super().__init__(height, width, fps, gop=setting.gop, crf=setting.crf, preset=setting.preset)
        if setting.mbtree:
            options = self._stream.options
            options["x264-params"] = options["x264-params"].replace("mbtree=0", "mbtree=1")
            self._stream.options = options


@dataclass(frozen=True)
class Source:
    """A video, its frames as the encoder gets them (uint8 [T, H * 3 / 2, W], planar YUV 4:2:0), and places to read it."""

    data: bytes
    frames: np.ndarray
    fps: float
    clips: list[list[int]]


def read_source(path: str) -> Source | None:
    """None for a file in which frames cannot be found by number."""
    with open(path, "rb") as file:
        data = file.read()
    upload, scaler, frames = Upload(data), video.Scaler(), []
    for _, frame in upload.frames():
        height, width = video.short_side_size(*video.upright_size(frame), StorageConfig().short_side_px)
        frames.append(scaler.upright(frame, height, width).to_ndarray())
    draw = random.Random(path)
    starts = [draw.randrange(len(frames) - CLIP_FRAMES) for _ in range(CLIPS_PER_VIDEO)]
    places = [list(range(start, start + CLIP_FRAMES)) for start in starts]
    try:
        read_clips(data, places)
    except video.VideoError:
        return None
    return Source(data, np.stack(frames), upload.fps, places)


def encode(source: Source, setting: Setting) -> bytes:
    encoder = Encoder(source.frames.shape[1] * 2 // 3, source.frames.shape[2], source.fps, setting)
    for frame in source.frames:
        encoder.write(av.VideoFrame.from_ndarray(frame, format="yuv420p"))
    return encoder.finish()


def read_clips(data: bytes, places: Sequence[list[int]]) -> None:
    for place in places:
        video.read_clip(data, place, READ_SIZE_HW)


def psnr_luma(source: Source, data: bytes) -> float:
    """PSNR in dB over all luma samples of a video."""
    height = source.frames.shape[1] * 2 // 3
    with av.open(io.BytesIO(data)) as container:
        decoded = np.stack([frame.to_ndarray()[:height] for frame in container.decode(video=0)])
    error = np.mean((decoded.astype(np.float64) - source.frames[:, :height]) ** 2)
    return float(10 * np.log10(255**2 / error))


def measure(sources: Sequence[Source], rounds: int) -> dict[str, Any]:
    """One row per setting; sizes and quality are means over videos, times medians over rounds."""
    encoded: dict[str, list[bytes]] = {}

    def encode_all(setting: Setting) -> None:
        encoded[setting.name] = [encode(source, setting) for source in sources]

    encoding = record.interleave({s.name: partial(encode_all, s) for s in SETTINGS}, rounds)
    readers: dict[str, Callable[[], object]] = {"source": partial(_read_all, [s.data for s in sources], sources)}
    readers |= {name: partial(_read_all, files, sources) for name, files in encoded.items()}
    reading = record.interleave(readers, rounds)
    source_bytes = sum(len(source.data) for source in sources)
    return {
        name: {
            "bytes_of_source": round(sum(map(len, files)) / source_bytes, 3),
            "psnr_y_db": round(float(np.mean([psnr_luma(s, f) for s, f in zip(sources, files, strict=True)])), 2),
            "clip_time_of_source": record.ratio(reading, name, "source"),
            "encode_time_of_stored_form": record.ratio(encoding, name, STORED.name),
        }
        for name, files in encoded.items()
    }


def _read_all(files: Sequence[bytes], sources: Sequence[Source]) -> None:
    for data, source in zip(files, sources, strict=True):
        read_clips(data, source.clips)


def main() -> None:
    options = clips.arguments(__doc__, rounds=5, at_most=8)
    record.one_core()
    results = {}
    for group, found in clips.choose(options.clips, options.at_most).items():
        sources = [source for clip in found if (source := read_source(str(clip.path))) is not None]
        if sources:
            results[group] = {"videos": len(sources), "settings": measure(sources, options.rounds)}
    print(record.write("stored_form", results, "av", "numpy"))


if __name__ == "__main__":
    main()
