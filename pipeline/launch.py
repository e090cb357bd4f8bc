"""Configs → the commands that realise them; print or run them. Every stage is its own process and skips what is done."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import artifacts, progress, storage, sweeps
from pipeline import config as configs
from pipeline.cli import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_PEER_LOST, run_stage
from pipeline.config import ConfigError, PretrainConfig, SweepConfig, TransferConfig


@dataclass(frozen=True)
class Command:
    """One stage as a process: `name` says what it makes, `argv` how, `config` is written to `config_path` first."""

    name: str
    argv: tuple[str, ...]
    config: Any
    config_path: str

    def line(self) -> str:
        return shlex.join(("python", *self.argv[1:]))


class CommandFailed(ConfigError):
    """A stage's process ended with an error; its own message stands above. `status` is the stage's own."""

    def __init__(self, step: Command, status: int) -> None:
        super().__init__(
            f"'{step.name}' failed with status {status}; its message is above. The command was:\n  {step.line()}"
        )
        self.status = status


def torchrun(module: str, num_processes: int) -> tuple[str, ...]:
    """argv that starts `module` as `num_processes` torch.distributed processes on this machine."""
    if num_processes < 1:
        raise ConfigError(f"num_processes must be at least 1, not {num_processes}")
    if num_processes == 1:
        return (sys.executable, "-m", module)
    launcher = ("pretrain.torchrun", "--standalone", f"--nproc-per-node={num_processes}")
    return (sys.executable, "-m", *launcher, "-m", module)


def command(name: str, module: str, config: Any, folder: str, num_processes: int = 1) -> Command:
    """The command of one stage; its resolved config goes to `{folder}/{name}.json`."""
    path = storage.join(folder, f"{name}.json")
    return Command(name, (*torchrun(module, num_processes), "--config", path), config, path)


def run(step: Command) -> None:
    """Write the config and run the stage, its progress on this terminal; CommandFailed if it does not end well."""
    storage.write_json(step.config_path, configs.to_dict(step.config))
    if status := _status(subprocess.Popen(step.argv, env=_environment(step))):
        raise CommandFailed(step, status)


def _status(process: subprocess.Popen) -> int:
    """Wait; exit status as a shell tells it. To stop is the stage's business: it hears SIGTERM from here, each Ctrl-C itself."""
    handlers = {signal.SIGTERM: lambda *_: process.send_signal(signal.SIGTERM), signal.SIGINT: lambda *_: None}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - code if code < 0 else code


def _environment(step: Command) -> dict[str, str]:
    """Processes that share this machine's cores also share its threads; torchrun would warn and take one each."""
    processes = next((int(word.split("=")[1]) for word in step.argv if word.startswith("--nproc-per-node=")), 0)
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))} if processes else {}
    return {**threads, **os.environ}


# ------------------------------------------------------------------------------------------------ sweeps


def commands(config: SweepConfig) -> Iterator[Command]:
    """All commands of a sweep, in order; work that points share comes once."""
    plan = sweeps.plan(config)
    folder = storage.join(artifacts.sweep_folder(config.root, config.name), "configs")
    yield command(f"build-{plan.build.dataset}", "dataset_builder.build", plan.build, folder)
    yield command(f"dedup-{plan.dedup.dataset}", "dedup.find", plan.dedup, folder)
    seen = set()
    for point in plan.points:
        for step in point_commands(point, folder):
            if step.name not in seen:
                seen.add(step.name)
                yield step


def point_commands(point: sweeps.Point, folder: str) -> list[Command]:
    """What one point needs beyond the shared source: its subset, its run, its transfer."""
    steps = []
    if point.subset and point.pretrain:
        steps = [
            command(f"subset-{point.subset.dataset}", "dataset_builder.build", point.subset, folder),
            command(
                f"pretrain-{point.pretrain.run}", "pretrain.train", point.pretrain, folder, point.pretrain.num_processes
            ),
        ]
    transfer = point.transfer
    return [*steps, command(f"transfer-{point.id}", "finetune.transfer", transfer, folder, transfer.num_processes)]


def write_plan(config: SweepConfig, **extra: Any) -> str:
    """Write plan.json, what the report reads: the sweep's config and each point with its result's path. Returns the folder."""
    plan = sweeps.plan(config)
    folder = artifacts.sweep_folder(config.root, config.name)
    points = [
        {
            "id": point.id,
            "kind": "pretrained" if point.pretrain else "scratch",
            "num_videos": point.num_videos,
            "seed": point.seed,
            "protocol": point.transfer.protocol,
            "target": point.transfer.target,
            "dataset": point.subset.dataset if point.subset else None,
            "run": point.transfer.run,
            "result": os.path.relpath(artifacts.transfer_files(point.transfer).marker, config.root),
            "commands": [step.line() for step in point_commands(point, storage.join(folder, "configs"))],
        }
        for point in plan.points
    ]
    content = {"name": config.name, "config": configs.to_dict(config), "points": points, **extra}
    storage.write_json(storage.join(folder, "plan.json"), content)
    return folder


def realise(config: SweepConfig) -> None:
    """Run every stage of a sweep that is not done yet; the first failure stops it, and the same call goes on from there."""
    steps = list(commands(config))
    with progress.bar(desc=f"sweep {config.name}", total=len(steps), unit="stage") as bar:
        for step in steps:
            bar.set_postfix_str(step.name)
            run(step)
            bar.update()


def sweep(config: SweepConfig, dry_run: bool = False) -> None:
    """Plan, run and report one sweep; `dry_run` prints the commands instead."""
    if dry_run:
        for step in commands(config):
            print(step.line())
        return
    from pipeline.report import write_report  # matplotlib: only where a report is drawn

    folder = write_plan(config)
    realise(config)
    progress.say(f"report: {write_report(folder, config.root)['html']}")


# ------------------------------------------------------------------------------------------------ verbs


SAID_ENOUGH = (EXIT_BAD_INPUT, EXIT_PEER_LOST, EXIT_INTERRUPTED, 130)  # the stage's last line says why


def run_alone(step: Command) -> None:
    """Run what the user asked for by name: it ends as the stage does."""
    try:
        run(step)
    except CommandFailed as failed:
        if failed.status in SAID_ENOUGH:
            sys.exit(failed.status)
        raise


def pretrain(config: PretrainConfig) -> None:
    run_alone(
        command(f"pretrain-{config.run}", "pretrain.train", config, _configs_folder(config), config.num_processes)
    )


def transfer(config: TransferConfig) -> None:
    run_folder, _, result = artifacts.transfer_files(config).folder.rpartition("/transfer/")
    name = f"transfer-{run_folder.rpartition('/')[2]}-{result}"
    run_alone(command(name, "finetune.transfer", config, _configs_folder(config), config.num_processes))


def _configs_folder(config: PretrainConfig | TransferConfig) -> str:
    return storage.join(config.root, "commands")


def pretrain_main(argv: Sequence[str] | None = None) -> None:
    run_stage(PretrainConfig, pretrain, argv)


def transfer_main(argv: Sequence[str] | None = None) -> None:
    run_stage(TransferConfig, transfer, argv)


def sweep_main(argv: Sequence[str] | None = None) -> None:
    argv = list(sys.argv[1:] if argv is None else argv)
    dry_run = "--dry-run" in argv
    argv = [word for word in argv if word != "--dry-run"]
    run_stage(SweepConfig, lambda config: sweep(config, dry_run), argv)
