"""The tar writer: what the standard library would write, and there only when it is whole."""

import hashlib
import io
import tarfile

import fsspec
import pytest

from dataset_builder.tar import TarWriter, member_header


def test_tar_headers_are_those_of_the_standard_library():
    info = tarfile.TarInfo("a" * 96 + ".mp4")
    info.size = 12345
    expected = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    assert member_header(info.name, 12345)[:148] == bytes(expected[:148])
    assert tarfile.TarInfo.frombuf(member_header(info.name, 12345), "utf-8", "strict").size == 12345
    for name, size in (("a" * 101, 1), ("", 1), ("a", 8**11)):
        with pytest.raises(ValueError, match="does not fit"):
            member_header(name, size)


def test_a_tar_on_a_remote_store_appears_whole(tmp_path):
    with TarWriter("memory://bucket/x.tar") as tar:
        offset = tar.add("k.json", b"{}")
    data = fsspec.filesystem("memory").cat_file("/bucket/x.tar")
    assert data[offset : offset + 2] == b"{}"
    with tarfile.open(fileobj=io.BytesIO(data)) as members:
        assert members.getnames() == ["k.json"]
    assert hashlib.sha256(data).hexdigest() == tar.sha256
