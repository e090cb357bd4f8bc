"""From simulated matches to manifests: the choice over parts is that of the pure functions, and whole or not at all."""

import hashlib
import itertools
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_builder import sampling
from dataset_builder.candidates import matched_videos
from dataset_builder.choose import choose_videos
from dataset_builder.manifest import equal_parts, read_manifest, write_chosen
from pipeline import artifacts, storage
from pipeline.config import ConfigError, ExecutionConfig, SamplingConfig
from tests.dataset_builder.small_world import HERE, files_in

NAMES = [f"label {letter}" for letter in "fedcba"]  # not in order of name
PLAIN = SamplingConfig(min_videos=1, square_root=False)


def video_id(number):
    return hashlib.sha256(str(number).encode()).hexdigest()[:20]


def write_source(root, videos, num_parts):
    """matches/ of videos [(labels by number, duration or None)], in order of video_id, cut into parts of unequal size."""
    rows = [
        {
            "video_id": video_id(i),
            "uri": f"https://example.com/{i}.mp4",
            "duration_s": seconds,
            "labels": [NAMES[label] for label in labels],
            "post_ids": [],
        }
        for i, (labels, seconds) in enumerate(videos)
    ]
    rows.sort(key=lambda row: row["video_id"])
    files = artifacts.source_files(str(root), "source")
    cuts = sorted(len(rows) * i * i // num_parts**2 for i in range(num_parts + 1))
    for part, (start, end) in enumerate(itertools.pairwise(cuts)):
        table = pa.Table.from_pylist(rows[start:end], artifacts.MATCHES)
        storage.write_parquet(f"{files.matches}/part-{part:05d}.parquet", table, artifacts.MATCHES)
    return matched_videos(files, NAMES)


def make(root, candidates, config, name="d", rows_per_part=100, execution=HERE):
    """(label space, manifest rows, manifest.json's content) of a dataset."""
    files = artifacts.dataset_files(str(root), name)
    space, choice, stages = choose_videos(candidates, config, execution, name=name, kind="kinetics")
    bounds = equal_parts(len(choice), rows_per_part)
    manifest, _ = write_chosen(files, choice, stages, bounds, config.square_root, execution)
    return space, storage.read_parquet_parts(files.manifest).to_pylist(), manifest


def zipf_videos(num_videos, seed=0, durations=(2.0, 57.0, 30.0, None)):
    draws = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(NAMES) + 1) ** 1.5
    labels = draws.choice(len(NAMES), (num_videos, 2), p=weights / weights.sum())
    several = draws.random(num_videos) < 0.2
    pairs = zip(labels.tolist(), several.tolist(), draws.choice(len(durations), num_videos).tolist(), strict=True)
    return [(sorted(set(both if two else both[:1])), durations[which]) for both, two, which in pairs]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """600 videos of six labels in five parts; a quarter each short, long, neither, and of unknown duration."""
    root = tmp_path_factory.mktemp("source")
    return write_source(root, zipf_videos(600), 5)


# ----------------------------------------------------------------------------------- parts against pure functions

labels_of_videos = st.lists(st.sets(st.integers(0, 5), min_size=1, max_size=3).map(sorted), min_size=1, max_size=30)


@settings(max_examples=40)
@given(
    labels_of_videos,
    st.integers(1, 35),
    st.integers(0, 2),
    st.integers(1, 4),
    st.integers(1, 9),
    st.sampled_from(["random", "tail_preserving"]),
)
def test_the_choice_over_parts_is_that_of_the_pure_functions(labels, num_videos, seed, num_parts, rows, strategy):
    videos = [(some, None) for some in labels]
    ids = np.array([video_id(i) for i in range(len(labels))], dtype="S")
    order = np.argsort(ids)
    label_ids = np.array([label for i in order for label in labels[i]], dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(labels[i]) for i in order])])
    if strategy == "random":
        expected = sampling.random_subset(ids[order], num_videos, seed)
    else:
        expected = sampling.tail_preserving_subset(ids[order], label_ids, offsets, num_videos, seed)
    config = replace(PLAIN, num_videos=num_videos, seed=seed, strategy=strategy)
    with tempfile.TemporaryDirectory() as root:
        _, found, _ = make(root, write_source(root, videos, num_parts), config, rows_per_part=rows)
        parts = storage.listing(f"{root}/datasets/d/manifest/part-*.parquet")
        sizes = [storage.read_parquet(path).num_rows for path in parts]
    assert [row["video_id"].encode() for row in found] == ids[order][expected].tolist()
    assert sizes == [rows] * (len(found) // rows) + ([len(found) % rows] if len(found) % rows else [])


@pytest.mark.parametrize("strategy", ["random", "tail_preserving"])
def test_datasets_have_the_exact_size_and_lie_within_larger_ones(source, tmp_path, strategy):
    sizes = (50, 100, 500, 600)
    ids = {}
    for size in sizes:
        config = replace(PLAIN, num_videos=size, strategy=strategy)
        _, rows, manifest = make(tmp_path, source, config, name=f"d{size}")
        ids[size] = {row["video_id"] for row in rows}
        assert len(rows) == len(ids[size]) == manifest.num_videos == size
        assert [row["video_id"] for row in rows] == sorted(ids[size])
        in_rows = np.bincount([label for row in rows for label in row["label_ids"]])
        assert in_rows.tolist() == manifest.label_counts
    assert ids[50] < ids[100] < ids[500] < ids[600]


def test_every_video_of_a_tail_label_stays_and_head_labels_share_a_cap(source, tmp_path):
    space, _, manifest = make(tmp_path, source, replace(PLAIN, num_videos=300))
    before, after = np.array([label["num_videos"] for label in space.labels]), np.array(manifest.label_counts)
    assert (after < before).any()
    smallest_cut = after[after < before].min()
    assert (after[before < smallest_cut] == before[before < smallest_cut]).all()
    assert (before < smallest_cut).any()


def test_all_labels_of_a_video_that_the_space_has_stay_in_the_manifest(source, tmp_path):
    space, rows, _ = make(tmp_path, source, PLAIN)
    labels = {video_id(i): {NAMES[label] for label in labels} for i, (labels, _) in enumerate(zipf_videos(600))}
    assert {row["video_id"]: {space.names[label] for label in row["label_ids"]} for row in rows} == labels
    assert any(len(row["label_ids"]) == 2 for row in rows)


def test_weights_follow_the_counts_of_the_chosen_videos(source, tmp_path):
    _, rows, manifest = make(tmp_path, source, replace(PLAIN, num_videos=200, square_root=True))
    counts = np.array(manifest.label_counts)
    expected = [np.sqrt(counts.max() / counts[row["label_ids"]].min()) for row in rows]
    assert [row["weight"] for row in rows] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("config", [PLAIN, replace(PLAIN, num_videos=123), replace(PLAIN, duration="short")])
def test_the_cut_into_parts_changes_no_byte(tmp_path, config):
    written = []
    for num_parts in (1, 5, 9):
        root = tmp_path / f"{num_parts}"
        make(root, write_source(root, zipf_videos(100), num_parts), config, rows_per_part=30)
        written.append(files_in(root / "datasets"))
    assert written[0] == written[1] == written[2]


def test_the_number_of_workers_changes_no_byte(source, tmp_path):
    for num_workers in (1, 2):
        execution = ExecutionConfig(backend="process", num_workers=num_workers)
        make(tmp_path / f"{num_workers}", source, replace(PLAIN, num_videos=123), execution=execution)
    assert files_in(tmp_path / "1") == files_in(tmp_path / "2")


@pytest.mark.ray
def test_ray_writes_the_same_bytes(tmp_path):
    candidates = write_source(tmp_path, zipf_videos(200), 5)
    minutes = replace(PLAIN, minutes=20, duration="long_center", strategy="random")
    for config in (replace(PLAIN, num_videos=77), minutes):
        for backend in ("process", "ray"):
            make(tmp_path / backend, candidates, config, execution=ExecutionConfig(backend=backend, num_workers=2))
        assert files_in(tmp_path / "ray") == files_in(tmp_path / "process")


# ------------------------------------------------------------------------------------------------ whole or not at all


def test_a_manifest_whose_writing_was_stopped_is_not_taken_for_whole(source, tmp_path, monkeypatch):
    config = replace(PLAIN, num_videos=300)
    make(tmp_path / "whole", source, config)
    written = []

    def stop_at_the_third(path, *rest):
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        return write(path, *rest)

    write = storage.write_parquet
    files = artifacts.dataset_files(str(tmp_path / "stopped"), "d")
    with monkeypatch.context() as patched:
        patched.setattr(storage, "write_parquet", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "stopped", source, config)
    assert len(storage.listing(f"{files.manifest}/*")) == 2
    assert read_manifest(files) is None
    make(tmp_path / "stopped", source, config)
    assert read_manifest(files).num_videos == 300
    assert files_in(tmp_path / "stopped") == files_in(tmp_path / "whole")


# -------------------------------------------------------------------------------------------------------- labels


def test_label_subsets_are_random_nested_and_ids_follow_the_names(source, tmp_path):
    spaces = {}
    for size in (1, 2, 4, 6):
        space, rows, _ = make(tmp_path, source, replace(PLAIN, num_labels=size), name=f"l{size}")
        spaces[size] = space.names
        assert len(space.names) == size
        assert space.names == sorted(space.names)
        assert {label for row in rows for label in row["label_ids"]} == set(range(size))
        assert [entry["reason"] for entry in space.dropped] == ["not_drawn"] * (6 - size)
    assert set(spaces[1]) < set(spaces[2]) < set(spaces[4]) < set(spaces[6])
    drawn = {tuple(sampling.label_subset(NAMES, 2, seed)) for seed in range(60)}
    assert len(drawn) == 15  # every pair of six


def test_labels_are_drawn_after_the_floor_and_videos_are_counted_by_reason(tmp_path):
    videos = [([0], None)] * 5 + [([1], None)] * 5 + [([2], None), ([0, 2], None), ([1, 2], None)]
    config = replace(PLAIN, min_videos=4, num_labels=1)
    space, _, manifest = make(tmp_path, write_source(tmp_path, videos, 2), config)
    assert space.names[0] in (NAMES[0], NAMES[1])
    assert {entry["name"]: entry["num_videos"] for entry in space.dropped if entry["reason"] == "few_videos"} == {
        NAMES[2]: 3
    }
    dropped = {"no_label_with_enough_videos": 1, "label_not_drawn": 6}
    assert manifest.counts["label_space"] == {"in": 13, "kept": 6, "dropped": dropped}


def test_labels_without_videos_are_counted_and_not_listed(tmp_path):
    videos = [([0], None)] * 3 + [([1], None)]
    space, _, _ = make(tmp_path, write_source(tmp_path, videos, 1), replace(PLAIN, min_videos=2))
    assert space.names == [NAMES[0]]
    assert space.dropped == [{"name": NAMES[1], "num_videos": 1, "reason": "few_videos"}]
    assert space.num_unused == 4


# ------------------------------------------------------------------------------------------------------ durations


def by_account(rows, manifest):
    assert sum(manifest.account_counts) == len(rows)
    return manifest.account_counts


@pytest.mark.parametrize("strategy", ["random", "tail_preserving"])
def test_short_long_and_long_center_have_the_same_labels_and_videos_per_label(source, tmp_path, strategy):
    for size in (None, 60):
        found = {}
        for duration in ("short", "long", "long_center"):
            config = replace(PLAIN, duration=duration, num_videos=size, strategy=strategy, min_videos=5)
            found[duration] = make(tmp_path, source, config, name=f"{duration}{size}")
        counts = [by_account(rows, manifest) for _, rows, manifest in found.values()]
        assert counts[0] == counts[1] == counts[2]
        assert len({tuple(space.names) for space, _, _ in found.values()}) == 1
        assert size is None or sum(counts[0]) == size
        long, center = (found[name][1] for name in ("long", "long_center"))
        assert [row["video_id"] for row in long] == [row["video_id"] for row in center]
        assert {(row["start_s"], row["end_s"]) for row in center} == {(26.5, 30.5)}
        assert {(row["start_s"], row["end_s"]) for row in long} == {(None, None)}


def test_videos_without_a_known_duration_are_in_no_band(source, tmp_path):
    durations = [seconds for _, seconds in zipf_videos(600)]
    _, _, manifest = make(tmp_path, source, replace(PLAIN, duration="short"))
    stage = manifest.counts["duration"]
    others = durations.count(57.0) + durations.count(30.0)
    assert stage["dropped"] == {"unknown_duration": durations.count(None), "other_duration": others}
    assert stage["in"] == 600 == stage["kept"] + sum(stage["dropped"].values())
    labels = manifest.counts["label_space"]
    assert labels["in"] == stage["kept"]
    assert manifest.counts["sampling"]["in"] == labels["kept"]


def test_no_known_duration_at_all_is_named(tmp_path):
    candidates = write_source(tmp_path, [([0], None), ([1], -3.0)], 1)
    with pytest.raises(ConfigError, match=r"of 2 it is not known .*column duration_s"):
        make(tmp_path, candidates, replace(PLAIN, duration="long"))


# -------------------------------------------------------------------------------------------------------- minutes


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sets(st.integers(0, 5), min_size=1, max_size=2).map(sorted), st.integers(1, 60)), min_size=2),
    st.integers(60, 900),
    st.sampled_from(["random", "tail_preserving"]),
)
def test_a_budget_of_minutes_takes_the_longest_prefix_that_fits(videos, seconds, strategy):
    total = sum(duration for _, duration in videos)
    with tempfile.TemporaryDirectory() as root:
        candidates = write_source(root, videos, 2)
        config = replace(PLAIN, strategy=strategy)
        _, budgeted, _ = make(root, candidates, replace(config, minutes=seconds / 60), name="m")
        ids = {row["video_id"] for row in budgeted}
        duration = {video_id(i): d for i, (_, d) in enumerate(videos)}
        _, same, _ = make(root, candidates, replace(config, num_videos=len(ids)), name="n")
        assert ids == {row["video_id"] for row in same}
        assert sum(duration[i] for i in ids) <= seconds + 1e-6
        if len(ids) < len(videos):
            _, more, _ = make(root, candidates, replace(config, num_videos=len(ids) + 1), name="more")
            assert sum(duration[row["video_id"]] for row in more) > seconds
        else:
            assert total <= seconds + 1e-6


def test_equal_minutes_of_short_and_long_videos_have_equal_proportions_of_labels(tmp_path):
    candidates = write_source(tmp_path, zipf_videos(3000, durations=(4.0, 56.0)), 4)
    taken, lengths = {}, {}
    for duration, seconds in (("short", 4), ("long", 56), ("long_center", 4)):
        config = replace(PLAIN, duration=duration, minutes=30.0, strategy="random")
        _, rows, manifest = make(tmp_path, candidates, config, name=duration)
        taken[duration], lengths[duration] = np.array(manifest.account_counts), seconds * len(rows)
        assert 0 <= 1800 - lengths[duration] < seconds
    assert taken["short"].tolist() == taken["long_center"].tolist()
    expected = taken["short"] * taken["long"].sum() / taken["short"].sum()
    assert np.abs(taken["long"] - expected).max() <= 1


# ------------------------------------------------------------------------------------------------------ bad input


def test_a_budget_that_no_video_fits_into_is_named(tmp_path):
    candidates = write_source(tmp_path, [([0], 50.0)], 1)
    with pytest.raises(ConfigError, match=r"no video fits into --sampling\.minutes 0\.5"):
        make(tmp_path, candidates, replace(PLAIN, minutes=0.5))


def test_manifest_json_is_read_back_as_it_was_returned(source, tmp_path):
    _, _, manifest = make(tmp_path, source, replace(PLAIN, duration="long"))
    files = artifacts.dataset_files(str(tmp_path), "d")
    assert read_manifest(files) == manifest
    assert json.loads(Path(files.manifest_marker).read_text())["num_videos"] == manifest.num_videos
