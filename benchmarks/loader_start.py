"""How long it takes until training can read: opening the samples of a large dataset, at the start and at any position.

    python -m benchmarks.loader_start [--videos 65000000] [--shards 65000] [--rounds 3] [--folder FOLDER]

Writes the index of a made-up dataset (its marker, and the sample index as the first reader of a real one writes it; no
videos), some 90 bytes a video. Then fresh processes open it: `open_s` is `open_samples`, `order_s` the order of samples made
from it, `positions_s` the first positions of a step far into the run, with their videos' places, labels and keys: what is
between starting and the first read. Seconds of the clock, and of the CPU in all; importing torch comes before them.
`peak_mib` is the largest resident memory of the process, the pages of the index that it touched included; `import_mib` what
it had before.
`cold` asks the system to forget the index's pages first.

`gathering` is the other half: the rows of small real shards, read as the first reader reads them, per 1,000 shards.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import record
from pipeline import artifacts, storage
from pipeline import config as configs
from pipeline.artifacts import DatasetFiles
from pipeline.config import ClipConfig
from pretrain import sample_index
from pretrain.data import TrainingClips
from pretrain.sample_rows import Rows, RowsJob, read_rows
from pretrain.samples import open_samples
from pretrain.threads import read_ahead

NUM_LABELS, STORED_BYTES = 10_000, 250_000
BATCH, RESUMED_AT = 2048, 300_000_000
"""Clips of a step (paper: 128 GPUs of 16), and clips seen at a restart: in the fifth pass over 65 million."""
GATHERED_SHARDS = 200


# ------------------------------------------------------------------------------------------- a made-up dataset


def write_dataset(files: DatasetFiles, num_videos: int, num_shards: int) -> float:
    """Marker and sample index; returns the seconds that the index took."""
    shards = [
        {
            "path": f"shards/{files.name}-{i:06d}",
            "num_videos": 1000,
            "bytes": STORED_BYTES * 1000,
            "sha256": f"{i:064x}",
        }
        for i in range(num_shards)
    ]
    labels = [{"id": i, "name": f"label {i}", "num_videos": 1} for i in range(NUM_LABELS)]
    storage.write_json(files.marker, {"digest": "0" * 16, "labels": labels, "shards": shards})
    digests = {"dataset": "0" * 16, "exclusions": ""}
    began = time.perf_counter()
    pieces = (make_rows(shard, num_videos // num_shards) for shard in range(num_shards))
    sample_index.write(storage.join(files.index, configs.digest(digests)), pieces, digests)
    return time.perf_counter() - began


def make_rows(shard: int, size: int) -> Rows:
    """Rows of one shard: one or two labels a video, weights as of square-root sampling."""
    draw = np.random.default_rng(shard)
    numbers = np.arange(size)
    label_sizes = 1 + (draw.random(size) < 0.2)
    num_frames = draw.integers(60, 300, size).astype(np.int32)
    columns = {
        "shard": np.full(size, shard, np.int32),
        "video_offset": 512 + STORED_BYTES * numbers,
        "video_size": draw.integers(40_000, 200_000, size),
        "video_crc32": draw.integers(0, 2**32, size),
        "stored_frames": num_frames,
        "first_frame": np.zeros(size, np.int32),
        "num_frames": num_frames,
        "fps": np.full(size, 25.0, np.float32),
        "height": np.full(size, 128, np.int32),
        "width": np.full(size, 170, np.int32),
        "weight": draw.gamma(2.0, 0.6, size).astype(np.float32),
    }
    label_ids = draw.integers(0, NUM_LABELS, int(label_sizes.sum())).astype(np.int32)
    keys = pa.array([f"{shard:010x}{number:010x}" for number in numbers])
    return Rows(columns, label_sizes, label_ids, keys, size, {})


# --------------------------------------------------------------------------------------------------- measuring


def start(folder: str) -> dict[str, float]:
    """Open the dataset in this process, and find the videos of a step."""
    before, cpu = _memory_mib(), time.process_time()
    began = time.perf_counter()
    samples = open_samples(DatasetFiles(folder, "large"), "")
    opened = time.perf_counter()
    clips = TrainingClips(samples, ClipConfig(), seed=0)
    ordered = time.perf_counter()
    for position in (0, *range(RESUMED_AT, RESUMED_AT + BATCH)):
        sample = clips.order(position)
        clips.frame_numbers(sample, position), clips.label(sample, position), samples.describe(sample)
    found = time.perf_counter()
    return {
        "videos": len(samples),
        "open_s": round(opened - began, 3),
        "order_s": round(ordered - opened, 3),
        "positions_s": round(found - ordered, 3),
        "total_s": round(found - began, 3),
        "total_cpu_s": round(time.process_time() - cpu, 3),
        "import_mib": round(before),
        "peak_mib": round(_memory_mib()),
    }


def _memory_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def in_fresh_process(folder: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.loader_start", "--here", "--folder", folder]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def forget_pages(folder: str) -> None:
    """Drop a folder's files from the system's page cache."""
    for path in Path(folder).rglob("*.npy"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def gathering(folder: str) -> dict[str, float]:
    """Seconds of the clock and of the CPU for 1,000 shards of 1,000 videos, read by as many threads as a first reader has."""
    files = DatasetFiles(folder, "small")
    for shard in range(GATHERED_SHARDS):
        _write_shard(files, shard)
    paths = [files.shard(shard) for shard in range(GATHERED_SHARDS)]
    job = RowsJob(files.manifest, paths, set(), cut_by_readers=False)
    began, cpu = time.perf_counter(), time.process_time()
    pieces = read_ahead(lambda piece: read_rows(job, piece), job.pieces, sample_index.READING_THREADS)
    sample_index.write(storage.join(files.index, "0"), pieces, {})
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    thousands = GATHERED_SHARDS / 1000
    return {"s_per_1000_shards": round(seconds / thousands, 2), "cpu_s_per_1000_shards": round(cpu / thousands, 2)}


def _write_shard(files: DatasetFiles, shard: int) -> None:
    rows = make_rows(shard, 1000)
    labels = pa.ListArray.from_arrays(np.append(0, np.cumsum(rows.label_sizes)).astype(np.int32), rows.label_ids)
    index = {name: rows.columns[name] for name in artifacts.SHARD_INDEX.names if name in rows.columns}
    known = {"key": rows.keys, "label_ids": labels, "status": pa.array(["ok"] * len(rows)), **index}
    _write_rows(f"{files.shard(shard)}.parquet", known, artifacts.SHARD_INDEX)
    known = {"video_id": rows.keys, "uri": rows.keys, "label_ids": labels, "weight": rows.columns["weight"]}
    _write_rows(storage.join(files.manifest, f"part-{shard:06d}.parquet"), known, artifacts.MANIFEST)


def _write_rows(path: str, known: dict[str, Any], schema: pa.Schema) -> None:
    """A table of some columns; nulls in the others."""
    size = len(next(iter(known.values())))
    nothing = {field.name: pa.nulls(size, field.type) for field in schema}
    storage.write_parquet(path, pa.table(nothing | known), schema)


def measure(folder: str, num_videos: int, num_shards: int, rounds: int) -> dict[str, Any]:
    files = DatasetFiles(folder, "large")
    written_s = write_dataset(files, num_videos, num_shards)
    size = sum(path.stat().st_size for path in Path(files.index).rglob("*.npy"))
    forget_pages(files.index)
    cold = in_fresh_process(folder)
    return {
        "videos": num_videos,
        "shards": num_shards,
        "index_bytes_per_video": round(size / num_videos, 1),
        "index_written_s": round(written_s, 1),
        "cold": cold,
        "warm": [in_fresh_process(folder) for _ in range(rounds)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=65_000_000)
    parser.add_argument("--shards", type=int, default=65_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--folder", default=None, help="where to write the made-up dataset, instead of a temporary folder"
    )
    parser.add_argument("--here", action="store_true", help="open the dataset of --folder in this process, and print")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(start(options.folder)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        results = measure(os.path.join(folder, "large"), options.videos, options.shards, options.rounds)
        results["gathering"] = gathering(os.path.join(folder, "small"))
    print(record.write("loader_start", results, "numpy", "pyarrow", "torch"))


if __name__ == "__main__":
    main()
