"""`tagreel sweep NAME`: print, estimate, run, hand to a cluster, or look after a figure or table of the paper."""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import progress, storage, sweeps
from pipeline.cli import guarded, parse
from pipeline.config import ConfigError, SweepConfig
from pipeline.launch import estimates, ray_jobs, slurm
from pipeline.launch.graph import commands, sweep_folder, write_plan
from pipeline.launch.local import SweepFailed, realise
from pipeline.launch.states import is_finished, states, table

WRITERS = {"slurm": slurm.write, "ray": ray_jobs.write}
DEFAULT_SCALE = "paper"
FLAGS = {
    "--list": "print every sweep: where it is in the paper, its points, and what it compares",
    "--dry-run": "print the commands and what they will cost; run nothing",
    "--status": "print how far every stage is",
}


def sweep(config: SweepConfig, dry_run: bool = False) -> None:
    """Plan, run and report one sweep; `dry_run` prints its commands and estimates instead. A cluster's backend writes scripts.

    Raises: SweepFailed if a stage failed; what could be measured all the same is in the report.
    """
    if dry_run:
        show(config)
        return
    folder = write_plan(config)
    if config.backend != "local":
        plan = sweeps.plan(config)
        left = [stage for stage in plan.stages if not is_finished(stage, plan)]
        progress.say(WRITERS[config.backend](config, left, config.to or storage.join(folder, config.backend)))
        return
    try:
        realise(config)
    except SweepFailed:
        _report(config, folder)
        raise
    _report(config, folder)


def _report(config: SweepConfig, folder: str) -> None:
    write_plan(config)  # with what was drawn
    points = storage.read_json(storage.join(folder, "plan.json"))["points"]
    if any(storage.exists(storage.join(config.root, point["result"])) for point in points):
        from pipeline.report import write_report  # matplotlib: only where a report is drawn

        progress.say(f"report: {write_report(folder, config.root)['html']}")


def show(config: SweepConfig) -> None:
    """Print every command, what the points share, and the estimates."""
    plan = sweeps.plan(config)
    for step in commands(config):
        print(step.line())
    alone = sum(len(plan.behind(point)) for point in plan.points)
    print(f"\n{plan.layout.figure}: {plan.layout.title}")
    print(f"{len(plan.points)} points of {len(plan.stages)} stages; {alone} if nothing were shared")
    print(estimates.summary(plan))


def show_states(config: SweepConfig) -> None:
    folder = sweep_folder(config)
    print(table(states(sweeps.plan(config), folder), folder))


# -------------------------------------------------------------------------------------------- the command line


def sweep_main(argv: Sequence[str] | None = None) -> None:
    """`tagreel sweep [NAME] [--scale paper|tiny] [--list | --dry-run | --status] [options]`; the name stands first."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = words.pop(0) if words and not words[0].startswith("-") else None
    known, rest = _parser().parse_known_args(words)
    sys.exit(guarded(lambda: _run(name, known, rest)))


def _parser() -> argparse.ArgumentParser:
    """Of what is no field of the config; NAME is taken off before, for it cannot be told from the values of fields."""
    parser = argparse.ArgumentParser(
        usage="tagreel sweep [NAME] [--scale SCALE] [--list | --dry-run | --status] [options]",
        description=f"NAME is one of {', '.join(sweeps.SWEEPS)}.",
        add_help=False,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    scales = list(sweeps.SCALES)
    parser.add_argument("--scale", choices=scales, help=f"size of the sweep named; {DEFAULT_SCALE} unless given")
    for flag, does in FLAGS.items():
        parser.add_argument(flag, action="store_true", help=does)
    for option in ("--kind", "--preset", "--config"):  # which the options below have, too
        parser.add_argument(option, help=argparse.SUPPRESS)
    return parser


def _run(name: str | None, known: argparse.Namespace, rest: list[str]) -> None:
    if known.list:
        print(sweeps.listing())
        return
    config = _config(name, known, rest)
    if known.status:
        show_states(config)
    else:
        sweep(config, known.dry_run)


def _config(name: str | None, known: argparse.Namespace, rest: list[str]) -> SweepConfig:
    """Defaults of the sweep named, at its scale; then --config, then options. Without a name or scale: plain defaults."""
    if name and known.kind and name != known.kind:
        raise ConfigError(f"two sweeps are named, '{name}' and '{known.kind}': leave one out")
    kind = name or known.kind or (_kind_in(known.config) if known.config else None)
    words = [*rest, *(["--kind", kind] if kind else [])]
    for option in ("config", "preset"):
        if value := getattr(known, option):
            words = [f"--{option}", value, *words]
    is_scaled = (kind or known.scale) and not known.preset
    default = sweeps.scaled(kind or SweepConfig.kind, known.scale or DEFAULT_SCALE) if is_scaled else None
    about = f"{SweepConfig.__doc__.strip()}\n\n{_parser().format_help().strip()}"
    return parse(SweepConfig, words, default=default, about=about)


def _kind_in(path: str) -> str | None:
    """The sweep that a config file is for; what is wrong with the file is said where it is read."""
    try:
        text = Path(path).read_text()
        values: Any = tomllib.loads(text) if path.endswith(".toml") else json.loads(text)
        return values.get("kind")
    except (OSError, ValueError, AttributeError):
        return None
