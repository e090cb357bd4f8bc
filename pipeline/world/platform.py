"""Write a whole world to a folder: posts, videos, target sets, and the truth about them.

{root}/config.json           the WorldConfig, written first: another config at this root is refused
       videos/NNNNNN.mp4     one file per video; NNNNNN is the index of the post it was made for
       targets/videos/NNNNNN.mp4
       targets/{verb,noun,verb_noun}/{train,test}.csv     path,label
       posts.jsonl           post_id, video_uri, caption, hashtags, duration_s
       seed_labels.txt       one label a line: "rolling ball"
       truth.parquet         one row per video (`TRUTH_SCHEMA`)
       world.json            config and counts, written last: its existence means the world is whole
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from pipeline.world.config import WorldConfig
from pipeline.world.posts import KINDS, Post, describe_post, render_video, source_label_names
from pipeline.world.targets import TASKS, Target, describe_target, render_target
from pipeline.world.vocabulary import label_name

TRUTH_SCHEMA = pa.schema([
    ("index", pa.int64()),            # of the video; counts separately for source and target
    ("video_uri", pa.string()),       # absolute path
    ("split", pa.string()),           # source, or train / test of the target set
    ("kind", pa.string()),            # one of posts.KINDS, or target
    ("verb", pa.string()),            # lemma of what the video shows; null if black or broken
    ("noun", pa.string()),
    ("true_label", pa.string()),      # "rolling ball"; null if black or broken
    ("shown_labels", pa.list_(pa.string())),   # labels that the first post's tags name
    ("tags_correct", pa.bool_()),     # true_label is among shown_labels; null where none is shown
    ("post_ids", pa.list_(pa.string())),       # every post that points at the video, the first one first
    ("start_s", pa.float64()),        # span of the action; of the copy, in a duplicate
    ("end_s", pa.float64()),
    ("duration_s", pa.float64()),
    ("fps", pa.float64()),
    ("num_frames", pa.int64()),
    ("width", pa.int64()),
    ("height", pa.int64()),
    ("background", pa.string()),
    ("duplicate_of", pa.string()),    # absolute path of the target video
    ("transform", pa.string()),       # one of duplicates.TRANSFORMS
    ("defect", pa.string()),          # one of encode.BREAKS
])  # fmt: skip


@dataclass(frozen=True)
class WorldSummary:
    """What stands at a root."""

    root: str
    counts: dict[str, int]
    """posts = videos + reposts; videos = the sum over posts.KINDS; targets = train + test."""
    num_rendered: int = 0
    """Files rendered by this call; those that were there already are kept."""

    @property
    def posts_path(self) -> Path:
        return Path(self.root) / "posts.jsonl"

    @property
    def seed_labels_path(self) -> Path:
        return Path(self.root) / "seed_labels.txt"

    @property
    def truth_path(self) -> Path:
        return Path(self.root) / "truth.parquet"

    def target_csv(self, task: str, split: str) -> Path:
        """The CSV (path, label) of one task (`verb`, `noun`, `verb_noun`) and split (`train`, `test`)."""
        return Path(self.root) / "targets" / task / f"{split}.csv"


def write_world(config: WorldConfig, root: str | Path, num_workers: int = 1, progress: bool = True) -> WorldSummary:
    """Write what is missing of the world at `root`. Whole files are kept, so an interrupted run can be taken up again.

    Raises ValueError if another config's world stands there. With `num_workers` > 1 the calling script needs the usual
    `if __name__ == "__main__"` guard: workers are fresh processes.
    """
    root = Path(root).resolve()
    _claim(config, root)
    marker = root / "world.json"
    posts = [describe_post(config, index) for index in range(config.num_posts)]
    targets = [describe_target(config, index) for index in range(config.num_targets)]
    tasks = _missing_videos(config, root, posts, targets)
    if marker.exists() and (tasks or json.loads(marker.read_text())["root"] != str(root)):
        marker.unlink()  # not whole, or moved: its tables name other paths
    _render(tasks, num_workers, progress)
    counts = _counts(posts, targets)
    if not marker.exists():
        _write_tables(root, posts, targets)
        _write_json(marker, {"root": str(root), "config": asdict(config), "counts": counts})
    return WorldSummary(str(root), counts, num_rendered=len(tasks))


def _claim(config: WorldConfig, root: Path) -> None:
    """Write the config to an empty root, or check that the one there is the same."""
    path, mine = root / "config.json", json.loads(json.dumps(asdict(config)))
    if not path.exists():
        if (root / "world.json").exists():
            raise ValueError(f"{root}: world.json without config.json; choose another folder")
        _write_json(path, mine)
        return
    theirs = json.loads(path.read_text())
    differing = [name for name in {**theirs, **mine} if theirs.get(name) != mine.get(name)]
    if differing:
        what = "; ".join(f"{name}: {theirs.get(name)} there, {mine.get(name)} asked" for name in differing)
        raise ValueError(f"{root} holds the world of another config ({what}); choose another folder")


# --------------------------------------------------------------------------------------------------- videos

_Task = tuple[WorldConfig, Callable, int, str]
"""(config, render_video or render_target, index, path)"""


def _missing_videos(config: WorldConfig, root: Path, posts: list[Post], targets: list[Target]) -> list[_Task]:
    """What is still to be rendered, the longest first: a long one started last would be waited for."""
    wanted: list[tuple[int, Callable, int, Path]] = [
        (post.video.num_frames, render_video, post.index, root / "videos" / post.video.file_name)
        for post in posts if not post.is_repost
    ]  # fmt: skip
    wanted += [
        (target.plan.num_frames, render_target, target.index, root / "targets" / "videos" / target.file_name)
        for target in targets
    ]
    wanted.sort(key=lambda item: -item[0])
    return [(config, render, index, str(path)) for _, render, index, path in wanted if not path.exists()]


def _render_one(task: _Task) -> None:
    config, render, index, path = task
    _write_bytes(Path(path), render(config, index))


def _render(tasks: list[_Task], num_workers: int, progress: bool) -> None:
    if not tasks:
        return
    with contextlib.ExitStack() as stack:
        if num_workers > 1:
            context = multiprocessing.get_context("spawn")
            pool = stack.enter_context(ProcessPoolExecutor(min(num_workers, len(tasks)), mp_context=context))
            chunksize = max(1, min(16, len(tasks) // (4 * num_workers)))
            done: Iterator[None] = pool.map(_render_one, tasks, chunksize=chunksize)
        else:
            done = map(_render_one, tasks)
        bar = tqdm(done, total=len(tasks), desc="rendering videos", unit="video", disable=None if progress else True)
        for _ in bar:
            pass


# --------------------------------------------------------------------------------------------------- tables


def _counts(posts: list[Post], targets: list[Target]) -> dict[str, int]:
    kinds = Counter(post.video.kind for post in posts if not post.is_repost)
    splits = Counter(target.split for target in targets)
    num_videos = sum(kinds.values())
    return {
        "posts": len(posts), "videos": num_videos, "reposts": len(posts) - num_videos,
        **{kind: kinds[kind] for kind in KINDS},
        "targets": len(targets), "train": splits["train"], "test": splits["test"],
    }  # fmt: skip


def _write_tables(root: Path, posts: list[Post], targets: list[Target]) -> None:
    config = WorldConfig(**json.loads((root / "config.json").read_text()))
    _write_bytes(root / "seed_labels.txt", "".join(f"{name}\n" for name in source_label_names(config)).encode())
    lines = (json.dumps(_post_row(root, post), ensure_ascii=False) + "\n" for post in posts)
    _write_bytes(root / "posts.jsonl", "".join(lines).encode())
    for task in TASKS:
        for split in ("train", "test"):
            table = io.StringIO()
            writer = csv.writer(table, lineterminator="\n")
            writer.writerow(["path", "label"])
            writer.writerows([_target_path(root, t), t.label(task)] for t in targets if t.split == split)
            _write_bytes(root / "targets" / task / f"{split}.csv", table.getvalue().encode())
    rows = _truth_of_videos(root, posts, config) + [_truth_of_target(root, target) for target in targets]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=TRUTH_SCHEMA), sink)
    _write_bytes(root / "truth.parquet", sink.getvalue().to_pybytes())


def _video_path(root: Path, post: Post) -> str:
    return str(root / "videos" / post.video.file_name)


def _target_path(root: Path, target: Target) -> str:
    return str(root / "targets" / "videos" / target.file_name)


def _post_row(root: Path, post: Post) -> dict:
    return {
        "post_id": post.post_id, "video_uri": _video_path(root, post), "caption": post.caption,
        "hashtags": list(post.hashtags), "duration_s": round(post.video.duration_s, 3),
    }  # fmt: skip


def _truth_of_videos(root: Path, posts: list[Post], config: WorldConfig) -> list[dict]:
    post_ids: dict[int, list[str]] = {}
    for post in posts:
        post_ids.setdefault(post.video.index, []).append(post.post_id)
    rows = []
    for post in (post for post in posts if not post.is_repost):
        video = post.video
        copy = video.duplicate
        original = describe_target(config, copy.target_index) if copy else None
        rows.append({
            "index": video.index, "video_uri": _video_path(root, post), "split": "source", "kind": video.kind,
            "verb": video.verb, "noun": video.noun,
            "true_label": label_name(video.verb, video.noun) if video.verb else None,
            "shown_labels": [label_name(*label) for label in post.shown_labels], "tags_correct": post.tags_correct,
            "post_ids": post_ids[video.index], "start_s": video.start_s, "end_s": video.end_s,
            "duration_s": video.duration_s, "fps": video.fps, "num_frames": video.num_frames,
            "width": video.width, "height": video.height,
            "background": (original.plan if original else video.plan).background if video.verb else None,
            "duplicate_of": _target_path(root, original) if original else None,
            "transform": copy.transform if copy else None, "defect": video.defect,
        })  # fmt: skip
    return rows


def _truth_of_target(root: Path, target: Target) -> dict:
    plan = target.plan
    return {
        "index": target.index, "video_uri": _target_path(root, target), "split": target.split, "kind": "target",
        "verb": target.verb, "noun": target.noun, "true_label": target.label("verb_noun"), "shown_labels": [],
        "post_ids": [], "start_s": plan.start_s, "end_s": plan.end_s, "duration_s": plan.duration_s, "fps": plan.fps,
        "num_frames": plan.num_frames, "width": plan.width, "height": plan.height, "background": plan.background,
    }  # fmt: skip


def _write_bytes(path: Path, data: bytes) -> None:
    """Under a temporary name first: whatever has its final name is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def _write_json(path: Path, value: dict) -> None:
    _write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())
