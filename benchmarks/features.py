"""Features of a split, stored: clips a second against bare decoding and bare forward passes of the same clips, in turn.

    python -m benchmarks.features --network r2plus1d_18 --width 0.5

Ratio: (bare decode + bare forward) / extraction, of CPU time; 1 would be storing and bookkeeping for nothing. On a GPU the
ratio is of wall time, to the longer of the two: decoding goes on while the GPU computes.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import clips, record

record.one_core()  # before torch counts cores

import torch  # noqa: E402

from dataset_builder.shard import write_shard  # noqa: E402
from finetune import evaluate, features  # noqa: E402
from finetune.features import View  # noqa: E402
from pipeline import artifacts, storage  # noqa: E402
from pipeline.config import ClipConfig, StorageConfig  # noqa: E402
from pretrain.distributed import World, keep_freed_memory  # noqa: E402
from pretrain.models import VideoResNet, build_model  # noqa: E402
from pretrain.reading import FrameReader  # noqa: E402
from pretrain.samples import open_samples  # noqa: E402
from pretrain.transforms import normalise  # noqa: E402


def open_reader(folder: str, chosen: list[clips.Clip], clip: ClipConfig) -> FrameReader:
    """Store the videos as a dataset in `folder`, and read it as a transfer does."""
    job = clips.shard_job(folder, chosen, StorageConfig())
    write_shard(0, job)
    marker = {"digest": "benchmark", "shards": [{"path": "shards/clips-000000"}], "labels": [{"id": 0, "name": "clip"}]}
    storage.write_json(job.files.marker, marker)
    return FrameReader(open_samples(job.files, ""), clip)


def extraction(folder: Path, model: VideoResNet, reader: FrameReader, view: View, world: World) -> None:
    """All features, from nothing."""
    files = artifacts.RunFiles(str(folder / "run"))
    features.extract(files, model, reader, view, world)
    shutil.rmtree(files.folder)


def actions(
    folder: Path, model: VideoResNet, reader: FrameReader, view: View, world: World
) -> dict[str, Callable[[], object]]:
    videos = range(len(reader.samples))
    ready = [torch.from_numpy(evaluate.video_clips(reader, sample, view.num_clips)) for sample in videos]

    @torch.inference_mode()
    def forward() -> None:
        with torch.autocast(world.device.type, torch.bfloat16, enabled=view.precision == "bf16"):
            for clips_BTHWC in ready:
                last = model.forward_features(normalise(clips_BTHWC.to(world.device)))
        last.cpu()

    def decode() -> None:
        for sample in videos:
            evaluate.video_clips(reader, sample, view.num_clips)

    return {"extraction": lambda: extraction(folder, model, reader, view, world), "decode": decode, "forward": forward}


def measure(kind: str, found: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    if kind == "cpu":
        return record.interleave(found, rounds)
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(rounds):
        for name, action in found.items():
            began = time.perf_counter()
            action()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def ratios(kind: str, seconds: dict[str, list[float]]) -> dict[str, float]:
    """Bare parts to extraction: their sum on a CPU, the longer of them on a GPU, whose host decodes meanwhile."""
    together = sum if kind == "cpu" else max
    bare = [together(pair) for pair in zip(seconds["decode"], seconds["forward"], strict=True)]
    least = {
        "bare": [together([min(seconds["decode"]), min(seconds["forward"])])],
        "ours": [min(seconds["extraction"])],
    }
    values = [mine / ours for mine, ours in zip(bare, seconds["extraction"], strict=True)]
    return {**record.spread(values, 3), "of_least": record.ratio(least, "bare", "ours")["of_least"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=clips.default_folder(), help="folder of videos")
    parser.add_argument("--at-most", type=int, default=6, help="videos")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--network", default="r2plus1d_18")
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--length", type=int, default=8, help="frames of a clip")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    options = parser.parse_args()
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    keep_freed_memory()
    chosen = clips.choose(options.clips, options.at_most)["240p"]
    clip, world = ClipConfig(length=options.length), World(device=torch.device(kind))
    view = View(clip, 10, "mean", options.precision)
    model = build_model(options.network, 1, options.width).eval().to(world.device)
    with tempfile.TemporaryDirectory() as name:
        reader = open_reader(f"{name}/clips", chosen, clip)
        found = actions(Path(name), model, reader, view, world)
        for action in found.values():
            action()
        seconds = measure(kind, found, options.rounds)
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if kind == "cuda" else "cpu, one core",
        "network": f"{options.network} × {options.width:g}, {options.length} frames, {options.precision}",
        "videos": clips.describe(chosen),
        "seconds": {name: record.spread(values, 3) for name, values in seconds.items()},
        "clips_per_s": round(10 * len(chosen) / min(seconds["extraction"]), 2),
        "bare_to_extraction": ratios(kind, seconds),
    }
    print(results)
    print(record.write("features", results, "torch", "av", "pyarrow"))


if __name__ == "__main__":
    main()
