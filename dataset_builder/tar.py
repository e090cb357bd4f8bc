"""A minimal, deterministic tar writer: ustar members without time, owner or padding that could differ from run to run."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from types import TracebackType

from pipeline import storage

BLOCK = 512


def member_header(name: str, size: int) -> bytes:
    """The 512-byte ustar header of a regular file: mode 0644, owner 0, time 0."""
    encoded = name.encode()
    if not 0 < len(encoded) <= 100 or not 0 <= size < 8**11:
        raise ValueError(f"a tar member named {name!r} of {size} bytes does not fit a ustar header")
    fields = [
        encoded.ljust(100, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,  # mode, uid, gid
        b"%011o\0" % size,
        b"%011o\0" % 0,  # mtime
        b" " * 8,  # checksum, filled in below
        b"0" + b"\0" * 100,  # regular file, no link name
        b"ustar\0" + b"00" + b"\0" * 64,  # magic, version, owner names
        b"0000000\0" * 2 + b"\0" * 167,  # device numbers, name prefix, padding
    ]
    header = b"".join(fields)
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


class TarWriter:
    """Streams members into a file that appears under its name, whole, when the `with` block ends without an error."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._closing = ExitStack()
        self._sha256 = hashlib.sha256()
        self.size = 0

    def add(self, name: str, data: bytes) -> int:
        """Append a member; returns the offset of its bytes within the tar."""
        self._write(member_header(name, len(data)))
        offset = self.size
        self._write(data)
        self._write(b"\0" * (-len(data) % BLOCK))
        return offset

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self.size += len(data)

    @property
    def sha256(self) -> str:
        """Of what is written so far; of the whole file after the `with` block."""
        return self._sha256.hexdigest()

    def __enter__(self) -> TarWriter:
        self._file = self._closing.enter_context(storage.whole_file(self._path))
        self._closing.push(self._end)
        return self

    def _end(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._write(b"\0" * (2 * BLOCK))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.__exit__(kind, error, trace)
