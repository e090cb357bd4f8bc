"""What the scripts for Slurm and Ray have in common. They are written to be read, and changed."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Sequence

from pipeline import storage
from pipeline.config import ConfigError, SweepConfig
from pipeline.launch.graph import stage_command, sweep_folder
from pipeline.launch.logged import BEGINS, ENDS, log_path
from pipeline.launch.step import write_config
from pipeline.sweeps import Stage

BODY = """\
attempts={attempts}
for attempt in $(seq "$attempts"); do
  echo "{begins}"
  status=0
  {command} || status=$?
  echo "{ends}"
  case $status in
    0|2|75|130|143) break ;; # done; bad input, which would be the same again; told to stop
  esac
done
"""


def check(config: SweepConfig) -> None:
    """ConfigError for what jobs on other machines could not find."""
    if storage.is_local(config.root) and not os.path.isabs(config.root):
        raise ConfigError(
            f"with --backend {config.backend}, --root must be an absolute path that every machine sees, not '{config.root}'"
        )
    if storage.is_local(config.root) is False:
        raise ConfigError(
            f"runs and logs of a sweep are on a shared disk, not behind a URL like --root '{config.root}'"
        )


def words(stage: Stage, config: SweepConfig) -> list[str]:
    """The stage's command line with `python` for this interpreter; its config is written for it."""
    step = stage_command(stage, sweep_folder(config))
    write_config(step)
    return ["python", *step.argv[1:]]


def attempted(stage: Stage, command: str, config: SweepConfig, what: str, number: str) -> str:
    """Shell that runs `command` with its attempts, saying in the log's two lines what happens. `number`: shell for the job's."""
    return BODY.format(
        attempts=config.retries + 1,
        command=command,
        begins=BEGINS.format(name=stage.name, host="$(hostname)", what=what, number=number),
        ends=ENDS.format(name=stage.name, status="$status"),
    )


def log(stage: Stage, config: SweepConfig) -> str:
    path = log_path(sweep_folder(config), stage.name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def write_script(path: str, text: str) -> None:
    """An executable file, replaced as a whole."""
    storage.write_bytes(path, text.encode())
    os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)


def quoted(command: Sequence[str]) -> str:
    """One argument a line where it is long, fit for a shell."""
    line = shlex.join(command)
    return line if len(line) <= 100 else line.replace(" --config ", " \\\n    --config ")
