"""Pickles of arrays: what Python 2 and 3 write is read, what is anything else is refused and not run."""

import base64
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest

from pretrain.models.numpy_pickle import dump_arrays, load_arrays

# Written by cPickle of Python 2.7.18 with NumPy 1.16.6, in protocols 0, 1 and 2.
PYTHON_2 = (
    "KGRwMQpTJ2Jsb2JzJwpwMgooZHAzClMnZm9ydHJhbicKcDQKY251bXB5LmNvcmUubXVsdGlhcnJheQpfcmVjb25zdHJ1Y3QKcDUKKGNudW1weQpu"
    "ZGFycmF5CnA2CihJMAp0UydiJwp0UnA3CihJMQooSTIKSTMKdGNudW1weQpkdHlwZQpwOAooUydmNCcKSTAKSTEKdFJwOQooSTMKUyc8JwpOTk5J"
    "LTEKSS0xCkkwCnRiSTAxClMnXHgwMFx4MDBceDAwXHgwMFx4MDBceDAwQEBceDAwXHgwMFx4ODA/XHgwMFx4MDBceDgwQFx4MDBceDAwXHgwMEBc"
    "eDAwXHgwMFx4YTBAJwp0YnNTJ2JpZ19lbmRpYW4nCnAxMApnNQooZzYKKEkwCnRTJ2InCnRScDExCihJMQooSTIKdGc4CihTJ2Y4JwpJMApJMQp0"
    "UnAxMgooSTMKUyc+JwpOTk5JLTEKSS0xCkkwCnRiSTAwClMnP1x4ZjhceDAwXHgwMFx4MDBceDAwXHgwMFx4MDBceGMwXHgwMFx4MDBceDAwXHgw"
    "MFx4MDBceDAwXHgwMCcKdGJzUydzY2FsYXInCnAxMwpjbnVtcHkuY29yZS5tdWx0aWFycmF5CnNjYWxhcgpwMTQKKGc5ClMnXHgwMFx4MDBAQCcK"
    "dFJwMTUKc1MnY29udjFfdycKcDE2Cmc1CihnNgooSTAKdFMnYicKdFJwMTcKKEkxCihJMQpJMgpJMwp0ZzkKSTAwClMnXHgwMFx4MDBceDAwXHgw"
    "MFx4MDBceDAwXHg4MD9ceDAwXHgwMFx4MDBAXHgwMFx4MDBAQFx4MDBceDAwXHg4MEBceDAwXHgwMFx4YTBAJwp0YnNzLg==",
    "fXEBVQVibG9ic3ECfXEDKFUHZm9ydHJhbnEEY251bXB5LmNvcmUubXVsdGlhcnJheQpfcmVjb25zdHJ1Y3QKcQUoY251bXB5Cm5kYXJyYXkKcQYo"
    "SwB0VQFidFJxByhLAShLAksDdGNudW1weQpkdHlwZQpxCChVAmY0SwBLAXRScQkoSwNVATxOTk5K/////0r/////SwB0YkkwMQpVGAAAAAAAAEBA"
    "AACAPwAAgEAAAABAAACgQHRiVQpiaWdfZW5kaWFucQpoBShoBihLAHRVAWJ0UnELKEsBKEsCdGgIKFUCZjhLAEsBdFJxDChLA1UBPk5OTkr/////"
    "Sv////9LAHRiSTAwClUQP/gAAAAAAADAAAAAAAAAAHRiVQZzY2FsYXJxDWNudW1weS5jb3JlLm11bHRpYXJyYXkKc2NhbGFyCnEOKGgJVQQAAEBA"
    "dFJxD1UHY29udjFfd3EQaAUoaAYoSwB0VQFidFJxEShLAShLAUsCSwN0aAlJMDAKVRgAAAAAAACAPwAAAEAAAEBAAACAQAAAoEB0YnVzLg==",
    "gAJ9cQFVBWJsb2JzcQJ9cQMoVQdmb3J0cmFucQRjbnVtcHkuY29yZS5tdWx0aWFycmF5Cl9yZWNvbnN0cnVjdApxBWNudW1weQpuZGFycmF5CnEG"
    "SwCFVQFih1JxByhLAUsCSwOGY251bXB5CmR0eXBlCnEIVQJmNEsASwGHUnEJKEsDVQE8Tk5OSv////9K/////0sAdGKIVRgAAAAAAABAQAAAgD8A"
    "AIBAAAAAQAAAoEB0YlUKYmlnX2VuZGlhbnEKaAVoBksAhVUBYodScQsoSwFLAoVoCFUCZjhLAEsBh1JxDChLA1UBPk5OTkr/////Sv////9LAHRi"
    "iVUQP/gAAAAAAADAAAAAAAAAAHRiVQZzY2FsYXJxDWNudW1weS5jb3JlLm11bHRpYXJyYXkKc2NhbGFyCnEOaAlVBAAAQECGUnEPVQdjb252MV93"
    "cRBoBWgGSwCFVQFih1JxEShLAUsBSwJLA4doCYlVGAAAAAAAAIA/AAAAQAAAQEAAAIBAAACgQHRidXMu",
)
EXPECTED = {
    "conv1_w": np.arange(6, dtype=np.float32).reshape(1, 2, 3),
    "big_endian": np.array([1.5, -2.0]),
    "fortran": np.arange(6, dtype=np.float32).reshape(2, 3),
    "scalar": np.array(3, np.float32),
}


def assert_arrays(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].shape == array.shape
        assert found[name].dtype.kind == array.dtype.kind
        assert found[name].dtype.itemsize == array.dtype.itemsize


@pytest.mark.parametrize("written", PYTHON_2)
def test_what_python_2_wrote_is_read(written):
    assert_arrays(load_arrays(base64.b64decode(written)), EXPECTED)


@pytest.mark.parametrize("protocol", [3, 4])
def test_what_this_python_writes_is_read_with_or_without_the_wrapping(protocol):
    assert_arrays(load_arrays(pickle.dumps({"blobs": EXPECTED}, protocol)), EXPECTED)
    assert_arrays(load_arrays(pickle.dumps(EXPECTED, protocol)), EXPECTED)


def test_what_is_written_is_read_by_pickle_itself():
    written = {**EXPECTED, "empty": np.zeros((0, 3), np.float32)}
    data = b"".join(dump_arrays(written))
    assert_arrays(pickle.loads(data, encoding="latin1")["blobs"], written)
    assert_arrays(load_arrays(data), written)


class Asks:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def calls(module: str, name: str, argument: str, protocol: int = 2) -> bytes:
    """A pickle {'blobs': {'w': module.name(argument)}} of functions that need not exist here."""
    call = f"c{module}\n{name}\n(S'{argument}'\ntR".encode()
    return b"\x80" + bytes([protocol]) + b"}U\x05blobs}U\x01w" + call + b"ss."


HOSTILE = {
    "os.system": calls("os", "system", "touch RAN"),
    "posix.system": calls("posix", "system", "touch RAN"),
    "builtins.eval": calls("builtins", "eval", "open(\"RAN\", \"w\")"),
    "__builtin__.eval": calls("__builtin__", "eval", "open(\"RAN\", \"w\")"),
    "numpy.load": calls("numpy", "load", "RAN"),
    "numpy.fromfile": calls("numpy", "fromfile", "/etc/passwd"),
    "numpy.core.multiarray.fromfile": calls("numpy.core.multiarray", "fromfile", "/etc/passwd"),
    "numpy.memmap": calls("numpy", "memmap", "RAN"),
    "numpy.testing": calls("numpy.testing._private.utils", "runstring", "open(\"RAN\", \"w\")"),
    "numpy.distutils": calls("numpy.distutils.exec_command", "exec_command", "touch RAN"),
    "collections.OrderedDict": calls("collections", "OrderedDict", ""),
    "INST": b"\x80\x02}U\x05blobs}U\x01w(S'touch RAN'\nios\nsystem\nss.",
    "OBJ": b"\x80\x02}U\x05blobs}U\x01w(cos\nsystem\nS'touch RAN'\noss.",
    "STACK_GLOBAL": b"\x80\x04}\x8c\x01w\x8c\x02os\x8c\x06system\x93\x8c\x09touch RAN\x85Rs.",
    "NEWOBJ of an array": b"\x80\x02}U\x01wcnumpy\nndarray\n(tR)\x81s.",
    "persistent id": b"\x80\x02}U\x01wPos.system\ns.",
    "extension": b"\x80\x02}U\x01w\x82\x01s.",
    "object array": pickle.dumps({"w": np.array([Asks(os.system, "touch RAN")])}, 2),
    "harmless object array": pickle.dumps({"w": np.array([None, "a"])}, 4),
    "pointers as objects": pickle.dumps({"w": np.zeros(4)}, 4).replace(b"\x8c\x02f8", b"\x8c\x02O8"),
    "structured": pickle.dumps({"w": np.zeros(2, [("a", "f4"), ("b", "O")])}, 4),
    "void": pickle.dumps({"w": np.zeros(2, "V8")}, 4),
    "text": pickle.dumps({"w": np.array(["a"])}, 4),
    "more numbers than bytes": b"".join(dump_arrays({"w": np.zeros(4)})).replace(b"J\x04\0\0\0t", b"J\x40\0\0\0t", 1),
    "a class of ours given a state": b"\x80\x02}U\x01wcnumpy\nndarray\n}U\x05value(lsbs.",
    "a dtype given attributes": b"\x80\x02}U\x01wcnumpy\ndtype\nU\x02f4\x85RN}U\x05dtypeK\x01s\x86bs.",
    "an array never filled": b"\x80\x02}U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87Rs.",
    "a list": pickle.dumps([np.zeros(3)], 4),
    "a number": pickle.dumps({"blobs": {"w": 3}}, 2),
    "a name that is no text": pickle.dumps({"blobs": {3: np.zeros(3)}}, 4),
    "a dictionary in itself": b"\x80\x02}q\0U\x05blobsh\0s.",
    "cut short": b"".join(dump_arrays(EXPECTED))[:-40],
    "empty": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_anything_else_is_refused_and_not_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError):
        load_arrays(HOSTILE[name])
    assert not os.listdir(tmp_path)


def test_hostile_pickles_are_what_they_are_meant_to_be(tmp_path, monkeypatch):
    """The calls above do run where `pickle` reads them."""
    monkeypatch.chdir(tmp_path)
    for name in ("os.system", "INST", "OBJ", "STACK_GLOBAL", "object array", "builtins.eval"):
        pickle.loads(HOSTILE[name])
        os.unlink("RAN")


@pytest.mark.parametrize("name", ["os.system", "numpy.load", "STACK_GLOBAL", "collections.OrderedDict"])
def test_a_refusal_names_what_was_asked_for(name):
    with pytest.raises(pickle.UnpicklingError, match=f"asks for {'os.system' if name == 'STACK_GLOBAL' else name}"):
        load_arrays(HOSTILE[name])


def test_a_small_file_cannot_ask_for_much_memory():
    big = struct.pack("<I", 2**31 - 1)
    tracemalloc.start()
    for body in (b"}r" + big, b"}T" + big, b"}X" + big, b"}\x8b" + big, b"}\x96" + struct.pack("<Q", 2**40)):
        with pytest.raises(pickle.UnpicklingError):
            load_arrays(b"\x80\x05" + body)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
