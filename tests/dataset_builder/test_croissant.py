"""croissant.json: read by the reference implementation without a complaint it could be spared, true to what is stored."""

import hashlib
import json

import mlcroissant
import pytest
from etils import epath
from mlcroissant._src.operation_graph.operations import extract

from dataset_builder.build import build
from dataset_builder.compact import compact
from dataset_builder.targets import build_target
from pipeline import artifacts, storage
from pipeline.config import CompactConfig, SamplingConfig, TargetConfig
from tests.dataset_builder.small_world import HERE, TINY_STORAGE, build_config, make_world
from tests.dataset_builder.test_compact import exclude, index_rows

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what mlcroissant calls
FOLDERS = ["datasets/d", "datasets/few", "datasets/clean", "targets/t/train", "targets/t/test"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """8 videos, and a post of one that is gone; annotations of three of them."""
    folder = make_world(tmp_path_factory.mktemp("world"), 8)
    with (folder / "posts.jsonl").open("a") as file:
        file.write(json.dumps({"post_id": "bad", "video_uri": "gone.mp4", "hashtags": ["surf"]}) + "\n")
    (folder / "train.csv").write_text("path,label\n0.mp4,run\n1.mp4,jump\n")
    (folder / "test.csv").write_text("path,label\n2.mp4,run\n")
    return folder


def make_all(world, root):
    """A dataset of which one video is excluded, a subset of 4, a copy of what is kept, and a target."""
    build(build_config(world, root))
    files = artifacts.dataset_files(str(root), "d")
    key = next(row["key"] for row in index_rows(files) if row["status"] == "ok")
    exclude(files, [dict.fromkeys(artifacts.EXCLUSIONS.names) | {"video_id": key}])
    build(build_config(world, root, "few", base="d", sampling=SamplingConfig(num_videos=4, min_videos=1)))
    compact(CompactConfig(root=str(root), dataset="d", to="clean", execution=HERE))
    tables = {split: str(world / f"{split}.csv") for split in ("train", "test")}
    build_target(TargetConfig(root=str(root), target="t", **tables, storage=TINY_STORAGE, execution=HERE))


@pytest.fixture(scope="module")
def root(world, tmp_path_factory):
    root = tmp_path_factory.mktemp("built")
    make_all(world, root)
    return root


@pytest.fixture(params=FOLDERS)
def folder(request, root, tmp_path, monkeypatch):
    """Each of the datasets. mlcroissant unpacks tars into a cache that knows them by their relative paths alone."""
    monkeypatch.setattr(extract, "EXTRACT_PATH", epath.Path(tmp_path))
    return root / request.param


def load(folder):
    return mlcroissant.Dataset(folder / "croissant.json")


def records(folder, name):
    """Without the record set's name before each field, and text as str."""
    for record in load(folder).records(name):
        yield {
            key.partition("/")[2]: value.decode() if isinstance(value, bytes) and key != "videos/video" else value
            for key, value in record.items()
        }


def test_only_what_the_publisher_has_to_say_is_missed(folder):
    issues = load(folder).metadata.ctx.issues
    assert not issues.errors
    missed = {warning.partition('"')[2].partition('"')[0].rpartition("/")[2] for warning in issues.warnings}
    assert missed == {"citeAs", "datePublished", "license", "version"}
    assert len(issues.warnings) == 4


def test_the_manifest_is_read_as_it_is_written(folder):
    written = storage.read_parquet_parts(str(folder / "manifest")).drop_columns(["group"])
    assert list(records(folder, "manifest")) == written.to_pylist()


def test_videos_are_those_of_the_tars_and_labels_those_of_the_dataset(folder):
    marker = storage.read_json(str(folder / "dataset.json"))
    stored = {}
    for shard in artifacts.shard_paths(artifacts.DatasetFiles(str(folder), folder.name), marker):
        for row in storage.read_parquet(f"{shard}.parquet").to_pylist():
            if row["status"] == "ok":
                stored[row["key"]] = storage.read_range(f"{shard}.tar", row["video_offset"], row["video_size"])
    assert {record["key"]: record["video"] for record in records(folder, "videos")} == stored
    assert list(records(folder, "labels")) == marker["labels"]


def test_the_index_says_what_was_not_stored(root):
    found = {record["key"]: record for record in records(root / "datasets/d", "index")}
    rows = index_rows(artifacts.dataset_files(str(root), "d"))
    assert {key: record["reason"] for key, record in found.items()} == {row["key"]: row["reason"] for row in rows}
    stored = [row for row in rows if row["status"] == "ok"]
    assert len(stored) == 8
    for row in stored:
        assert found[row["key"]] == {name: row[name] for name in found[row["key"]]}


def test_tars_have_their_sizes_and_checksums(folder):
    content = json.loads((folder / "croissant.json").read_text())
    tars = [file for file in content["distribution"] if file["@type"] == "cr:FileObject"]
    assert tars
    for tar in tars:
        data = (folder / tar["contentUrl"]).read_bytes()
        assert (tar["sha256"], tar["contentSize"]) == (hashlib.sha256(data).hexdigest(), f"{len(data)} B")


def test_counts_and_origin_are_told(root):
    def said(folder):
        return json.loads((root / folder / "croissant.json").read_text())

    collected = said("datasets/d")["rai:dataCollection"]
    assert "source 'source'" in collected
    assert "Posts: 9 = 9 kept" in collected
    assert "Shards: 9 = 8 kept + 1 missing." in collected
    assert said("datasets/d")["rai:dataCollectionMissingData"] == "Not stored, by reason: 1 missing."
    assert "Compact: 9 = 7 kept + 1 excluded + 1 missing." in said("datasets/clean")["rai:dataCollection"]
    assert "4 videos asked for" in said("datasets/few")["description"]
    assert (root / "datasets/few" / said("datasets/few")["isBasedOn"]).exists()


def test_the_same_dataset_gives_the_same_bytes_and_no_path_of_this_machine(world, root, tmp_path):
    make_all(world, tmp_path)
    for folder in FOLDERS:
        text = (root / folder / "croissant.json").read_text()
        assert (tmp_path / folder / "croissant.json").read_text() == text
        assert str(root) not in text
        assert str(world) not in text


def test_a_build_killed_before_its_seal_has_it_again_and_a_whole_one_is_left_alone(world, tmp_path):
    build(build_config(world, tmp_path))
    written, marker = tmp_path / "datasets/d/croissant.json", tmp_path / "datasets/d/dataset.json"
    text, sealed = written.read_text(), marker.read_text()
    written.unlink()
    build(build_config(world, tmp_path))
    assert not written.exists()  # of an older build: no fault
    marker.unlink()
    build(build_config(world, tmp_path))
    assert (written.read_text(), marker.read_text()) == (text, sealed)
