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
from dataclasses import dataclass
from typing import BinaryIO

from pipeline import storage
from pipeline.launch.step import Command, environment, wait

BEGINS = "==> {name} begins on {host}, {what} {number}"
ENDS = "==> {name} ended with status {status}"
_BEGUN = re.compile(r"^==> \S+ begins on (\S+), (\w+) (\S+)$", re.MULTILINE)
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
    """Of the last attempt that ended."""
    is_running: bool = False
    """The last attempt has not ended, and nothing says that its process is gone."""


def attempts(path: str) -> Attempts:
    """Count the attempts in a log; one that is not there has none."""
    if not storage.exists(path):
        return Attempts()
    text = storage.read_bytes(path).decode(errors="replace")
    begun, ended = _BEGUN.findall(text), _ENDED.findall(text)
    alive = len(begun) > len(ended) and _may_be_alive(*begun[-1])
    return Attempts(len(begun), len(ended), int(ended[-1]) if ended else None, alive)


def _may_be_alive(host: str, what: str, number: str) -> bool:
    if what != "process" or host != socket.gethostname():
        return True
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
