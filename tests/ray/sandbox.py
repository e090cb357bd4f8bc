"""A Ray of one's own: its temporary folder, its token, and a mark by which its processes, and no others, are known."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.patience import PATIENCE_S

REPOSITORY = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
MARK = "TAGREEL_TEST_SANDBOX"


@dataclass(frozen=True)
class Sandbox:
    # Short: a socket's path may be 107 characters long, and Ray's own part of it is long.
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="tr", dir="/tmp")))
    token: str = field(default_factory=lambda: secrets.token_hex(32))

    def environment(self, **changes: str) -> dict[str, str]:
        """What a process in the sandbox sees: token authentication, nothing of another Ray, this checkout's packages."""
        outside = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        mine = {
            "RAY_TMPDIR": str(self.folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "PATH": f"{Path(RAY).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            MARK: self.folder.name,
        }
        return {**outside, **mine, **changes}

    def start(self, *command: str, **options) -> subprocess.Popen:
        """A process of the sandbox, in a session of its own; output goes to a file of the sandbox."""
        options = {"env": self.environment(), "stdout": self.log, "stderr": subprocess.STDOUT, **options}
        return subprocess.Popen(command, start_new_session=True, text=True, **options)

    @property
    def log(self):
        return (self.folder / "log").open("a")

    def processes(self) -> set[int]:
        """Every process that inherited the mark, and their descendants: Ray's workers overwrite what they inherited."""
        marked = {pid for pid in _pids() if f"{MARK}={self.folder.name}".encode() in _read(pid, "environ")}
        return marked | descendants(marked)

    def end(self) -> None:
        """Kill what is left and remove the folder."""
        wait_until(lambda: not [_kill(pid) for pid in self.processes()], "the sandbox to be empty")
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def sandboxed() -> Iterator[Sandbox]:
    sandbox = Sandbox()
    try:
        yield sandbox
    finally:
        sandbox.end()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s for {what}"
        time.sleep(0.02)


# ------------------------------------------------------------------------------------------------------ processes


def descendants(ancestors: set[int]) -> set[int]:
    parents = {pid: int(status[1]) for pid in _pids() if (status := _read(pid, "stat").rpartition(b")")[2].split())}
    found: set[int] = set()
    while more := {pid for pid, parent in parents.items() if parent in ancestors | found} - found:
        found |= more
    return found


def busy_workers(raylets: set[int]) -> list[int]:
    """Workers of these raylets that run a part: they carry its name (Ray's agents and idle workers are `ray::` too)."""
    return [pid for pid in descendants(raylets) if re.match(rb"ray::\w+ \d+", _read(pid, "cmdline"))]


def is_running(pid: int) -> bool:
    return _read(pid, "stat").rpartition(b")")[2].split()[:1] not in ([], [b"Z"])


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _read(pid: int, name: str) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


def _kill(pid: int) -> int:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return pid
