"""What signatures cost after decoding, per frame and beside the decoding itself.

    python -m benchmarks.dedup_feature --data FOLDER

CPU time on one core, all actions in turn. The matrix product is two float32 products of the shapes that both grids of cells
need, of frames that are float already: the least that any code of this kind costs with this library on this machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks import record

record.one_core()  # before numpy counts cores

import numpy as np  # noqa: E402
import tyro  # noqa: E402

from benchmarks import copies_clips  # noqa: E402
from dedup import census  # noqa: E402


@dataclass(frozen=True)
class Options:
    data: Path
    """Folder of real clips with a MANIFEST.json."""
    clips: int = 16
    rounds: int = 7


def measure(clips: list[bytes], rounds: int) -> dict[str, object]:
    """Every action on all clips in each round."""
    frames = [copies_clips.luma(data, copies_clips.MAX_S) for data in clips]
    num_frames = sum(map(len, frames))
    actions = {
        "decode": lambda: [copies_clips.luma(data, copies_clips.MAX_S) for data in clips],
        "signature": lambda: [census.signature(f) for f in frames],
        "target_signature": lambda: [census.target_signature(f) for f in frames],
        "find_bars": lambda: [census.find_bars(f) for f in frames],
        "matrix_product": _products(frames),
    }
    record.interleave(actions, 1)
    seconds = record.interleave(actions, rounds)
    return {
        "clips": len(clips),
        "frames": num_frames,
        "rounds": rounds,
        "ms_per_frame": {
            name: record.spread([1000 * s / num_frames for s in times]) for name, times in seconds.items()
        },
        "to_decode": {name: record.ratio(seconds, name, "decode") for name in ("signature", "target_signature")},
        "to_matrix_product": record.ratio(seconds, "signature", "matrix_product"),
    }


def _products(frames: list[np.ndarray]):
    """Frames [T, 112, 112] → [T, 28, 28], 28 being the cells of both grids along one side, in chunks that fit a cache."""
    cells = census.CELLS + census.CELLS_FINE
    weights = np.random.default_rng(0).random((cells, census.SIDE_PX), np.float32)
    chunk = np.concatenate(frames)[: census.CHUNK_FRAMES].astype(np.float32)
    sizes = [len(f[i : i + len(chunk)]) for f in frames for i in range(0, len(f), len(chunk))]
    return lambda: [np.matmul(np.matmul(weights, chunk[:size]), weights.T) for size in sizes]


def main(options: Options) -> None:
    clips = copies_clips.choose(options.data).clips
    results = measure(
        [clip.data for clip in clips[:: max(1, len(clips) // options.clips)]][: options.clips], options.rounds
    )
    for name, value in results.items():
        print(name, value)
    print(record.write("dedup_feature", results, "av", "numpy"))


if __name__ == "__main__":
    main(tyro.cli(Options))
