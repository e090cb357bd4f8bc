"""What stands behind a point: its run, the datasets under it, their digests then and now, and the commands, from posts on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pipeline import artifacts
from pipeline.report.inputs import read_marker
from pipeline.report.points import Plan, Point, section

Marker = dict[str, Any]


@dataclass(frozen=True)
class Input:
    """An artefact that another one was made from."""

    reader: str
    """What was made from it, such as `run n-500000-s0`."""
    name: str
    used: str | None
    """Its digest when it was read."""
    now: str | None
    """Its digest as it is; None when it is gone."""

    @property
    def changed(self) -> bool:
        return self.now is not None and self.used != self.now


@dataclass(frozen=True)
class Origin:
    """The artefacts behind a point; an empty dict for one that is not there (or that it does without)."""

    run: Marker
    dataset: Marker
    """What the run was trained on."""
    base: Marker
    """What the dataset was drawn from; empty where it was built itself."""
    inputs: tuple[Input, ...]
    """From the result back to the source."""
    commands: tuple[str, ...]
    """In the order in which they are to be run."""

    @property
    def exclusions(self) -> tuple[int | None, str | None]:
        """(videos left out because they overlap a target's, digest of the dedup that found them); None: not known, or no dedup.

        They are left out when a subset is drawn; a run on a dataset that was not drawn leaves them out itself.
        """
        drawn, trained = (section(counts, "dropped").get("overlaps_a_target") for counts in self._counts())
        found = [count for count in (drawn, trained) if isinstance(count, int)]
        digests = (section(self.dataset, "input_digests").get("dedup"), self.run_digests.get("exclusions"))
        return (sum(found) if found else None), next(filter(None, digests), None)

    def _counts(self) -> tuple[Marker, Marker]:
        return section(section(self.dataset, "counts"), "base"), section(self.run, "counts")

    @property
    def run_digests(self) -> Marker:
        return section(self.run, "input_digests")


def read_origins(plan: Plan, root: str) -> dict[str, Origin]:
    """{point id: its origin}; each artefact is read once."""
    marker = cache(lambda path: read_marker(path) or {})
    chains = _Chains(root, marker)
    return {point.id: chains.origin(plan, point) for point in plan.points}


@dataclass(frozen=True)
class _Chains:
    root: str
    marker: Any
    """Path → the marker there; empty for none."""

    def origin(self, plan: Plan, point: Point) -> Origin:
        run = self.marker(artifacts.run_files(self.root, point.run).marker)
        name = section(run, "config").get("dataset") or point.dataset
        dataset = self._dataset(name)
        base = section(dataset, "config").get("base") or dataset.get("base")
        inputs = (*self._of_result(point), *self._of_run(point.run, run, name), *self._of_dataset(name, dataset, base))
        return Origin(run, dataset, self._dataset(base), inputs, commands(plan, point))

    def _dataset(self, name: str | None) -> Marker:
        return self.marker(artifacts.dataset_files(self.root, name).marker) if name else {}

    def _of_result(self, point: Point) -> Iterator[Input]:
        paths = {"run": (f"run {point.run}", artifacts.run_files(self.root, point.run).marker)}
        for split in ("train", "test"):
            files = artifacts.target_files(self.root, point.target, split)
            paths[split] = (f"target {point.target}, {split}", files.marker)
        yield from self._inputs("result", point.result, paths)

    def _of_run(self, run: str, marker: Marker, dataset: str | None) -> Iterator[Input]:
        if dataset:
            files = artifacts.dataset_files(self.root, dataset)
            paths = {
                "dataset": (f"dataset {dataset}", files.marker),
                "exclusions": (f"dedup of {dataset}", files.dedup_marker),
            }
            yield from self._inputs(f"run {run}", marker, paths)

    def _of_dataset(self, name: str | None, marker: Marker, base: str | None) -> Iterator[Input]:
        source = section(section(marker, "config"), "source").get("name")
        paths = {"source": (f"source {source}", artifacts.source_files(self.root, source).marker)} if source else {}
        if base:
            files = artifacts.dataset_files(self.root, base)
            paths |= {"base": (f"dataset {base}", files.marker), "dedup": (f"dedup of {base}", files.dedup_marker)}
        yield from self._inputs(f"dataset {name}", marker, paths)
        if base:
            yield from self._of_dataset(base, self._dataset(base), None)

    def _inputs(self, reader: str, marker: Marker, paths: dict[str, tuple[str, str]]) -> Iterator[Input]:
        for key, used in section(marker, "input_digests").items():
            name, path = paths.get(key, (key.replace("_", " "), None))
            if used:
                yield Input(reader, name, str(used), self.marker(path).get("digest") if path else str(used))


def commands(plan: Plan, point: Point) -> tuple[str, ...]:
    """Of every stage that the point needs, in order; of a plan without stages, those that it names for the point."""
    transfer = next((stage for stage in plan.stages if stage.get("marker") == point.path), None)
    if transfer is None or not transfer.get("command"):
        return point.commands
    needed = {transfer["name"]}
    for stage in reversed(plan.stages):
        if stage["name"] in needed:
            needed.update(stage.get("needs") or ())
    return tuple(stage["command"] for stage in plan.stages if stage["name"] in needed and stage.get("command"))
