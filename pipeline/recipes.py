"""`tagreel recipes`: the settings of the paper by name. `--preset NAME` makes one the defaults of a command.

A recipe is a function of `presets`, or a row of `transfer_recipes`, with a name and a line about it. A recipe that makes a whole
sweep also serves each stage of it.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pipeline import config as configs
from pipeline import presets, transfer_recipes
from pipeline.cli import guarded
from pipeline.config import BuildConfig, ConfigError, DedupConfig, PretrainConfig, SweepConfig, TransferConfig

C = TypeVar("C")

COMMANDS = {
    BuildConfig: "build",
    DedupConfig: "dedup",
    PretrainConfig: "pretrain",
    TransferConfig: "transfer",
    SweepConfig: "sweep",
}


@dataclass(frozen=True)
class Recipe:
    about: str
    """What it is, and where in the paper."""
    make: Callable[[], Any]
    """Gives a stage's config, or a sweep's."""

    def part(self, kind: type[C]) -> C | None:
        """What this recipe says about a stage; None if nothing."""
        made = self.make()
        parts = [made, *vars(made).values()] if isinstance(made, SweepConfig) else [made]
        return next((part for part in parts if isinstance(part, kind)), None)


RECIPES: dict[str, Recipe] = {
    "ig_kinetics_65m": Recipe(
        "accuracy against 500K to 65M videos, R(2+1)D-34, 8 frames (Figure 1, Table 8)", presets.ig_kinetics_65m
    ),
    **{
        f"ig_{kind}": Recipe(f"source with seed labels of kind {kind} (Table 1)", partial(presets.ig_source, kind))
        for kind in ("kinetics", "noun", "verb", "verb_noun")
    },
    **{
        f"r2plus1d_{depth}_{length}f": Recipe(
            f"R(2+1)D-{depth} on {length} frames, 128 × {presets.BATCH_PER_GPU[length]} clips (Section 3.3)",
            partial(presets.pretraining, f"r2plus1d_{depth}", length),
        )
        for length in (8, 32)
        for depth in (18, 34, 101, 152)
    },
    "r3d_18_8f": Recipe(
        "R3D-18 on 8 frames, to compare with images (Table 4)", partial(presets.pretraining, "r3d_18", 8)
    ),
    "r2d_18_1f": Recipe(
        "R2D-18 on images or single frames, to be inflated (Table 4)", partial(presets.pretraining, "r2d_18", 1)
    ),
    **{row.name: Recipe(row.about, row.config) for row in transfer_recipes.ROWS},
}

FINE_TUNING = {row.name for row in transfer_recipes.ROWS}
MANY = 20
"""Choices that fit into a message."""


def preset(kind: type[C], name: str) -> C:
    """The config of one kind that a recipe gives; an unknown name raises ConfigError with the choices."""
    choices = {known: part for known, recipe in RECIPES.items() if (part := recipe.part(kind)) is not None}
    if name not in choices:
        raise ConfigError(
            f"no preset '{name}' for this command; {_choose(name, choices)}"
            if choices
            else f"this command has no presets, so not '{name}' either"
        )
    return choices[name]


def _choose(name: str, choices: Iterable[str]) -> str:
    """All choices or, of many, those that look most like `name`."""
    choices = list(choices)
    if len(choices) <= MANY:
        return f"choose from {', '.join(choices)}"
    near = difflib.get_close_matches(name, choices, n=5, cutoff=0.5)
    return (f"near to it: {', '.join(near)}; " if near else "") + f"`tagreel recipes` lists all {len(choices)}"


def listing() -> str:
    """Name, commands and description of every recipe; those of the fine-tuning tables with their columns."""
    rows = [
        (name, ", ".join(verb for kind, verb in COMMANDS.items() if recipe.part(kind) is not None), recipe.about)
        for name, recipe in RECIPES.items()
        if name not in FINE_TUNING
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"{name:<{widths[0]}}  {verbs:<{widths[1]}}  {about}" for name, verbs, about in rows]
    return "\n".join([*lines, "", "transfer: fine-tuning, Tables 8 to 17 (A.4)", "", transfer_recipes.listing()])


def show(name: str | None) -> None:
    """Print the list, or one recipe as JSON, fit for `--config`."""
    if name is None:
        print(f"{listing()}\n\ntagreel VERB --preset NAME takes one; tagreel recipes NAME prints it, for --config.")
        return
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe '{name}'; {_choose(name, RECIPES)}")
    print(json.dumps(configs.to_dict(RECIPES[name].make()), indent=1))


def main(argv: Sequence[str] | None = None) -> None:
    """`tagreel recipes [NAME]`."""
    parser = argparse.ArgumentParser(prog="tagreel recipes", description="The settings of the paper by name.")
    parser.add_argument("name", nargs="?", help="print this one as JSON")
    name = parser.parse_args(argv).name
    sys.exit(guarded(lambda: show(name)))


if __name__ == "__main__":
    main()
