"""The shard pass against its own decoder and encoder bare, and against a temporary file and an ffmpeg process per video.

    python -m benchmarks.build_pass [--clips FOLDER] [--rounds 4] [--at-most 24]

The shard pass reads, hashes, decodes, scales, encodes, fingerprints and stores every video of a manifest. `bare` decodes the
same files, scales and encodes with the same settings, and drops the result. `video2dataset` does what that project's
ResolutionSubsampler does (its command line, ffmpeg's default x264 settings); `ffmpeg` is the same with our x264
settings. Everything runs on one core; time is CPU time, that of the ffmpeg processes included.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import av
from av.video.reformatter import VideoReformatter

from benchmarks import clips, record
from benchmarks.clips import Clip
from dataset_builder.shard import write_shard
from pipeline import storage, video
from pipeline.config import StorageConfig

CONFIG = StorageConfig()
X264 = (
    f"-preset {CONFIG.preset} -crf {CONFIG.crf} -tune fastdecode -pix_fmt yuv420p -x264-params "
    f"keyint={CONFIG.gop}:min-keyint={CONFIG.gop}:scenecut=0:open-gop=0:mbtree=0"
).split()


def shard_pass(chosen: Sequence[Clip]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sidecar = write_shard(0, clips.shard_job(folder, chosen, CONFIG))
    if sidecar["quarantined"]:
        raise SystemExit(f"videos that cannot be stored: {sidecar['quarantined']}")


def bare(chosen: Sequence[Clip]) -> list[bytes]:
    return [_transcode(clip) for clip in chosen]


def _transcode(clip: Clip) -> bytes:
    height, width = video.short_side_size(clip.height, clip.width, CONFIG.short_side_px)
    reformatter = VideoReformatter()
    with av.open(str(clip.path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count, stream.codec_context.thread_type = 1, "NONE"
        fps = float(stream.average_rate)
        encoder = video.Encoder(height, width, fps, gop=CONFIG.gop, crf=CONFIG.crf, preset=CONFIG.preset)
        for frame in container.decode(stream):
            scaled = reformatter.reformat(frame, width, height, "yuv420p", interpolation=video.RESIZE, threads=1)
            encoder.write(scaled)
    return encoder.finish()


def with_ffmpeg(chosen: Sequence[Clip], options: Sequence[str]) -> None:
    """A temporary file, an ffmpeg process and a file read back for each video."""
    for clip in chosen:
        data, side = clip.path.read_bytes(), CONFIG.short_side_px
        scale = f"-2:{side}" if clip.height <= clip.width else f"{side}:-2"
        with tempfile.TemporaryDirectory() as folder:
            source, result = Path(folder, "input.mp4"), Path(folder, "output.mp4")
            source.write_bytes(data)
            graph = ["-filter_complex", f"[0]scale={scale}[s0]", "-map", "[s0]"]
            command = ["ffmpeg", "-i", str(source), *graph, *options, "-reset_timestamps", "1", str(result)]
            subprocess.run(command, check=True, capture_output=True)
            result.read_bytes()


def same_bytes(chosen: Sequence[Clip]) -> int:
    """Videos that the shard pass and `bare` store as the very same bytes: the two do the same work."""
    with tempfile.TemporaryDirectory() as folder:
        job = clips.shard_job(folder, chosen, CONFIG)
        write_shard(0, job)
        tar = Path(f"{job.files.shard(0)}.tar").read_bytes()
        rows = storage.read_parquet(f"{job.files.shard(0)}.parquet").to_pylist()
    stored = [tar[row["video_offset"] : row["video_offset"] + row["video_size"]] for row in rows]
    return sum(mine == other for mine, other in zip(stored, bare(chosen), strict=True))


def measure(chosen: Sequence[Clip], rounds: int) -> dict[str, Any]:
    actions: dict[str, Callable[[], object]] = {
        "shard_pass": partial(shard_pass, chosen),
        "bare": partial(bare, chosen),
    }
    if shutil.which("ffmpeg"):
        actions["video2dataset"] = partial(with_ffmpeg, chosen, [])
        actions["ffmpeg"] = partial(with_ffmpeg, chosen, X264)
    else:
        print("no ffmpeg command: video2dataset's way is left out")
    described = {**clips.describe(chosen), "same_bytes_as_bare": same_bytes(chosen)}
    seconds = record.interleave(actions, rounds)
    per_video = {name: [1000 * value / len(chosen) for value in values] for name, values in seconds.items()}
    return {
        **described,
        "cpu_ms_per_video": {name: record.spread(values, 1) for name, values in per_video.items()},
        "shard_pass_to_bare": record.ratio(seconds, "shard_pass", "bare"),
        **{f"{name}_to_shard_pass": record.ratio(seconds, name, "shard_pass") for name in list(actions)[2:]},
    }


def main() -> None:
    options = clips.arguments(__doc__, rounds=4)
    record.one_core()
    results = {
        name: measure(chosen, options.rounds) for name, chosen in clips.choose(options.clips, options.at_most).items()
    }
    print(record.write("build_pass", results, "av", "numpy", "ffmpeg"))


if __name__ == "__main__":
    main()
