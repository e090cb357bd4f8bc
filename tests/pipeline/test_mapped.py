"""An object comes back as it was, and its arrays are the file's memory."""

import gc
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from pipeline import mapped


@dataclass(frozen=True)
class Thing:
    name: str
    codes: np.ndarray
    empty: np.ndarray
    table: pa.Table


def test_any_object_comes_back(tmp_path):
    thing = Thing("ß", np.arange(1000, dtype=np.uint64)[::2], np.empty((0, 4), np.int64), pa.table({"a": ["x", None]}))
    mapped.write(tmp_path / "shared", thing)
    found = mapped.read(tmp_path / "shared")
    assert (found.name, found.table.to_pydict()) == ("ß", {"a": ["x", None]})
    assert found.codes.tolist() == list(range(0, 1000, 2))
    assert found.empty.shape == (0, 4)
    mapped.write(tmp_path / "nothing", None)
    assert mapped.read(tmp_path / "nothing") is None


def test_arrays_are_aligned_cannot_be_written_and_outlive_the_file(tmp_path):
    mapped.write(tmp_path / "shared", [np.ones(3, np.uint8), np.arange(100_000)])
    _, array = mapped.read(tmp_path / "shared")
    (tmp_path / "shared").unlink()
    gc.collect()
    assert array.ctypes.data % 64 == 0
    assert array.sum() == sum(range(100_000))
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
