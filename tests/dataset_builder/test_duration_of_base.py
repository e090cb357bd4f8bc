"""Subsets of a base by the duration of its stored videos, and what training then reads of them."""

import json

import numpy as np
import pytest

from dataset_builder.build import build
from pipeline import artifacts, storage
from pipeline.config import ClipConfig, SamplingConfig
from pretrain.data import TrainingClips
from pretrain.reading import FrameReader
from pretrain.samples import open_samples
from tests.dataset_builder.small_world import SEED_LABELS, build_config, files_in, write_mp4, write_posts


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    """A dataset `d` at 4 frames/s: six videos of 2 s and six of 56 s under three labels, two of each duration per label."""
    folder = tmp_path_factory.mktemp("timed")
    for i in range(12):
        num_frames = 8 if i < 6 else 224
        write_mp4(folder / f"{i}.mp4", seed=i, num_frames=num_frames, fps=4, height=16, width=16)
    tags = [["CatchFish"], ["candleburning"], ["surf"]]
    rows = [{"post_id": i, "video_uri": f"{i}.mp4", "hashtags": tags[i % 3]} for i in range(12)]
    write_posts(folder / "posts.jsonl", rows)
    (folder / "seeds.txt").write_text("\n".join(SEED_LABELS))
    build(build_config(folder, folder / "out"))
    return folder


def drawn(timed, name, base="d", **settings):
    config = SamplingConfig(**{"min_videos": 1, "strategy": "random", **settings})
    marker = build(build_config(timed, timed / "out", name, base=base, sampling=config))
    files = artifacts.dataset_files(str(timed / "out"), name)
    return marker, storage.read_parquet_parts(files.manifest).to_pylist()


def test_bands_of_a_base_are_those_of_its_stored_videos(timed):
    short, long, center = (drawn(timed, band, duration=band) for band in ("short", "long", "long_center"))
    assert [marker["num_videos"] for marker, _ in (short, long, center)] == [6, 6, 6]
    assert [label["num_videos"] for label in short[0]["labels"]] == [2, 2, 2]
    assert short[0]["labels"] == long[0]["labels"] == center[0]["labels"]
    assert [row["video_id"] for row in long[1]] == [row["video_id"] for row in center[1]]
    assert {(row["start_s"], row["end_s"]) for row in center[1]} == {(26.0, 30.0)}
    assert [marker["minutes"] for marker, _ in (short, long, center)] == [0.2, 5.6, 0.4]
    assert center[0]["counts"]["duration"]["dropped"] == {"unknown_duration": 0, "other_duration": 6}


def test_spans_are_kept_by_a_subset_of_a_subset_and_count_as_the_duration(timed):
    drawn(timed, "middle", duration="long_center")
    marker, rows = drawn(timed, "part", base="middle", minutes=0.2)
    assert marker["num_videos"] == 3
    assert marker["minutes"] == 0.2
    assert {(row["start_s"], row["end_s"]) for row in rows} == {(26.0, 30.0)}
    marker, _ = drawn(timed, "short-of-middle", base="middle", min_videos=1, minutes=1)
    assert marker["num_videos"] == 6


def test_training_sees_the_middle_of_long_videos_only(timed):
    drawn(timed, "seen", duration="long_center")
    samples, whole = (open_samples(artifacts.dataset_files(str(timed / "out"), name), "") for name in ("seen", "d"))
    clip = ClipConfig(length=4, size_hw=(16, 16), crop_px=16)
    assert samples.columns["num_frames"].tolist() == [16] * 6  # 4 s at 4 frames/s
    for cache_mb in (0, 1):
        reader, full = FrameReader(samples, clip, cache_mb), FrameReader(whole, clip)
        for sample in (0, 5):
            same = whole.keys.to_pylist().index(samples.key(sample))
            expected = full.read(same, [104 + frame for frame in (0, 7, 15, 0)])  # 26 s × 4 frames/s
            assert np.array_equal(reader.read(sample, [0, 7, 15, 0]), expected)
    clips = TrainingClips(samples, clip, seed=0)
    starts = {clips.frame_numbers(0, position)[0] for position in range(200)}
    assert starts == set(range(13))  # everywhere that 4 frames fit into 16


def test_spans_from_posts_are_cut_when_the_shards_are_built_and_not_again(timed, tmp_path):
    rows = [json.loads(line) for line in (timed / "posts.jsonl").read_text().splitlines()]
    for row in rows:
        row |= {"video_uri": str(timed / row["video_uri"]), "duration_s": 2.0 if row["post_id"] < 6 else 56.0}
    write_posts(tmp_path / "posts.jsonl", rows)
    (tmp_path / "seeds.txt").write_text("\n".join(SEED_LABELS))
    sampling = SamplingConfig(min_videos=1, duration="long_center")
    build(build_config(tmp_path, tmp_path / "out", sampling=sampling))
    samples = open_samples(artifacts.dataset_files(str(tmp_path / "out"), "d"), "")
    assert samples.columns["num_frames"].tolist() == [16] * 6
    assert samples.columns["first_frame"].tolist() == [0] * 6
    subset = build_config(
        tmp_path, tmp_path / "out", "d3", base="d", sampling=SamplingConfig(min_videos=1, num_videos=3)
    )
    assert build(subset)["minutes"] == 0.2
    samples = open_samples(artifacts.dataset_files(str(tmp_path / "out"), "d3"), "")
    assert samples.columns["num_frames"].tolist() == [16] * 3


def test_a_base_whose_manifest_is_not_of_its_shards_is_refused(timed, tmp_path):
    for path, data in files_in(timed / "out").items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    next((tmp_path / "datasets/d/manifest").glob("*.parquet")).unlink()
    config = build_config(timed, tmp_path, "lost", base="d", sampling=SamplingConfig(min_videos=1, num_videos=3))
    with pytest.raises(storage.StorageError, match=r"3 shards and 2 parts.*build it again with --force"):
        build(config)
