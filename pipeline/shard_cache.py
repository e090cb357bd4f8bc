"""Copies of remote shards on a local disk: fetched whole, bounded in size, shared by all processes of the machine.

A copy has its name only when it is whole: it is written under another one, compared with the size and SHA-256 that the
dataset states, and renamed. A process that wants what another is fetching waits for it. Copies used longest ago make room
for new ones, whose size is taken before they are fetched; who reads a copy that goes keeps reading it (POSIX).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import BinaryIO, NamedTuple

from pipeline import locks, progress, storage
from pipeline.storage import StorageError

TRIES, PAUSE_S = 3, 1.0  # of a fetch; the pause doubles
CHUNK = 8 << 20
USE_STAMP_S = 60.0  # how exactly it is known when a copy was last used
NUM_LOCKS = 64  # shards share locks, so that a folder does not gather one file for every shard there is


class Whole(NamedTuple):
    """What a dataset states of a shard's tar; None where it does not."""

    size: int | None = None
    sha256: str | None = None


class ShardCache:
    """Ranges of remote files through copies in `folder`; of local files, directly.

    Args:
        folder: local; made when it is first needed.
        capacity: bytes of copies in it, finished or being fetched.
    """

    def __init__(self, folder: str, capacity: int) -> None:
        self.folder, self.capacity = folder, capacity
        self.is_off = False
        """The disk is full, or smaller than a shard: what has no copy is read by range from now on."""

    def read_range(
        self, url: str, offset: int, size: int, whole: Whole, check: Callable[[bytes], None] = lambda data: None
    ) -> bytes:
        """`size` bytes of a file from `offset`, which `check` accepts; a copy whose bytes it refuses is discarded.

        Raises: StorageError when the file can be read neither whole nor by range; what `check` raises of the original.
        """
        path = None if storage.is_local(url) else self._copy(url, whole)
        if path is not None:
            try:
                data = storage.read_range(path, offset, size)
                check(data)
                return data
            except StorageError:  # damaged on this disk; or it made room for another this very moment
                with suppress(FileNotFoundError):
                    os.unlink(path)
        data = storage.read_range(url, offset, size)
        check(data)
        return data

    def _copy(self, url: str, whole: Whole) -> str | None:
        """Path of a whole copy, fetched if need be; None where there is no room for one."""
        name = hashlib.sha256(f"{url} {whole}".encode()).hexdigest()[:24]
        path = os.path.join(self.folder, f"{name}.tar")
        if _is_there(path):
            return path
        if self.is_off:
            return None
        with locks.held(os.path.join(self.folder, f"{int(name, 16) % NUM_LOCKS}.lock")):
            return path if _is_there(path) or self._fetch(url, path, whole) else None

    def _fetch(self, url: str, path: str, whole: Whole) -> bool:
        """Whether there is a copy now; StorageError when the file cannot be read, or is not the one the dataset states."""
        size = storage.size(url) if whole.size is None else whole.size
        if size > self.capacity:
            return self._turn_off(f"'{url}' has {size:,} bytes, and shard_cache_gb allows {self.capacity:,}")
        for attempt in range(TRIES):
            try:
                return self._fetch_once(url, path, size, whole.sha256)
            except StorageError as error:
                cause = error.__cause__
                if getattr(cause, "errno", None) in storage.FULL:
                    return self._turn_off(f"the disk of '{self.folder}' is full")
                if isinstance(cause, FileNotFoundError) or attempt + 1 == TRIES:
                    raise StorageError(f"cannot fetch '{url}' (try {attempt + 1} of {TRIES}): {error}") from error
            time.sleep(PAUSE_S * 2**attempt)
        raise AssertionError("the last try returns or raises")

    def _fetch_once(self, url: str, path: str, size: int, sha256: str | None) -> bool:
        with ExitStack() as stack:
            with self._counting():
                if not self._make_room(size):
                    return False
                file = stack.enter_context(storage.whole_file(path, size))
                _take(file, size)
            found = hashlib.sha256()
            for offset in range(0, size, CHUNK):
                data = storage.read_range(url, offset, min(CHUNK, size - offset))
                found.update(data)
                file.write(data)
            if sha256 is not None and found.hexdigest() != sha256:
                raise StorageError(f"its SHA-256 is {found.hexdigest()}, and the dataset says {sha256}")
            with self._counting():  # no file changes its name while another process adds up sizes
                stack.close()
        return True

    def _counting(self) -> AbstractContextManager[None]:
        return locks.held(os.path.join(self.folder, "room.lock"))

    def _make_room(self, size: int) -> bool:
        """Remove copies, those used longest ago first; false when what others are fetching leaves too little."""
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # one that another process gave up
                    if not entry.name.endswith(".lock"):
                        found.append((entry.stat(), entry.path))
        for _, path in found:
            if path.endswith(storage.UNFINISHED):
                storage.remove_leftovers(path.removesuffix(storage.UNFINISHED).rpartition(".tar.")[0] + ".tar")
        room = self.capacity - sum(status.st_size for status, path in found if os.path.exists(path))
        copies = sorted((status.st_mtime, status.st_size, path) for status, path in found if path.endswith(".tar"))
        for _, freed, path in copies:
            if room >= size:
                break
            with suppress(FileNotFoundError):
                os.unlink(path)
            room += freed
        return room >= size

    def _turn_off(self, why: str) -> bool:
        self.is_off = True
        progress.say(f"{why}: samples without a copy are read one by one from now on")
        return False


def _is_there(path: str) -> bool:
    """Whether there is a copy; if so, it was used now."""
    try:
        age_s = time.time() - os.stat(path).st_mtime
    except FileNotFoundError:
        return False
    if age_s > USE_STAMP_S:
        with suppress(OSError):
            os.utime(path)
    return True


def _take(file: BinaryIO, size: int) -> None:
    """Take the disk space now: what is being fetched counts in full, and a full disk shows before anything is fetched."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)
