"""A synthetic sweep: artefacts with planted accuracies, and how tests read the report made of them."""

from __future__ import annotations

import csv
import io
import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline import config as configs
from pipeline import storage
from pipeline.config import SweepConfig
from pipeline.report import write_report

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>\u202e$\\frac{$&amp;'
SLOPE = 0.03  # top-1 per doubling, planted
SIZES = (500_000, 1_000_000, 2_000_000, 4_000_000)


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    return {**content, "digest": configs.digest(content)}


def write(path: Path, content: Any) -> None:
    storage.write_json(str(path), content)


def planted_top1(kind: str, num_videos: int, protocol: str) -> float:
    base = 0.40 if protocol == "full_ft" else 0.33
    return base if kind == "scratch" else base + 0.1 + SLOPE * math.log2(num_videos / SIZES[0])


def point(kind: str, num_videos: int, seed: int, protocol: str, target: str) -> dict[str, Any]:
    run = f"scratch-s{seed}" if kind == "scratch" else f"n{num_videos}-s{seed}"
    return {
        "id": f"{run}-{target}-{protocol}",
        "kind": kind,
        "num_videos": num_videos,
        "seed": seed,
        "protocol": protocol,
        "target": target,
        "dataset": None if kind == "scratch" else f"source-{num_videos}-s{seed}",
        "run": run,
        "result": f"runs/{run}/transfer/{target}-{protocol}/result.json",
        "commands": [f"tagreel pretrain --run {run}", f"tagreel transfer --run {run} --protocol {protocol}"],
    }


def result(p: dict[str, Any], jitter: float) -> dict[str, Any]:
    top1 = planted_top1(p["kind"], p["num_videos"], p["protocol"]) + jitter * (p["seed"] - 1)
    grid = [0.01, 0.02, 0.05]
    return sealed(
        {
            "config": {"protocol": p["protocol"]},
            "config_digest": "c0ffee0123456789",
            "input_digests": {"target": "0123456789abcdef"},
            "counts": {"train": {"videos": 700}},
            "metrics": {
                "top1": top1,
                "top5": min(1.0, top1 + 0.25),
                "mean_class_accuracy": top1 - 0.02,
                "top1_interval": [top1 - 0.03, top1 + 0.03],
                "num_videos": 1000,
                "num_undecodable": 2,
                "per_class": {name: {"accuracy": top1, "num_videos": 50} for name in ("juggling balls", HOSTILE)},
            },
            "search": [{"value": v, "score": top1 - i * 0.01} for i, v in enumerate(grid)],
            "chosen": grid[0],
            "num_train_videos": 700,
            "versions": {"torch": "2.13.0", "python": "3.12.1"},
            "seconds": 123.4,
        }
    )


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 10, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=70)
    return buffer.getvalue()


def write_stages(root: Path, points: list[dict[str, Any]]) -> None:
    """Markers, label spaces, metrics and dedup of everything the points refer to."""
    posts = {"in": 50_000_000, "kept": 12_345_600, "dropped": {"no_hashtag": 37_654_400}, "videos": 12_000_000}
    few, unsampled = {"no_label_with_enough_videos": 1_999_000, "other": 1_000}, {"not_sampled": 999_900}
    built = {
        "posts": posts,
        "label_space": {"in": 12_000_000, "kept": 10_000_000, "dropped": few},
        "sampling": {"in": 10_000_000, "kept": 9_000_100, "dropped": unsampled},
        "shards": {"in": 9_000_100, "kept": 9_000_100, "dropped": {}},
    }
    write(root / "sources/source/source.json", sealed({"counts": posts}))
    names = [HOSTILE, *(f"label {i}" for i in range(40))]
    for dataset, size in {
        "source": 9_000_098,
        **{p["dataset"]: p["num_videos"] for p in points if p["dataset"]},
    }.items():
        labels = [{"id": i, "name": n, "num_videos": 5000 // (i + 1)} for i, n in enumerate(names)]
        dropped = [{"name": f"rare {i}", "num_videos": 49 - i} for i in range(10)]
        write(root / f"datasets/{dataset}/label_space.json", {"labels": labels, "dropped": dropped, "min_videos": 50})
        drawn = {
            "base": {"in": 9_000_100, "kept": 9_000_098, "dropped": {"overlaps_a_target": 2}},
            "sampling": {"in": 9_000_098, "kept": size, "dropped": {"not_sampled": 9_000_098 - size}},
        }
        config = {"base": None if dataset == "source" else "source", "source": {"name": "source"}}
        counts = built if dataset == "source" else drawn
        write(root / f"datasets/{dataset}/dataset.json", sealed({"config": config, "counts": counts, "name": dataset}))
    for split in ("train", "test"):
        counts = {"videos": {"in": 1000, "kept": 998, "dropped": {"undecodable": 2}}}
        write(root / f"targets/hmdb/{split}/dataset.json", sealed({"counts": counts}))
    for p in points:
        if p["kind"] == "pretrained":
            counts = {"videos": p["num_videos"], "kept": p["num_videos"], "dropped": {}, "clips_seen": 1000}
            write(root / f"runs/{p['run']}/run.json", sealed({"counts": counts, "run": p["run"]}))
            lines = [{"clips_seen": 100 * i, "loss": 3 / (1 + i / 50), "accuracy": i / 500, "clips_per_s": 80.0}
                     for i in range(1, 401)]  # fmt: skip
            (root / f"runs/{p['run']}/metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"cut')
    write_dedup(root / "datasets/source")


def write_dedup(folder: Path) -> None:
    counts = {"videos": 9_000_100, "kept": 9_000_098, "dropped": {"hmdb": 2}}
    thresholds = [
        {"min_overlap": t, "min_frames": n, "videos": 4 - n // 4 - int(10 * t) // 3, "by_chance": 0}
        for t in (0.1, 0.3)
        for n in (1, 8)
    ]
    chance = {"compared": 9000, "flagged": 1, "estimate": 10.0}
    config = {"min_overlap": 0.1, "min_frames": 8}
    marker = {
        "config": config, "counts": counts, "chance": chance, "thresholds": thresholds, "undecidable": ["black-1", HOSTILE],
    }  # fmt: skip
    write(folder / "dedup/dedup.json", sealed(marker))
    rows = [
        {
            "video_id": f"v{i}{HOSTILE}", "target": "hmdb", "target_split": "test", "target_video_id": f"t{i}",
            "kind": "strongest", "overlap": overlap, "valid_overlap": overlap, "target_overlap": 0.5,
            "matched_frames": round(100 * overlap), "valid_frames": 100, "min_distance": i, "source_time_s": 3.25,
            "target_time_s": 1.5, "mirrored": i == 1, "decoy": False, "phash_distance": 12,
            "source_shard": "source-000000", "target_shard": "hmdb-test-000000",
            "source_jpeg": jpeg(i), "target_jpeg": jpeg(i),
        }
        for i, overlap in enumerate((0.9, 0.3, 0.08))
    ]  # fmt: skip
    for name in ("evidence", "pairs"):
        storage.write_parquet(str(folder / f"dedup/{name}.parquet"), pa.Table.from_pylist(rows))
    keys = ("video_id", "target", "target_split", "target_video_id", "overlap")
    storage.write_parquet(
        str(folder / "exclusions.parquet"), pa.Table.from_pylist([{k: r[k] for k in keys} for r in rows[:2]])
    )


def make_sweep(
    root: Path,
    *,
    sizes: tuple[int, ...] = SIZES,
    seeds: tuple[int, ...] = (0, 1, 2),
    protocols: tuple[str, ...] = ("full_ft", "fc_only"),
    target: str = "hmdb",
    missing: tuple[str, ...] = (),
    jitter: float = 0.006,
    stages: bool = True,
    **plan: Any,
) -> str:
    """Folder of a sweep whose mean accuracies lie on a planted line; `missing` ids have no result."""
    kinds = [("scratch", 0), *(("pretrained", count) for count in sizes)]
    points = [point(k, n, s, protocol, target) for protocol in protocols for k, n in kinds for s in seeds]
    for p in points:
        if p["id"] not in missing:
            write(root / p["result"], result(p, jitter))
    if stages:
        write_stages(root, points)
    folder = root / "sweeps/data_size"
    config = configs.to_dict(SweepConfig(sizes=sizes, seeds=seeds, protocols=protocols))
    write(folder / "plan.json", {"name": "data_size", "config": config, "points": points, **plan})
    return str(folder)


def report(folder: str) -> str:
    root = str(Path(folder).parents[1])
    return Path(write_report(folder, root)["html"]).read_text()


def rows_of(folder: str) -> list[dict[str, str]]:
    with open(f"{folder}/results.csv", newline="") as file:
        return list(csv.DictReader(file))


class Outline(HTMLParser):
    """Tags, attributes and text of a page, and whether every element is closed in order."""

    VOID = frozenset({"meta", "img", "br", "path", "use"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag
        if tag in ("td", "th", "p", "li"):
            self.words.append(" ")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())
