"""One object for many processes of a machine: its arrays lie in a file that each of them maps instead of copying."""

from __future__ import annotations

import mmap
import pickle
from pathlib import Path
from typing import Any

_ALIGNMENT = 64  # of each array, as vector instructions like it


def write(path: str | Path, value: Any) -> None:
    """Write any picklable object, the memory of its NumPy and Arrow arrays apart."""
    arrays: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)
    with open(path, "wb") as file:
        places = []
        for array in arrays:
            file.seek(-(-file.tell() // _ALIGNMENT) * _ALIGNMENT)
            places.append((file.tell(), file.write(array.raw())))
        end = file.tell()
        pickle.dump((pickled, places), file)
        file.write(end.to_bytes(8, "little"))


def read(path: str | Path) -> Any:
    """The object, its arrays read-only; only files that this program wrote a moment ago may be read."""
    with open(path, "rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    pickled, places = pickle.loads(mapped[int.from_bytes(mapped[-8:], "little") : -8])
    return pickle.loads(pickled, buffers=[mapped[offset : offset + size] for offset, size in places])
