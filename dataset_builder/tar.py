"""A minimal, deterministic tar writer: ustar members without time, owner or padding that could differ from run to run."""

from __future__ import annotations

import hashlib
import os
import tempfile
from types import TracebackType

import fsspec

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
    """Streams members into a temporary file; leaving the `with` block without an error publishes it under its name."""

    def __init__(self, path: str) -> None:
        self._path = path
        folder = os.path.dirname(path) if storage.is_local(path) else None
        if folder:
            os.makedirs(folder, exist_ok=True)
        descriptor, self._temporary = tempfile.mkstemp(suffix=".tmp", prefix=os.path.basename(path) + ".", dir=folder)
        os.fchmod(descriptor, 0o644)
        self._file = os.fdopen(descriptor, "wb")
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
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._publish()
        finally:
            self._file.close()
            if os.path.exists(self._temporary):
                os.unlink(self._temporary)

    def _publish(self) -> None:
        self._write(b"\0" * (2 * BLOCK))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if storage.is_local(self._path):
            os.replace(self._temporary, self._path)
            storage.sync_folder(os.path.dirname(self._path) or ".")
        else:
            filesystem, inner = fsspec.core.url_to_fs(self._path)
            filesystem.put_file(self._temporary, inner)
