"""--retry-failed: what could not be stored is tried again, and the shard is what a fresh build would have made."""

import contextlib
import os

import pytest

from dataset_builder import decoder, shard
from dataset_builder.build import build
from dataset_builder.shard import write_shard
from pipeline import storage
from tests.dataset_builder.small_world import build_config, files_in, make_job, make_world, write_mp4


@pytest.fixture
def folder(tmp_path):
    """Four videos, of which the first and the third are not there yet; and a shard made of the other two."""
    for i in (1, 3):
        write_mp4(tmp_path / f"{i}.mp4", seed=i)
    return tmp_path


def job(folder, name, **changes):
    return make_job(folder / name, [str(folder / f"{i}.mp4") for i in range(4)], **changes)


def appear(folder):
    for i in (0, 2):
        write_mp4(folder / f"{i}.mp4", seed=i)


def test_a_retried_shard_equals_a_fresh_one_and_decodes_only_what_was_missing(folder, monkeypatch):
    assert write_shard(0, job(folder, "d"))["quarantined"] == {"missing": 2}
    appear(folder)
    for i in (1, 3):
        (folder / f"{i}.mp4").rename(folder / f"{i}.gone")
    decoded = []
    monkeypatch.setattr(shard, "decode", lambda *a: decoded.append(a[1].video_id) or decoder.decode(*a))
    sidecar = write_shard(0, job(folder, "d", retry_failed=True))
    assert len(decoded) == 2
    for i in (1, 3):
        (folder / f"{i}.gone").rename(folder / f"{i}.mp4")
    assert write_shard(0, job(folder, "fresh")) == sidecar
    assert sidecar["quarantined"] == {}
    assert files_in(folder / "d") == files_in(folder / "fresh")


def test_a_shard_without_a_new_success_keeps_its_bytes(folder):
    write_shard(0, job(folder, "d"))
    before = files_in(folder / "d")
    times = {path: path.stat().st_mtime_ns for path in (folder / "d/shards").iterdir()}
    (folder / "0.mp4").write_bytes(b"<html>")  # another reason, but still none to store it
    assert write_shard(0, job(folder, "d", retry_failed=True))["quarantined"] == {"missing": 2}
    assert files_in(folder / "d") == before
    assert {path: path.stat().st_mtime_ns for path in (folder / "d/shards").iterdir()} == times


def test_a_stop_at_any_moment_leaves_a_shard_that_the_next_run_completes(folder, monkeypatch):
    """Fail the Nth rename or removal for every N: what is there under the final names fits together or is not whole."""
    write_shard(0, job(folder, "d"))
    old = files_in(folder / "d")
    appear(folder)
    write_shard(0, job(folder, "fresh"))
    fresh = files_in(folder / "fresh")
    for number in range(100):
        _restore(folder / "d", old)
        with monkeypatch.context() as patch:
            count = _stop_at(patch, number)
            with contextlib.suppress(storage.StorageError):
                write_shard(0, job(folder, "d", retry_failed=True))
            stopped = count[0] > number
        assert _consistent(folder / "d", (old, fresh)), number
        write_shard(0, job(folder, "d", retry_failed=True))
        assert files_in(folder / "d") == fresh, number
        if not stopped:
            break
    assert number > 10


def _stop_at(patch, number):
    count = [0]

    def wrap(real):
        def call(*arguments, **options):
            count[0] += 1
            if count[0] == number + 1:
                raise OSError(5, "Input/output error")
            return real(*arguments, **options)

        return call

    patch.setattr(os, "replace", wrap(os.replace))
    patch.setattr(os, "fsync", wrap(os.fsync))
    patch.setattr(storage, "remove", wrap_storage_error(wrap(storage.remove)))
    return count


def wrap_storage_error(remove):
    def call(path):
        try:
            remove(path)
        except OSError as error:
            raise storage.StorageError(str(error)) from error

    return call


def _consistent(folder, versions):
    """Without a sidecar anything goes; with one, all four files are of one version."""
    found = {name: data for name, data in files_in(folder).items() if ".next" not in name}
    return "shards/d-000000.json" not in found or found in versions


def _restore(folder, files):
    for path in list(folder.rglob("*")):
        if path.is_file():
            path.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def test_a_dataset_is_sealed_anew_after_a_retry(tmp_path):
    world = make_world(tmp_path / "world", 6)
    (world / "4.mp4").rename(world / "4.gone")
    first = build(build_config(world, tmp_path / "a"))
    before = files_in(tmp_path / "a")
    assert first["quarantined"] == {"missing": 1}
    assert build(build_config(world, tmp_path / "a", retry_failed=True)) == first
    assert files_in(tmp_path / "a") == before
    (world / "4.gone").rename(world / "4.mp4")
    assert build(build_config(world, tmp_path / "a")) == first
    again = build(build_config(world, tmp_path / "a", retry_failed=True))
    assert again == build(build_config(world, tmp_path / "b"))
    assert again["digest"] != first["digest"]
    assert again["num_videos"] == 6
    for part in ("datasets/d/shards", "datasets/d/manifest"):
        assert files_in(tmp_path / "a" / part) == files_in(tmp_path / "b" / part)
