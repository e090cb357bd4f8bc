"""Main flow 1 from posts to dataset.json, subsets of a base, and bad input."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_builder import manifest
from dataset_builder.build import build, main
from dataset_builder.label_space import FEW_VIDEOS, VIDEOS, keep_labels, labelled_videos
from pipeline import artifacts, storage
from pipeline.config import ConfigError, ExecutionConfig, SamplingConfig, SourceConfig, StorageConfig
from pipeline.exclusions import read_exclusions
from tests.dataset_builder.small_world import build_config, files_in, make_world, write_posts

NUM_VIDEOS = 13


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """13 good videos, one broken one and one missing one, under posts of three labels."""
    folder = make_world(tmp_path_factory.mktemp("world"), NUM_VIDEOS)
    (folder / "broken.mp4").write_bytes(b"x" * 100)
    with (folder / "posts.jsonl").open("a") as file:
        for i, name in enumerate(["broken.mp4", "gone.mp4"]):
            file.write(json.dumps({"post_id": f"bad{i}", "video_uri": name, "hashtags": ["surf"]}) + "\n")
        file.write(json.dumps({"post_id": "other", "video_uri": "0.mp4", "hashtags": ["love"]}) + "\n")
    return folder


@pytest.fixture(scope="module")
def built(world, tmp_path_factory):
    """(root, dataset.json) of a whole build of `world`; read only."""
    root = tmp_path_factory.mktemp("built")
    return root, build(build_config(world, root))


def artifacts_in(root):
    """Every file but config.json, which also records where and how the build ran."""
    return {path: data for path, data in files_in(root).items() if not path.endswith("/config.json")}


def manifest_ids(root, dataset):
    return set(storage.read_parquet_parts(str(root / "datasets" / dataset / "manifest"))["video_id"].to_pylist())


def test_every_post_and_video_is_accounted_for(built):
    _, marker = built
    assert marker["counts"] == {
        "posts": {"in": 16, "kept": 15, "dropped": {"no_relevant_hashtag": 1}, "videos": 15},
        "label_space": {"in": 15, "kept": 15, "dropped": {"no_label_with_enough_videos": 0}},
        "sampling": {"in": 15, "kept": 15, "dropped": {"not_sampled": 0}},
        "shards": {"in": 15, "kept": 13, "dropped": {"missing": 1, "not_a_video": 1}},
    }
    assert marker["quarantined"] == {"missing": 1, "not_a_video": 1}


def test_the_marker_describes_what_was_written(built):
    root, marker = built
    folder = root / "datasets/d"
    assert marker == json.loads((folder / "dataset.json").read_text())
    assert [shard["path"] for shard in marker["shards"]] == [f"shards/d-{i:06d}" for i in range(4)]
    rows = [
        row for shard in marker["shards"] for row in pq.read_table(folder / (shard["path"] + ".parquet")).to_pylist()
    ]
    written = [row for row in rows if row["status"] == "ok"]
    assert len(rows) == 15
    assert marker["num_videos"] == len(written) == sum(shard["num_videos"] for shard in marker["shards"])
    assert marker["minutes"] == pytest.approx(sum(row["duration_s"] for row in written) / 60, abs=1e-3)
    assert marker["num_bytes"] == sum((folder / (shard["path"] + ".tar")).stat().st_size for shard in marker["shards"])
    space = json.loads((folder / "label_space.json").read_text())
    assert [label["name"] for label in space["labels"]] == ["burning candle", "catching a fish", "surfing"]
    counted = [sum(label["id"] in row["label_ids"] for row in written) for label in space["labels"]]
    assert [label["num_videos"] for label in marker["labels"]] == counted == [4, 5, 4]
    assert [label["num_videos"] for label in space["labels"]] == [4, 5, 6]


def test_manifest_weights_follow_the_square_root_law(built):
    root, _ = built
    table = storage.read_parquet_parts(str(root / "datasets/d/manifest"))
    assert table.schema == artifacts.MANIFEST
    by_label = {row["label_ids"][0]: row["weight"] for row in table.to_pylist()}
    assert by_label == pytest.approx({0: np.sqrt(6 / 4), 1: np.sqrt(6 / 5), 2: 1.0})


def test_each_shard_attempts_the_rows_of_its_manifest_part(built):
    root, marker = built
    for i in range(len(marker["shards"])):
        listed = pq.read_table(root / f"datasets/d/manifest/part-{i:06d}.parquet")["video_id"].to_pylist()
        assert pq.read_table(root / f"datasets/d/shards/d-{i:06d}.parquet")["key"].to_pylist() == listed
        assert 1 <= len(listed) <= 4


def test_two_processes_write_the_same_bytes_as_one(world, built, tmp_path):
    build(build_config(world, tmp_path, execution=ExecutionConfig(backend="process", num_workers=2)))
    assert artifacts_in(tmp_path) == artifacts_in(built[0])


@pytest.mark.ray
def test_ray_writes_the_same_bytes(world, built, tmp_path):
    build(build_config(world, tmp_path, execution=ExecutionConfig(backend="ray", num_workers=2)))
    assert artifacts_in(tmp_path) == artifacts_in(built[0])


def test_a_whole_dataset_is_skipped_and_a_half_one_resumed(world, tmp_path, capsys):
    first = build(build_config(world, tmp_path))
    before = files_in(tmp_path)
    shard = tmp_path / "datasets/d/shards/d-000001.tar"
    written = shard.stat().st_mtime_ns
    assert build(build_config(world, tmp_path)) == first
    assert "is whole" in capsys.readouterr().out
    (tmp_path / "datasets/d/dataset.json").unlink()
    (tmp_path / "datasets/d/shards/d-000000.json").unlink()
    (tmp_path / "datasets/d/shards/d-000002.tar").unlink()
    assert build(build_config(world, tmp_path)) == first
    assert files_in(tmp_path) == before
    assert shard.stat().st_mtime_ns == written


def test_a_build_stopped_between_parts_of_the_manifest_makes_no_shard_of_it(world, built, tmp_path, monkeypatch):
    def stop_at_the_second(files, index, *rest):
        if index == 1:
            raise KeyboardInterrupt
        write(files, index, *rest)

    write = manifest.write_part
    with monkeypatch.context() as patched:
        patched.setattr(manifest, "write_part", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            build(build_config(world, tmp_path))
    assert len(list((tmp_path / "datasets/d/manifest").iterdir())) == 1
    assert not (tmp_path / "datasets/d/shards").exists()
    assert build(build_config(world, tmp_path)) == built[1]
    assert artifacts_in(tmp_path) == artifacts_in(built[0])


def test_another_configuration_under_the_same_name_is_refused(world, built):
    config = build_config(world, built[0], sampling=SamplingConfig(min_videos=2))
    with pytest.raises(ConfigError, match=r"sampling\.min_videos: 1 → 2"):
        build(config)


def test_no_temporary_file_stays(built):
    assert not [path for path in built[0].rglob("*") if path.name.endswith(".tmp") or "spill" in path.parts]


def test_labels_with_few_videos_are_dropped_with_the_videos_that_had_no_other(world, tmp_path):
    marker = build(build_config(world, tmp_path, sampling=SamplingConfig(min_videos=5)))
    space = json.loads((tmp_path / "datasets/d/label_space.json").read_text())
    assert [label["name"] for label in space["labels"]] == ["catching a fish", "surfing"]
    assert space["dropped"] == [{"name": "burning candle", "num_videos": 4, "reason": "few_videos"}]
    assert marker["counts"]["label_space"] == {"in": 15, "kept": 11, "dropped": {"no_label_with_enough_videos": 4}}


def test_dropping_a_label_keeps_the_videos_other_labels():
    table = pa.table([["a", "b", "c"], ["a", "b", "c"], *[[None] * 3] * 2], schema=VIDEOS)
    videos = labelled_videos(table, pa.array([["x", "z"], ["y", "z"], ["x"]]), ["z", "y", "x"])
    kept, dropped = keep_labels(videos, np.array([1, FEW_VIDEOS, 0]))
    assert [kept.label_ids[a:b].tolist() for a, b in itertools.pairwise(kept.offsets)] == [[0, 1], [1], [0]]
    assert dropped.total() == 0


# ----------------------------------------------------------------------------------------------------- subsets


def subset(world, root, name, num_videos, **sampling):
    sampling = SamplingConfig(**{"min_videos": 1, "num_videos": num_videos, **sampling})
    return build(build_config(world, root, name, base="d", sampling=sampling))


@pytest.fixture
def base(built, tmp_path):
    """A root of its own with the built dataset, so that subsets and exclusions do not meet other tests'."""
    for name in ("datasets", "sources"):
        for path, data in files_in(built[0] / name).items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_bytes(data)
    return tmp_path


def exclude(root, ids):
    files = artifacts.dataset_files(str(root), "d")
    rows = pa.table({"video_id": ids})
    storage.write_parquet(files.exclusions, rows)
    storage.write_json(storage.join(files.dedup, "config.json"), {})
    storage.write_json(
        files.dedup_marker,
        {"digest": "dedup-digest", "input_digests": {"dataset": storage.read_json(files.marker)["digest"]}},
    )


@pytest.mark.parametrize("strategy", ["random", "tail_preserving"])
def test_subsets_are_exact_nested_and_use_the_shards_of_the_base(world, base, strategy):
    markers = {n: subset(world, base, f"d{n}", n, strategy=strategy) for n in (3, 7, 13)}
    ids = {n: manifest_ids(base, f"d{n}") for n in markers}
    assert {n: len(ids[n]) for n in ids} == {3: 3, 7: 7, 13: 13}
    assert ids[3] < ids[7] < ids[13] < manifest_ids(base, "d")
    for n, marker in markers.items():
        folder = base / f"datasets/d{n}"
        assert not (folder / "shards").exists()
        stored = {}
        for shard in marker["shards"]:
            table = pq.read_table(folder / (shard["path"] + ".parquet"))
            here = [key for key in table["key"].to_pylist() if key in ids[n]]
            assert shard["num_videos"] == len(here) > 0
            stored |= dict.fromkeys(here)
        assert stored.keys() == ids[n]
        assert marker["num_videos"] == n
        assert marker["minutes"] == pytest.approx(n / 60, abs=1e-3)


def test_a_subset_leaves_out_what_the_dedup_excluded(world, base):
    excluded = sorted(manifest_ids(base, "d"))[:5]
    exclude(base, excluded)
    marker = subset(world, base, "clean", None)
    assert not manifest_ids(base, "clean") & set(excluded)
    counts = marker["counts"]["base"]
    assert counts["in"] == 15
    assert counts["kept"] == marker["num_videos"] == len(manifest_ids(base, "clean"))
    assert counts["dropped"]["quarantined"] == 2
    assert marker["input_digests"]["dedup"] == "dedup-digest"


def test_a_subset_can_keep_near_duplicates_to_measure_them_and_says_that_it_did(world, base):
    excluded = sorted(manifest_ids(base, "d"))[:5]
    exclude(base, excluded)
    marker = subset(world, base, "dirty", None, keep_duplicates=True)
    assert {r: n for r, n in marker["counts"]["base"]["dropped"].items() if n} == {"quarantined": 2}
    assert marker["num_videos"] == 13  # all that is stored
    assert marker["config"]["sampling"]["keep_duplicates"] is True
    assert read_exclusions(artifacts.dataset_files(str(base), "dirty")) == (set(), "")


def test_noise_changes_labels_and_counts_and_nothing_else(world, base):
    clean, noisy = (
        (subset(world, base, name, 10, label_noise=rate, square_root=False), name)
        for name, rate in {"clean": 0.0, "noisy": 0.5}.items()
    )
    tables = [storage.read_parquet_parts(str(base / f"datasets/{name}/manifest")) for _, name in (clean, noisy)]
    same = [name for name in tables[0].column_names if name != "label_ids"]
    assert tables[0].select(same) == tables[1].select(same)
    assert tables[0]["label_ids"] != tables[1]["label_ids"]
    labels = [label for row in tables[1]["label_ids"].to_pylist() for label in row]
    assert [labels.count(label["id"]) for label in noisy[0]["labels"]] == [x["num_videos"] for x in noisy[0]["labels"]]
    assert clean[0]["shards"] == noisy[0]["shards"]


def test_a_dedup_after_the_subset_makes_it_stale(world, base):
    subset(world, base, "d3", 3)
    exclude(base, sorted(manifest_ids(base, "d3"))[:1])
    with pytest.raises(ConfigError, match=r"input_digests.dedup: '' → 'dedup-digest'"):
        subset(world, base, "d3", 3)


def test_a_subset_of_a_subset_still_names_the_first_shards(world, base):
    subset(world, base, "half", 8, strategy="random")
    config = build_config(world, base, "quarter", base="half", sampling=SamplingConfig(min_videos=1, num_videos=4))
    marker = build(config)
    assert {shard["path"].split("/")[1] for shard in marker["shards"]} == {"d"}
    assert manifest_ids(base, "quarter") < manifest_ids(base, "half")


@pytest.mark.parametrize("root", ["memory://far/away", "relative"])
def test_a_root_may_be_a_url_or_relative(world, built, tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    assert build(build_config(world, root))["shards"] == built[1]["shards"]
    config = build_config(world, root, "d5", base="d", sampling=SamplingConfig(min_videos=1, num_videos=5))
    assert sum(shard["num_videos"] for shard in build(config)["shards"]) == 5
    assert build(replace(config, dataset="d2", base="d5"))["num_videos"] == 5


def test_a_subset_renumbers_labels_after_its_own_floor(world, base):
    subset(world, base, "floor", None, min_videos=5)
    space = json.loads((base / "datasets/floor/label_space.json").read_text())
    assert [(label["id"], label["name"]) for label in space["labels"]] == [(0, "catching a fish")]
    rows = storage.read_parquet_parts(str(base / "datasets/floor/manifest")).to_pylist()
    assert [row["label_ids"] for row in rows] == [[0]] * 5


def test_more_videos_than_there_are_keeps_all_and_says_so(world, base, capsys):
    assert subset(world, base, "all", 10_000)["num_videos"] == 13
    assert "10,000 videos asked for, only 13 qualify" in capsys.readouterr().out


def test_a_subset_that_was_drawn_before_a_dedup_is_refused(world, base):
    """Trained on as it is, it would hold videos that the dedup found to overlap a target."""
    files = {name: artifacts.dataset_files(str(base), name) for name in ("d", "s", "ss")}
    subset(world, base, "s", 7)
    build(build_config(world, base, "ss", base="s", sampling=SamplingConfig(min_videos=1, num_videos=3)))
    assert read_exclusions(files["ss"]) == (set(), "")
    exclude(base, sorted(manifest_ids(base, "ss"))[:1])
    for name in ("s", "ss"):
        with pytest.raises(ConfigError, match=r"'s' was drawn from 'd' before the last dedup of 'd'.* --force"):
            read_exclusions(files[name])


def test_a_root_whose_name_looks_like_a_pattern(world, tmp_path):
    root = tmp_path / "root[1]"
    assert build(build_config(world, root))["num_videos"] == 13
    assert build(build_config(world, root, dataset="s", base="d"))["num_videos"] == 13


# --------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"source": SourceConfig()},
            "--source.posts is empty: name the posts table .* or a finished dataset with --base",
        ),
        ({"base": "nothing"}, "build it first"),
        ({"base": "d"}, "both 'd'"),
        ({"sampling": SamplingConfig(min_videos=1, num_videos=0)}, "num-videos must be at least 1"),
        ({"sampling": SamplingConfig()}, "no label has 50 videos; best: 'surfing' 6, .* Lower --sampling.min-videos"),
    ],
)
def test_bad_configurations_are_named(world, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        build(build_config(world, tmp_path, **changes))


def test_another_config_is_refused_before_the_posts_are_read(world, built):
    other = build_config(
        world, built[0], storage=StorageConfig(crf=30), source=SourceConfig("new", posts="nowhere.csv")
    )
    with pytest.raises(ConfigError, match=r"storage.crf: 20 → 30"):
        build(other)
    assert not (built[0] / "sources/new").exists()


def test_the_command_line_builds_and_reports_errors_by_status(world, tmp_path, capsys):
    options = [
        "--root",
        str(tmp_path),
        "--dataset",
        "cli",
        "--execution.backend",
        "process",
        "--execution.num-workers",
        "1",
    ]
    options += ["--source.posts", str(world / "posts.jsonl"), "--source.seed-labels", str(world / "seeds.txt")]
    with pytest.raises(SystemExit) as stop:
        main([*options, "--sampling.min-videos", "1", "--storage.short-side-px", "32"])
    assert stop.value.code == 0
    assert "shards: 15 = 13 kept + 1 missing + 1 not_a_video" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["--root", str(tmp_path), "--base", "nothing"])
    assert stop.value.code == 2
    assert "build it first" in capsys.readouterr().err


def test_posts_in_csv_with_a_uri_prefix_build_too(world, tmp_path):
    rows = [{"post_id": i, "video_uri": f"{i}.mp4", "hashtags": "#CatchFish"} for i in range(3)]
    path = write_posts(tmp_path / "posts.csv", rows)
    source = SourceConfig(posts=str(path), seed_labels=str(world / "seeds.txt"), uri_prefix=str(world))
    config = replace(build_config(world, tmp_path / "out"), source=source)
    assert build(config)["num_videos"] == 3
