"""A posts table and a target set from a folder of real clips, label lists and hashtags (its MANIFEST.json says what each is)."""

import csv
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TEST_GROUPS = 0.4
"""Share of the groups of each UCF101 class that form the test split; clips of one group come from one source video."""


@dataclass(frozen=True)
class RealWorld:
    posts: Path
    seed_labels: Path
    train: Path
    test: Path
    clips: list[Path]
    labels: list[str]
    """Seed labels given to clips."""


def rank(*words: object) -> int:
    """A number that depends on the words alone: every draw here is reproducible."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, words)).encode()).digest()[:8], "big")


def broken_files(folder: Path, whole: Path) -> list[Path]:
    """Files of the kinds that uploads break into: without bytes, a web page, cut off before its index; and one not there."""
    contents = {"empty": b"", "page": b"<html>404 Not Found</html>" * 40, "cut": whole.read_bytes()[:20_000]}
    for name, content in contents.items():
        (folder / f"{name}.mp4").write_bytes(content)
    return [folder / f"{name}.mp4" for name in (*contents, "missing")]


def manifest_videos(data: Path) -> list[dict]:
    return [row for row in json.loads((data / "MANIFEST.json").read_text()) if row["kind"] == "video"]


def write_real_world(data: Path, folder: Path) -> RealWorld:
    """Every real clip becomes a post whose tags are composed from real label lists and real tag strings."""
    folder.mkdir(parents=True, exist_ok=True)
    videos = manifest_videos(data)
    kinetics = (data / "labels" / "kinetics400.txt").read_text().splitlines()
    shown = [label for label in kinetics if label.isascii() and len(label.split()) <= 3][::40]
    labels = sorted({*shown, *filter(None, map(seed_label, videos))})
    words = real_tags(data)
    posts = folder / "posts.csv"
    with posts.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["post_id", "video_uri", "caption", "hashtags"])
        for i, video in enumerate(videos):
            label = seed_label(video) or shown[rank("label", i) % len(shown)]
            tags = [written(label, i), *(words[rank("tag", i, k) % len(words)] for k in range(rank("n", i) % 5))]
            tags.sort(key=lambda tag: rank("order", i, tag))
            writer.writerow(
                [f"post-{i}", data / video["file"], f"clip {i} #{tags[0]}", " ".join(f"#{tag}" for tag in tags)]
            )
        for path in broken_files(folder, data / videos[0]["file"]):
            writer.writerow([f"post-{path.stem}", path, "", f"#{written(shown[0], 0)}"])
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    splits = {split: folder / f"{split}.csv" for split in ("train", "test")}
    for split, path in splits.items():
        path.write_text(
            "path,label\n" + "".join(f"{data / v['file']},{v['label']}\n" for v in ucf_split(videos, split))
        )
    return RealWorld(
        posts, folder / "labels.txt", splits["train"], splits["test"], [data / v["file"] for v in videos], labels
    )


def seed_label(video: dict) -> str | None:
    """The clip's own class as words ("BlowDryHair" → "blow dry hair"), where it has one."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", video["label"]).lower() if video.get("label") else None


def written(label: str, index: int) -> str:
    """One of the ways people write a label: joined, in mixed case, or with its words turned around."""
    words = re.findall(r"\w+", label)
    return [
        "".join(words),
        "".join(word.capitalize() for word in words),
        "".join(reversed(words)),
    ][rank("form", index) % 3]


def real_tags(data: Path) -> list[str]:
    """Tag strings that people wrote (Instagram posts of HARRISON, tags of trending YouTube videos)."""
    harrison = (data / "text" / "harrison" / "tag_list.txt").read_text(errors="replace").split()[:5000]
    with (data / "text" / "youtube_trending_2017" / "USvideos.csv").open(errors="replace", newline="") as file:
        youtube = [
            tag.strip('"').replace(" ", "") for row in csv.DictReader(file) for tag in row["tags"].split("|")[:3]
        ]
    return [tag for tag in (*harrison, *youtube[:5000]) if tag]


def ucf_split(videos: list[dict], split: str) -> Iterator[dict]:
    """Clips of the UCF101 subset in one split: whole groups, some of every class in each."""
    clips = [video for video in videos if "ucf101_subset" in video["file"]]
    for label in sorted({video["label"] for video in clips}):
        group = {v["file"]: re.search(r"_(g\d+)_", v["file"])[1] for v in clips if v["label"] == label}
        groups = sorted(set(group.values()), key=lambda name: rank("group", label, name))
        in_test = set(groups[: max(1, round(TEST_GROUPS * len(groups)))])
        yield from (v for v in clips if v["file"] in group and (group[v["file"]] in in_test) == (split == "test"))
