"""Whole videos at 16 frames per second, 112×112 luma: what signatures are made of.

    python -m benchmarks.sequential_decode [--clips FOLDER] [--rounds 4] [--at-most 24]

`ours` is the product's path: one pass over the upload, resampled, scaled. Peers: torchcodec in its exact seek mode (frames
played at 16 fps; its own resize while decoding, and torchvision's on the frames it returns), a pipe from the ffmpeg
command, decord. On one core; time is CPU time, that of the ffmpeg processes included.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks import clips, record
from benchmarks.clips import Clip
from dedup.census import SIDE_PX, SIGNATURE_FPS
from pipeline import video
from pipeline.upload import Upload

Reader = Callable[[Clip], np.ndarray]
"""A video → uint8 [T, 112, 112] luma."""


def read_upload(clip: Clip) -> np.ndarray:
    upload, resampler, scaler = Upload(clip.path.read_bytes()), video.Resampler(SIGNATURE_FPS), video.Scaler()
    luma: list[np.ndarray] = []
    for time_s, frame in upload.frames():
        luma += [scaler.gray(due, SIDE_PX, SIDE_PX) for due in resampler.push(time_s, frame)]
    luma += [scaler.gray(due, SIDE_PX, SIDE_PX) for due in resampler.finish()]
    upload.close()
    return np.stack(luma)


def ffmpeg_reader() -> Reader | None:
    if not shutil.which("ffmpeg"):
        print("no ffmpeg command: its pipe is left out")
        return None

    def read(clip: Clip) -> np.ndarray:
        filters = f"fps={SIGNATURE_FPS},scale={SIDE_PX}:{SIDE_PX}"
        output = ["-threads", "1", "-f", "rawvideo", "-pix_fmt", "gray", "-"]
        command = ["ffmpeg", "-v", "error", "-threads", "1", "-i", str(clip.path), "-vf", filters, *output]
        raw = subprocess.run(command, check=True, capture_output=True).stdout
        return np.frombuffer(raw, np.uint8).reshape(-1, SIDE_PX, SIDE_PX)

    return read


def torchcodec_reader(resize_while_decoding: bool) -> Reader | None:
    if not (decoders := record.peer("torchcodec.decoders")):
        return None
    from torchvision.transforms import v2

    resize = v2.Resize((SIDE_PX, SIDE_PX))

    def read(clip: Clip) -> np.ndarray:
        transforms = [resize] if resize_while_decoding else []
        decoder = decoders.VideoDecoder(str(clip.path), seek_mode="exact", num_ffmpeg_threads=1, transforms=transforms)
        begin_s, end_s = decoder.metadata.begin_stream_seconds, decoder.metadata.end_stream_seconds
        times = np.arange(begin_s, end_s - 1e-6, 1 / SIGNATURE_FPS).tolist()
        frames = decoder.get_frames_played_at(times).data
        scaled = frames if resize_while_decoding else resize(frames)
        return v2.functional.rgb_to_grayscale(scaled)[:, 0].numpy()

    return read


def decord_reader() -> Reader | None:
    if not (decord := record.peer("decord")):
        return None

    def read(clip: Clip) -> np.ndarray:
        opened = decord.VideoReader(str(clip.path), width=SIDE_PX, height=SIDE_PX, num_threads=1)
        step = opened.get_avg_fps() / SIGNATURE_FPS
        frames = opened.get_batch(np.arange(0, len(opened), step).astype(int).tolist()).asnumpy()
        return (frames @ np.float32([0.299, 0.587, 0.114])).astype(np.uint8)

    return read


def check(chosen: Sequence[Clip], readers: dict[str, Reader]) -> None:
    """Everybody reads about as many frames: rounding at a video's end differs."""
    for clip in chosen:
        counts = {name: len(read(clip)) for name, read in readers.items()}
        if max(counts.values()) - min(counts.values()) > 2:
            raise SystemExit(f"{clip.path.name}: {counts} frames at {SIGNATURE_FPS} fps are not the same work")


def measure(chosen: Sequence[Clip], rounds: int) -> dict[str, Any]:
    readers: dict[str, Reader | None] = {
        "ours": read_upload,
        "ffmpeg": ffmpeg_reader(),
        "torchcodec": torchcodec_reader(resize_while_decoding=True),
        "torchcodec_then_resize": torchcodec_reader(resize_while_decoding=False),
        "decord": decord_reader(),
    }
    found = {name: read for name, read in readers.items() if read}
    check(chosen, found)
    seconds = record.interleave({name: partial(_read_all, read, chosen) for name, read in found.items()}, rounds)
    per_video = {name: [1000 * value / len(chosen) for value in values] for name, values in seconds.items()}
    return {
        **clips.describe(chosen),
        "cpu_ms_per_video": {name: record.spread(values, 1) for name, values in per_video.items()},
        "to_ours": {name: record.ratio(seconds, name, "ours") for name in found if name != "ours"},
    }


def _read_all(read: Reader, chosen: Sequence[Clip]) -> None:
    for clip in chosen:
        read(clip)


def main() -> None:
    options = clips.arguments(__doc__, rounds=4)
    record.one_core()
    groups = clips.choose(options.clips, options.at_most)
    results = {name: measure(chosen, options.rounds) for name, chosen in groups.items()}
    print(record.write("sequential_decode", results, "av", "numpy", "torch", "torchcodec", "decord", "ffmpeg"))


if __name__ == "__main__":
    main()
