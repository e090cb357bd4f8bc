"""A video's URI → its bytes, at most so many of them, from nowhere that a stranger's post may not lead to.

Posts are written by others, so their URIs are too. Local files must be regular files; object stores are read through fsspec
with the user's own credentials; http(s) goes through `web.py`, which looks at every address before it connects.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

import fsspec

from dataset_builder import web
from pipeline.video import VideoError

MAX_LOCAL_BYTES = 2 << 30  # an upload is held in memory whole
MAX_REMOTE_BYTES = 512 << 20
READ_ATTEMPTS = 3
LOCAL_SCHEMES = frozenset(("file", "local"))
WEB_SCHEMES = frozenset(("http", "https"))
STORE_SCHEMES = frozenset("s3 s3a gs gcs az abfs abfss adl oci hdfs hf memory".split())  # noqa: SIM905  (reads better)
HOST_SCHEMES = frozenset(("hdfs",))  # their URLs may name a server to connect to

T = TypeVar("T")


def read_upload(uri: str, *, private_urls: bool = False) -> bytes:
    """Bytes of a video.

    Raises: VideoError missing | unreadable | too_large | refused_uri | opted_out.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return _attempt(lambda: _read_local(uri))
    if scheme in LOCAL_SCHEMES:
        return _attempt(lambda: _read_local(rest))
    if scheme in WEB_SCHEMES:
        return _attempt(lambda: web.get(uri, max_bytes=MAX_REMOTE_BYTES, private=private_urls))
    if scheme not in STORE_SCHEMES or "::" in uri:  # fsspec would take "::" for a chain of protocols
        raise VideoError("refused_uri", f"no URL scheme to read uploads from: {scheme[:20]!r}")
    if scheme in HOST_SCHEMES and urlsplit(uri).netloc and not private_urls:
        raise VideoError("refused_uri", f"{scheme} URLs that name a server need --execution.private-urls")
    return _attempt(lambda: _read_store(uri))


def _attempt(read: Callable[[], T]) -> T:
    """Again after a stumble, a few times; what a second try cannot mend ends at once."""
    for attempt in range(READ_ATTEMPTS):
        try:
            return read()
        except VideoError:
            raise
        except FileNotFoundError as error:
            raise VideoError("missing", str(error)) from error
        except (PermissionError, IsADirectoryError, NotADirectoryError, ValueError, ImportError) as error:
            raise VideoError("unreadable", str(error)) from error
        except MemoryError as error:
            raise VideoError("too_large", "does not fit in memory") from error
        except Exception as error:  # what remote file systems raise when they stumble is not one class
            if getattr(error, "errno", None) in web.HOPELESS or attempt == READ_ATTEMPTS - 1:
                raise VideoError("unreadable", f"{type(error).__name__}: {error}") from error
            time.sleep(attempt + 1)
    raise AssertionError("unreachable")


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise VideoError("too_large", f"{size:,} bytes, limit {limit:,}")


def _read_local(path: str) -> bytes:
    # Without O_NONBLOCK, opening a named pipe would wait for its other end for ever.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise VideoError("unreadable", "not a regular file")
        _check_size(status.st_size, MAX_LOCAL_BYTES)
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_LOCAL_BYTES + 1)
    finally:
        os.close(descriptor)
    _check_size(len(data), MAX_LOCAL_BYTES)
    return data


def _read_store(uri: str) -> bytes:
    filesystem, inner = fsspec.core.url_to_fs(uri, use_listings_cache=False)
    size = filesystem.info(inner)["size"]
    if size is None:
        raise VideoError("unreadable", "not a file")
    _check_size(size, MAX_REMOTE_BYTES)
    data = filesystem.cat_file(inner) if size else b""
    if len(data) != size:
        raise OSError(f"{len(data)} of {size} bytes came")
    return data
