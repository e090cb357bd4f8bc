"""The same video posted twice: found by its frames whatever the blocks, one kept, and only what is the same is dropped."""

import numpy as np
import pyarrow as pa
import pytest

from dedup import evidence, find, search, tables, within
from pipeline import artifacts, storage
from pipeline.config import DedupConfig, ExecutionConfig
from pipeline.exclusions import read_exclusions
from tests.dedup.small_world import coded, encode, rescale, texture_video, write_dataset, write_target

RNG = np.random.default_rng(0)
LOCAL = ExecutionConfig(backend="process", num_workers=1)


def scene(num_frames: int = 20) -> list[int]:
    return [int(code) for code in RNG.integers(0, 2**64, num_frames, dtype=np.uint64)]


def run(root: str, mode: str = "drop", **changes) -> tuple[dict, dict[str, str], set[str]]:
    """(marker, duplicate → the video that stands for it, excluded videos)."""
    given = {"targets": ("sport",), "execution": LOCAL, "within": mode} | changes
    marker = find.find(DedupConfig(root=root, **given))
    files = artifacts.dataset_files(root, "source")
    rows = storage.read_parquet(storage.join(files.dedup, "within.parquet")).to_pylist()
    return marker, {row["video_id"]: row["target_video_id"] for row in rows}, read_exclusions(files)[0]


@pytest.fixture
def _no_pictures(monkeypatch):
    """These videos have codes and no pictures."""
    monkeypatch.setattr(evidence, "exclusion_pages", lambda exclusions, duplicates: evidence.EVIDENCE.empty_table())


def test_posted_again_is_the_same_and_a_piece_or_a_compilation_is_not(tmp_path):
    root, original = str(tmp_path), texture_video(1)
    copies = {
        "original": original,
        "again": rescale(original, 72, 96),  # re-encoded, smaller
        "trimmed": original[4:],  # a twelfth is gone
        "piece": original[:24],
        "compilation": np.concatenate([texture_video(50), original]),
    }
    videos = {name: encode(video, crf=28) for name, video in copies.items()}
    others = {f"other{i}": encode(texture_video(100 + i)) for i in range(3)}
    write_target(root, "sport", {"t": encode(texture_video(2))}, {"h": encode(texture_video(3))})
    write_dataset(root, "source", [videos, others])
    marker, same, excluded = run(root)
    assert same == {"original": "again", "trimmed": "again"}  # of equal length the first name is kept
    assert excluded == set(same)
    assert marker["counts"] == {
        "videos": 8, "kept": 6, "dropped": {"(within)": 2}, "undecidable": 0, "within": 2,
    }  # fmt: skip
    pages = storage.read_parquet(storage.join(artifacts.dataset_files(root, "source").dedup, "evidence.parquet"))
    assert [(page["kind"], page["target"]) for page in pages.to_pylist()] == [("within", "(within)")] * 2
    assert all(page["phash_distance"] <= 10 for page in pages.to_pylist())


@pytest.fixture
def root(tmp_path, _no_pictures):
    """8 shards: a group of 3, a pair, a pair of which one is a target's, a chain, 20 of their own."""
    group, pair, stolen, middle = scene(), scene(), scene(), scene(30)
    write_target(str(tmp_path), "sport", {"t": coded(stolen)}, {"h": coded(scene())})
    videos = {
        "g1": coded(group), "g2": coded([code ^ 0b11 for code in group]), "g3": coded(group + scene(2)),
        "p1": coded(pair), "p2": coded(pair[:17]),
        "s1": coded(stolen), "s2": coded(stolen[:18]),
        "c1": coded(middle[:25]), "c2": coded(middle[3:28]), "c3": coded(middle[5:]),
        "black1": coded([], invalid=9), "black2": coded([], invalid=9),
    } | {f"u{i}": coded(scene()) for i in range(20)}  # fmt: skip
    shards = [dict(list(videos.items())[i::8]) for i in range(8)]
    write_dataset(str(tmp_path), "source", shards)
    return str(tmp_path)


def test_the_longest_stands_for_the_others(root, capsys):
    marker, same, excluded = run(root)
    assert {video: same[video] for video in ("g1", "g2", "p2")} == {"g1": "g3", "g2": "g3", "p2": "p1"}
    assert excluded == set(same) | {"s1", "s2"}  # of a target, and so no duplicates
    assert not {"s1", "s2", "black1", "black2"} & set(same)
    assert marker["counts"]["dropped"] == {"(within)": len(same), "sport": 2}
    assert f"{len(same)} videos are the same as a longer one of the dataset: dropped" in capsys.readouterr().out


def test_no_two_kept_videos_are_the_same_and_none_stands_in_a_chain(root):
    """c1, c2, c3 are 25 frames of 30, 3 and 2 frames on: all three are the same at 0.8, the ends not at 0.85."""
    assert {"c2", "c3"} == {video for video in run(root)[1] if video.startswith("c")}
    same = run(root, within_overlap=0.85)[1]
    assert {video: kept for video, kept in same.items() if video.startswith("c")} == {"c2": "c1"}


def test_a_list_drops_nothing_and_off_compares_nothing(root, monkeypatch):
    marker, same, excluded = run(root, "list")
    assert len(same) == 5
    assert excluded == {"s1", "s2"}
    assert marker["counts"]["within"] == 5
    monkeypatch.setattr(within.overlap, "compare", None)
    assert run(root)[2] == excluded | set(same)  # from the pairs at hand
    storage.remove(storage.join(root, "datasets/source/dedup/within"))
    marker, same, excluded = run(root, "off")
    assert (same, excluded) == ({}, {"s1", "s2"})
    assert "within" not in marker["counts"]


@pytest.mark.parametrize("num_blocks", [2, 3, 8])
def test_blocks_change_nothing(root, monkeypatch, num_blocks):
    def table() -> pa.Table:
        return storage.read_parquet(storage.join(root, "datasets/source/dedup/within.parquet"))

    run(root)
    whole = table()
    monkeypatch.setattr(search, "MIN_PART_FRAMES", 1)
    monkeypatch.setattr(search, "WANTED_PARTS", 8)
    num_frames = 960 * storage.read_json(storage.join(root, "datasets/source/dataset.json"))["minutes"]
    monkeypatch.setattr(within, "BLOCK_FRAMES", 0.999 * num_frames / num_blocks)
    run(root, force=True)
    tasks = storage.listing(storage.join(root, "datasets/source/dedup/within/blocks-*"))
    assert len(tasks) == num_blocks * (num_blocks + 1) // 2
    assert table() == whole


def test_random_sameness_leaves_a_maximal_set_of_different_videos():
    """For any graph: kept videos are not the same as one another, and each dropped one is the same as its stand-in."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        length = {f"v{i}": int(rng.integers(10, 13)) for i in range(12)}
        order = sorted(length, key=lambda video: (-length[video], video))
        edges = {(b, a) for i, a in enumerate(order) for b in order[i + 1 :] if rng.random() < 0.2}
        rows = [
            dict.fromkeys(within.SAME.names, 0)
            | {"video_id": b, "target_video_id": a, "target_num_frames": length[a], "target": tables.WITHIN}
            | {"target_split": "", "source_shard": "", "target_shard": "", "mirrored": False, "decoy": False}
            | {"matched_frames": 9, "valid_frames": 10, "target_overlap": 0.9}
            for b, a in edges
        ]
        chosen = within.choose_duplicates(pa.Table.from_pylist(rows, within.SAME), 0.8, 8, set()).to_pylist()
        stand_in = {row["video_id"]: row["target_video_id"] for row in chosen}
        kept = set(length) - set(stand_in)
        assert set(stand_in.items()) <= edges
        assert set(stand_in.values()) <= kept
        assert not any(a in kept and b in kept for a, b in edges)
