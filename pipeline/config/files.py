"""Load, dump, digest, compare: a config as plain values, strictly."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

NOT_IN_DIGEST = frozenset(
    {
        "root",
        "data_root",
        "execution",
        "force",
        "retry_failed",
        "num_processes",
        "loader_workers",
        "cache_mb",
        "keep_last",
        "keep_every",
        "checkpoint_clips",
        "checkpoint_minutes",
        "on_unreadable",
        "max_replaced",
        "verify_share",
        "shard_cache",
        "shard_cache_gb",
        "compile",
        "pad_channels",
        "tensorboard",
        "peer_timeout_s",
    }
)


class ConfigError(ValueError):
    """What the user asked for cannot be done as written; the message names the field and the remedy."""


T = typing.TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Plain JSON types, field order kept; tuples become lists."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(kind: type[T], values: dict[str, Any], where: str = "") -> T:
    """Build `kind` from plain values, strictly: an unknown key or a wrong type raises ConfigError naming its path."""
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}
    for key in values:
        if key not in known:
            raise ConfigError(f"unknown key '{where}{key}'; {kind.__name__} has: {', '.join(sorted(known))}")
    return kind(**{key: _coerce(hints[key], value, f"{where}{key}") for key, value in values.items()})


def _coerce(hint: Any, value: Any, where: str) -> Any:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, f"{where}.")
    if origin is tuple:
        item = options[0]
        if not isinstance(value, list | tuple):
            raise ConfigError(f"'{where}' must be a list, not {value!r}")
        if Ellipsis not in options and len(value) != len(options):
            raise ConfigError(f"'{where}' must have {len(options)} values, not {value!r}")
        return tuple(_coerce(item, v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is Literal:
        if value not in options:
            raise ConfigError(f"'{where}' must be one of {', '.join(map(repr, options))}, not {value!r}")
        return value
    if type(None) in options:
        return None if value is None else _coerce(next(o for o in options if o is not type(None)), value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"'{where}' must be {hint.__name__}, not {value!r}")
    return value


def load(kind: type[T], path: str | Path, base: T | None = None) -> T:
    """Read a stage config from a .json or .toml file; keys that are left out keep the values of `base`, or their defaults."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"config file '{path}' does not exist")
    try:
        values = tomllib.loads(path.read_text()) if path.suffix == ".toml" else json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"config file '{path}' is not valid {path.suffix[1:] or 'JSON'}: {error}") from error
    return from_dict(kind, values if base is None else _merged(to_dict(base), values))


def _merged(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """`base` with `values` over it, sections field by field."""
    nested = {
        k: _merged(base[k], v) for k, v in values.items() if isinstance(v, dict) and isinstance(base.get(k), dict)
    }
    return {**base, **values, **nested}


def determining(config: Any, unused: Collection[str] = ()) -> dict[str, Any]:
    """The part of a config that decides what is in the artefact, as plain values: everything but `NOT_IN_DIGEST` and
    the fields of the config itself that are `unused`, given the others."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k not in NOT_IN_DIGEST}
        return [strip(v) for v in value] if isinstance(value, list) else value

    return strip({name: value for name, value in to_dict(config).items() if name not in unused})


def digest(values: Any) -> str:
    """SHA-256 (first 16 hex digits) of plain JSON values or of a config's determining part."""
    if dataclasses.is_dataclass(values):
        values = determining(values)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def differences(old: dict[str, Any], new: dict[str, Any], where: str = "") -> list[str]:
    """The fields in which two plain configs differ, as `path: old → new`."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{where}{key}.")
        elif a != b:
            found.append(f"{where}{key}: {a!r} → {b!r}")
    return found
