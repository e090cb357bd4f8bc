"""A plan's stages as commands, and plan.json, from which the report and later commands read what a sweep is."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from pipeline import artifacts, storage, sweeps
from pipeline import config as configs
from pipeline.config import SweepConfig
from pipeline.launch.step import Command, command
from pipeline.sweeps import Plan, Point, Stage


def sweep_folder(config: SweepConfig) -> str:
    return artifacts.sweep_folder(config.root, config.name or config.kind)


def stage_command(stage: Stage, folder: str) -> Command:
    """The command of a stage of the sweep in `folder`."""
    return command(stage.name, stage.module, stage.config, storage.join(folder, "configs"), stage.num_processes)


def commands(config: SweepConfig) -> Iterator[Command]:
    """All commands of a sweep, each after those it needs; work that points share comes once."""
    folder = sweep_folder(config)
    for stage in sweeps.plan(config).stages:
        yield stage_command(stage, folder)


def write_plan(config: SweepConfig, **extra: Any) -> str:
    """Write plan.json: the sweep's config, its layout, stages, and each point with its result's path. Returns the folder."""
    plan, folder = sweeps.plan(config), sweep_folder(config)
    content = {
        "name": config.name or config.kind,
        "title": plan.layout.title,
        "config": configs.to_dict(config),
        "layout": dataclasses.asdict(plan.layout),
        "stages": [_stage(stage, folder) for stage in plan.stages],
        "points": [_point(plan, point, config.root, folder) for point in plan.points],
        **extra,
    }
    storage.write_json(storage.join(folder, "plan.json"), content)
    return folder


def _stage(stage: Stage, folder: str) -> dict[str, Any]:
    return {
        "name": stage.name,
        "kind": stage.kind,
        "needs": stage.needs,
        "marker": _marker(stage),
        "command": stage_command(stage, folder).line(),
    }


def _marker(stage: Stage) -> str | None:
    path = marker(stage)
    return path and os.path.relpath(path, stage.config.root)


def _point(plan: Plan, point: Point, root: str, folder: str) -> dict[str, Any]:
    transfer = point.transfer
    own = [stage for stage in plan.behind(point) if stage.kind in ("subset", "pretrain", "transfer", "joint")]
    return {
        "id": point.id,
        "kind": point.kind,
        "num_videos": point.num_videos,
        "seed": transfer.seed,
        "protocol": transfer.protocol,
        "target": point.axes["target"],
        "dataset": point.dataset,
        "drawn": _drawn(point, root),
        "run": transfer.run,
        "axes": point.axes,
        "result": os.path.relpath(marker(point.stage), root),
        "commands": [stage_command(stage, folder).line() for stage in own],
    }


def _drawn(point: Point, root: str) -> dict[str, float | None] | None:
    """Videos and minutes of the point's dataset as it was made: `num_videos` is what was asked for, and of an arm that was
    drawn by minutes only about what it has. None before it is there."""
    path = artifacts.dataset_files(root, point.dataset).marker if point.dataset else ""
    if not path or not storage.exists(path):
        return None
    made = storage.read_json(path)
    return {"videos": made.get("num_videos"), "minutes": made.get("minutes")}


def marker(stage: Stage) -> str:
    """What a stage writes last."""
    config = stage.config
    match stage.kind:
        case "build" | "subset":
            return artifacts.dataset_files(config.root, config.dataset).marker
        case "dedup":
            return artifacts.dataset_files(config.root, config.dataset).dedup_marker
        case "target":
            return artifacts.target_files(config.root, config.target, "test").marker
        case "pretrain":
            return artifacts.run_files(config.root, config.run).marker
        case "transfer":
            return artifacts.transfer_files(config).marker
        case "joint":
            return config.to
        case "labels":
            return artifacts.label_report(config.root, config.name) + ".json"
        case "platform":
            return storage.join(config.root, "world", "platform.json")
