"""What became of a sweep's stages, read from artefacts and logs: nothing is started for it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tqdm import tqdm

from pipeline import artifacts, storage
from pipeline import config as configs
from pipeline.cli import EXIT_INTERRUPTED
from pipeline.launch.graph import marker
from pipeline.launch.logged import Attempts, attempts, log_path
from pipeline.storage import StorageError
from pipeline.sweeps import Plan, Stage
from pipeline.sweeps.planner import SCRATCH

SPLITS = ("train", "test")
INTERRUPTED = (EXIT_INTERRUPTED, 130, 143)
"""Statuses of a stage that was told to stop: it goes on from where it was."""
State = Literal["done", "stale", "running", "failed", "ready", "waiting", "skipped"]
MEANING = {
    "done": "whole, and made as the sweep asks",
    "stale": "whole, but perhaps not from these inputs: the stage itself tells when it is started",
    "running": "begun, not ended by its log, and its process or job may be there",
    "failed": "its last attempt ended badly",
    "ready": "may begin or go on, its inputs are whole",
    "waiting": "for stages before it",
    "skipped": "a stage before it failed",
}


@dataclass(frozen=True)
class StageState:
    stage: Stage
    state: State
    attempts: Attempts


def states(plan: Plan, folder: str) -> list[StageState]:
    """The state of every stage of the sweep in `folder`."""
    known: dict[str, StageState] = {}
    for stage in plan.stages:
        tried = attempts(log_path(folder, stage.name))
        needed = [known[name].state for name in stage.needs]
        known[stage.name] = StageState(stage, _state(stage, plan, needed, tried), tried)
    return list(known.values())


def _state(stage: Stage, plan: Plan, needed: Sequence[State], tried: Attempts) -> State:
    if tried.is_running and tried.is_sure:
        return "running"
    if storage.exists(marker(stage)):
        return "done" if all(s == "done" for s in needed) and is_finished(stage, plan) else "stale"
    if tried.is_running:
        return "running"
    if tried.begun and tried.status not in INTERRUPTED:
        return "failed"
    if any(state in ("failed", "skipped") for state in needed):
        return "skipped"
    return "ready" if all(state in ("done", "stale") for state in needed) else "waiting"


def table(rows: Iterable[StageState], folder: str) -> str:
    """States as text: one line a stage, then how many there are of each."""
    rows = list(rows)
    width = max((len(row.stage.name) for row in rows), default=0)
    lines = [f"{row.state:<8} {row.stage.name:<{width}}{_remark(row, folder)}".rstrip() for row in rows]
    counts = Counter(row.state for row in rows)
    told = [f"{count} {state} ({MEANING[state]})" for state in MEANING if (count := counts[state])]
    return "\n".join([*lines, f"{len(rows)} stages: {'; '.join(told)}"])


def _remark(row: StageState, folder: str) -> str:
    if row.state == "running" and not row.attempts.is_sure:
        quiet = tqdm.format_interval(row.attempts.quiet_s)
        return f"  {row.attempts.runner}, if it is still there; its log has been quiet for {quiet}"
    if row.state == "failed":
        how = "killed" if row.attempts.status is None else f"status {row.attempts.status}"
        times = f"{row.attempts.begun} attempts, " if row.attempts.begun > 1 else ""
        return f"  {times}{how}: {log_path(folder, row.stage.name)}"
    return ""


# ------------------------------------------------------------------------------------------------- finished?


def is_finished(stage: Stage, plan: Plan) -> bool:
    """True only if the stage, started now, would find nothing to do; where that is not sure, False.

    Its marker must have been made by this config, from the artefacts that the stages before it have now, and after the last
    change of the files it reads.
    """
    path = marker(stage)
    if stage.kind == "labels":  # has no marker, and is written in a second
        return storage.exists(path) and all(_is_older(marker(plan.stage(name)), path) for name in stage.needs)
    if getattr(stage.config, "force", False) or getattr(stage.config, "retry_failed", False):
        return False
    content = _read(path)
    return (
        content is not None
        and _same_config(content.get("config"), configs.determining(stage.config))
        and _inputs(stage) <= set((content.get("input_digests") or {}).values())
        and all(_is_older(file, path) for file in stage.files)
    )


def _read(path: str) -> dict[str, Any] | None:
    try:
        content = storage.read_json(path) if storage.exists(path) else None
    except StorageError:
        return None
    return content if isinstance(content, dict) else None


def _same_config(made: Any, asked: dict[str, Any]) -> bool:
    """A stage may leave fields out that play no part in what it made."""
    return isinstance(made, dict) and bool(made) and all(asked.get(key) == value for key, value in made.items())


def _inputs(stage: Stage) -> set[str | None]:
    """Digests of the artefacts that the stage reads; None for one that is not there."""
    config, paths = stage.config, []
    if stage.kind in ("dedup", "pretrain"):
        paths.append(artifacts.dataset_files(config.root, config.dataset).marker)
    if stage.kind == "subset":
        paths.append(artifacts.dataset_files(config.root, config.base).dedup_marker)
    if stage.kind == "transfer" and not config.run_from and not config.run.startswith(SCRATCH):
        paths.append(artifacts.run_files(config.root, config.run).marker)
    if stage.kind == "joint":
        paths += [artifacts.TransferFiles(folder).marker for folder in (config.verb, config.noun)]
    targets = {"dedup": lambda: config.targets, "transfer": lambda: (config.target,)}.get(stage.kind, tuple)()
    paths += [artifacts.target_files(config.root, name, split).marker for name in targets for split in SPLITS]
    return {(_read(path) or {}).get("digest") for path in paths}


def _is_older(file: str, than: str) -> bool:
    """False where it cannot be told: behind a URL, or a pattern of names."""
    paths = storage.listing(file) or [file]
    if not all(storage.is_local(p) and os.path.isfile(p) for p in paths) or not storage.is_local(than):
        return False
    return max(map(os.path.getmtime, paths)) <= os.path.getmtime(than)
