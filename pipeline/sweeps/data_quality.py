"""Questions that the paper leaves open: how clean labels and videos must be. Both change nothing but what they ask about."""

from __future__ import annotations

from pipeline.config import SweepConfig
from pipeline.sweeps.plan import Layout, Plan
from pipeline.sweeps.planner import Planner

BEYOND = "Beyond the paper"


def label_noise(config: SweepConfig) -> Plan:
    """The same videos with more and more of their labels replaced by wrong ones, on top of what is wrong already."""
    planner = Planner(config)
    for seed in config.seeds:
        for source in planner.sources:
            for size in planner.arms(source):
                for rate in config.label_noise:
                    start = planner.pretrained(source, size, seed, axes={"label_noise": rate}, label_noise=rate)
                    planner.measure(start)
        planner.references(seed, axes={"label_noise": None})
    layout = Layout(
        BEYOND, "Labels replaced by wrong ones", x="label_noise", series=("protocol", "num_videos"), panels=("target",)
    )
    return planner.plan(layout)


def near_duplicates(config: SweepConfig) -> Plan:
    """As many videos with and without those that are near-duplicates of target videos (what Section 3.2 guards against)."""
    planner = Planner(config)
    for seed in config.seeds:
        for source in planner.sources:
            for size in planner.arms(source):
                for kept in (False, True):
                    axes = {"near_duplicates": "kept" if kept else "left out"}
                    planner.measure(planner.pretrained(source, size, seed, axes=axes, keep_duplicates=kept))
        planner.references(seed, axes={"near_duplicates": None})
    layout = Layout(
        BEYOND,
        "Near-duplicates of the target kept in pretraining",
        x="near_duplicates",
        series=("num_videos",),
    )
    return planner.plan(layout)
