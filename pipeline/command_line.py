"""A config → the command that gives it again: the fields that differ from their defaults, as options."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from typing import Any

from pipeline.config import NOT_IN_DIGEST

WHERE = NOT_IN_DIGEST - {"root"}
"""Fields that say how a command runs, not what it makes: whoever runs it again has their own."""


def command_line(verb: str, config: Any) -> str:
    """`tagreel VERB --field value …`; what is left out has its default."""
    return shlex.join(["tagreel", verb, *_options(config, type(config)(), "--")])


def _options(config: Any, default: Any, prefix: str) -> Iterator[str]:
    for field in dataclasses.fields(config):
        value, usual = getattr(config, field.name), getattr(default, field.name)
        option = prefix + field.name.replace("_", "-")
        if field.name in WHERE or value == usual:
            continue
        if dataclasses.is_dataclass(value):
            yield from _options(value, usual, f"{option}.")
        elif isinstance(value, bool):
            yield option if value else f"{prefix}no-{field.name.replace('_', '-')}"
        else:
            yield from (option, *(map(str, value) if isinstance(value, tuple) else [str(value)]))
