"""The report's pictures: which videos are shown, what is said of those that cannot be, and how large they may be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline import artifacts, storage
from pipeline.report import evidence, exclusions, pictures, sheet
from pipeline.report.artefacts import Dataset, Source
from pipeline.report.stored import StoredVideo
from tests.pipeline import small_datasets
from tests.pipeline.small_datasets import mp4, pair
from tests.pipeline.synthetic_sweep import HOSTILE, Outline, jpeg


def stored(video_id: str, *labels: str) -> StoredVideo:
    return StoredVideo(video_id, None, labels, 1.0, None, "", {})


def test_sheet_goes_from_head_to_tail() -> None:
    labels = [f"label {i}" for i in range(100)]
    videos = [stored(f"{label} {i}", label) for k, label in enumerate(labels) for i in range(1 + 1000 // (k + 1) ** 2)]
    chosen = sheet.choose(labels, videos, 10)
    places = [labels.index(video.labels[0]) for video in chosen]
    assert [place // 10 for place in places] == list(range(10))  # one of each tenth of the labels, in order
    assert sheet.choose(labels, videos[::-1], 10) == chosen


def test_sheet_of_few_labels_is_filled() -> None:
    videos = [stored(str(i), "a" if i % 5 else "b") for i in range(40)]
    chosen = sheet.choose(["a", "b"], videos, 12)
    assert len({video.video_id for video in chosen}) == 12
    assert set(Counter(video.labels[0] for video in chosen)) == {"a", "b"}
    assert len(sheet.choose(["a", "b"], videos[:3], 12)) == 3


@pytest.fixture
def shown(tmp_path: Path) -> Source:
    """Two videos that are stored, one whose bytes are damaged, one that was quarantined."""
    files = small_datasets.files(tmp_path)
    small_datasets.write_shard(
        files, {"v0": ([0], mp4(0)), "v1": ([1], mp4(9)), "v2": ([2], mp4(5)), "v3": ([0], "timeout")}, "source-000000"
    )
    tar = Path(files.shards, "source-000000.tar")
    data = bytearray(tar.read_bytes())
    data[-40] ^= 1
    tar.write_bytes(data)
    made = small_datasets.dataset(files, [HOSTILE, "label 1", "label 2"])
    matches = artifacts.source_files(str(tmp_path), "posts")
    tags = [{"hashtag": "ball", "label": "label 1"}, {"hashtag": "balls", "label": "label 1"}]
    storage.write_parquet(matches.hashtags, pa.Table.from_pylist(tags), artifacts.HASHTAGS)
    return Source(made, matches, {}, None, False, (), ())


def test_sheet_shows_videos_and_says_which_cannot_be(shown: Source) -> None:
    page = sheet.videos_section([shown])
    outline = Outline(page)
    assert outline.tags.count("img") == 2
    assert "3 videos of the 3 in 1 of 1 shard" in outline.text
    assert "sample 'v2' of shard" in outline.text
    assert "is damaged" in outline.text
    assert "s3://posts/v1.mp4" in outline.text
    assert "matched by any of #ball #balls" in outline.text
    assert ("alt", "Frames of video v1: label 1") in outline.attributes
    assert not {name for name, _ in outline.attributes if name.startswith("on")}
    assert sheet.videos_section([shown]) == page


def test_many_sources_share_one_budget(shown: Source, tmp_path: Path) -> None:
    names = [f"d{i}" for i in range(25)]
    shared = [
        small_datasets.dataset(small_datasets.files(tmp_path, n), ["a", "b", "c"], "../source/shards/source-000000")
        for n in names
    ]
    text = sheet.videos_section([small_datasets.source(made) for made in shared])
    assert Outline(text).tags.count("img") <= sheet.MAX_PICTURES
    assert f"{25 - sheet.MAX_PICTURES // sheet.MIN_VIDEOS} more sources without pictures" in text


def test_no_picture_is_large() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 360, 640, 3), dtype=np.uint8)
    assert len(pictures.strip(noise, "noise")) < pictures.MAX_BYTES * 4 / 3 + 100
    wide = np.zeros((3, 2, 1000, 3), np.uint8)
    assert 'alt="wide"' in pictures.strip(wide, "wide")


# -------------------------------------------------------------------------------------------------------- pairs


@pytest.fixture
def source(tmp_path: Path) -> Dataset:
    return small_datasets.dataset(small_datasets.files(tmp_path), ["a"])


def test_pairs_are_strongest_and_nearest_the_thresholds(source: Dataset) -> None:
    rows = [pair(f"v{i:02d}", i / 50) for i in range(3, 46)]  # excluded from 0.1 on: v05 to v45
    rows += [pair("v02", 0.4, valid_frames=15, matched_frames=6), pair("v40", 0.1, target_video_id="other")]
    rows[42] |= {"valid_frames": 10, "matched_frames": 9}  # v45 overlaps most, though few frames of it match
    found = evidence.listed_pairs(
        small_datasets.dedup(source, [*rows, pair("v01", 0.9, decoy=True)], [f"v{i:02d}" for i in range(5, 46)])
    )
    assert len(found.excluded) == 44  # one pair of each video with the target, none upside down
    assert int(found.excluded.sum()) == 41
    chosen = evidence.choose(found, 2)
    by_kind = {kind: [row["video_id"] for k, row in chosen if k == kind] for kind, _ in chosen}
    # v02 has overlap enough and 6 of the 8 frames that it takes; v04 has 0.8 of the overlap, v03 0.6
    assert by_kind == {"strongest": ["v45", "v44"], "above": ["v05", "v06"], "below": ["v04", "v02"]}


def test_frames_of_a_pair_are_aligned(tmp_path: Path, source: Dataset) -> None:
    # The target shows column 8 at 1 s, where the source begins; the closest pair that is stated is off by 0.75 s.
    small_datasets.write_shard(source.files, {"v": ([0], mp4(8))}, "source-000000")
    target = small_datasets.dataset(artifacts.target_files(str(tmp_path), "hmdb", "test"), ["walk"])
    small_datasets.write_shard(target.files, {"t": ([0], mp4(0))}, "hmdb-test-000000")
    row = pair("v", 0.9, source_time_s=1.0, target_time_s=1.25, end_s=1.5, target_end_s=2.75)
    made = small_datasets.dedup(source, [row], ["v"])
    blocks = evidence.pair_blocks(made, evidence.listed_pairs(made), {"hmdb": {"test": target}}, 4)
    outline = Outline(blocks[0])
    assert outline.tags.count("img") == 2
    # thirds of 0 to 1.5 s, and the same 8 frames later at 8 a second
    assert "v, a at 0.2, 0.8, 1.2 s s3://posts/v.mp4" in outline.text
    assert "t, walk at 1.2, 1.8, 2.2 s s3://posts/t.mp4" in outline.text
    assert "90 of 100 informative frames match" in outline.text


def test_mirrored_pair_is_shown_mirrored(tmp_path: Path, source: Dataset) -> None:
    small_datasets.write_shard(source.files, {"v": ([0], mp4(0))}, "source-000000")
    target = small_datasets.dataset(artifacts.target_files(str(tmp_path), "hmdb", "test"), ["walk"])
    small_datasets.write_shard(target.files, {"t": ([0], "timeout")}, "hmdb-test-000000")
    made = small_datasets.dedup(source, [pair("v", 0.9, mirrored=True)], ["v"])
    text = Outline(evidence.pair_blocks(made, evidence.listed_pairs(made), {"hmdb": {"test": target}}, 4)[0]).text
    assert "the upper frames are shown mirrored" in text
    assert "quarantined: timeout" in text


def test_pictures_of_the_dedup_stand_in_for_shards_that_are_gone(tmp_path: Path, source: Dataset) -> None:
    row = pair("v", 0.9)
    made = small_datasets.dedup(source, [row], ["v"])
    kept = {**row, "phash_distance": 7, "source_jpeg": jpeg(0), "target_jpeg": b"no JPEG"}
    storage.write_parquet(storage.join(source.files.dedup, "evidence.parquet"), pa.Table.from_pylist([kept]))
    outline = Outline(evidence.pair_blocks(made, evidence.listed_pairs(made), {}, 4)[0])
    assert outline.tags.count("img") == 1
    assert "no frame" in outline.text
    assert "pHash distance 7" in outline.text


def test_account_of_a_dedup_adds_up_or_says_so(source: Dataset) -> None:
    rows = [pair("v1", 0.9), pair("v2", 0.5), pair("v3", 0.06), pair("v4", 0.3, decoy=True)]
    good = small_datasets.source(source, small_datasets.dedup(source, rows, ["v1", "v2"]))
    text = Outline(exclusions.exclusions_section([good], {})).text
    assert "1,000 videos searched = 998 kept + 2 excluded (2 hmdb)" in text
    assert "3 pairs of a video and a target listed as candidates = 2 excluded + 1 not excluded" in text
    assert "do not agree" not in text
    counts = {"videos": 1000, "kept": 996, "dropped": {"hmdb": 3}}
    bad = small_datasets.source(source, small_datasets.dedup(source, rows, ["v1", "v2"], counts=counts))
    text = Outline(exclusions.exclusions_section([bad], {})).text
    assert "the sum is off by 1; exclusions.parquet has 2 videos, and 4 were excluded" in text


def test_what_is_missing_of_a_dedup_is_said(source: Dataset) -> None:
    made = small_datasets.dedup(source, [pair("v", 0.9)], ["v"], input_digests={"dataset": "old"})
    storage.remove(storage.join(source.files.dedup, "pairs.parquet"))
    source.marker["digest"] = "new"
    text = Outline(exclusions.exclusions_section([small_datasets.source(source, made)], {})).text
    assert "has changed since this dedup" in text
    assert "which pairs were listed is not known" in text
    text = Outline(exclusions.exclusions_section([Source(source, None, None, None, True, (), ())], {})).text
    assert "its dedup is planned and not finished" in text
