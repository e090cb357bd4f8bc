"""Section 4.2 of the paper: which labels to pretrain on, and how many."""

from __future__ import annotations

from pipeline.config import LabelReportConfig, SweepConfig
from pipeline.sweeps import printed
from pipeline.sweeps.joint import built_targets
from pipeline.sweeps.plan import Layout, Plan, Stage
from pipeline.sweeps.planner import Planner


def label_kinds(config: SweepConfig) -> Plan:
    """Sources with several kinds of labels, as many videos of each, on several targets by fc-only (Figure 2; Section 4.2.1).

    Baselines beside them (the paper's is Sports-1M); nothing is trained from scratch.
    """
    planner = Planner(config)
    for seed in config.seeds:
        for source in planner.sources:
            for size in planner.arms(source):
                planner.measure(planner.pretrained(source, size, seed))
        planner.references(seed, scratch=False)
    layout = Layout(
        "Figure 2",
        "Kinds of pretraining labels on each target",
        x="pretraining",
        series=("num_videos",),
        panels=("target", "protocol"),
        paper=printed.LABEL_KINDS,
    )
    return planner.plan(layout)


def label_distribution(config: SweepConfig) -> Plan:
    """The distribution of videos over labels in the datasets of Figure 2, and their overlap with the targets (Figure 3).

    Nothing is trained: its artefact is a report on labels (`reports/labels/` under the root).
    """
    planner = Planner(config)
    arms = [
        planner.subset(source, size, seed)
        for seed in config.seeds
        for source in planner.sources
        for size in planner.arms(source)
    ]
    datasets = tuple(dict.fromkeys(arm.config.dataset for arm in arms))
    name = config.name or config.kind
    targets = built_targets(config, config.targets)
    report = LabelReportConfig(root=config.root, datasets=datasets, targets=targets, name=name)
    needs = (*(arm.name for arm in arms), *planner.simulated(targets))
    planner.add(Stage(f"labels-{name}", "labels", "dataset_builder.label_report", report, needs))
    layout = Layout(
        "Figure 3",
        "Videos per label",
        x="share of labels",
        series=("pretraining",),
        panels=(),
        paper=printed.LABEL_DISTRIBUTION,
    )
    return planner.plan(layout)


def num_labels(config: SweepConfig) -> Plan:
    """As many videos of fewer and fewer labels, drawn at random and nested (Figure 4a, b; Section 4.2.2).

    One panel a source: 675 to 10,653 verb-noun pairs, and 20 to 359 labels of Kinetics. A seed draws labels and videos;
    the sets of one seed lie in one another.
    """
    planner = Planner(config)
    for seed in config.seeds:
        for source in planner.sources:
            for size in planner.arms(source):
                for count in source.num_labels or (None,):
                    planner.measure(planner.pretrained(source, size, seed, num_labels=count))
    layout = Layout(
        "Figure 4a, b",
        "Accuracy against the number of pretraining labels",
        x="num_labels",
        x_scale="log",
        series=("protocol",),
        panels=("pretraining", "target"),
        paper=printed.NUM_LABELS,
    )
    return planner.plan(layout)
