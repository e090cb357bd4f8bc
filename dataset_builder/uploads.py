"""A video's URI → its bytes, at most so many of them, from nowhere that a stranger's post may not lead to.

Posts are written by others, so their URIs are too. Local files must be regular files; object stores are read through fsspec
with the user's own credentials; http(s) goes through `web.py`, which looks at every address before it connects.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

import fsspec

from dataset_builder import web
from pipeline.upload import open_regular
from pipeline.video import VideoError

MAX_LOCAL_BYTES = 2 << 30  # an upload is held in memory whole, unless only segments of it are wanted
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


def source_of_segments(uri: str, *, private_urls: bool = False) -> tuple[str | bytes, str]:
    """A video that segments are cut from: the path of a local file, which may be of any size, or its bytes; and its SHA-256.

    Raises: VideoError as `read_upload`.
    """
    scheme, separator, rest = uri.partition("://")
    if separator and scheme not in LOCAL_SCHEMES:
        data = read_upload(uri, private_urls=private_urls)
        return data, hashlib.sha256(data).hexdigest()
    path = rest if separator else uri
    return path, _attempt(lambda: _local_digest(path))


def _local_digest(path: str) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    with open_regular(path) as file:
        _check_size(os.fstat(file.fileno()).st_size, MAX_LOCAL_BYTES)
        data = file.read(MAX_LOCAL_BYTES + 1)
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
