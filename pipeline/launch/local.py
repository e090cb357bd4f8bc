"""Run a sweep's stages on this machine, one after the other: what is finished is passed over, what fails is tried again."""

from __future__ import annotations

import os
import time

from pipeline import progress, sweeps
from pipeline.cli import EXIT_BAD_INPUT
from pipeline.config import ConfigError, SweepConfig
from pipeline.launch.graph import stage_command, sweep_folder
from pipeline.launch.logged import attempts, log_path, run_logged
from pipeline.launch.states import INTERRUPTED, is_finished, states, table
from pipeline.launch.step import write_config
from pipeline.sweeps import Stage

POLL_S = 2.0


class SweepFailed(ConfigError):
    """Some stages failed after all attempts; the others are done."""

    status = 1


def realise(config: SweepConfig) -> None:
    """Run every stage of a sweep that is not done yet.

    A stage that fails is tried again `config.retries` times (bad input is not: it would be the same again); what needs it is
    left out, the rest goes on. Ctrl-C and SIGTERM stop the whole; the same call goes on from there.

    Raises: SweepFailed, when all that can be done is done, if any stage failed; the states of all are printed before.
    """
    plan, folder = sweeps.plan(config), sweep_folder(config)
    failed: dict[str, int] = {}
    lost: set[str] = set()
    passed = 0
    with progress.bar(desc=f"sweep {config.name or config.kind}", total=len(plan.stages), unit="stage") as bar:
        for stage in plan.stages:
            bar.set_postfix_str(stage.name)
            if lost.intersection(stage.needs):
                lost.add(stage.name)
            elif is_finished(stage, plan):
                passed += 1
            elif status := attempt(stage, folder, config.retries):
                failed[stage.name] = status
                lost.add(stage.name)
            bar.update()
    if passed:
        progress.say(f"sweep: {passed} of {len(plan.stages)} stages were finished already")
    if failed:
        progress.say(table(states(plan, folder), folder))
        raise SweepFailed(_message(failed, len(lost) - len(failed), folder))


def attempt(stage: Stage, folder: str, retries: int) -> int:
    """Run a stage until it succeeds or has no attempts left; returns the last status. SystemExit if it was told to stop."""
    step = stage_command(stage, folder)
    write_config(step)
    path = log_path(os.path.abspath(folder), stage.name)
    _wait_for_others(stage, path)
    for left in range(retries, -1, -1):
        status = run_logged(step, path)
        if status in INTERRUPTED:
            raise SystemExit(status)
        if not status or status == EXIT_BAD_INPUT:
            break
        if left:
            progress.say(f"sweep: '{stage.name}' failed with status {status}; {left} more to try")
    return status


def _wait_for_others(stage: Stage, path: str) -> None:
    """Where another sweep makes the same, or one that was killed has left a stage behind: two would write to one folder."""
    found = attempts(path)
    if found.is_running and found.is_sure:
        progress.say(f"sweep: '{stage.name}' is being made already, by {found.runner}: waiting for it to end")
        while found.is_running and found.is_sure:
            time.sleep(POLL_S)
            found = attempts(path)


def _message(failed: dict[str, int], skipped: int, folder: str) -> str:
    lines = [f"  {name} (status {status}): {log_path(folder, name)}" for name, status in failed.items()]
    others = f", and {skipped} that need what they make are left out" if skipped else ""
    return "\n".join([f"{len(failed)} stages failed{others}; the logs say why:", *lines])
