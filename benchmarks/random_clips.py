"""Clips from random places: stored shards as the training reader reads them, against the original files.

    python -m benchmarks.random_clips [--clips FOLDER] [--rounds 3] [--at-most 12]

`ours` reads a stored video by its offset in the tar and decodes, at 128×171, the frames of a clip. `pyav` seeks and decodes
in the original file, at 128×171 too, and `pyav_skip` leaves out frames that no other refers to, as `ours` does. The other
peers read the same frames of the original files as they are shipped, at native size, without the resize that training
would need: `VideoClips.get_clip` of torchvision, `EncodedVideo.get_clip` of pytorchvideo (sound left out) and decord
(which scales to 128×171). Everybody opens the file anew for each clip, on one core.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import Any

import av
import numpy as np

from benchmarks import clips, record
from benchmarks.clips import Clip
from dataset_builder.shard import write_shard
from pipeline import storage, video
from pipeline.config import StorageConfig

SIZE_HW = (128, 171)
LENGTHS = (8, 32)
CLIPS_PER_VIDEO = 2
OURS_REPEATED = 5  # times per round: what takes a tenth of the time would else be measured on a tenth of it
SAME_FRAME = 12
"""Mean difference in grey levels up to which two readers have read the same frames; re-encoding and other scalers show."""


@dataclass(frozen=True)
class Job:
    """Frames start … start + length - 1 of video number `number`."""

    number: int
    clip: Clip
    start: int
    length: int
    times: tuple[Fraction, ...]
    """Seconds from the first frame of the file, of all its frames."""
    first_s: Fraction
    """Time stamp of its first frame."""

    @property
    def frames(self) -> range:
        return range(self.start, self.start + self.length)


Reader = Callable[[Job], np.ndarray]
"""A job → uint8 [T, H, W, 3] RGB."""


def make_jobs(chosen: Sequence[Clip], length: int) -> list[Job]:
    """Two clips of each video, from anywhere in it: always the same ones of the same videos."""
    draw = np.random.default_rng(length)
    jobs = []
    for number, clip in enumerate(chosen):
        stamps = _time_stamps(clip)
        times = tuple(stamp - stamps[0] for stamp in stamps)
        starts = draw.integers(0, len(stamps) - length, CLIPS_PER_VIDEO)
        jobs += [Job(number, clip, int(start), length, times, stamps[0]) for start in starts]
    return [job for job in jobs if _is_seekable(job)]


def _is_seekable(job: Job) -> bool:
    """Whether a seek in the original arrives at the frames that reading in order finds there; some files mislead it."""
    with av.open(str(job.clip.path)) as container:
        frame = next(islice(container.decode(video=0), job.start, None))
        return np.array_equal(video.Scaler().rgb(frame, *SIZE_HW), read_original(job, skip=False)[0])


def _time_stamps(clip: Clip) -> list[Fraction]:
    with av.open(str(clip.path)) as container:
        stream = container.streams.video[0]
        stamps = sorted(p.pts for p in container.demux(stream) if p.pts is not None and not p.is_discard)
        return [stamp * stream.time_base for stamp in stamps]


# ---------------------------------------------------------------------------------------------------- readers


def shard_reader(folder: str, chosen: Sequence[Clip]) -> Reader:
    """Store the videos, then read clips by the index, as training does."""
    job = clips.shard_job(folder, chosen, StorageConfig())
    write_shard(0, job)
    rows = storage.read_parquet(f"{job.files.shard(0)}.parquet").to_pylist()

    def read(clip_job: Job) -> np.ndarray:
        row = rows[clip_job.number]
        data = storage.read_range(f"{job.files.shard(0)}.tar", row["video_offset"], row["video_size"])
        return video.read_clip(data, clip_job.frames, SIZE_HW)

    return read


def read_original(job: Job, *, skip: bool, size_hw: tuple[int, int] | None = SIZE_HW) -> np.ndarray:
    with av.open(str(job.clip.path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        context.thread_count, context.thread_type = 1, "NONE"
        wanted = [round((job.times[i] + job.first_s) / stream.time_base) for i in job.frames]
        height, width = size_hw or (context.height, context.width)
        scaler, frames = video.Scaler(), {}
        container.seek(wanted[0], stream=stream)
        for packet in container.demux(stream):
            if skip:
                context.skip_frame = "DEFAULT" if packet.pts is None or packet.pts in wanted else "NONREF"
            for frame in packet.decode():
                if frame.pts in wanted:
                    frames[frame.pts] = scaler.rgb(frame, height, width)
            if len(frames) == len(wanted):
                break
    return np.stack([frames[pts] for pts in wanted])


def torchvision_reader(chosen: Sequence[Clip], length: int) -> Reader | None:
    if not (record.peer("torchcodec") and (module := record.peer("torchvision.datasets.video_utils"))):
        return None
    videos = module.VideoClips([str(clip.path) for clip in chosen], length, 1, num_workers=0)
    first_clips = [0, *videos.cumulative_sizes]

    def read(job: Job) -> np.ndarray:
        return videos.get_clip(first_clips[job.number] + job.start)[0].numpy()

    return read


def pytorchvideo_reader() -> Reader | None:
    if not (module := record.peer("pytorchvideo.data.encoded_video")):
        return None

    def read(job: Job) -> np.ndarray:
        opened = module.EncodedVideo.from_path(str(job.clip.path), decode_audio=False)
        frames = opened.get_clip(job.times[job.start], job.times[job.frames[-1]] + Fraction(1, 1000))["video"]
        opened.close()
        return frames.numpy().transpose(1, 2, 3, 0)

    return read


def decord_reader() -> Reader | None:
    if not (decord := record.peer("decord")):
        return None

    def read(job: Job) -> np.ndarray:
        opened = decord.VideoReader(str(job.clip.path), width=SIZE_HW[1], height=SIZE_HW[0], num_threads=1)
        return opened.get_batch(list(job.frames)).asnumpy()

    return read


# ------------------------------------------------------------------------------------------------ measurement


def check(jobs: Sequence[Job], readers: dict[str, Reader]) -> dict[str, float]:
    """Largest mean difference, in grey levels, of a reader's clips from the original; the run ends where it is too large."""
    differences: dict[str, list[float]] = {name: [] for name in readers}
    for job in jobs[::CLIPS_PER_VIDEO]:
        originals = {size: read_original(job, skip=False, size_hw=size).astype(np.int16) for size in (SIZE_HW, None)}
        for name, read in readers.items():
            frames = read(job)
            original = originals[SIZE_HW if frames.shape[1:3] == SIZE_HW else None]
            if frames.shape != original.shape:
                raise SystemExit(f"{name} read {frames.shape} of {job.clip.path.name}, not {original.shape}")
            differences[name].append(float(np.abs(frames - original).mean()))
    worst = {name: round(max(values), 2) for name, values in differences.items()}
    if wrong := {name: value for name, value in worst.items() if value > SAME_FRAME}:
        raise SystemExit(f"other frames than the original's were read: mean differences {wrong}")
    return worst


def measure(chosen: Sequence[Clip], length: int, rounds: int) -> dict[str, Any]:
    jobs = make_jobs(chosen, length)
    if not jobs:
        print(f"no seek in these originals arrives where it should: {length} frames are left out")
        return {"clips": 0}
    with tempfile.TemporaryDirectory() as folder:
        readers: dict[str, Reader | None] = {
            "ours": shard_reader(folder, chosen),
            "pyav": partial(read_original, skip=False),
            "pyav_skip": partial(read_original, skip=True),
            "torchvision": torchvision_reader(chosen, length),
            "pytorchvideo": pytorchvideo_reader(),
            "decord": decord_reader(),
        }
        found = {name: read for name, read in readers.items() if read}
        worst = check(jobs, found)
        repeated = {name: jobs * (OURS_REPEATED if name == "ours" else 1) for name in found}
        actions = {name: partial(_read_all, read, repeated[name]) for name, read in found.items()}
        seconds = record.interleave(actions, rounds)
    seconds["ours"] = [value / OURS_REPEATED for value in seconds["ours"]]
    per_clip = {name: [1000 * value / len(jobs) for value in values] for name, values in seconds.items()}
    return {
        "clips": len(jobs),
        "clips_left_out_as_unseekable": CLIPS_PER_VIDEO * len(chosen) - len(jobs),
        "mean_levels_from_original": worst,
        "cpu_ms_per_clip": {name: record.spread(values, 2) for name, values in per_clip.items()},
        "clips_per_second": {name: round(len(jobs) / min(values), 1) for name, values in seconds.items()},
        "to_ours": {name: record.ratio(seconds, name, "ours") for name in found if name != "ours"},
    }


def _read_all(read: Reader, jobs: Sequence[Job]) -> None:
    for job in jobs:
        read(job)


def main() -> None:
    options = clips.arguments(__doc__, rounds=3, at_most=12)
    record.one_core()
    results = {
        name: {
            **clips.describe(chosen),
            **{f"{length}_frames": measure(chosen, length, options.rounds) for length in LENGTHS},
        }
        for name, chosen in clips.choose(options.clips, options.at_most).items()
    }
    packages = ("av", "torch", "torchvision", "torchcodec", "pytorchvideo", "decord", "ffmpeg")
    print(record.write("random_clips", results, *packages))


if __name__ == "__main__":
    main()
