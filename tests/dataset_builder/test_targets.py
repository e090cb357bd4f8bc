"""path,label tables → a target with a training and a test split."""

import json
from dataclasses import replace

import pytest

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


def test_repeated_and_incomplete_rows_are_counted(tmp_path, clips):
    markers = target(tmp_path, clips, TRAIN + "0.mp4,run\n,run\n5.mp4,\n1.mp4,run\n", TEST)
    assert markers["train"]["counts"]["rows"] == {
        "in": 8,
        "kept": 4,
        "dropped": {"incomplete_row": 2, "repeated_path": 2},
    }
    rows = storage.read_parquet_parts(str(tmp_path / "targets/t/train/manifest")).to_pylist()
    assert {row["uri"][-5:]: row["label_ids"] for row in rows}["1.mp4"] == [0, 1]


def test_a_label_without_test_videos_is_said(tmp_path, clips, capsys):
    target(tmp_path, clips, TRAIN + "5.mp4,swim\n", TEST)
    assert "1 labels have no test video, e.g. 'swim'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("file,label\n0.mp4,run\n", TEST, r"train.csv' has no column path; it has: file, label"),
        ("", TEST, "it has: nothing"),
        ("path,label\n", TEST, "no row with a path and a label"),
        ("path,label\n0.mp4,run\n", "path,label\n1.mp4,run\n", "a target with one class"),
        (TRAIN, TEST + "swim,5.mp4,x\n", "labels only in --test: 'swim'"),
        (TRAIN, "path,label\n./0.mp4,run\n", r"1 files are in both --train and --test, e.g. '.*/0.mp4'"),
        ("path,label\ngone.mp4,run\nlost.mp4,jump\n", TEST, "none of the videos could be stored"),
    ],
)
def test_bad_tables_are_named(tmp_path, clips, train, test, message):
    with pytest.raises(ConfigError, match=message):
        target(tmp_path, clips, train, test)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_split_is_named(tmp_path, clips, split):
    with pytest.raises(ConfigError, match=f"set --{split} to a CSV"):
        target(tmp_path, clips, TRAIN, TEST, changes={split: ""})
    with pytest.raises(ConfigError, match="cannot read the target table"):
        target(tmp_path, clips, TRAIN, TEST, changes={split: str(clips / "nowhere.csv")})
