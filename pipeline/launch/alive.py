"""Is a process or job that a log names still there? Asked of who knows: this machine, squeue, or a Ray dashboard."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

PATIENCE_S = 10.0
RAY_ALIVE = ("PENDING", "RUNNING")


def is_alive(name: str, host: str, what: str, number: str) -> bool | None:
    """None where nobody here can tell.

    Args:
        name: of the stage.
        host: where it began.
        what: "process", "job" (of Slurm) or "ray".
        number: of the process or job; of a Ray job the address that tells of it, `http://HOST:8265/api/jobs/ID`.
    """
    match what:
        case "process" if host == socket.gethostname():
            return _process(int(number), name)
        case "job" if number.isdigit():
            return _slurm(number)
        case "ray" if number.startswith(("http://", "https://")):
            return _ray(number)
    return None


def _process(number: int, name: str) -> bool:
    """A process of this number may be another one by now: the stage's has its name, that of its config, among its words."""
    try:
        os.kill(number, 0)
        words = Path(f"/proc/{number}/cmdline").read_bytes()
    except ProcessLookupError:
        return False
    except OSError:  # another user's, or a system without /proc
        return True
    return name.encode() in words


def _slurm(number: str) -> bool | None:
    if not shutil.which("squeue"):
        return None
    command = ("squeue", "--noheader", f"--jobs={number}", "--format=%T")
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if answer.returncode:
        return False if "Invalid job id" in answer.stderr else None
    return bool(answer.stdout.strip())


def _ray(address: str) -> bool | None:
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE_S) as answer:
            return json.load(answer)["status"] in RAY_ALIVE
    except urllib.error.HTTPError as error:
        return False if error.code == 404 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
