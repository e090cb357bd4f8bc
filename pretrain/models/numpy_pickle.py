"""Pickles of NumPy arrays, the form of Caffe2's weights: read without running anything, written as Python 2 wrote them.

A pickle is a program, and whoever wrote the file wrote the program. This reader gives it nothing to call but two
stand-ins, for an array and for a dtype, which take numbers and nothing else: the real NumPy classes can be led to read
memory that is not theirs. Any other name that the file asks for, and any instruction that arrays do not need, ends it.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

PLAIN_DTYPE = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
REFUSED = (
    *(pickle.PERSID, pickle.BINPERSID, pickle.EXT1, pickle.EXT2, pickle.EXT4),
    *(pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX),
    *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
)


class _Dtype:
    """Stands for `numpy.dtype`: booleans, integers and floats of a stated size; of its state only the byte order."""

    def __init__(self, spec: str, align: bool = False, copy: bool = False) -> None:
        if not isinstance(spec, str) or not PLAIN_DTYPE.fullmatch(spec):
            raise pickle.UnpicklingError(f"an array of dtype {spec!r}: only numbers are read")
        self.dtype = np.dtype(spec)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for `numpy.ndarray` and for the function that makes an empty one; `__setstate__` brings the numbers."""

    value: np.ndarray | None = None

    def __init__(self, kind: type, shape: tuple[int, ...], typecode: str) -> None:
        """What NumPy passes before the state; all of it comes again with the state."""

    def __setstate__(self, state: tuple) -> None:
        _version, shape, dtype, is_fortran, raw = state
        self.value = _numbers(dtype, raw).reshape(shape, order="F" if is_fortran else "C")


class _Scalar:
    """Stands for NumPy's function that makes a scalar."""

    def __init__(self, dtype: _Dtype, raw: str | bytes) -> None:
        self.value = _numbers(dtype, raw).reshape(())


def _numbers(dtype: Any, raw: Any) -> np.ndarray:
    data = raw.encode("latin1") if isinstance(raw, str) else raw
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
        raise pickle.UnpicklingError("an array of objects: only numbers are read")
    return np.frombuffer(data, dtype.dtype)


class _ArrayUnpickler(pickle._Unpickler):
    """The interpreter written in Python: its table of instructions can be cut, and no index into it costs memory."""

    dispatch: ClassVar[dict] = {
        code: method for code, method in pickle._Unpickler.dispatch.items() if bytes([code]) not in REFUSED
    }
    admitted: ClassVar[dict] = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
        **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
    }

    def find_class(self, module: str, name: str) -> type:
        if (module, name) not in self.admitted:
            raise pickle.UnpicklingError(f"asks for {module}.{name}")
        return self.admitted[module, name]


def load_arrays(data: bytes) -> dict[str, np.ndarray]:
    """Arrays by name, of a pickle `{'blobs': {name: array}}` or `{name: array}` of Python 2 or 3.

    Nothing in the file is run.

    Raises:
        pickle.UnpicklingError: it holds or asks for anything else, or is damaged.
    """
    try:
        content = _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # whatever a misled interpreter runs into
        raise pickle.UnpicklingError(f"damaged: {type(error).__name__}: {error}") from error
    blobs = content.get("blobs", content) if isinstance(content, dict) else None
    if not isinstance(blobs, dict):
        raise pickle.UnpicklingError("a dictionary {'blobs': {name: array}} was expected")
    for name, blob in blobs.items():
        if not isinstance(name, str) or getattr(blob, "value", None) is None:
            raise pickle.UnpicklingError(f"{name!r} is a {type(blob).__name__}, not an array")
    return {name: blob.value for name, blob in blobs.items()}


# ------------------------------------------------------------------------------------------------------ writing


def dump_arrays(blobs: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    """The pieces of a pickle `{'blobs': {name: array}}` in protocol 2, strings as Python 2's: Caffe2 was Python 2's.

    Python's own pickler would write text and bytes in forms that Python 2 reads as other types, or slowly.
    """
    yield pickle.PROTO + b"\x02" + pickle.EMPTY_DICT + _string(b"blobs") + pickle.EMPTY_DICT + pickle.MARK
    for name, array in blobs.items():
        yield _string(name.encode("ascii"))
        yield from _array(array)
    yield pickle.SETITEMS + pickle.SETITEM + pickle.STOP


def _array(array: np.ndarray) -> Iterator[bytes]:
    """ndarray's `__reduce__`, (_reconstruct, (ndarray, (0,), 'b'), state), as instructions; the numbers in C order."""
    yield _global("numpy.core.multiarray", "_reconstruct") + _global("numpy", "ndarray")
    yield _integer(0) + pickle.TUPLE1 + _string(b"b") + pickle.TUPLE3 + pickle.REDUCE
    yield pickle.MARK + _integer(1)
    yield pickle.MARK + b"".join(map(_integer, array.shape)) + pickle.TUPLE
    yield _dtype(array.dtype) + pickle.NEWFALSE
    yield _string(array.tobytes()) + pickle.TUPLE + pickle.BUILD


def _dtype(dtype: np.dtype) -> bytes:
    """dtype's `__reduce__`: (dtype, (spec, False, True), (3, byte order, None, None, None, -1, -1, 0))."""
    order = {"=": b"<" if np.little_endian else b">"}.get(dtype.byteorder, dtype.byteorder.encode())
    made = _string(dtype.str[1:].encode()) + _integer(0) + _integer(1) + pickle.TUPLE3 + pickle.REDUCE
    state = _integer(3) + _string(order) + 3 * pickle.NONE + _integer(-1) + _integer(-1) + _integer(0)
    return _global("numpy", "dtype") + made + pickle.MARK + state + pickle.TUPLE + pickle.BUILD


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _integer(value: int) -> bytes:
    return pickle.BININT + struct.pack("<i", value)


def _string(value: bytes) -> bytes:
    """A Python 2 `str` of less than 2 GiB."""
    return pickle.BINSTRING + struct.pack("<i", len(value)) + value
