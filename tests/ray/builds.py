"""Builds as a user starts them: the stage's command line, and what it leaves on disk."""

import json
import os
import sys
from pathlib import Path

from pipeline.world import WorldConfig, write_world

WORLD = WorldConfig(
    num_posts=50, num_verbs=2, num_nouns=2, num_target_verbs=1, num_target_nouns=1, train_videos_per_class=1,
    test_videos_per_class=1, short_side_px=(48, 64), duration_s=(1.0, 1.5), frame_rates=(12.0,), untagged_rate=0.0,
    long_rate=0.0, duplicate_rate=0.0, broken_rate=0.04, repost_rate=0.0,
)  # fmt: skip
VIDEOS_PER_SHARD = 10


def make_platform(folder: Path, num_videos: int) -> Path:
    """Posts of `num_videos` uploads, of which every 50th has the same bytes; some of them are broken."""
    world = write_world(WORLD, folder, progress=False)
    posts = [json.loads(line) for line in world.posts_path.read_text().splitlines()]
    lines = []
    for number in range(num_videos):
        post = posts[number % len(posts)]
        upload = folder / "uploads" / f"{number:05d}.mp4"
        upload.parent.mkdir(exist_ok=True)
        os.link(post["video_uri"], upload)
        lines.append(json.dumps({**post, "post_id": f"p{number}", "video_uri": str(upload)}) + "\n")
    (folder / "posts.jsonl").write_text("".join(lines))
    return folder


def build_command(platform: Path, root: Path, *options: str) -> list[str]:
    """`python -m dataset_builder.build --config FILE`, the file beside the root."""
    config = {
        "root": str(root),
        "dataset": "d",
        "source": {"posts": str(platform / "posts.jsonl"), "seed_labels": str(platform / "seed_labels.txt")},
        "sampling": {"min_videos": 1},
        "storage": {"samples_per_shard": VIDEOS_PER_SHARD, "short_side_px": 32},
    }
    path = Path(f"{root}.json")
    path.write_text(json.dumps(config))
    return [sys.executable, "-m", "dataset_builder.build", "--config", str(path), *options]


def shards_done(root: Path) -> int:
    return len(list(root.glob("datasets/d/shards/*[0-9].json")))


def artefacts(root: Path) -> dict[str, bytes]:
    """Everything under the root that has a final name, but the config.json that also says how it was run."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    files = [path for path in files if path.suffix != ".tmp" and path.name != "config.json"]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}
