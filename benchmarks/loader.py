"""The training loader on one core: clips from shards against bare decoding, webdataset, and loaders of original files.

    python -m benchmarks.loader [--clips FOLDER] [--rounds 5] [--at-most 12]

The videos are stored by the build's own shard pass. Per clip, CPU time of all processes:

- `ours` is `TrainingClips.__getitems__`, microbatches of 16: position → sample → bytes by offset, CRC-32, decoding, 128×171,
  random crop of 112, into one tensor. `ours_worker` has a loader process do it, the consumer's share included.
- `bare` decodes the same frames of the same stored videos with PyAV and nothing else: the bytes are in memory; open, seek,
  decode till the last frame is out, one thread. No frame is left out, and none is scaled, converted or copied.
  `bare_rgb` also scales them to 128×171 RGB arrays.
- `webdataset` streams the same shard, `WebDataset(tar).decode(…)`, and does for each sample what its users do: open the bytes
  with PyAV, seek to a random start, decode, `frame.to_ndarray("rgb24", width=171, height=128)`, crop 112, stack 16 to a batch.
- `pytorchvideo` and `torchvision` read clips of the original files as in `benchmarks.random_clips`: native size, no resize.

`ours_unchecked` leaves the checksums out. Takes two to four minutes.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import av
import numpy as np
import torch

from benchmarks import clips, random_clips, record
from dataset_builder.shard import write_shard
from pipeline import members, storage, video
from pipeline.config import ClipConfig, StorageConfig
from pretrain.data import MicrobatchSampler, TrainingClips, microbatches
from pretrain.samples import Samples, open_samples
from pretrain.virtual_workers import VirtualWorkers

LENGTHS = (8, 32)
BATCH, BATCHES = 16, 12
SIZES_KB = (40, 100, 200)
"""Of stored videos, for what a checksum costs."""
SETTLING_S = 0.3
"""In which a loader process fills its queue again; its work must not count as another reader's."""


def store(folder: str, chosen: Sequence[clips.Clip]) -> Samples:
    """Store the videos as a dataset of one shard, and open it as training does."""
    job = clips.shard_job(folder, chosen, StorageConfig())
    sidecar = write_shard(0, job)
    shard = {"path": "shards/clips-000000", "bytes": sidecar["bytes"], "sha256": sidecar["sha256"]}
    storage.write_json(job.files.marker, {"digest": "", "labels": [{"name": "clip"}], "shards": [shard]})
    return open_samples(job.files, "")


# ---------------------------------------------------------------------------------------------------- readers


def read_ours(dataset: TrainingClips, batches: Sequence[range]) -> None:
    for positions in batches:
        dataset.__getitems__(list(positions))


class Worker:
    """`microbatches` from one loader process, as many as asked for at a time."""

    def __init__(self, dataset: TrainingClips) -> None:
        sampler = MicrobatchSampler(VirtualWorkers(1, BATCH), 0, 1 << 20)
        self.batches = microbatches(dataset, sampler, loader_workers=1)
        self.read(BATCHES)

    def read(self, num_batches: int) -> None:
        for batch in itertools.islice(self.batches, num_batches):
            batch.clips_BTHWC[0, 0, 0, 0, 0].item()
        time.sleep(SETTLING_S)


def read_bare(clips_of_round: Sequence[tuple[bytes, list[int]]], size_hw: tuple[int, int] | None) -> None:
    """Decode frames of stored videos; scale them, where a size is given."""
    scaler = video.Scaler()
    for data, numbers in clips_of_round:
        with av.open(io.BytesIO(data), format="mp4") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count, stream.codec_context.thread_type = 1, "NONE"
            ticks = 1 / (stream.average_rate * stream.time_base)
            wanted = {int(number * ticks) for number in numbers}
            container.seek(min(wanted), stream=stream)
            for frame in container.decode(stream):
                if frame.pts in wanted:
                    wanted.discard(frame.pts)
                    if size_hw:
                        scaler.rgb(frame, *size_hw)
                    if not wanted:
                        break


def webdataset_reader(samples: Samples, clip: ClipConfig) -> Callable[[int], None] | None:
    """A function that reads a number of clips by streaming the shard again and again."""
    os.environ["WDS_SECURE"] = "1"
    if not (webdataset := record.peer("webdataset")):
        return None
    draw = np.random.default_rng(0)

    def decode(data: bytes) -> np.ndarray:
        with av.open(io.BytesIO(data)) as container:
            stream = container.streams.video[0]
            start = int(draw.integers(0, stream.frames - clip.length))
            first = int(start / stream.average_rate / stream.time_base)
            container.seek(first, stream=stream)
            frames = (frame for frame in container.decode(stream) if frame.pts >= first)
            height, width = clip.size_hw
            taken = itertools.islice(frames, clip.length)
            pixels = np.stack([frame.to_ndarray(format="rgb24", width=width, height=height) for frame in taken])
        top, left = (int(draw.integers(0, room + 1)) for room in (height - clip.crop_px, width - clip.crop_px))
        return pixels[:, top : top + clip.crop_px, left : left + clip.crop_px]

    def stream() -> Iterator[np.ndarray]:
        while True:
            dataset = webdataset.WebDataset(samples.shards[0], shardshuffle=False)
            yield from (decode(sample["mp4"]) for sample in dataset)

    streamed = stream()

    def read(num_batches: int) -> None:
        for _ in range(num_batches):
            torch.from_numpy(np.stack(list(itertools.islice(streamed, BATCH))))

    return read


# ------------------------------------------------------------------------------------------------ measurement


def measure(chosen: Sequence[clips.Clip], length: int, rounds: int) -> dict[str, Any]:
    clip = ClipConfig(length=length)
    with tempfile.TemporaryDirectory() as folder:
        samples = store(folder, chosen)
        dataset = TrainingClips(samples, clip, seed=0)
        batches = [range(BATCH * i, BATCH * (i + 1)) for i in range(BATCHES)]
        bare = [bare_clip(dataset, position) for positions in batches for position in positions]
        jobs = random_clips.make_jobs(chosen, length)
        originals = {
            "pytorchvideo": random_clips.pytorchvideo_reader(),
            "torchvision": random_clips.torchvision_reader(chosen, length),
        }
        actions = {
            "ours": partial(read_ours, dataset, batches),
            "ours_unchecked": partial(read_ours, unchecked(dataset), batches),
            "ours_worker": partial(Worker(dataset).read, BATCHES),
            "bare": partial(read_bare, bare, None),
            "bare_rgb": partial(read_bare, bare, clip.size_hw),
        }
        if streaming := webdataset_reader(samples, clip):
            actions["webdataset"] = partial(streaming, BATCHES)
        counts = dict.fromkeys(actions, BATCH * BATCHES)
        for name, read in originals.items():
            if read and jobs:
                actions[name], counts[name] = partial(random_clips._read_all, read, jobs), len(jobs)
        record.interleave(actions, 1)
        seconds = record.interleave(actions, rounds)
    per_clip = {name: [value / counts[name] for value in values] for name, values in seconds.items()}
    return {
        "clips": counts,
        "cpu_ms_per_clip": {name: record.spread([1000 * v for v in values], 3) for name, values in per_clip.items()},
        "clips_per_second": {name: round(1 / min(values), 1) for name, values in per_clip.items()},
        "to_ours": {name: record.ratio(per_clip, name, "ours") for name in actions if name != "ours"},
        "to_ours_worker": {"bare": record.ratio(per_clip, "bare", "ours_worker")},
    }


def bare_clip(dataset: TrainingClips, position: int) -> tuple[bytes, list[int]]:
    sample = dataset.order(position)
    return dataset.samples.read(sample), dataset.frame_numbers(sample, position)


def unchecked(dataset: TrainingClips) -> TrainingClips:
    other = TrainingClips(dataset.samples, dataset.clip, dataset.seed)
    other.reader.verify_share = 0.0
    return other


def checksums(rounds: int) -> dict[str, Any]:
    """µs for a stored video of each size: CRC-32 as used, SHA-256, and reading it with its own open or a kept handle."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "shard.tar")
        storage.write_bytes(path, os.urandom(50_000_000))
        handle = os.open(path, os.O_RDONLY)
        for size in (1000 * kb for kb in SIZES_KB):
            data, repeats = os.urandom(size), 400
            actions = {
                "crc32": partial(members.checksum, data),
                "sha256": lambda data=data: hashlib.sha256(data).digest(),
                "read_opening_each_time": partial(storage.read_range, path, 12_345_678, size),
                "read_from_a_kept_handle": partial(os.pread, handle, size, 12_345_678),
            }
            timed = {name: partial(_repeat, action, repeats) for name, action in actions.items()}
            seconds = record.interleave(timed, rounds)
            results[f"{size // 1000}_kb"] = {n: round(1e6 * min(v) / repeats, 1) for n, v in seconds.items()}
        os.close(handle)
    return results


def _repeat(action: Callable[[], object], times: int) -> None:
    for _ in range(times):
        action()


def main() -> None:
    options = clips.arguments(__doc__, rounds=5, at_most=12)
    record.one_core()
    torch.set_num_threads(1)
    chosen = next(iter(clips.choose(options.clips, options.at_most).values()))
    results = {
        "checksum_us": checksums(options.rounds),
        **clips.describe(chosen),
        **{f"{length}_frames": measure(chosen, length, options.rounds) for length in LENGTHS},
    }
    packages = ("av", "torch", "torchvision", "torchcodec", "pytorchvideo", "webdataset", "ffmpeg")
    print(record.write("loader", results, *packages))


if __name__ == "__main__":
    main()
