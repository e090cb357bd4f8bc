"""Decoding in a guarded child process: whatever an upload does to a decoder, it does it there.

A worker keeps one child (`python -m dataset_builder.decoder`), started when it is first needed and again after it died.
Bytes go in and results come out over its standard pipes as frames of {lengths, JSON header, blobs}: nothing that the child
sends is ever executed. The child may use so much memory and CPU time as it was told, and ends with its parent.
"""

from __future__ import annotations

import atexit
import json
import os
import selectors
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from typing import Any, BinaryIO

from dataset_builder.packing import pack, unpack
from dataset_builder.transcode import Request, StoredVideo, transcode, transcode_segments
from pipeline import config as configs
from pipeline.config import ExecutionConfig, StorageConfig
from pipeline.video import VideoError

MODULE = "dataset_builder.decoder"  # what a child runs
OUT_OF_MEMORY = 77  # exit status of a child that could not get more memory
START_TIMEOUT_S = 120.0  # a cold network file system may take long to import from
CHUNK = 1 << 20


def decode(data: bytes, request: Request, execution: ExecutionConfig) -> StoredVideo:
    """`transcode` in this process's child.

    Raises: VideoError, also with the reasons `timeout`, `out_of_memory` and `crashed`.
    """
    return _decoder(execution).decode(data, request)


def decode_segments(
    source: bytes | str, requests: Sequence[Request], execution: ExecutionConfig
) -> list[StoredVideo | VideoError]:
    """`transcode_segments` in this process's child, which opens a local file itself; it has the time for one upload for
    each segment. What ends the child is the answer for all of them."""
    return _decoder(execution).decode_segments(source, requests)


def _decoder(execution: ExecutionConfig) -> Decoder:
    key = (
        os.getpid(),
        execution.decode_timeout_s,
        execution.decode_memory_mb,
    )  # a fork must not share its parent's child
    if key not in _decoders:
        _decoders[key] = Decoder(timeout_s=execution.decode_timeout_s, memory_mb=execution.decode_memory_mb)
    return _decoders[key]


_decoders: dict[tuple[int, float, int], Decoder] = {}


def stop() -> None:
    """End the children of this process and wait for them; `decode` starts others."""
    for decoder in _decoders.values():
        decoder.close()


atexit.register(stop)


class Decoder:
    """One child process and the limits it works under."""

    def __init__(self, *, timeout_s: float, memory_mb: int) -> None:
        self._timeout_s, self._memory_mb = timeout_s, memory_mb
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def decode(self, data: bytes, request: Request) -> StoredVideo:
        header, blobs = self._answer(asdict(request), [data], self._timeout_s)
        result = unpack(header, blobs)
        if isinstance(result, VideoError):
            raise result
        return result

    def decode_segments(self, source: bytes | str, requests: Sequence[Request]) -> list[StoredVideo | VideoError]:
        is_path = isinstance(source, str)
        asked = {"segments": [asdict(request) for request in requests], "path": source if is_path else None}
        try:
            answer, blobs = self._answer(asked, [] if is_path else [source], self._timeout_s * len(requests))
        except VideoError as error:
            return [error] * len(requests)
        rest = iter(blobs)
        return [unpack(header, list(islice(rest, header["num_blobs"]))) for header in answer["segments"]]

    def _answer(
        self, header: dict[str, Any], blobs: list[bytes], timeout_s: float
    ) -> tuple[dict[str, Any], list[bytes]]:
        with self._lock:
            try:
                return self._ask(header, blobs, timeout_s)
            except ChildProcessError:  # once more: a system short of memory may have killed an innocent child
                try:
                    return self._ask(header, blobs, timeout_s)
                except ChildProcessError as error:
                    raise VideoError("crashed", str(error)) from None

    def _ask(self, header: dict[str, Any], blobs: list[bytes], timeout_s: float) -> tuple[dict[str, Any], list[bytes]]:
        child = self._running()
        try:
            return _exchange(child, {**header, "timeout_s": timeout_s}, blobs, timeout_s)
        except TimeoutError:
            self.close()
            raise VideoError("timeout", f"more than {timeout_s:g} s") from None
        except (OSError, EOFError):
            raise self._post_mortem(child) from None

    @property
    def process_id(self) -> int | None:
        return None if self._child is None else self._child.pid

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self.close()
            self._child = _start(self._timeout_s, self._memory_mb)
        return self._child

    def _post_mortem(self, child: subprocess.Popen[bytes]) -> VideoError | ChildProcessError:
        """Why the child is gone; it closed its pipe, so that it is about to end if it has not."""
        with suppress(subprocess.TimeoutExpired):
            child.wait(5.0)
        self.close()
        if child.returncode == OUT_OF_MEMORY:
            return VideoError("out_of_memory", f"more than {self._memory_mb} MiB")
        if child.returncode == -getattr(signal, "SIGXCPU", 0):
            return VideoError("timeout", f"more than {self._timeout_s:g} s of CPU time")
        return ChildProcessError(f"status {child.returncode}")

    def close(self) -> None:
        """Kill the child, if there is one, and wait for it; the next call of `decode` starts another."""
        child, self._child = self._child, None
        if child is None or self._owner != os.getpid():
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            pipe.close()


def _start(timeout_s: float, memory_mb: int) -> subprocess.Popen[bytes]:
    # PDEATHSIG follows the thread that starts a process: only the main thread lives as long as this process.
    parent = os.getpid() if threading.current_thread() is threading.main_thread() else 0
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", MODULE, str(parent), str(timeout_s), str(memory_mb)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env={**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
    )
    for pipe in (child.stdin, child.stdout):
        os.set_blocking(pipe.fileno(), False)
        _widen(pipe.fileno())
    try:
        _exchange(child, {"ready": True}, [], START_TIMEOUT_S)
    except (OSError, EOFError) as error:
        child.kill()
        raise RuntimeError(f"the process that decodes did not start (status {child.wait()}; see above)") from error
    return child


def _widen(pipe: int) -> None:
    """Let a pipe hold a whole small video where the platform can (Linux): each refill wakes both processes."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, CHUNK)


# ------------------------------------------------------------------------------------------------------ frames


def _frame(header: dict[str, Any], blobs: Sequence[bytes]) -> list[bytes]:
    """Parts of one message: its header's length, the header with the blobs' lengths, the blobs."""
    encoded = json.dumps({**header, "lengths": [len(blob) for blob in blobs]}).encode()
    return [struct.pack("<I", len(encoded)), encoded, *blobs]


def _exchange(
    child: subprocess.Popen[bytes], header: dict[str, Any], blobs: Sequence[bytes], timeout_s: float
) -> tuple[dict[str, Any], list[bytes]]:
    """Send a message and wait for the answer. Raises TimeoutError, EOFError or OSError."""
    deadline = time.monotonic() + timeout_s
    for part in _frame(header, blobs):
        _send(child.stdin.fileno(), part, deadline)

    def read(size: int) -> bytes:
        return _receive(child.stdout.fileno(), size, deadline)

    answer = json.loads(read(struct.unpack("<I", read(4))[0]))
    return answer, [read(length) for length in answer.pop("lengths")]


def _send(pipe: int, data: bytes, deadline: float) -> None:
    view = memoryview(data)
    while view:
        _wait(pipe, selectors.EVENT_WRITE, deadline)
        view = view[os.write(pipe, view[:CHUNK]) :]


def _receive(pipe: int, size: int, deadline: float) -> bytes:
    parts = []
    while size:
        _wait(pipe, selectors.EVENT_READ, deadline)
        part = os.read(pipe, min(size, CHUNK))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _wait(pipe: int, event: int, deadline: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, event)
        if not selector.select(max(0.0, deadline - time.monotonic())):
            raise TimeoutError


# --------------------------------------------------------------------------------------------------- the child


def serve(parent: int, timeout_s: float, memory_mb: int) -> None:
    """Answer requests until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when an interrupted build ends
    _die_with(parent)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    _limit("RLIMIT_CORE", 0)
    _limit("RLIMIT_AS", memory_mb << 20)
    try:
        while (message := _read_message(requests)) is not None:
            _limit_cpu(message[0].pop("timeout_s", timeout_s))
            answers.writelines(_answer(*message))
            answers.flush()
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BrokenPipeError:
        os._exit(0)


def _answer(header: dict[str, Any], blobs: list[bytes]) -> list[bytes]:
    if "ready" in header:
        return _frame({}, [])
    if "segments" not in header:
        return _frame(*pack(_result(blobs[0], _request(header))))
    source = header["path"] if header["path"] is not None else blobs[0]
    packed = [pack(result) for result in _results(source, [_request(fields) for fields in header["segments"]])]
    return _frame({"segments": [header for header, _ in packed]}, [blob for _, blobs in packed for blob in blobs])


def _request(fields: dict[str, Any]) -> Request:
    return Request(**{**fields, "config": configs.from_dict(StorageConfig, fields["config"])})


def _result(data: bytes, request: Request) -> StoredVideo | VideoError:
    try:
        return transcode(data, request)
    except VideoError as error:
        return error


def _results(source: bytes | str, requests: list[Request]) -> list[StoredVideo | VideoError]:
    try:
        return transcode_segments(source, requests)
    except (OSError, VideoError) as error:  # the file is gone, or is no file any more
        return [VideoError("unreadable", str(error))] * len(requests)


def _read_message(pipe: BinaryIO) -> tuple[dict[str, Any], list[bytes]] | None:
    length = pipe.read(4)
    if len(length) < 4:
        return None
    header = json.loads(pipe.read(struct.unpack("<I", length)[0]))
    lengths = header.pop("lengths")
    blobs = [pipe.read(length) for length in lengths]
    return (header, blobs) if [len(blob) for blob in blobs] == lengths else None


def _limit(name: str, value: int) -> None:
    """Set a limit of this process where the platform has it; the parent's wall-clock limit holds everywhere."""
    try:
        import resource

        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
    except (ImportError, AttributeError, ValueError, OSError):
        return


def _limit_cpu(timeout_s: float) -> None:
    """The limit counts from the start of the process: move it on for each request."""
    _limit("RLIMIT_CPU", int(time.process_time() + timeout_s) + 1)


def _die_with(parent: int) -> None:
    """On Linux, be killed when the parent is; elsewhere the end of the pipe and the limits have to do."""
    if parent and sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
