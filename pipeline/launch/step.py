"""A stage as a process: its config in a file, its command line, and how it ends."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from pipeline import config as configs
from pipeline import storage
from pipeline.config import ConfigError


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
    if num_processes <= 1:
        return (sys.executable, "-m", module)
    launcher = ("pretrain.torchrun", "--standalone", f"--nproc-per-node={num_processes}")
    return (sys.executable, "-m", *launcher, "-m", module)


def command(name: str, module: str, config: Any, folder: str, num_processes: int = 1) -> Command:
    """The command of one stage; its resolved config goes to `{folder}/{name}.json`."""
    path = storage.join(folder, f"{name}.json")
    return Command(name, (*torchrun(module, num_processes), "--config", path), config, path)


def write_config(step: Command) -> None:
    storage.write_json(step.config_path, configs.to_dict(step.config))


def run(step: Command) -> None:
    """Write the config and run the stage, its progress on this terminal; CommandFailed if it does not end well."""
    write_config(step)
    if status := wait(subprocess.Popen(step.argv, env=environment(step))):
        raise CommandFailed(step, status)


def wait(process: subprocess.Popen) -> int:
    """Wait; exit status as a shell tells it. To stop is the stage's business: it hears SIGTERM from here, each Ctrl-C itself."""
    handlers = {signal.SIGTERM: lambda *_: process.send_signal(signal.SIGTERM), signal.SIGINT: lambda *_: None}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - code if code < 0 else code


def environment(step: Command) -> dict[str, str]:
    """Processes that share this machine's cores also share its threads; torchrun would warn and take one each."""
    processes = next((int(word.split("=")[1]) for word in step.argv if word.startswith("--nproc-per-node=")), 0)
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes))} if processes else {}
    return {**threads, **os.environ}
