"""Whatever has a final name is whole, on local disk and through fsspec."""

import os

import pyarrow as pa
import pytest

from pipeline import storage

CALLS = ("write", "fsync", "replace")


@pytest.mark.parametrize("root", ["local", "memory://bucket"])
def test_round_trip(root, tmp_path):
    root = str(tmp_path) if root == "local" else root
    path = storage.join(root, "a", "b.bin")
    assert not storage.exists(path)
    storage.write_bytes(path, b"0123456789")
    assert storage.read_bytes(path) == b"0123456789"
    assert storage.read_range(path, 3, 4) == b"3456"
    assert [storage.read_bytes(found) for found in storage.listing(storage.join(root, "a", "*.bin"))] == [b"0123456789"]
    storage.remove(storage.join(root, "a"))
    assert not storage.exists(path)


@pytest.mark.parametrize("root", ["local", "memory://bucket-of-patterns"])
def test_a_folder_whose_name_looks_like_a_pattern_is_listed(root, tmp_path):
    root = str(tmp_path) if root == "local" else root
    for folder in ("run[1]*?", "run1"):
        for name in ("part-1.parquet", "part-0.parquet", "other"):
            storage.write_bytes(storage.join(root, folder, name), folder.encode())
    found = storage.parts_in(storage.join(root, "run[1]*?"))
    assert [path.rpartition("/")[2] for path in found] == ["part-0.parquet", "part-1.parquet"]
    assert {storage.read_bytes(path) for path in found} == {b"run[1]*?"}


def test_a_short_range_is_an_error(tmp_path):
    path = str(tmp_path / "f")
    storage.write_bytes(path, b"abc")
    with pytest.raises(storage.StorageError, match=r"ends early: 1 of 5 bytes"):
        storage.read_range(path, 2, 5)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(storage.StorageError, match=r"nothing-here"):
        storage.read_bytes(str(tmp_path / "nothing-here"))


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, failing):
    path = str(tmp_path / "f")
    storage.write_bytes(path, b"old")

    def fail(*arguments):
        raise OSError("disk is full")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="disk is full"):
        storage.write_bytes(path, b"new and longer")
    monkeypatch.undo()
    assert storage.read_bytes(path) == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_parquet_checks_its_schema_and_equal_tables_give_equal_bytes(tmp_path):
    schema = pa.schema([("a", pa.int32()), ("b", pa.string())])
    table = pa.table({"b": ["x", None], "a": [1, 2], "extra": [0, 0]})
    storage.write_parquet(str(tmp_path / "1"), table, schema)
    storage.write_parquet(str(tmp_path / "2"), table, schema)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert storage.read_parquet(str(tmp_path / "1")).schema.equals(schema)
    with pytest.raises(KeyError, match="a"):
        storage.write_parquet(str(tmp_path / "3"), table.drop(["a"]), schema)
    (tmp_path / "4").write_bytes(b"not parquet")
    with pytest.raises(storage.StorageError, match="4' is not readable Parquet"):
        storage.read_parquet(str(tmp_path / "4"))
