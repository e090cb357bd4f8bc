"""A root on S3: the same bytes as on disk, whole objects only, reads by range."""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from dataset_builder.build import build
from dataset_builder.tar import TarWriter
from pipeline import shard_cache, storage
from pipeline.shard_cache import ShardCache, Whole
from pipeline.storage import StorageError
from tests.dataset_builder.small_world import build_config, files_in, make_world

s3fs = pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch) -> Iterator[str]:
    """URL of an empty bucket; its parts are as small as S3 allows."""
    options = {"endpoint_url": endpoint, "key": "key", "secret": "secret", "default_block_size": 5 << 20}
    monkeypatch.setitem(fsspec.config.conf, "s3", options)
    filesystem = fsspec.filesystem("s3")
    name = f"bucket-{hashlib.sha256(str(id(monkeypatch)).encode()).hexdigest()[:8]}"
    filesystem.mkdir(name)
    yield f"s3://{name}"
    filesystem.rm(name, recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


def objects(url: str) -> dict[str, bytes]:
    filesystem = fsspec.filesystem("s3", use_listings_cache=False)
    folder = url.removeprefix("s3://")
    return {path.removeprefix(folder + "/"): filesystem.cat_file(path) for path in filesystem.find(folder)}


def uploads_under_way(url: str) -> list:
    name = url.removeprefix("s3://").split("/")[0]
    return fsspec.filesystem("s3").call_s3("list_multipart_uploads", Bucket=name).get("Uploads", [])


def test_a_whole_build_writes_the_bytes_of_a_local_one(bucket, tmp_path):
    world = make_world(tmp_path / "world", 4)
    (world / "3.mp4").write_bytes(b"<html>")
    for name in ("videos/0.mp4", "videos/1.mp4"):  # uploads may be on S3 too
        storage.write_bytes(f"{bucket}/{name}", (world / Path(name).name).read_bytes())
    posts = (world / "posts.jsonl").read_text()
    for i in range(2):
        posts = posts.replace(f'"{i}.mp4"', f'"{bucket}/videos/{i}.mp4"')
    (world / "posts.jsonl").write_text(posts)
    local = build(build_config(world, tmp_path / "local"))
    assert build(build_config(world, f"{bucket}/root"))["shards"] == local["shards"]
    assert local["num_videos"] == 3
    found, expected = objects(f"{bucket}/root"), files_in(tmp_path / "local")
    for files in (found, expected):  # these two say where the root is
        files.pop("sources/source/config.json")
        files.pop("datasets/d/config.json")
    assert found == expected
    assert build(build_config(world, f"{bucket}/root")) == local
    assert uploads_under_way(bucket) == []


def test_a_tar_goes_up_in_parts_and_is_read_by_range(bucket, monkeypatch):
    calls = record_calls(monkeypatch)
    data = np.random.default_rng(0).bytes(12 << 20)
    monkeypatch.setattr(s3fs.core, "calculate_chunksize", lambda *_, **__: 5 << 20)
    with TarWriter(f"{bucket}/x.tar") as tar:
        offset = tar.add("k.mp4", data)
    assert calls.count("upload_part") == 3
    assert calls.count("complete_multipart_upload") == 1
    calls.clear()
    assert storage.read_range(f"{bucket}/x.tar", offset + 5, 100) == data[5:105]
    assert calls == ["get_object"]
    assert hashlib.sha256(storage.read_bytes(f"{bucket}/x.tar")).hexdigest() == tar.sha256
    with pytest.raises(StorageError, match="ends early"):
        storage.read_range(f"{bucket}/x.tar", tar.size - 10, 100)


def test_a_copy_of_a_shard_is_made_by_range_requests_alone_and_read_without_any(bucket, monkeypatch, tmp_path):
    data = np.random.default_rng(0).bytes(3 << 20)
    storage.write_bytes(f"{bucket}/x.tar", data)
    monkeypatch.setattr(shard_cache, "CHUNK", 1 << 20)
    calls = record_calls(monkeypatch)
    cache = ShardCache(str(tmp_path / "cache"), 10 << 20)
    whole = Whole(len(data), hashlib.sha256(data).hexdigest())
    for offset in (0, 12345, 2 << 20):
        assert cache.read_range(f"{bucket}/x.tar", offset, 1000, whole) == data[offset : offset + 1000]
    assert calls == ["get_object"] * 3


def record_calls(monkeypatch) -> list[str]:
    calls, real = [], s3fs.S3FileSystem._call_s3

    async def call(self, method, *arguments, **options):
        calls.append(method)
        return await real(self, method, *arguments, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", call)
    return calls


@pytest.mark.parametrize("failing", ["create_multipart_upload", "upload_part", "complete_multipart_upload"])
def test_an_upload_cut_short_leaves_no_object_and_no_parts(bucket, monkeypatch, failing, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(s3fs.core, "calculate_chunksize", lambda *_, **__: 5 << 20)
    real, count = s3fs.S3FileSystem._call_s3, []

    async def call(self, method, *arguments, **options):
        count.append(method)
        if method == failing and (failing != "upload_part" or count.count(method) == 2):
            raise ConnectionResetError("cut")
        return await real(self, method, *arguments, **options)

    data = np.random.default_rng(0).bytes(12 << 20)
    with monkeypatch.context() as patch:
        patch.setattr(s3fs.S3FileSystem, "_call_s3", call)
        with pytest.raises(StorageError, match=r"cannot write 's3://.*x.tar'"), TarWriter(f"{bucket}/x.tar") as tar:
            tar.add("k.mp4", data)
    assert not storage.exists(f"{bucket}/x.tar")
    assert uploads_under_way(bucket) == []
    assert list(tmp_path.iterdir()) == []
    with TarWriter(f"{bucket}/x.tar") as tar:
        tar.add("k.mp4", data)
    assert storage.exists(f"{bucket}/x.tar")


def test_an_error_while_writing_uploads_nothing(bucket):
    tar = TarWriter(f"{bucket}/x.tar")
    with pytest.raises(ValueError, match="does not fit"), tar:
        tar.add("k" * 101, b"x")
    assert objects(bucket) == {}


def test_a_store_that_is_not_there_is_named(endpoint, monkeypatch):
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": endpoint, "key": "key", "secret": "secret"})
    with pytest.raises(StorageError, match=r"cannot write 's3://no-such-bucket/x'"):
        storage.write_bytes("s3://no-such-bucket/x", b"x")
    with pytest.raises(StorageError, match=r"cannot read 's3://no-such-bucket/x'"):
        storage.read_bytes("s3://no-such-bucket/x")
    with pytest.raises(StorageError, match=r"cannot read 'nothing://x'"):
        storage.read_bytes("nothing://x")


def test_what_another_process_wrote_is_seen(bucket):
    assert storage.listing(f"{bucket}/folder/*") == []
    other = s3fs.S3FileSystem(**fsspec.config.conf["s3"], skip_instance_cache=True)
    other.pipe_file(f"{bucket}/folder/a", b"x")
    assert storage.listing(f"{bucket}/folder/*") == [f"{bucket}/folder/a"]
    other.pipe_file(f"{bucket}/folder/b", b"x")
    assert storage.listing(f"{bucket}/folder/*") == [f"{bucket}/folder/a", f"{bucket}/folder/b"]
