"""Disks that fail: the Nth call that changes one raises, or ends the process; and small file systems to fill."""

import builtins
import ctypes
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

CALLS = ("replace", "rename", "fsync", "unlink", "mkdir", "rmdir")


class Fault:
    """Counts the calls that change a disk; the one with the given number (from 0) is struck.

    Args:
        number: of the call.
        code: errno of the OSError that it raises; None kills the process instead, as kill -9 does.
        calls: names in `os` that count besides `open` for writing and the writes that follow.
    """

    def __init__(self, number: int, code: int | None, calls: tuple[str, ...] = CALLS) -> None:
        self.number, self.code, self.calls, self.count = number, code, calls, 0

    def step(self) -> None:
        self.count += 1
        if self.count == self.number + 1:
            if self.code is None:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(self.code, os.strerror(self.code))

    @property
    def struck(self) -> bool:
        return self.count > self.number

    def install(self, set_attribute: Callable[[Any, str, Any], None] = setattr) -> "Fault":
        for name in self.calls:
            set_attribute(os, name, self.before(getattr(os, name)))
        set_attribute(builtins, "open", self.open(builtins.open))
        return self

    def before(self, real: Callable) -> Callable:
        def call(*arguments, **options):
            self.step()
            return real(*arguments, **options)

        return call

    def open(self, real: Callable) -> Callable:
        def call(path, mode="r", *rest, **options):
            if not {*"xwa"} & {*mode}:
                return real(path, mode, *rest, **options)
            self.step()
            return FaultyFile(real(path, mode, *rest, **options), self)

        return call


class FaultyFile:
    """A file of which a failing write leaves half of its bytes, as a full disk does."""

    def __init__(self, file: Any, fault: Fault) -> None:
        self._file, self._fault = file, fault

    def write(self, data: Any) -> int:
        if self._fault.count == self._fault.number:
            self._file.write(data[: len(data) // 2])
            self._file.flush()
        self._fault.step()
        return self._file.write(data)

    def __enter__(self) -> "FaultyFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


# ------------------------------------------------------------------------------------------------- full disks

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REMOUNT, MS_REC, MS_PRIVATE = 0x20, 0x4000, 0x40000


class SmallDisk:
    """A tmpfs of so many bytes that only this process sees; call it in a process that ends soon.

    Raises:
        PermissionError: this system does not let us mount.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.libc = folder, ctypes.CDLL(None, use_errno=True)
        user, group = os.geteuid(), os.getegid()
        if user:
            self._call("unshare", CLONE_NEWNS | CLONE_NEWUSER)
            maps = {"setgroups": "deny", "uid_map": f"0 {user} 1", "gid_map": f"0 {group} 1"}
            for name, line in maps.items():
                Path("/proc/self", name).write_text(line)
        else:
            self._call("unshare", CLONE_NEWNS)
        self._call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        self._mount(0, size)

    def resize(self, size: int) -> None:
        self._mount(MS_REMOUNT, size)

    def renew(self, size: int) -> None:
        """An empty one in its place."""
        self._call("umount", os.fsencode(self.folder))
        self._mount(0, size)

    def _mount(self, flags: int, size: int) -> None:
        self._call("mount", b"tmpfs", os.fsencode(self.folder), b"tmpfs", flags, f"size={max(4096, size)}".encode())

    def _call(self, name: str, *arguments: Any) -> None:
        if getattr(self.libc, name)(*arguments):
            raise PermissionError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
