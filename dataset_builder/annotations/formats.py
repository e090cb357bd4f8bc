"""The table of formats, and which of them a file is in."""

from __future__ import annotations

from dataset_builder.annotations import epic, hmdb51, kinetics, moments, plain, something, ucf101
from dataset_builder.annotations.rows import FOUND_CHARS, Format, first_line
from pipeline import storage
from pipeline.config import ConfigError, TargetConfig

FORMATS = {module.FORMAT.name: module.FORMAT for module in (plain, kinetics, epic, something, ucf101, hmdb51, moments)}

FILE_SUFFIXES = (".csv", ".tsv", ".txt", ".json")


def choose(config: TargetConfig, path: str, text: str) -> Format:
    """The format asked for, or the only one that a file can be in; ConfigError when none or several can."""
    if config.format != "auto":
        return FORMATS[config.format]
    able = [form for form in FORMATS.values() if form.recognise(text)]
    if len(able) == 1:
        return able[0]
    if able:
        raise ConfigError(f"'{path}' can be {' or '.join(form.name for form in able)}: say which with --format")
    found = first_line(text)[:FOUND_CHARS]
    raise ConfigError(
        f"target table '{path}' is in no known format: found {f'the first line {found!r}' if found else 'nothing'}. "
        "Expected one of\n  " + "\n  ".join(f"{form.name}: {form.expected}" for form in FORMATS.values())
    )


def files_of(path: str, config: TargetConfig) -> list[str]:
    """The files that --train or --test names: one, or those of a folder of HMDB51."""
    if path.lower().endswith(FILE_SUFFIXES):
        return [path]
    in_folder = storage.names_in(path, hmdb51.FILES.format(fold=config.fold))
    return in_folder or [path]
