"""Collects the stages and points of a sweep. Names say what an artefact is, so what several points need is made once.

dataset   ig-kinetics                           a source with its clean-up, shared by all arms
          ig-kinetics-500000-s0                 an arm: videos, then what is not the usual choice, then the seed
run       ig-kinetics-500000-s0-r2plus1d_34-8f  the network and its clips
          scratch-r2plus1d_34-8f-s0             no pretraining
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from pipeline import storage
from pipeline.config import (
    BaselineConfig,
    BuildConfig,
    ClipConfig,
    ConfigError,
    ModelConfig,
    SamplingConfig,
    SweepConfig,
    SweepSourceConfig,
    TargetConfig,
    TransferConfig,
)
from pipeline.sweeps import joint
from pipeline.sweeps.plan import Layout, Plan, Point, Stage

SCRATCH = "scratch"
NAME = re.compile(r"[\w.+-]+", re.ASCII)


@dataclass(frozen=True)
class Start:
    """What a transfer starts from."""

    run: str
    seed: int
    model: ModelConfig
    clip: ClipConfig
    axes: dict[str, Any]
    stage: Stage | None = None
    """The pretraining; None where there is nothing to train."""
    dataset: str | None = None
    weights: str = ""
    """A weights file instead of a run."""
    kind: Literal["pretrained", "baseline", "scratch"] = "pretrained"


class Planner:
    """Stages and points of one sweep, in the order in which they are asked for."""

    def __init__(self, config: SweepConfig) -> None:
        if not config.targets:
            raise ConfigError("a sweep needs --targets: names of targets made by `tagreel target`")
        joint.check(config)
        self.config = config
        self.keep_out = joint.built_targets(config, config.keep_out or config.targets)
        self._stages: dict[str, Stage] = {}
        self._points: dict[str, Point] = {}
        if config.platform.num_posts:
            self._simulate()

    def plan(self, layout: Layout) -> Plan:
        return Plan(tuple(self._stages.values()), tuple(self._points.values()), layout)

    def add(self, stage: Stage) -> Stage:
        """The stage of this name.

        Raises: ConfigError where another stage would make something else under this name, or scripts cannot hold the name.
        """
        if not NAME.fullmatch(stage.name):
            raise ConfigError(f"'{stage.name}' names files and jobs: only letters, digits and . _ + - may be in it")
        known = self._stages.setdefault(stage.name, stage)
        if known.config != stage.config:
            raise ConfigError(f"two stages of this sweep would make '{stage.name}' differently: name the sources apart")
        if stage.num_videos > known.num_videos > 0:
            self._stages[stage.name] = known = replace(known, num_videos=stage.num_videos)
        return known

    # ------------------------------------------------------------------------------------------------- data

    @property
    def sources(self) -> tuple[SweepSourceConfig, ...]:
        """Those of the config, or the one of its `build`."""
        build = self.config.build
        only = SweepSourceConfig(build.dataset, build.source.kind, frames=build.storage.frames)
        return self.config.sources or (only,)

    def arms(self, source: SweepSourceConfig) -> tuple[int, ...]:
        """Pretraining videos of each arm from a source."""
        return source.sizes or self.config.sizes

    def dataset(self, source: SweepSourceConfig) -> Stage:
        """Build a source and keep the targets out of it; returns its clean-up, the last that all arms share."""
        build = self._build_config(source)
        files = tuple(filter(None, (build.source.posts, build.source.seed_labels)))
        largest = max(self.arms(source)) if build.sampling.num_videos is None else build.sampling.num_videos
        platform = tuple(name for name in self._stages if name == "platform")
        of_source = {"num_videos": largest, "one_frame": build.storage.frames == "one"}
        name = f"build-{build.dataset}"
        built = self.add(Stage(name, "build", "dataset_builder.build", build, platform, files, **of_source))
        clean = replace(
            self.config.dedup,
            root=self.config.root,
            dataset=build.dataset,
            targets=self.keep_out,
            execution=build.execution,
        )
        name = f"dedup-{build.dataset}"
        needs = (built.name, *self.simulated(self.keep_out))
        return self.add(Stage(name, "dedup", "dedup.find", clean, needs, **of_source))

    def _build_config(self, source: SweepSourceConfig) -> BuildConfig:
        build = replace(self.config.build, root=self.config.root)
        posts, labels = source.posts or build.source.posts, source.seed_labels
        if self.config.platform.num_posts:
            posts, labels = self._world("posts.jsonl"), self._world("labels", f"{source.kind}.txt")
        if self.config.sources:
            build = replace(
                build,
                dataset=source.name,
                source=replace(build.source, name=source.name, kind=source.kind),
                storage=replace(build.storage, frames=source.frames),
            )
        elif not labels:
            labels = build.source.seed_labels
        return replace(build, source=replace(build.source, posts=posts, seed_labels=labels))

    def subset(self, source: SweepSourceConfig, size: int | None, seed: int, **sampling: Any) -> Stage:
        """An arm drawn from a source: its shards are named, not copied. `sampling`: fields of SamplingConfig."""
        clean = self.dataset(source)
        build = self.config.build
        usual = self._stages[f"build-{clean.config.dataset}"].config.sampling
        drawn = replace(usual, **{"num_videos": size, "seed": seed, **sampling})
        name = "-".join([clean.config.dataset, *_sampling_words(drawn), f"s{seed}"])
        config = replace(
            self._stages[f"build-{clean.config.dataset}"].config,
            dataset=name,
            base=clean.config.dataset,
            sampling=drawn,
            retry_failed=False,
            force=build.force,
        )
        return self.add(
            Stage(f"subset-{name}", "subset", "dataset_builder.build", config, (clean.name,), num_videos=size or 0)
        )

    # ----------------------------------------------------------------------------------------------- starts

    def pretrained(
        self,
        source: SweepSourceConfig,
        size: int | None,
        seed: int,
        model: ModelConfig | None = None,
        clip: ClipConfig | None = None,
        axes: dict[str, Any] | None = None,
        **sampling: Any,
    ) -> Start:
        """A run on an arm; `model` and `clip` are the sweep's unless given. `axes` name what else is special about it."""
        subset = self.subset(source, size, seed, **sampling)
        drawn: SamplingConfig = subset.config.sampling
        facts = {
            "pretraining": source.name,
            "labels": source.kind,
            "num_labels": drawn.num_labels,
            "num_videos": size or 0,
            "sampling": drawn.strategy,
        }
        return self._run(subset.config.dataset, subset, seed, model, clip, {**facts, **(axes or {})})

    def _run(
        self,
        dataset: str,
        subset: Stage | None,
        seed: int,
        model: ModelConfig | None,
        clip: ClipConfig | None,
        axes: dict[str, Any],
    ) -> Start:
        usual = self.config.pretrain
        model, clip = model or usual.model, clip or usual.clip
        run = f"{dataset}-{_network(model, clip)}" + ("" if subset else f"-s{seed}")
        recipe = replace(usual.recipe, seed=seed)
        config = replace(usual, root=self.config.root, run=run, dataset=dataset, model=model, clip=clip, recipe=recipe)
        needs = (subset.name,) if subset else ()
        files = (model.weights,) if model.weights else ()
        stage = self.add(Stage(f"pretrain-{run}", "pretrain", "pretrain.train", config, needs, files))
        return Start(run, seed, model, clip, axes, stage, dataset)

    def scratch(self, seed: int, model: ModelConfig | None = None, clip: ClipConfig | None = None) -> Start:
        """Random weights."""
        model, clip = model or self.config.pretrain.model, clip or self.config.pretrain.clip
        run = f"{SCRATCH}-{_network(model, clip)}-s{seed}"
        return Start(run, seed, model, clip, _axes_without_videos(SCRATCH), kind="scratch")

    def baseline(
        self, baseline: BaselineConfig, seed: int, model: ModelConfig | None = None, clip: ClipConfig | None = None
    ) -> Start:
        """Another pretraining: a run on a finished dataset, or a file."""
        axes = _axes_without_videos(baseline.name)
        if not baseline.name or bool(baseline.dataset) == bool(baseline.weights):
            raise ConfigError(f"baseline '{baseline.name}' needs a name, and either a dataset or a weights file")
        if baseline.dataset:
            return replace(self._run(baseline.dataset, None, seed, model, clip, axes), kind="baseline")
        model, clip = model or self.config.pretrain.model, clip or self.config.pretrain.clip
        run = f"{baseline.name}-{_network(model, clip)}-s{seed}"
        return Start(run, seed, model, clip, axes, weights=baseline.weights, kind="baseline")

    # ----------------------------------------------------------------------------------------------- points

    def measure(
        self,
        start: Start,
        targets: Iterable[str] | None = None,
        *,
        arm: str = "",
        result: str = "",
        axes: dict[str, Any] | None = None,
        part: str = "",
        **changes: Any,
    ) -> None:
        """Points of one start: every target × protocol.

        Args:
            arm: picks the settings of `SweepConfig.settings`.
            result: tells these results from others of the same run, target and protocol.
            axes: what else tells these points from others.
            part: of the figure or table, where one result stands in several.
            changes: fields of TransferConfig.
        """
        for target in self.config.targets if targets is None else targets:
            for protocol in self.config.protocols:
                stage, transfer = self._measured(start, target, protocol, arm, result, changes)
                dimensions = {
                    **start.axes,
                    "model": transfer.model.name,
                    "clip_length": transfer.clip.length,
                    "target": target,
                    "protocol": protocol,
                    **(axes or {}),
                    "seed": start.seed,
                }
                name = "-".join(filter(None, (part, stage.name.removeprefix(f"{stage.kind}-"))))
                self._points[name] = Point(name, dimensions, stage, transfer, start.kind, start.dataset)

    def references(self, seed: int, *, scratch: bool = True, **changes: Any) -> None:
        """Points to compare with: from scratch, or the baselines that stand in its place on a target, and those beside it."""
        model, clip = changes.pop("model", None), changes.pop("clip", None)
        for target in self.config.targets:
            instead = [b for b in self.config.baselines if target in b.targets]
            starts = [] if instead or not scratch else [self.scratch(seed, model, clip)]
            beside = [b for b in self.config.baselines if not b.targets]
            starts += [self.baseline(baseline, seed, model, clip) for baseline in (*instead, *beside)]
            for start in starts:
                self.measure(start, (target,), **changes)

    def _measured(self, start: Start, target: str, *how: Any) -> tuple[Stage, TransferConfig]:
        """The last stage of a point, and its transfer's settings; of a target made of two, those of the first."""
        made_of = joint.joint_target(self.config, target)
        if made_of is None:
            stage = self._transfer(start, target, *how)
            return stage, stage.config
        verb, noun = (self._transfer(start, name, *how) for name in (made_of.verb, made_of.noun))
        return self.add(joint.joint_stage(target, verb, noun)), verb.config

    def _transfer(
        self, start: Start, target: str, protocol: str, arm: str, result: str, changes: dict[str, Any]
    ) -> Stage:
        from_file = {"run_from": start.weights, "clip_from": "config"} if start.weights else {}
        values = {
            "root": self.config.root,
            "run": start.run,
            "target": target,
            "protocol": protocol,
            "result": result,
            "seed": start.seed,
            "repeats": self.config.transfer.repeats if protocol == "full_ft" else 1,  # the others have nothing random
            "model": start.model,
            "clip": start.clip,
            **from_file,
            **self._settings(target, arm, changes.get("model", start.model).name),
            **changes,
        }
        needs = [start.stage.name] if start.stage else []
        needs += self.simulated((target,))
        files = tuple(filter(None, (start.weights,)))
        name = "-".join(filter(None, ("transfer", start.run, target, protocol, result)))
        config = replace(self.config.transfer, **values)
        return self.add(Stage(name, "transfer", "finetune.transfer", config, tuple(needs), files))

    def _settings(self, target: str, arm: str, model: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for settings in self.config.settings:
            wanted = {"target": target, "arm": arm, "model": model}
            if all(getattr(settings, name) in ("", value) for name, value in wanted.items()):
                given = dataclasses.asdict(settings)
                found |= {name: value for name, value in given.items() if value is not None and name not in wanted}
        return found

    # --------------------------------------------------------------------------------------------- platform

    def _world(self, *names: str) -> str:
        return storage.join(self.config.root, "world", *names)

    def simulated(self, targets: Iterable[str]) -> tuple[str, ...]:
        """The stages that make these targets; none on your own posts, whose targets are there."""
        return tuple(name for name in (f"target-{target}" for target in targets) if name in self._stages)

    def _simulate(self) -> None:
        """The simulated platform and its targets, as stages of their own."""
        execution = self.config.build.execution
        platform = replace(self.config.platform, root=self.config.root, execution=execution)
        self.add(Stage("platform", "platform", "pipeline.simulate", platform))
        for target in joint.built_targets(self.config, (*self.config.targets, *self.keep_out)):
            tables = {split: self._world("targets", target, f"{split}.csv") for split in ("train", "test")}
            config = TargetConfig(
                root=self.config.root,
                target=target,
                storage=replace(self.config.build.storage, frames="all"),
                execution=execution,
                **tables,
            )
            name = f"target-{target}"
            self.add(Stage(name, "target", "dataset_builder.targets", config, ("platform",), tuple(tables.values())))


def _axes_without_videos(pretraining: str) -> dict[str, Any]:
    return {"pretraining": pretraining, "labels": None, "num_labels": None, "num_videos": 0, "sampling": None}


def _network(model: ModelConfig, clip: ClipConfig) -> str:
    return f"{model.name}-{clip.length}f"


def _sampling_words(sampling: SamplingConfig) -> list[str]:
    """How an arm was drawn, as words of its name: its size, then what is not the default."""
    usual = SamplingConfig()
    return [
        f"{sampling.minutes:g}min" if sampling.minutes is not None else str(sampling.num_videos or "all"),
        *([f"{sampling.num_labels}labels"] if sampling.num_labels is not None else []),
        *([sampling.duration] if sampling.duration != usual.duration else []),
        *([sampling.strategy] if sampling.strategy != usual.strategy else []),
        *([f"noise{sampling.label_noise:g}"] if sampling.label_noise else []),
        *(["duplicates"] if sampling.keep_duplicates else []),
    ]
