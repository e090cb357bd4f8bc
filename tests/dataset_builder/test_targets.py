"""Annotations → a target with a training and a test split: labels, segments, groups, splits, what is counted and what refused."""

import json
from dataclasses import replace

import pytest

from dataset_builder import decoder, shard
from dataset_builder.targets import build_target
from dedup import census
from pipeline import storage
from pipeline.config import ConfigError, TargetConfig
from tests.dataset_builder.small_world import HERE, TINY_STORAGE, write_mp4


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for i in range(6):
        write_mp4(folder / f"{i}.mp4", seed=i)
    (folder / "broken.mp4").write_bytes(b"nothing")
    return folder


def target(folder, clips, train, test, changes=()):
    for split, text in (("train", train), ("test", test)):
        (clips / f"{folder.name}-{split}.csv").write_text(text)
    config = TargetConfig(
        root=str(folder),
        target="t",
        train=str(clips / f"{folder.name}-train.csv"),
        test=str(clips / f"{folder.name}-test.csv"),
        storage=TINY_STORAGE,
        execution=HERE,
    )
    return build_target(replace(config, **dict(changes)))


TRAIN = "path,label\n0.mp4,run\n1.mp4,jump\n2.mp4,run\nbroken.mp4,jump\n"
TEST = "label,path,extra\njump,3.mp4,x\nrun,./4.mp4,x\n"


def test_both_splits_are_datasets_with_the_same_label_ids(tmp_path, clips):
    markers = target(tmp_path, clips, TRAIN, TEST)
    assert {split: marker["num_videos"] for split, marker in markers.items()} == {"train": 3, "test": 2}
    assert markers["train"]["counts"]["shards"] == {"in": 4, "kept": 3, "dropped": {"not_a_video": 1}}
    for split, expected in (
        ("train", {"0.mp4": [1], "1.mp4": [0], "2.mp4": [1]}),
        ("test", {"3.mp4": [0], "4.mp4": [1]}),
    ):
        folder = tmp_path / "targets/t" / split
        space = json.loads((folder / "label_space.json").read_text())
        assert [(label["id"], label["name"]) for label in space["labels"]] == [(0, "jump"), (1, "run")]
        rows = storage.read_parquet_parts(str(folder / "manifest")).to_pylist()
        found = {row["uri"].rsplit("/", 1)[1]: row["label_ids"] for row in rows}
        assert {**found, "broken.mp4": [0]} == {**expected, "broken.mp4": [0]}
        assert {row["weight"] for row in rows} == {1.0}
        signatures = storage.read_parquet(str(folder / f"shards/t-{split}-000000.sig.parquet"))
        assert all(len(crops) >= len(census.CROPS) for crops in signatures["crops"].to_pylist())
        assert json.loads((folder / "dataset.json").read_text()) == markers[split]


def test_building_again_skips_and_another_table_is_refused(tmp_path, clips, capsys):
    first = target(tmp_path, clips, TRAIN, TEST)
    assert target(tmp_path, clips, TRAIN, TEST) == first
    assert "is whole" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"input_digests.train"):
        target(tmp_path, clips, TRAIN + "5.mp4,run\n", TEST)
    assert target(tmp_path, clips, TRAIN + "5.mp4,run\n", TEST, {"force": True})["train"]["num_videos"] == 4


def rows_of(root, split):
    return storage.read_parquet_parts(str(root / "targets/t" / split / "manifest")).to_pylist()


def test_repeated_and_incomplete_rows_are_counted_and_further_labels_kept(tmp_path, clips, capsys):
    markers = target(tmp_path, clips, TRAIN + "0.mp4,run\n,run\n5.mp4,\n1.mp4,run\n", TEST)
    assert markers["train"]["counts"]["rows"] == {
        "in": 8,
        "kept": 4,
        "dropped": {"further_label": 1, "incomplete_row": 2, "repeated_row": 1},
    }
    assert {row["uri"][-5:]: row["label_ids"] for row in rows_of(tmp_path, "train")}["1.mp4"] == [0, 1]
    assert {marker["multi_label"] for marker in markers.values()} == {True}
    assert "1 samples have several labels" in capsys.readouterr().out


def test_segments_are_samples_cut_from_one_reading_of_their_video(tmp_path, clips, monkeypatch):
    read = []
    monkeypatch.setattr(shard, "decode_segments", lambda *a: read.append(a[0]) or decoder.decode_segments(*a))
    train = (
        "path,labels,start_s,end_s,group\n0.mp4,run,0,0.25,a\n1.mp4,jump,0.5,,b\n0.mp4,run|jump,0.25,0.75,a\n"
        "0.mp4,run,0.2,0.5,a\n0.mp4,run,30,31,a\n0.mp4,jump,,,c\n"
    )
    test = "path,label,start_s,end_s\n0.mp4,run,0.75,1\n2.mp4,jump,0,1\n"
    one_shard = {"storage": replace(TINY_STORAGE, samples_per_shard=10)}
    markers = target(tmp_path, clips, train, test, one_shard)
    assert [path[-5:] for path in read].count("0.mp4") == 2  # once for each split
    assert markers["train"]["counts"]["shards"] == {"in": 6, "kept": 5, "dropped": {"no_frames": 1}}
    rows = rows_of(tmp_path, "train")
    assert len({row["video_id"] for row in rows}) == 6
    assert [row["video_id"] for row in rows] == sorted(row["video_id"] for row in rows)
    index = storage.read_parquet(str(tmp_path / "targets/t/train/shards/t-train-000000.parquet")).to_pylist()
    frames = {row["key"]: row["num_frames"] for row in index}
    found = {
        (r["uri"][-5:], r["start_s"], r["end_s"]): (frames[r["video_id"]], r["label_ids"], r["group"]) for r in rows
    }
    assert found == {  # of 12 frames in a second
        ("0.mp4", 0.0, 0.25): (3, [1], "a"),
        ("1.mp4", 0.5, None): (6, [0], "b"),
        ("0.mp4", 0.25, 0.75): (6, [0, 1], "a"),
        ("0.mp4", 0.2, 0.5): (3, [1], "a"),
        ("0.mp4", 30.0, 31.0): (None, [1], "a"),
        ("0.mp4", None, None): (12, [0], "c"),
    }


def test_one_table_may_hold_both_splits(tmp_path, clips):
    table = "path,label,split\n0.mp4,run,train\n1.mp4,jump,training\n2.mp4,run,validate\n3.mp4,jump,test\n4.mp4,run,\n"
    with pytest.raises(ConfigError, match="both validation and test rows: choose one with --test-split"):
        target(tmp_path, clips, table, "", {"test": ""})
    markers = target(tmp_path, clips, table, "", {"test": "", "test_split": "val"})
    assert markers["train"]["counts"]["rows"] == {"in": 5, "kept": 2, "dropped": {"other_split": 3}}
    assert markers["test"]["counts"]["rows"] == {"in": 5, "kept": 1, "dropped": {"other_split": 4}}
    with pytest.raises(ConfigError, match="no rows of the split 'dev2', only of test, train, val"):
        target(tmp_path, clips, table, "", {"test": "", "test_split": "dev2"})


def test_test_labels_that_training_lacks_are_dropped_and_said(tmp_path, clips, capsys):
    test = "path,labels\n2.mp4,swim\n3.mp4,jump|swim\n4.mp4,Run\n5.mp4,run\n"
    markers = target(tmp_path, clips, "path,label\n0.mp4,run\n1.mp4,jump\n", test)
    assert markers["test"]["counts"]["rows"] == {"in": 4, "kept": 2, "dropped": {"label_not_in_train": 2}}
    assert markers["test"]["labels_only_in_test"] == [
        {"name": "Run", "num_samples": 1},
        {"name": "swim", "num_samples": 2},
    ]
    assert not markers["test"]["multi_label"]
    said = capsys.readouterr().out
    assert "2 of 4 test samples have no other and are dropped" in said
    assert "written in several ways are several labels: 'Run', 'run'" in said


def test_videos_are_found_by_template_and_missing_ones_counted(tmp_path, clips):
    folder = tmp_path / "videos"
    (folder / "air drumming").mkdir(parents=True)
    (folder / "ski_jumping").mkdir()
    for name, clip in (
        ("air drumming/aaa_000001_000002.mp4", 0),
        ("bbb.webm", 1),
        ("ski_jumping/ccc_000000_000001.mkv", 2),
    ):
        (folder / name).write_bytes((clips / f"{clip}.mp4").read_bytes())
    table = "label,youtube_id,time_start,time_end,split\nair drumming,aaa,1,2,train\nski jumping,bbb,0,1,train\n"
    table += "ski jumping,ccc,0,1,val\nair drumming,ddd,0,1,val\n"
    markers = target(tmp_path, clips, table, "", {"test": "", "videos": str(folder)})
    assert markers["test"]["counts"]["rows"] == {"in": 4, "kept": 1, "dropped": {"missing_file": 1, "other_split": 2}}
    spans = {row["uri"].rsplit("/", 1)[1]: row["end_s"] for row in rows_of(tmp_path, "train")}
    assert spans == {"aaa_000001_000002.mp4": None, "bbb.webm": 1.0}  # the first is trimmed already
    (folder / "ddd.mp4").write_bytes((clips / "3.mp4").read_bytes())
    with pytest.raises(ConfigError, match=r"input_digests\.test_videos"):
        target(tmp_path, clips, table, "", {"test": "", "videos": str(folder)})


def test_a_label_without_test_videos_is_said(tmp_path, clips, capsys):
    target(tmp_path, clips, TRAIN + "5.mp4,swim\n", TEST)
    assert "1 labels have no test video, e.g. 'swim'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("file,label\n0.mp4,run\n", TEST, "no known format: found the first line 'file,label'"),
        ("", TEST, "in no known format: found nothing"),
        ("path,label\n", TEST, "none of its 0 rows can be used"),
        ("path,label\n0.mp4,\n", TEST, r"none of its 1 rows can be used \(incomplete_row 1\)"),
        ("path,label\n0.mp4,run\n", "path,label\n1.mp4,run\n", "a target with one class"),
        (
            TRAIN,
            "path,label\n5.mp4,swim\n",
            r"--test .*-test.csv': none of its 1 rows can be used \(label_not_in_train 1\)",
        ),
        (TRAIN, "path,label\n./0.mp4,run\n", r"1 files are in both --train and --test, e.g. '.*/0.mp4'"),
        ("path,label\ngone.mp4,run\nlost.mp4,jump\n", TEST, "none of the videos could be stored"),
    ],
)
def test_bad_tables_are_named(tmp_path, clips, train, test, message):
    with pytest.raises(ConfigError, match=message):
        target(tmp_path, clips, train, test)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_split_is_named(tmp_path, clips, split):
    with pytest.raises(ConfigError, match=f"a target needs both splits.*set --{split} to "):
        target(tmp_path, clips, TRAIN, TEST, changes={split: ""})
    with pytest.raises(ConfigError, match="cannot read the target table"):
        target(tmp_path, clips, TRAIN, TEST, changes={split: str(clips / "nowhere.csv")})
