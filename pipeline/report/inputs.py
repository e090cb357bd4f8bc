"""Everything the report reads, and nothing it computes: the plan, the results, and the markers of the stages behind them.

A file that is not there is `None` or empty, never an error: the page says what is missing.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline import artifacts, storage
from pipeline import config as configs
from pipeline.config import ConfigError

OK, MISSING, UNREADABLE = "ok", "missing", "unreadable"
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Point:
    """One planned transfer and what became of it."""

    id: str
    kind: str
    """`pretrained` or `scratch`."""
    num_videos: int
    """Pretraining videos; 0 from scratch."""
    seed: int
    target: str
    protocol: str
    run: str
    dataset: str | None = None
    commands: tuple[str, ...] = ()
    status: str = MISSING
    result: dict[str, Any] = field(default_factory=dict)
    """Content of result.json; empty unless the status is ok."""
    problem: str = ""
    """Why the status is not ok, or what is odd about the result."""

    @property
    def ok(self) -> bool:
        return self.status == OK

    @property
    def metrics(self) -> dict[str, Any]:
        return self.result.get("metrics", {})


@dataclass(frozen=True)
class Plan:
    name: str
    title: str
    notes: tuple[str, ...]
    config: dict[str, Any]
    chance: float | dict[str, float] | None
    points: tuple[Point, ...]

    def chance_of(self, target: str) -> float | None:
        return self.chance.get(target) if isinstance(self.chance, dict) else self.chance

    @property
    def base_dataset(self) -> str | None:
        return section(self.config, "build").get("dataset")

    @property
    def datasets(self) -> list[str]:
        """The base dataset first, then those of the points, each once."""
        return unique([self.base_dataset, *(point.dataset for point in self.points)])

    @property
    def targets(self) -> list[str]:
        configured = [target.get("target") for target in self.config.get("targets") or [] if isinstance(target, dict)]
        return unique([*configured, *(point.target for point in self.points)])

    @property
    def runs(self) -> list[str]:
        return unique([point.run for point in self.points])


def unique(names: list[str | None]) -> list[str]:
    """Names in first-seen order, empty ones left out."""
    return [name for name in dict.fromkeys(names) if name]


def section(values: Any, key: str) -> dict[str, Any]:
    """`values[key]` when both are dicts, else an empty one."""
    found = values.get(key) if isinstance(values, dict) else None
    return found if isinstance(found, dict) else {}


def number(value: Any) -> float | None:
    """A finite number, or None."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None


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
    )


def _read_point(values: dict[str, Any], root: str) -> Point:
    status, result, problem = _read_result(storage.join(root, values["result"]))
    known = {key: values[key] for key in ("id", "kind", "num_videos", "seed", "target", "protocol", "run")}
    if not problem and status == OK:
        problem = _oddity(result, read_marker(artifacts.run_files(root, values["run"]).marker))
    commands = tuple(map(_command, values.get("commands") or ()))
    return Point(
        **known, dataset=values.get("dataset"), commands=commands, status=status, result=result, problem=problem
    )


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
    top1 = number(section(result, "metrics").get("top1"))
    if top1 is None or not 0 <= top1 <= 1:
        return UNREADABLE, {}, "result.json has no top1 between 0 and 1"
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
class Stage:
    """An artefact's marker, for its counts."""

    what: str
    marker: dict[str, Any] | None
    per_point: bool
    """One of many alike: a subset or a run."""


def read_stages(plan: Plan, root: str) -> list[Stage]:
    """Every stage of the sweep, in the order of the flow."""
    pretrained = unique([point.run for point in plan.points if point.kind == "pretrained"])
    runs = {f"run {run}": artifacts.run_files(root, run).marker for run in pretrained}
    subsets = {d: artifacts.dataset_files(root, d).marker for d in plan.datasets if d != plan.base_dataset}
    many = {f"dataset {dataset}": path for dataset, path in subsets.items()} | runs
    found = [Stage(what, read_marker(path), False) for what, path in _shared_markers(plan, root).items()]
    return found + [Stage(what, read_marker(path), True) for what, path in many.items()]


def _shared_markers(plan: Plan, root: str) -> dict[str, str]:
    """{what: path} of the stages that all points share."""
    source = section(section(plan.config, "build"), "source").get("name")
    paths = {f"source {source}": artifacts.source_files(root, source).marker} if source else {}
    for target in plan.targets:
        paths |= {f"target {target}, {split}": artifacts.target_files(root, target, split).marker for split in SPLITS}
    if plan.base_dataset:
        files = artifacts.dataset_files(root, plan.base_dataset)
        paths |= {f"dataset {plan.base_dataset}": files.marker, f"dedup of {plan.base_dataset}": files.dedup_marker}
    return paths


@dataclass(frozen=True)
class Labels:
    """Label distribution of a dataset: (name, videos), most videos first."""

    kept: list[tuple[str, int]]
    dropped: list[tuple[str, int]]


def read_labels(root: str, dataset: str) -> Labels | None:
    """From dataset.json (videos that are in the shards), else from label_space.json; what was dropped is in the latter."""
    files = artifacts.dataset_files(root, dataset)
    space, marker = read_marker(files.label_space) or {}, read_marker(files.marker) or {}
    kept = _label_counts(marker.get("labels")) or _label_counts(space.get("labels"))
    dropped = _label_counts(space.get("dropped"))
    return Labels(kept, dropped) if kept or dropped else None


def _label_counts(entries: Any) -> list[tuple[str, int]]:
    good = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    pairs = [(str(e.get("name", e.get("id", ""))), int(number(e.get("num_videos")) or 0)) for e in good]
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


@dataclass(frozen=True)
class Dedup:
    dataset: str
    marker: dict[str, Any]
    exclusions: pa.Table | None
    evidence: list[dict[str, Any]]


def read_dedups(plan: Plan, root: str) -> list[Dedup]:
    """The finished dedup of each dataset that has one."""
    found = []
    for dataset in plan.datasets:
        files = artifacts.dataset_files(root, dataset)
        if marker := read_marker(files.dedup_marker):
            evidence = _read_table(storage.join(files.dedup, "evidence.parquet"))
            rows = evidence.to_pylist() if evidence is not None else []
            found.append(Dedup(dataset, marker, _read_table(files.exclusions), rows))
    return found


def _read_table(path: str) -> pa.Table | None:
    return storage.read_parquet(path) if storage.exists(path) else None


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
