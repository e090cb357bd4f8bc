"""Section 4.1 of the paper: how much data, which of it, and how large a network."""

from __future__ import annotations

from pipeline.config import ModelConfig, SweepConfig
from pipeline.sweeps import printed
from pipeline.sweeps.plan import Layout, Plan
from pipeline.sweeps.planner import Planner


def data_size(config: SweepConfig) -> Plan:
    """Accuracy against the number of pretraining videos, by each protocol (Figure 1a, b; Section 4.1.1).

    Kinetics is compared with training from scratch; EPIC-Kitchens, in the paper, with a pretraining on Kinetics: a
    baseline that names the target.
    """
    layout = Layout(
        "Figure 1a, b",
        "Accuracy against the number of pretraining videos",
        x="num_videos",
        x_scale="log",
        series=("protocol", "sampling"),
        panels=("target",),
        paper=printed.DATA_SIZE,
    )
    return _sizes(config, references=True).plan(layout)


def sampling(config: SweepConfig) -> Plan:
    """Random against tail-preserving subsets, by fc-only (Figure 1c; Section 4.1.1). Both are of the same clean source."""
    layout = Layout(
        "Figure 1c",
        "Random and tail-preserving sampling",
        x="num_videos",
        x_scale="log",
        series=("sampling",),
        panels=("target", "protocol"),
        paper=printed.SAMPLING,
    )
    return _sizes(config, references=False).plan(layout)


def _sizes(config: SweepConfig, *, references: bool) -> Planner:
    planner = Planner(config)
    for source in planner.sources:
        planner.dataset(source)
    for seed in config.seeds:
        if references:
            planner.references(seed)
        for source in planner.sources:
            for size in planner.arms(source):
                for strategy in config.strategies or (config.build.sampling.strategy,):
                    planner.measure(planner.pretrained(source, size, seed, strategy=strategy))
    return planner


def capacity(config: SweepConfig) -> Plan:
    """Networks of several depths, pretrained and not, by full fine-tuning (Table 2; Section 4.1.2).

    The baseline is training from scratch on Kinetics, and a pretraining on Kinetics for EPIC-Kitchens.
    """
    planner = Planner(config)
    for seed in config.seeds:
        for name in config.models or (config.pretrain.model.name,):
            model = ModelConfig(name, config.pretrain.model.width)
            planner.references(seed, model=model)
            for source in planner.sources:
                for size in planner.arms(source):
                    planner.measure(planner.pretrained(source, size, seed, model))
    layout = Layout(
        "Table 2",
        "Networks of several depths",
        x="model",
        series=("pretraining", "num_videos"),
        panels=("target", "protocol"),
        paper=printed.CAPACITY,
    )
    return planner.plan(layout)
