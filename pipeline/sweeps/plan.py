"""What a sweep is made of: stages, each of which makes one artefact, and points, the numbers that are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pipeline.config import TransferConfig

StageKind = Literal["platform", "target", "build", "dedup", "subset", "labels", "pretrain", "transfer", "joint"]


@dataclass(frozen=True)
class Stage:
    """One process that makes one artefact; points that need the same artefact share its stage."""

    name: str
    """What it makes, such as `pretrain-ig-kinetics-500000-s0-r2plus1d_34-8f`; unique in a plan."""
    kind: StageKind
    module: str
    """What is run: `python -m MODULE --config FILE`, under torchrun where the config says `num_processes`."""
    config: Any
    """The stage's config, a dataclass of `pipeline.config`."""
    needs: tuple[str, ...] = ()
    """Names of the stages whose artefacts it reads."""
    files: tuple[str, ...] = ()
    """Files outside of the root that it reads: posts, seed labels, tables, weights."""
    num_videos: int = 0
    """build, dedup: videos that the sweep's largest arm needs of it, 0 where all are taken; subset: videos."""
    one_frame: bool = False
    """build, dedup: of an image source, which has one frame of each video."""

    @property
    def num_processes(self) -> int:
        """Training processes; 0 for a stage that does not train."""
        return self.config.num_processes if self.kind in ("pretrain", "transfer") else 0


@dataclass(frozen=True)
class Point:
    """One measured number: a transfer, or two that are joined, and what it stands for."""

    id: str
    axes: dict[str, Any]
    """{dimension: value}, in the order in which a reader would name them; layouts speak of these."""
    stage: Stage
    """Its transfer; of a target made of two, what joins theirs."""
    transfer: TransferConfig
    """Settings of its transfer; of a target made of two, those of the first."""
    kind: Literal["pretrained", "baseline", "scratch"]
    dataset: str | None
    """Pretraining dataset; None without one."""

    @property
    def num_videos(self) -> int:
        """Pretraining videos; 0 without pretraining, and of a baseline."""
        return self.axes["num_videos"]


@dataclass(frozen=True)
class Layout:
    """How the points make a figure or a table, and what the paper printed there."""

    figure: str
    """Its number in the paper, such as `Figure 1c`."""
    title: str
    x: str
    """Axis along the abscissa, or down the rows of a table."""
    x_scale: Literal["log", "category"] = "category"
    series: tuple[str, ...] = ()
    """Axes that tell lines, bars or columns apart."""
    panels: tuple[str, ...] = ("target", "protocol")
    """Axes that tell panels apart."""
    rows: tuple[str, ...] = ()
    """Of a table, the axes down its rows where that is not `x`; the others of `x` and `series` stand in columns."""
    paper: tuple[dict[str, Any], ...] = ()
    """The paper's own values: some axes, `metric`, `value` (a share), `where` (section or table)."""


@dataclass(frozen=True)
class Plan:
    """Everything a sweep runs, each stage after those it needs, and what it gives."""

    stages: tuple[Stage, ...]
    points: tuple[Point, ...]
    layout: Layout

    def stage(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)

    def behind(self, point: Point) -> list[Stage]:
        """The stages that a point needs, directly or not, in order; its transfer is the last one."""
        needed = {point.stage.name}
        for stage in reversed(self.stages):
            if stage.name in needed:
                needed.update(stage.needs)
        return [stage for stage in self.stages if stage.name in needed]
