"""The mapped index of a large dataset says what gathering says, is made once, and is never stale or half written."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pipeline import artifacts, storage
from pipeline.artifacts import DatasetFiles
from pipeline.config import ConfigError
from pipeline.storage import StorageError
from pretrain import sample_index, sample_rows
from pretrain.samples import Samples, open_samples
from tests.pretrain.test_samples import exclude


@pytest.fixture
def files(root, tmp_path) -> DatasetFiles:
    """Of a copy of the small dataset, its manifest in one part for each shard, as a build writes it."""
    shutil.copytree(root / "datasets" / "tiny", tmp_path / "datasets" / "tiny")
    files = artifacts.dataset_files(str(tmp_path), "tiny")
    manifest = storage.read_parquet_parts(files.manifest)
    for part, start in enumerate(range(0, 24, 10)):
        storage.write_parquet(f"{files.manifest}/part-{part:05d}.parquet", manifest.slice(start, 10))
    return files


@pytest.fixture
def mapped(monkeypatch):
    """Every dataset counts as large."""
    monkeypatch.setattr(sample_index, "MAPPED_FROM_SHARDS", 1)


def opened(files: DatasetFiles, scratch: str = "") -> Samples:
    return open_samples(files, "build it", scratch)


def assert_same(one: Samples, other: Samples) -> None:
    assert one.keys.to_pylist() == other.keys.to_pylist()
    assert (one.total, one.dropped, one.digests, one.shards) == (
        other.total,
        other.dropped,
        other.digests,
        other.shards,
    )
    assert one.columns.keys() == other.columns.keys()
    for name, values in one.columns.items():
        np.testing.assert_array_equal(values, other.columns[name])
        assert values.dtype == other.columns[name].dtype
    np.testing.assert_array_equal(one.label_offsets, other.label_offsets)
    np.testing.assert_array_equal(one.label_ids, other.label_ids)


def no_gathering(monkeypatch) -> None:
    monkeypatch.setattr(sample_index, "read_rows", lambda *_: pytest.fail("gathered again"))


def test_the_index_says_what_gathering_says(files, root, monkeypatch):
    whole, gathered = opened(artifacts.dataset_files(str(root), "tiny")), opened(files)
    assert_same(Samples(**{**vars(whole), "shards": gathered.shards}), gathered)  # one part, or one for each shard
    assert not os.path.exists(files.index)
    monkeypatch.setattr(sample_index, "MAPPED_FROM_SHARDS", 1)
    first = opened(files)
    no_gathering(monkeypatch)
    second = opened(files)
    for samples in (first, second):
        assert_same(samples, gathered)
        assert samples.read(7) == gathered.read(7)
        assert not samples.columns["weight"].flags.writeable


def test_another_dedup_has_another_index_and_the_old_one_goes(files, mapped):
    before = opened(files)
    (old,) = Path(files.index).glob("*/index.json")
    exclude(files.folder.removesuffix("/datasets/tiny"), "tiny", ["v0002", "v0007"])
    after = opened(files)
    assert after.keys.to_pylist() == [key for key in before.keys.to_pylist() if key not in ("v0002", "v0007")]
    assert before.read(22) == after.read(20)  # whoever has the old one open keeps it
    (new,) = Path(files.index).glob("*/index.json")
    assert new != old


def test_a_gathering_that_stops_leaves_nothing_that_could_be_read(files, mapped, monkeypatch):
    def stop(job, piece):
        if piece[1].start == 2:
            raise KeyboardInterrupt
        return sample_rows.read_rows(job, piece)

    with monkeypatch.context() as patch:
        patch.setattr(sample_index, "read_rows", stop)
        with pytest.raises(KeyboardInterrupt):
            opened(files)
    assert [path.name for path in Path(files.index).iterdir()] == ["lock"]
    assert len(opened(files)) == 23


def test_processes_that_open_at_once_gather_once(files, mapped, monkeypatch):
    calls = []

    def count(job, piece):
        calls.append(piece)
        return sample_rows.read_rows(job, piece)

    monkeypatch.setattr(sample_index, "read_rows", count)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: opened(files), range(4)))
    assert len(calls) == 3
    for samples in found[1:]:
        assert_same(samples, found[0])


def test_a_damaged_index_names_itself_and_the_remedy(files, mapped):
    opened(files)
    (column,) = Path(files.index).glob("*/key_bytes.npy")
    content = column.read_bytes()
    column.write_bytes(content[:-3])
    with pytest.raises(StorageError, match=r"key_bytes\.npy'.*remove '.*', it is made anew"):
        opened(files)
    column.unlink()
    with pytest.raises(StorageError, match=r"key_bytes\.npy'.*remove '.*', it is made anew"):
        opened(files)


def test_a_folder_that_cannot_be_written_to_has_its_index_elsewhere(files, mapped, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    samples = opened(files, str(tmp_path / "scratch"))
    no_gathering(monkeypatch)
    assert_same(samples, opened(files, str(tmp_path / "scratch")))
    assert not os.path.exists(files.index)


def test_a_dataset_behind_a_url_has_its_index_here(files, mapped, monkeypatch, tmp_path):
    for path in Path(files.folder).rglob("*"):
        if path.is_file():
            storage.write_bytes(f"memory://there/tiny/{path.relative_to(files.folder)}", path.read_bytes())
    there = DatasetFiles("memory://there/tiny", "tiny")
    expected = opened(files)
    assert opened(there, str(tmp_path / "scratch")).read(3) == expected.read(3)
    no_gathering(monkeypatch)
    samples = opened(there, str(tmp_path / "scratch"))
    assert_same(Samples(**{**vars(samples), "shards": expected.shards}), expected)


def test_a_manifest_that_its_shards_do_not_know_is_an_error(files):
    part = f"{files.manifest}/part-00001.parquet"
    first = storage.read_parquet(f"{files.manifest}/part-00000.parquet")
    storage.write_parquet(part, first.slice(0, 1))
    with pytest.raises(StorageError, match=r"tiny-000001\.parquet' lacks 'v0000' of .*part-00001"):
        opened(files)


def test_nothing_left_is_an_error_and_no_index(files, mapped):
    exclude(files.folder.removesuffix("/datasets/tiny"), "tiny", [f"v{i:04d}" for i in range(24)])
    with pytest.raises(ConfigError, match=r"24 = 0 kept.*'overlaps_a_target': 24"):
        opened(files)
    assert list(Path(files.index).glob("*/index.json")) == []
