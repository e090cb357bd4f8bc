"""Section 4.4 of the paper: the largest pretraining against others, tested fully convolutionally."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.config import ModelConfig, SweepConfig
from pipeline.sweeps import printed
from pipeline.sweeps.plan import Layout, Plan
from pipeline.sweeps.planner import Planner


def kinetics(config: SweepConfig) -> Plan:
    """Comparison on Kinetics, with salient clips for the largest network (Table 5; Section 4.4)."""
    return _table(config, "Table 5", "Comparison on Kinetics", printed.KINETICS)


def epic(config: SweepConfig) -> Plan:
    """Comparison on EPIC-Kitchens: verbs, nouns and actions are targets of their own (Table 6; Section 4.4)."""
    return _table(config, "Table 6", "Comparison on EPIC-Kitchens", printed.EPIC)


def something(config: SweepConfig) -> Plan:
    """Comparison on Something-Something-v1 (Table 7; Section 4.4)."""
    return _table(config, "Table 7", "Comparison on Something-Something", printed.SOMETHING)


def _table(config: SweepConfig, figure: str, title: str, paper: tuple[dict[str, Any], ...]) -> Plan:
    """Baselines under the first network; the arms under every one, in each view (the salient one for the last network)."""
    planner = Planner(config)
    models = [ModelConfig(n, config.pretrain.model.width) for n in config.models or (config.pretrain.model.name,)]
    for seed in config.seeds:
        planner.references(seed, scratch=False, model=models[0], **_view(config, "plain"))
        for model in models:
            for source in planner.sources:
                for size in planner.arms(source):
                    start = planner.pretrained(source, size, seed, model)
                    for view in config.views:
                        if view != "salient" or model == models[-1]:
                            planner.measure(start, **_view(config, view))
    layout = Layout(
        figure,
        title,
        x="model",
        series=("pretraining", "view"),
        panels=("target", "protocol"),
        rows=("model", "pretraining", "view"),
        paper=paper,
    )
    return planner.plan(layout)


def _view(config: SweepConfig, view: str) -> dict[str, Any]:
    """What `Planner.measure` is told of a view: test crops as high as the frames, and how videos are scaled and clips chosen."""
    clip = config.pretrain.clip
    told: dict[str, Any] = {"result": view, "axes": {"view": view}, "test_crop_px": min(clip.size_hw)}
    if view != "plain":
        told |= {"clip": replace(clip, short_edge=True), "clip_from": "config"}
    if view == "salient":
        told |= {"clip_choice": "salient"}
    return told
