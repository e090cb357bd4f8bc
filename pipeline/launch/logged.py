"""Run a stage with its output on the terminal and in a log, and tell from logs what became of stages.

A log has a line where an attempt begins and one where it ends; every backend writes the same two.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import BinaryIO

from pipeline import storage
from pipeline.launch.alive import is_alive
from pipeline.launch.step import Command, environment, wait

BEGINS = "==> {name} begins on {host}, {what} {number}"
ENDS = "==> {name} ended with status {status}"
_BEGUN = re.compile(r"^==> (\S+) begins on (\S+), (\w+) (\S+)$", re.MULTILINE)
_ENDED = re.compile(r"^==> \S+ ended with status (\d+)$", re.MULTILINE)


def log_path(folder: str, name: str) -> str:
    """Log of a stage of the sweep in `folder`."""
    return storage.join(folder, "logs", f"{name}.log")


def run_logged(step: Command, path: str) -> int:
    """Run one attempt, appended to the log `path` and shown here; returns its exit status."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "ab", buffering=0) as log:
        ours, theirs = _pair()
        process = subprocess.Popen(step.argv, env=environment(step), stdout=theirs, stderr=theirs)
        os.close(theirs)
        _line(log, BEGINS.format(name=step.name, host=socket.gethostname(), what="process", number=process.pid))
        copying = threading.Thread(target=_copy, args=(ours, log), daemon=True)
        copying.start()
        status = wait(process)
        copying.join(timeout=5.0)  # a grandchild may hold the other end for longer
        _line(log, ENDS.format(name=step.name, status=status))
    return status


def _line(log: BinaryIO, text: str) -> None:
    log.write(f"{text}\n".encode())


def _pair() -> tuple[int, int]:
    """Two ends, ours and the stage's: a terminal's where there is one here, so that the stage shows its progress."""
    if not sys.stderr.isatty():
        return os.pipe()
    import pty  # not on every system, but where terminals are

    return pty.openpty()


def _copy(source: int, log: BinaryIO) -> None:
    """Until the stage has closed its end: everything to the terminal, and to the log lines as they stood at last."""
    rest = b""
    try:
        while data := os.read(source, 1 << 16):
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
            *lines, rest = (rest + data).split(b"\n")
            log.write(b"".join(_last_state(line) + b"\n" for line in lines))
    except OSError:  # how a terminal says that the other end is closed
        pass
    finally:
        os.close(source)
        if rest := _last_state(rest):
            log.write(rest + b"\n")


def _last_state(line: bytes) -> bytes:
    """A line that a progress bar rewrote, as it was left."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


# ------------------------------------------------------------------------------------------------- reading logs


@dataclass(frozen=True)
class Attempts:
    """What a log says of a stage."""

    begun: int = 0
    ended: int = 0
    status: int | None = None
    """Of the last attempt; None while it has not ended, and for ever if it was killed."""
    runner: str = ""
    """Who makes the last attempt, such as `process 17 on host`; empty where it has ended, or its process or job is gone."""
    is_sure: bool = True
    """False where nobody here can tell whether the runner is still there."""
    quiet_s: float = 0.0
    """Time since the runner last wrote to the log."""

    @property
    def is_running(self) -> bool:
        return bool(self.runner)


def attempts(path: str) -> Attempts:
    """Count the attempts in a log; one that is not there has none."""
    if not storage.exists(path):
        return Attempts()
    text = storage.read_bytes(path).decode(errors="replace")
    begun, ended = list(_BEGUN.finditer(text)), list(_ENDED.finditer(text))
    counts = len(begun), len(ended)
    if not begun or (ended and ended[-1].start() > begun[-1].start()):
        return Attempts(*counts, int(ended[-1][1]) if ended else None)
    if (alive := is_alive(*begun[-1].groups())) is False:
        return Attempts(*counts)
    _, host, what, number = begun[-1].groups()
    quiet_s = time.time() - os.path.getmtime(path) if storage.is_local(path) else 0.0
    return Attempts(*counts, None, f"{what} {number} on {host}", alive is not None, quiet_s)
