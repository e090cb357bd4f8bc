"""Label space, choice and manifest of a large source: peak memory of driver and workers, CPU time per million videos.

python -m benchmarks.manifest_scale --videos 5000000 --parts 32

A simulated source (matches only, no posts and no videos) is written once. Each choice then runs in a process of its own,
so that its peak is its own; the figures at 65 M videos are straight lines through the empty process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks import record
from dataset_builder.candidates import matched_videos
from dataset_builder.choose import choose_videos
from dataset_builder.manifest import equal_parts, write_chosen
from pipeline import artifacts, execute, storage
from pipeline.config import ExecutionConfig, SamplingConfig

NUM_LABELS = 400
SHARE = 0.3
"""Of the videos, that the choices take."""
PAPER_VIDEOS = 65_000_000
CHOICES = {
    "all": SamplingConfig(),
    "random": SamplingConfig(num_videos=1, strategy="random"),
    "tail_preserving": SamplingConfig(num_videos=1),
    "minutes": SamplingConfig(minutes=1, strategy="random"),
    "short": SamplingConfig(duration="short"),
}
"""What is measured; sizes of one stand for `SHARE`."""


# --------------------------------------------------------------------------------------------- a simulated source


def write_matches(part: int, source: tuple[str, int, int]) -> None:
    """One bucket of the matches: ids sorted, labels by Zipf's law and one video in five with two, 1 to 60 s."""
    folder, num_videos, num_parts = source
    size = num_videos * (part + 1) // num_parts - num_videos * part // num_parts
    draws = np.random.default_rng(part)
    low, high = (2**48 * end // num_parts for end in (part, part + 1))
    head = np.sort(draws.integers(low, high, size, dtype=np.uint64)) << np.uint64(16)
    digits = np.zeros((size, 10), dtype=np.uint8)
    digits[:, :8] = (
        (head | draws.integers(0, 2**16, size, dtype=np.uint64)).astype(">u8").view(np.uint8).reshape(size, 8)
    )
    digits[:, 8:] = draws.integers(0, 256, (size, 2))
    ends = pa.py_buffer(np.arange(0, 20 * size + 1, 20, dtype=np.int32))
    ids = pa.StringArray.from_buffers(size, ends, pa.py_buffer(digits.tobytes().hex().encode()))
    weights = 1 / np.arange(1, NUM_LABELS + 1)
    sizes = 1 + (draws.random(size) < 0.2)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    first = draws.choice(NUM_LABELS, offsets[-1], p=weights / weights.sum())
    first[offsets[:-1][sizes == 2] + 1] = (first[offsets[:-1][sizes == 2]] + 7) % NUM_LABELS
    columns = {
        "video_id": ids,
        "uri": pc.binary_join_element_wise("https://videos.example.com/some/folder", ids, "video.mp4", "/"),
        "duration_s": pa.array(draws.uniform(1, 60, size), pa.float32()),
        "labels": pa.ListArray.from_arrays(pa.array(offsets), pa.array(label_names()).take(pa.array(first))),
        "post_ids": pa.ListArray.from_arrays(pa.array(np.zeros(size + 1, np.int32)), pa.array([], pa.string())),
    }
    files = artifacts.source_files(folder, "source")
    path = storage.join(files.matches, f"part-{part:05d}.parquet")
    storage.write_parquet(path, pa.table(columns), artifacts.MATCHES)


def label_names() -> list[str]:
    return [f"label {number:04d}" for number in range(NUM_LABELS)]


# ------------------------------------------------------------------------------------------------------ measuring


class PeakMemory:
    """Largest resident memory (MiB) of this process and of any of its children, while the block runs."""

    def __init__(self) -> None:
        self.driver_mib = self.worker_mib = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.driver_mib = _peak_mib("self")

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            lists = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
            for child in " ".join(lists).split():
                self.worker_mib = max(self.worker_mib, _peak_mib(child))


def _peak_mib(process: str) -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # it ended meanwhile
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


def measure(name: str, folder: str, num_videos: int, workers: int) -> dict[str, float]:
    """Choose from the simulated source and write the manifest, in this process and its workers."""
    files = artifacts.dataset_files(folder, name)
    execution = ExecutionConfig(backend="process", num_workers=workers)
    config = CHOICES[name]
    sizes = {"num_videos": int(SHARE * num_videos), "minutes": SHARE * num_videos * 30.5 / 60}
    config = SamplingConfig(**{**asdict(config), **{k: v for k, v in sizes.items() if getattr(config, k) is not None}})
    empty_mib = _peak_mib("self")
    began = record.cpu_seconds()
    with PeakMemory() as peak:
        candidates = matched_videos(artifacts.source_files(folder, "source"), label_names())
        _, choice, stages = choose_videos(candidates, config, execution, name=name, kind="kinetics")
        chosen_s = record.cpu_seconds() - began
        write_chosen(files, choice, stages, equal_parts(len(choice), 1000), True, execution)
    seconds = record.cpu_seconds() - began
    storage.remove(files.folder)
    millions = num_videos / 1e6
    return {
        "chosen_videos": len(choice),
        "driver_empty_mib": round(empty_mib, 1),
        "driver_peak_mib": round(peak.driver_mib, 1),
        "driver_bytes_per_video": round((peak.driver_mib - empty_mib) * 2**20 / num_videos, 1),
        "worker_peak_mib": round(peak.worker_mib, 1),
        "choice_cpu_s_per_million": round(chosen_s / millions, 3),
        "manifest_cpu_s_per_million": round((seconds - chosen_s) / millions, 3),
    }


def extrapolate(result: dict[str, float], num_videos: int) -> dict[str, float]:
    """Driver memory at the paper's size; a worker's stays as it is while parts keep their size."""
    mib = result["driver_empty_mib"] + result["driver_bytes_per_video"] * num_videos / 2**20
    return {"videos": num_videos, "driver_peak_mib": round(mib)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", default=None, help="keep the simulated source here")
    parser.add_argument("--choices", nargs="+", choices=list(CHOICES), default=list(CHOICES))
    parser.add_argument("--here", action="store_true", help="measure the one choice in this process, and print it")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.choices[0], options.folder, options.videos, options.workers)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        _measure_all(options.folder or temporary, options)


def _measure_all(folder: str, options: argparse.Namespace) -> None:
    source = (folder, options.videos, options.parts)
    execution = ExecutionConfig(backend="process", num_workers=options.workers)
    execute.run_parts(write_matches, range(options.parts), execution, desc="source", shared=source)
    results: dict[str, Any] = {"videos": options.videos, "parts": options.parts, "workers": options.workers}
    for choice in options.choices:
        command = [sys.executable, "-m", "benchmarks.manifest_scale", "--here", "--choices", choice, "--folder", folder]
        sizes = ["--videos", str(options.videos), "--workers", str(options.workers)]
        said = subprocess.run([*command, *sizes], check=True, stdout=subprocess.PIPE, text=True).stdout
        result = json.loads(said.splitlines()[-1])
        results[choice] = {**result, "at_paper_size": extrapolate(result, PAPER_VIDEOS)}
        print(choice, json.dumps(results[choice]), flush=True)
    print(record.write("manifest_scale", results, "numpy", "pyarrow"))


if __name__ == "__main__":
    main()
