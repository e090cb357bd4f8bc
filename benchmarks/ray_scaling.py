"""What Ray costs at 1,000 videos a part, and what a second worker brings: the same build, in turn, by each way to run it.

`python -m benchmarks.ray_scaling` writes results/ray_scaling.json. Every round builds the dataset from the same matches
three times (in this process; on Ray, one part in flight; on Ray, two) and the ratios are of times of the same round, so what
else the machine does weighs on all alike. Ray is started, and its workers have imported everything, before the first round.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from benchmarks.record import write
from dataset_builder.build import build
from pipeline.config import BuildConfig, ExecutionConfig, SamplingConfig, SourceConfig, StorageConfig
from pipeline.world import WorldConfig, write_world

WAYS = {
    "here": ExecutionConfig("process", num_workers=1),
    "ray_1": ExecutionConfig("ray", num_workers=1, address="local"),
    "ray_2": ExecutionConfig("ray", num_workers=2, address="local"),
}


@dataclass(frozen=True)
class Settings:
    parts: int = 2
    """Shards of the dataset; a multiple of 2, so that two workers have as much to do."""
    videos_per_part: int = 1000
    """Videos of a shard."""
    rendered: int = 200
    """Different videos; the uploads are hard links to them."""
    rounds: int = 3
    """Rounds measured, after one that is not."""


def make_uploads(settings: Settings, folder: Path) -> BuildConfig:
    """Uploads of short videos, all of which qualify, and the config of their build."""
    world_config = WorldConfig(
        num_posts=settings.rendered, untagged_rate=0, duplicate_rate=0, broken_rate=0, long_rate=0
    )
    world = write_world(replace(world_config, repost_rate=0, caption_only_rate=0), folder / "world")
    posts = [json.loads(line) for line in world.posts_path.read_text().splitlines()]
    seeds = world.seed_labels_path.read_text().splitlines()
    (folder / "uploads").mkdir()
    with (folder / "posts.jsonl").open("w") as file:
        for number in range(settings.parts * settings.videos_per_part):
            upload = folder / "uploads" / f"{number:06d}.mp4"
            os.link(posts[number % len(posts)]["video_uri"], upload)
            tag = seeds[number % len(seeds)].replace(" ", "")
            file.write(json.dumps({"post_id": f"p{number}", "video_uri": str(upload), "hashtags": [tag]}) + "\n")
    return BuildConfig(
        root=str(folder / "root"),
        source=SourceConfig(posts=str(folder / "posts.jsonl"), seed_labels=str(world.seed_labels_path)),
        sampling=SamplingConfig(min_videos=1),
        storage=StorageConfig(samples_per_shard=settings.videos_per_part),
    )


def build_s(config: BuildConfig, execution: ExecutionConfig) -> float:
    """Wall time of a build whose posts are matched already, in seconds."""
    shutil.rmtree(Path(config.root, "datasets"), ignore_errors=True)
    begin = time.perf_counter()
    done = build(replace(config, execution=execution))
    elapsed = time.perf_counter() - begin
    if done["quarantined"]:
        raise RuntimeError(f"some videos could not be stored: {done['quarantined']}")
    return elapsed


def measure(settings: Settings, config: BuildConfig) -> list[dict[str, float]]:
    """Seconds by way, per round; a round that is not measured comes first."""
    # The widest first: the Ray that it starts has two cores, and serves all rounds.
    order = sorted(WAYS, reverse=True)
    rounds = [{way: build_s(config, WAYS[way]) for way in order} for _ in range(settings.rounds + 1)]
    return rounds[1:]


def summarise(rounds: list[dict[str, float]], settings: Settings) -> dict[str, object]:
    return {
        "videos_per_part": settings.videos_per_part,
        "parts": settings.parts,
        "rounds": len(rounds),
        "seconds": {way: statistics.median(r[way] for r in rounds) for way in WAYS},
        # Share of the time on Ray that is not the work itself.
        "ray_share": statistics.median(1 - r["here"] / r["ray_1"] for r in rounds),
        # 1 means that two workers take half the time of one.
        "share_of_ideal_2_workers": statistics.median(r["ray_1"] / (2 * r["ray_2"]) for r in rounds),
    }


def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    with tempfile.TemporaryDirectory() as folder:
        rounds = measure(settings, make_uploads(settings, Path(folder)))
    results = summarise(rounds, settings)
    print(json.dumps(results, indent=1))
    print(write("ray_scaling", results, "ray"))


if __name__ == "__main__":
    main()
