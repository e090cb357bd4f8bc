"""A stage is done, resumed or refused by its two files: config.json first, the marker last."""

import dataclasses

import pyarrow as pa
import pytest

from pipeline import artifacts, storage
from pipeline.config import BuildConfig, ConfigError
from pipeline.exclusions import read_exclusions


@pytest.fixture
def stage(tmp_path):
    files = artifacts.dataset_files(str(tmp_path), "d")
    return files.folder, files.marker


def test_a_new_stage_has_work_to_do_and_a_sealed_one_has_not(stage):
    config = BuildConfig(dataset="d")
    assert artifacts.open_stage(*stage, config, {"posts": "1"}) is None
    assert artifacts.open_stage(*stage, config, {"posts": "1"}) is None  # begun, not sealed: resume
    sealed = artifacts.seal(*stage, {"videos": 3}, shards=[])
    again = artifacts.open_stage(*stage, dataclasses.replace(config, root="moved"), {"posts": "1"})
    assert again == sealed
    assert again["counts"] == {"videos": 3}


def test_another_config_or_input_is_refused_with_the_field_named(stage):
    artifacts.open_stage(*stage, BuildConfig(dataset="d"), {"posts": "1"})
    changed = BuildConfig(dataset="d", storage=dataclasses.replace(BuildConfig().storage, crf=30))
    with pytest.raises(ConfigError, match=r"storage.crf: 20 → 30[\s\S]*--force"):
        artifacts.open_stage(*stage, changed, {"posts": "1"})
    with pytest.raises(ConfigError, match=r"input_digests.posts: '1' → '2'"):
        artifacts.open_stage(*stage, BuildConfig(dataset="d"), {"posts": "2"})


def test_a_changed_config_is_refused_before_the_inputs_are_known(stage):
    artifacts.check_config(stage[0], BuildConfig(dataset="d"))
    artifacts.open_stage(*stage, BuildConfig(dataset="d"), {"posts": "1"})
    artifacts.check_config(stage[0], BuildConfig(dataset="d"))
    changed = BuildConfig(dataset="d", storage=dataclasses.replace(BuildConfig().storage, crf=30))
    artifacts.check_config(stage[0], dataclasses.replace(changed, force=True))
    with pytest.raises(ConfigError, match=r"storage.crf: 20 → 30[\s\S]*--force"):
        artifacts.check_config(stage[0], changed)


@pytest.mark.parametrize("name", ["", ".", "..", "../other", "a/b", "a\\b", ".hidden", "a\nb"])
def test_a_name_that_leads_elsewhere_is_refused(name):
    for files in (artifacts.dataset_files, artifacts.source_files, artifacts.run_files, artifacts.label_report):
        with pytest.raises(ConfigError, match="the name of a "):
            files("root", name)
    assert artifacts.dataset_files("root", "naïve data-1.5+x").name == "naïve data-1.5+x"


def test_force_discards_what_is_there(stage, tmp_path):
    artifacts.open_stage(*stage, BuildConfig(dataset="d"), {})
    artifacts.seal(*stage, {})
    forced = BuildConfig(dataset="d", force=True, sampling=dataclasses.replace(BuildConfig().sampling, seed=1))
    assert artifacts.open_stage(*stage, forced, {}) is None
    assert not storage.exists(stage[1])


def test_digest_of_a_seal_follows_its_content(stage):
    artifacts.open_stage(*stage, BuildConfig(dataset="d"), {})
    first = artifacts.seal(*stage, {"videos": 3})
    assert artifacts.seal(*stage, {"videos": 3})["digest"] == first["digest"]
    assert artifacts.seal(*stage, {"videos": 4})["digest"] != first["digest"]


def test_exclusions_are_none_before_dedup_and_refused_during_it(tmp_path):
    files = artifacts.dataset_files(str(tmp_path), "d")
    assert read_exclusions(files) == (set(), "")
    storage.write_json(storage.join(files.dedup, "config.json"), {})
    with pytest.raises(ConfigError, match="not finished"):
        read_exclusions(files)
    row = dict.fromkeys(artifacts.EXCLUSIONS.names) | {"video_id": "v"}
    storage.write_parquet(files.exclusions, pa.Table.from_pylist([row], artifacts.EXCLUSIONS), artifacts.EXCLUSIONS)
    storage.write_json(files.dedup_marker, {"digest": "abc", "input_digests": {"dataset": "1"}})
    storage.write_json(files.marker, {"digest": "1"})
    assert read_exclusions(files) == ({"v"}, "abc")
    storage.write_json(files.marker, {"digest": "2"})
    with pytest.raises(ConfigError, match=r"dataset 'd' has changed since its dedup: .* --force"):
        read_exclusions(files)
    storage.remove(files.dedup)  # what --force does first; the old list must not pass for no list
    with pytest.raises(ConfigError, match="not finished"):
        read_exclusions(files)


@pytest.mark.parametrize("folder", ["data/datasets/small", "s3://bucket/datasets/small"])
def test_shards_of_a_subset_are_found_in_its_base(folder):
    files = artifacts.DatasetFiles(folder, "small")
    marker = {"shards": [{"path": "shards/small-000000"}, {"path": "../source/shards/source-000007"}]}
    beside = folder.removesuffix("/small")
    assert artifacts.shard_paths(files, marker) == [
        f"{folder}/shards/small-000000",
        f"{beside}/source/shards/source-000007",
    ]
