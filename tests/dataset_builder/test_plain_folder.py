"""Shards are a WebDataset wherever they lie: found by glob or by range of numbers in a folder that has nothing else."""

import glob
import shutil

import pytest
import webdataset

from dataset_builder.build import build
from pipeline import video
from tests.dataset_builder.small_world import build_config, make_world


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """(root of a dataset of 9 videos in 3 shards, a folder with a copy of its tars and of nothing else)."""
    world, root = make_world(tmp_path_factory.mktemp("world"), 9), tmp_path_factory.mktemp("built")
    marker = build(build_config(world, root))
    folder = tmp_path_factory.mktemp("elsewhere")
    for shard in marker["shards"]:
        shutil.copy(root / "datasets/d" / f"{shard['path']}.tar", folder)
    return marker, folder


@pytest.mark.parametrize(
    "find", [lambda folder: sorted(glob.glob(f"{folder}/*.tar")), "{}/d-{{000000..000002}}.tar".format]
)
def test_webdataset_reads_tars_alone(copied, find):
    marker, folder = copied
    assert len(list(folder.iterdir())) == 3
    dataset = webdataset.WebDataset(find(folder), shardshuffle=False).decode().to_tuple("__key__", "mp4", "json")
    samples = list(dataset)
    assert len({key for key, _, _ in samples}) == marker["num_videos"] == 9
    names = [label["name"] for label in marker["labels"]]
    for key, mp4, described in samples:
        assert described["id"] == key
        assert described["labels"] == [names[i] for i in described["label_ids"]]
        assert len(video.read_video(mp4)) == described["num_frames"]
