"""Copies of remote shards: whole or absent, bounded, right for many processes at once, and never in the way."""

import errno
import hashlib
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline import locks, shard_cache, storage
from pipeline.members import DamagedError
from pipeline.shard_cache import ShardCache, Whole
from pipeline.storage import StorageError
from tests.patience import PATIENCE_S

SIZE, NUM_SHARDS = 50_000, 6


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small pieces, no pauses."""
    monkeypatch.setattr(shard_cache, "CHUNK", 20_000)
    monkeypatch.setattr(shard_cache, "PAUSE_S", 0.0)


@pytest.fixture
def remote(tmp_path) -> list[str]:
    """URLs of shards that every process sees."""
    urls = [f"file://{tmp_path}/remote/{number}.tar" for number in range(NUM_SHARDS)]
    for number, url in enumerate(urls):
        storage.write_bytes(url.removeprefix("file://"), content(number))
    return urls


@pytest.fixture
def fetched(tmp_path, monkeypatch) -> Path:
    """A file with a line for every piece that is read from afar."""
    log, real = tmp_path / "log", storage._read_remote_range

    def read(path: str, offset: int, size: int) -> bytes:
        with open(log, "a") as file:
            file.write(f"{os.path.basename(path)} {offset} {size}\n")
        return real(path, offset, size)

    log.touch()
    monkeypatch.setattr(storage, "_read_remote_range", read)
    return log


def content(number: int) -> bytes:
    return np.random.default_rng(number).bytes(SIZE)


def whole(number: int) -> Whole:
    return Whole(SIZE, hashlib.sha256(content(number)).hexdigest())


def read(cache: ShardCache, urls: list[str], number: int, offset: int = 31_000, size: int = 7000, **options) -> bool:
    """Whether the bytes are right."""
    data = cache.read_range(urls[number], offset, size, whole(number), **options)
    return data == content(number)[offset : offset + size]


def copies(cache: ShardCache) -> list[Path]:
    return sorted(path for path in Path(cache.folder).iterdir() if path.suffix != ".lock")


def test_a_shard_is_fetched_once_and_whole(remote, fetched, tmp_path):
    cache = ShardCache(str(tmp_path / "cache"), 10 * SIZE)
    assert all(read(cache, remote, 2, offset) for offset in (0, 31_000, SIZE - 7000))
    assert fetched.read_text().splitlines() == ["2.tar 0 20000", "2.tar 20000 20000", "2.tar 40000 10000"]
    assert [path.read_bytes() for path in copies(cache)] == [content(2)]
    assert read(ShardCache(cache.folder, 10 * SIZE), remote, 2)  # another process
    assert len(fetched.read_text().splitlines()) == 3


def test_local_files_are_read_where_they_are(remote, tmp_path):
    cache = ShardCache(str(tmp_path / "cache"), 10 * SIZE)
    assert cache.read_range(remote[0].removeprefix("file://"), 5, 9, Whole()) == content(0)[5:14]
    assert not os.path.exists(cache.folder)


def test_a_size_that_nobody_states_is_asked_for(remote, tmp_path):
    cache = ShardCache(str(tmp_path / "cache"), 10 * SIZE)
    assert cache.read_range(remote[0], 5, 9, Whole()) == content(0)[5:14]
    assert [path.read_bytes() for path in copies(cache)] == [content(0)]


def test_copies_used_longest_ago_make_room(remote, fetched, tmp_path):
    cache = ShardCache(str(tmp_path / "cache"), 3 * SIZE)
    for number in range(3):
        assert read(cache, remote, number)
        for path in copies(cache):  # all a little older
            os.utime(path, (0, path.stat().st_mtime - 1000))
    assert read(cache, remote, 0)  # the oldest is used again
    fetched.write_text("")
    assert read(cache, remote, 3)
    assert len(copies(cache)) == 3
    assert read(cache, remote, 0)
    assert read(cache, remote, 2)
    assert {line.split()[0] for line in fetched.read_text().splitlines()} == {"3.tar"}
    assert read(cache, remote, 1)
    assert {line.split()[0] for line in fetched.read_text().splitlines()} == {"3.tar", "1.tar"}


@pytest.mark.parametrize("fault", ["raises", "short"])
def test_a_fetch_that_is_cut_is_tried_again(remote, tmp_path, monkeypatch, fault):
    real, calls = storage._read_remote_range, []

    def cut(path: str, offset: int, size: int) -> bytes:
        calls.append(offset)
        if len(calls) in (2, 4):
            if fault == "raises":
                raise StorageError("503")
            return real(path, offset, size)[:-1]
        return real(path, offset, size)

    monkeypatch.setattr(storage, "_read_remote_range", cut)
    cache = ShardCache(str(tmp_path / "cache"), 10 * SIZE)
    assert read(cache, remote, 1)
    assert calls == [0, 20_000, 0, 20_000, 0, 20_000, 40_000]
    assert [path.read_bytes() for path in copies(cache)] == [content(1)]


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (Whole(SIZE, "0" * 64), r"try 3 of 3\): its SHA-256 is .* and the dataset says 0000"),
        (Whole(SIZE + 1, None), r"try 3 of 3\): .*ends early"),
    ],
)
def test_what_is_not_the_dataset_s_shard_is_an_error_and_leaves_nothing(remote, tmp_path, stated, message):
    cache = ShardCache(str(tmp_path / "cache"), 10 * SIZE)
    with pytest.raises(StorageError, match=rf"cannot fetch '{remote[0]}' \({message}"):
        cache.read_range(remote[0], 0, 10, stated)
    assert copies(cache) == []


def test_a_missing_shard_is_not_tried_again(remote, fetched, tmp_path):
    cache = ShardCache(str(tmp_path / "cache"), 10 * SIZE)
    with pytest.raises(StorageError, match=r"nothing.tar' \(try 1 of 3\)"):
        cache.read_range(remote[0].replace("0.tar", "nothing.tar"), 0, 10, whole(0))
    assert len(fetched.read_text().splitlines()) == 1


def check(number: int):
    def refuse(data: bytes) -> None:
        if data not in content(number):
            raise DamagedError("damaged")

    return refuse


def test_a_damaged_copy_is_replaced_by_the_original(remote, tmp_path):
    cache = ShardCache(str(tmp_path / "cache"), 10 * SIZE)
    assert read(cache, remote, 0)
    (copy,) = copies(cache)
    for damage in (b"\0" * SIZE, content(0)[:100]):
        copy.write_bytes(damage)
        assert read(cache, remote, 0, check=check(0))
        assert copies(cache) == []
        assert read(cache, remote, 0, check=check(0))
        assert copy.read_bytes() == content(0)
    with pytest.raises(DamagedError):  # the original is damaged as well
        cache.read_range(remote[0], 0, 10, whole(0), check(1))


def test_a_copy_that_goes_this_very_moment_does_no_harm(remote, tmp_path, monkeypatch):
    cache = ShardCache(str(tmp_path / "cache"), 10 * SIZE)
    monkeypatch.setattr(cache, "_copy", lambda url, whole: str(tmp_path / "gone"))
    assert read(cache, remote, 0)


def test_on_a_full_disk_samples_are_read_one_by_one(remote, fetched, tmp_path, monkeypatch, capsys):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = ShardCache(str(tmp_path / "cache"), 10 * SIZE)
    assert read(cache, remote, 0)
    fetched.write_text("")
    monkeypatch.setattr(os, "posix_fallocate", full)
    assert all(read(cache, remote, number) for number in (1, 2, 0, 1))
    assert fetched.read_text().splitlines() == ["1.tar 31000 7000", "2.tar 31000 7000", "1.tar 31000 7000"]
    assert capsys.readouterr().out.count("is full: samples without a copy are read one by one") == 1
    assert len(copies(cache)) == 1


def test_a_shard_larger_than_the_cache_is_read_by_range(remote, fetched, tmp_path, capsys):
    cache = ShardCache(str(tmp_path / "cache"), SIZE - 1)
    assert read(cache, remote, 1)
    assert read(cache, remote, 1)
    assert fetched.read_text().splitlines() == ["1.tar 31000 7000"] * 2
    assert capsys.readouterr().out.count("shard_cache_gb allows 49,999") == 1


def test_what_a_killed_process_left_is_removed(remote, tmp_path):
    cache = ShardCache(str(tmp_path / "cache"), 2 * SIZE)
    left = Path(cache.folder) / f"{'0' * 24}.tar.{storage._writer(2**22 + 1)}{storage.UNFINISHED}"
    left.parent.mkdir()
    left.write_bytes(bytes(2 * SIZE))
    assert read(cache, remote, 0)
    assert [path.read_bytes() for path in copies(cache)] == [content(0)]


def visit(folder: str, capacity: int, urls: list[str], seed: int, largest: multiprocessing.Value) -> None:
    cache = ShardCache(folder, capacity)
    for number in np.random.default_rng(seed).integers(0, NUM_SHARDS, 40).tolist():
        assert read(cache, urls, number)
        with locks.held(os.path.join(folder, "room.lock")):
            sizes = [path.stat().st_size for path in Path(folder).glob("*.tar*") if path.exists()]
        with largest.get_lock():
            largest.value = max(largest.value, sum(sizes))


@pytest.mark.parametrize(("room", "rounds"), [(NUM_SHARDS, 1), (2, None)])
def test_processes_share_a_cache(remote, fetched, tmp_path, room, rounds):
    context = multiprocessing.get_context("fork")
    largest = context.Value("q", 0)
    folder = str(tmp_path / "cache")
    processes = [
        context.Process(target=visit, args=(folder, room * SIZE, remote, seed, largest), daemon=True)
        for seed in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_S)
    assert [process.exitcode for process in processes] == [0] * 4
    assert largest.value <= room * SIZE
    if rounds is not None:  # there is room for all: no piece is fetched twice
        lines = fetched.read_text().splitlines()
        assert len(lines) == len(set(lines)) == 3 * NUM_SHARDS
