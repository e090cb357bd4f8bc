"""Where the video of an annotation is: --videos, a folder or a template, against one listing of what is there."""

from __future__ import annotations

import os
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import fsspec

from pipeline import storage
from pipeline.config import ConfigError
from pipeline.storage import StorageError

SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp")
"""Of videos, in the order of preference where one stands there in several."""
OF_SEGMENT = frozenset(("start", "end", "uid"))
"""A file with one of these in its name holds that segment, and not the whole video."""


@dataclass(frozen=True)
class Found:
    uri: str
    name: str
    """Within the folder."""
    is_segment: bool


class VideoFiles:
    """The files of a folder, found by templates; in what cannot be listed (http), the first template is believed."""

    def __init__(self, videos: str, templates: tuple[str, ...]) -> None:
        self.folder, self.templates = _split(videos, templates)
        self._files: set[str] | None = None
        self._by_stem: dict[str, str] = {}
        if _is_listed(self.folder):
            self._list()

    def _list(self) -> None:
        self._files = set(_listing(self.folder))
        rank = {suffix: i for i, suffix in enumerate(SUFFIXES)}
        ranked = ((rank.get(os.path.splitext(name)[1].lower()), name) for name in self._files)
        for _, name in sorted((item for item in ranked if item[0] is not None), reverse=True):
            self._by_stem[os.path.splitext(name)[0]] = name

    def find(self, fields: Mapping[str, str | int]) -> Found | None:
        for template in self.templates:
            if (name := self._there(_filled(template, fields))) is not None:
                return Found(storage.join(self.folder, name), name, bool(_names_in(template) & OF_SEGMENT))
        return None

    def _there(self, name: str | None) -> str | None:
        if name is None or self._files is None:
            return name
        return name if name in self._files else self._by_stem.get(name)

    def tried(self, fields: Mapping[str, str | int]) -> list[str]:
        """Paths that `find` looked for, for messages."""
        names = dict.fromkeys(_filled(template, fields) for template in self.templates)
        return [storage.join(self.folder, name) for name in names if name]


def _split(videos: str, templates: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """(folder, templates within it)."""
    if "{" in videos:
        folder, _, rest = videos.partition("{")
        folder, slash, name = folder.rpartition("/")
        return (folder or "/" if slash else "."), (f"{name}{{{rest}",)
    if not _is_listed(videos):
        raise ConfigError(
            f"--videos '{videos}': such a folder cannot be listed; give a template like {videos}/{{id}}.mp4"
        )
    return videos, templates


def _is_listed(folder: str) -> bool:
    return not folder.startswith(("http://", "https://"))


@cache
def _names_in(template: str) -> frozenset[str]:
    try:
        return frozenset(name for _, name, _, _ in string.Formatter().parse(template) if name is not None)
    except ValueError as error:
        raise ConfigError(f"--videos: '{template}' is no template: {error}") from error


def _filled(template: str, fields: Mapping[str, str | int]) -> str | None:
    """None where the annotations lack one of the fields, as default templates may."""
    names = _names_in(template)
    if not names <= fields.keys() or any(fields[name] == "" for name in names):
        return None
    try:
        return template.format_map(fields)
    except ValueError as error:
        raise ConfigError(f"--videos: '{template}' cannot be filled with {dict(fields)}: {error}") from error


def check_template(files: VideoFiles, fields: Mapping[str, str | int]) -> None:
    """ConfigError when no template could ever be filled; `fields` are those of one annotation."""
    if not any(_names_in(template) <= fields.keys() for template in files.templates):
        raise ConfigError(
            f"--videos: '{files.templates[0]}' has other names in braces than these annotations: "
            f"{', '.join(f'{{{name}}}' for name in fields)}"
        )


def _listing(folder: str) -> Iterator[str]:
    """Names of all files below a folder, relative to it."""
    if storage.is_local(folder):
        if not os.path.isdir(folder):
            raise ConfigError(f"--videos: '{folder}' is no folder")
        yield from _walk(folder, "", {os.stat(folder).st_ino})
        return
    try:
        filesystem, inner = fsspec.core.url_to_fs(folder, use_listings_cache=False)
        inner = inner.rstrip("/")
        yield from (path.removeprefix(inner).lstrip("/") for path in filesystem.find(inner))
    except Exception as error:  # what libraries of object stores raise is not one class
        raise StorageError(f"cannot list '{folder}' (--videos): {type(error).__name__}: {error}") from error


def _walk(folder: str, prefix: str, above: set[int]) -> Iterator[str]:
    """Through links to folders too, though not back to one above."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir():
                yield prefix + entry.name
            elif (inode := entry.stat().st_ino) not in above:
                yield from _walk(entry.path, f"{prefix}{entry.name}/", above | {inode})
