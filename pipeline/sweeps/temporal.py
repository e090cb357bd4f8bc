"""Section 4.3 of the paper: short against long videos, and frames or images against clips."""

from __future__ import annotations

from dataclasses import replace

from pipeline.config import ConfigError, ModelConfig, SweepConfig, SweepSourceConfig
from pipeline.sweeps import printed
from pipeline.sweeps.plan import Layout, Plan
from pipeline.sweeps.planner import Planner, Start

MEAN_S = {"long": 57.5, "short": 3.0, "long_center": 4.0}
"""Seconds of a video of each band, about: how many fit into a budget is known once they are drawn."""


def durations(config: SweepConfig) -> Plan:
    """Short, long and long-center videos under two budgets, by fc-only (Table 3; Section 4.3.1).

    F1 holds the number of videos: `sizes[0]` of each kind. F2 holds their time: in the paper, a tenth as many long videos
    (5M of 4 s and 500K of 55 to 60 s); with `minutes`, each arm has as many videos as fit into them, in equal proportions
    of labels. All runs see as many clips, and the three kinds have equally many videos of each label.
    """
    planner = Planner(config)
    bands = ("long", "short", "long_center")
    for seed in config.seeds:
        for source in planner.sources:
            size = planner.arms(source)[0]
            for band in bands:
                start = planner.pretrained(source, size, seed, duration=band)
                axes = {"budget": "videos", "minutes": None, "duration": band}
                planner.measure(start, part="videos", axes=axes)
            for band in bands:
                start = _same_time(planner, source, size, seed, band)
                axes = {"budget": "minutes", "minutes": config.minutes, "duration": band}
                planner.measure(start, part="minutes", axes=axes)
    layout = Layout(
        "Table 3",
        "Short and long videos under a budget of videos (F1) and of time (F2)",
        x="duration",
        series=("budget", "num_videos"),
        panels=("target", "protocol"),
        rows=("budget",),
        paper=printed.DURATIONS,
    )
    return planner.plan(layout)


def _same_time(planner: Planner, source: SweepSourceConfig, size: int, seed: int, band: str) -> Start:
    minutes = planner.config.minutes
    if minutes is not None:
        about = {"num_videos": round(60 * minutes / MEAN_S[band])}
        sampling = {"duration": band, "minutes": minutes, "strategy": "random"}
        return planner.pretrained(source, None, seed, axes=about, **sampling)
    return planner.pretrained(source, max(1, size // 10) if band == "long" else size, seed, duration=band)


def frames(config: SweepConfig) -> Plan:
    """Images or frames and a 2-D network that is inflated, against clips, by full fine-tuning on clips (Table 4; Section 4.3.2).

    From an image source (`frames = "one"`) a 2-D network learns images; from a video source, single frames, and the 3-D
    network of `pretrain` clips. Baselines are image data sets, such as ImageNet, under the 2-D network. The fifth row of the
    table, training on Kinetics alone, is the point from scratch.
    """
    planner = Planner(config)
    network = config.pretrain.model
    if not network.name.startswith("r3d"):
        raise ConfigError(
            f"the sweep over frames and clips is for R3D networks, not pretrain.model.name = '{network.name}'"
        )
    flat = replace(network, name=network.name.replace("r3d", "r2d"))
    frame = replace(config.pretrain.clip, length=1)
    for seed in config.seeds:
        planner.measure(planner.scratch(seed), arm="scratch", axes={"input": "clip", "inflate": None})
        for baseline in config.baselines:
            _inflated(planner, planner.baseline(baseline, seed, flat, frame), baseline.name, "image")
        for source in planner.sources:
            arm, kind = ("images", "image") if source.frames == "one" else ("frames", "frame")
            for size in planner.arms(source):
                _inflated(planner, planner.pretrained(source, size, seed, flat, frame), arm, kind)
                if source.frames == "all":
                    start = planner.pretrained(source, size, seed)
                    planner.measure(start, arm="clips", axes={"input": "clip", "inflate": None})
    layout = Layout(
        "Table 4",
        "Pretraining on images, frames and clips",
        x="input",
        series=("pretraining", "num_videos", "inflate"),
        panels=("target", "protocol"),
        rows=("pretraining", "num_videos", "input", "inflate"),
        paper=printed.FRAMES,
    )
    return planner.plan(layout)


def _inflated(planner: Planner, start: Start, arm: str, kind: str) -> None:
    """Transfer a 2-D start as the 3-D network of the sweep, on its clips."""
    usual = planner.config.pretrain
    model = ModelConfig(usual.model.name, usual.model.width)
    for inflate in planner.config.inflations:
        planner.measure(
            start,
            arm=arm,
            result=f"inflated-{inflate}",
            axes={"input": kind, "inflate": inflate},
            model=model,
            clip=usual.clip,
            inflate=inflate,
        )
