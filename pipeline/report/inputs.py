"""Everything the report reads, and nothing it computes: the plan, the results, and the markers of the stages behind them.

A file that is not there is `None` or empty, never an error: the page says what is missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import Any

from pipeline import artifacts, storage
from pipeline import config as configs
from pipeline.config import ConfigError
from pipeline.report.points import MISSING, OK, SIZES, UNREADABLE, Plan, Point, number, section
from pipeline.sweeps.plan import Layout

# --------------------------------------------------------------------------------------------- plan and results


def read_plan(sweep_folder: str, root: str) -> Plan:
    """plan.json with each point's result; a result that is not there leaves its point marked missing."""
    path = storage.join(sweep_folder, "plan.json")
    if not storage.exists(path):
        raise ConfigError(f"'{path}' does not exist: `tagreel sweep` writes it")
    plan = storage.read_json(path)
    return Plan(
        name=str(plan["name"]),
        title=str(plan.get("title") or plan["name"]),
        notes=tuple(map(str, plan.get("notes") or ())),
        config=plan.get("config") or {},
        chance=plan.get("chance"),
        points=tuple(_read_point(values, root) for values in plan["points"]),
        layout=_layout(plan["layout"]) if plan.get("layout") else SIZES,
        stages=tuple(stage for stage in plan.get("stages") or () if isinstance(stage, dict)),
    )


def _layout(values: dict[str, Any]) -> Layout:
    """What this version knows of a layout; JSON has lists for tuples."""
    known = {entry.name for entry in fields(Layout)} & set(values)
    return Layout(**{key: tuple(v) if isinstance(v := values[key], list) else v for key in known})


def _read_point(values: dict[str, Any], root: str) -> Point:
    status, result, problem = _read_result(storage.join(root, values["result"]))
    known = {key: values[key] for key in ("id", "kind", "num_videos", "seed", "target", "protocol", "run")}
    point = Point(
        **known,
        dataset=values.get("dataset"),
        axes=values.get("axes") or _axes(values),
        path=str(values["result"]),
        drawn=values.get("drawn") or {},
        commands=tuple(map(_command, values.get("commands") or ())),
        status=status,
        result=result,
        problem=problem,
    )
    if status != OK:
        return point
    if point.headline is None:
        nothing = "result.json has neither a headline metric nor a top1 between 0 and 1"
        return replace(point, status=UNREADABLE, result={}, problem=nothing)
    return replace(point, problem=_oddity(result, read_marker(artifacts.run_files(root, values["run"]).marker)))


def _axes(values: dict[str, Any]) -> dict[str, Any]:
    """Of a point whose plan names none."""
    pretraining = {} if values["kind"] == "pretrained" else {"pretraining": values["kind"]}
    return {**pretraining, **{key: values[key] for key in ("num_videos", "target", "protocol", "seed")}}


def _command(command: str | list[str]) -> str:
    return command if isinstance(command, str) else " ".join(map(str, command))


def _read_result(path: str) -> tuple[str, dict[str, Any], str]:
    """(status, content, problem) of a result.json."""
    if not storage.exists(path):
        return MISSING, {}, "no result.json yet"
    try:
        result = storage.read_json(path)
    except storage.StorageError:
        return UNREADABLE, {}, "result.json is not valid JSON"
    if not isinstance(result, dict):
        return UNREADABLE, {}, "result.json is not a JSON object"
    return OK, result, ""


def _oddity(result: dict[str, Any], run: dict[str, Any] | None) -> str:
    """What a reader should know about a result that is there: an edited file, or a run that was made anew since."""
    sealed = {key: value for key, value in result.items() if key != "digest"}
    if "digest" in result and configs.digest(sealed) != result["digest"]:
        return "result.json does not match its own digest: it was edited after it was written"
    used = section(result, "input_digests").get("run")
    if run and used and used != run.get("digest"):
        return f"was computed from another state of its run (digest {used})"
    return ""


# ----------------------------------------------------------------------------------------------- stage artefacts


def read_marker(path: str) -> dict[str, Any] | None:
    """A stage's marker, or None where the stage has not finished."""
    if not storage.exists(path):
        return None
    try:
        content = storage.read_json(path)
    except storage.StorageError:
        return None
    return content if isinstance(content, dict) else None


@dataclass(frozen=True)
class LabelReport:
    path: str
    """Under the root."""
    content: dict[str, Any] | None
    """What `tagreel labels` wrote; None where it is not there."""


def read_label_report(plan: Plan, root: str) -> LabelReport | None:
    """Of the sweep's stage `labels`; None where it has none."""
    path = next((str(stage["marker"]) for stage in plan.stages if stage.get("kind") == "labels"), None)
    return path and LabelReport(path, read_marker(storage.join(root, path)))


def read_metrics(root: str, run: str) -> list[dict[str, Any]]:
    """Lines of a run's metrics.jsonl, here or behind a URL, up to the first that a crash cut short."""
    path = artifacts.run_files(root, run).metrics
    lines = []
    for line in storage.read_bytes(path).splitlines() if storage.exists(path) else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return [line for line in lines if isinstance(line, dict) and number(line.get("clips_seen")) is not None]
