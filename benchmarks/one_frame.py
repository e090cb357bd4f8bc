"""An image source beside a video source: the shard pass that stores one frame of each upload, and the one that stores all.

`python -m benchmarks.one_frame [--clips FOLDER] [--rounds 4] [--at-most 24]`. Uploads are videos in both; one frame takes reading
the whole file, decoding at most from the keyframe before it, and storing a picture. Time is CPU time on one core. Bytes are
those of the tar, what goes with each video included.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import clips, record
from benchmarks.clips import Clip
from dataset_builder.shard import write_shard
from pipeline.config import StorageConfig

FORMS = {"all": StorageConfig(), "one": StorageConfig(frames="one")}


def shard_bytes(chosen: Sequence[Clip], form: StorageConfig) -> int:
    """Write the videos as a shard; bytes of its tar."""
    with tempfile.TemporaryDirectory() as folder:
        job = clips.shard_job(folder, chosen, form)
        if found := write_shard(0, job)["quarantined"]:
            raise SystemExit(f"videos that cannot be stored: {found}")
        return Path(f"{job.files.shard(0)}.tar").stat().st_size


def measure(chosen: Sequence[Clip], rounds: int) -> dict[str, Any]:
    num_bytes = {name: shard_bytes(chosen, form) for name, form in FORMS.items()}
    seconds = record.interleave({name: partial(shard_bytes, chosen, form) for name, form in FORMS.items()}, rounds)
    return {
        **clips.describe(chosen),
        "cpu_ms_per_video": {
            name: record.spread([1000 * value / len(chosen) for value in values], 1) for name, values in seconds.items()
        },
        "bytes_per_video": {name: round(value / len(chosen)) for name, value in num_bytes.items()},
        "one_to_all": record.ratio(seconds, "one", "all"),
    }


def main() -> None:
    options = clips.arguments(__doc__, rounds=4)
    record.one_core()
    chosen = clips.choose(options.clips, options.at_most)
    results = {name: measure(of_size, options.rounds) for name, of_size in chosen.items()}
    print(record.write("one_frame", results, "av", "numpy"))


if __name__ == "__main__":
    main()
