"""Every sweep has the arms of its figure or table, and makes once what its points share. Numbers are the paper's."""

from collections import Counter
from dataclasses import replace

import pytest

from pipeline import config as configs
from pipeline import presets, recipes, sweeps
from pipeline.config import BaselineConfig, ConfigError, JointTargetConfig, SweepConfig, SweepSourceConfig
from pipeline.launch import graph
from pipeline.sweeps import scales

M = 1_000_000
SIZES = {500_000, M, 5 * M, 10 * M, 19 * M, 65 * M}


def paper(kind, **changes):
    return sweeps.plan(replace(sweeps.scaled(kind, "paper"), **changes))


def kinds(plan) -> Counter:
    return Counter(stage.kind for stage in plan.stages)


def values(plan, *axes) -> Counter:
    """How many points have these values of the axes."""
    return Counter(tuple(point.axes.get(axis) for axis in axes) for point in plan.points)


def of(plan, **axes):
    return [p for p in plan.points if all(p.axes.get(axis) == value for axis, value in axes.items())]


# ------------------------------------------------------------------------------------------------ figures 1, table 2


def test_figure_1_ab_random_subsets_on_two_targets_against_their_own_baselines():
    plan = paper("data_size")
    for target, reference in {"kinetics": "scratch", "epic_action": "kinetics"}.items():
        for protocol in ("full_ft", "fc_only"):
            points = of(plan, target=target, protocol=protocol)
            assert {p.num_videos for p in points if p.kind == "pretrained"} == SIZES
            assert {p.axes["sampling"] for p in points if p.kind == "pretrained"} == {"random"}
            assert [p.axes["pretraining"] for p in points if p.kind != "pretrained"] == [reference]
    # One source and clean-up, 6 subsets, 6 runs and the one on Kinetics; 2 protocols × (6 + 1) transfers to Kinetics, and to
    # verbs and to nouns, which are joined.
    assert kinds(plan) == {"build": 1, "dedup": 1, "subset": 6, "pretrain": 7, "transfer": 42, "joint": 14}
    assert {(p.axes["model"], p.axes["clip_length"]) for p in plan.points} == {("r2plus1d_34", 8)}


def test_figure_1c_both_samplings_of_one_source_by_fc_only():
    plan = paper("sampling")
    assert values(plan, "sampling", "protocol") == {("random", "fc_only"): 6, ("tail_preserving", "fc_only"): 6}
    assert kinds(plan) == {"build": 1, "dedup": 1, "subset": 12, "pretrain": 12, "transfer": 12}


def test_table_2_four_depths_pretrained_once_and_beside_their_baselines():
    plan = paper("capacity")
    depths = [f"r2plus1d_{depth}" for depth in (18, 34, 101, 152)]
    assert values(plan, "model", "target", "pretraining") == {
        (model, target, pretraining): 1
        for model in depths
        for target, both in {"kinetics": ("ig-kinetics", "scratch"), "epic_action": ("ig-kinetics", "kinetics")}.items()
        for pretraining in both
    }
    assert kinds(plan)["pretrain"] == 8  # 4 on 65M videos, 4 on Kinetics, each for both targets
    assert kinds(plan)["subset"] == 1
    assert {(p.axes["clip_length"], p.axes["protocol"]) for p in plan.points} == {(32, "full_ft")}
    assert {v["value"] for v in plan.layout.paper if v["target"] == "kinetics"} == {
        *(0.760, 0.782, 0.791, 0.799),
        *(0.693, 0.696, 0.717, 0.720),
    }


# ------------------------------------------------------------------------------------------------------- figures 2 to 4


def test_figure_2_four_label_kinds_and_sports_on_four_targets():
    plan = paper("label_kinds")
    assert len(plan.points) == 5 * 4
    assert {(p.axes["labels"], p.num_videos) for p in plan.points if p.kind == "pretrained"} == {
        (kind, 19 * M) for kind in ("kinetics", "noun", "verb", "verb_noun")
    }
    assert kinds(plan) == {"build": 4, "dedup": 4, "subset": 4, "pretrain": 5, "transfer": 20}
    assert {(p.axes["clip_length"], p.axes["protocol"]) for p in plan.points} == {(32, "fc_only")}


def test_figure_3_is_a_report_on_the_datasets_of_figure_2():
    plan, compared = paper("label_distribution"), paper("label_kinds")
    assert not plan.points
    report = plan.stages[-1]
    arms = {stage.name for stage in compared.stages if stage.kind == "subset"}
    assert report.kind == "labels"
    assert set(report.needs) == arms
    assert {f"subset-{name}" for name in report.config.datasets} == arms


def test_figure_3_waits_for_the_targets_that_it_reads():
    plan = sweeps.plan(sweeps.scaled("label_distribution", "tiny"))
    assert {"target-verb", "target-noun", "target-verb_noun"} < set(plan.stages[-1].needs)


def test_figure_4_as_many_videos_of_fewer_labels():
    plan = paper("num_labels", seeds=(0, 1))
    for labels, counts in {"verb_noun": (675, 1350, 2700, 5400, 10653), "kinetics": (20, 45, 90, 180, 359)}.items():
        points = of(plan, labels=labels, protocol="fc_only", seed=1)
        assert tuple(p.axes["num_labels"] for p in points) == counts
        assert {p.num_videos for p in points} == {M}
        drawn = [stage.config.sampling for p in points for stage in plan.behind(p) if stage.kind == "subset"]
        assert {sampling.seed for sampling in drawn} == {1}  # one seed: the label sets are nested
    assert kinds(plan) == {"build": 2, "dedup": 2, "subset": 20, "pretrain": 20, "transfer": 40}


# -------------------------------------------------------------------------------------------------------- tables 3, 4


def test_table_3_budget_of_videos_and_of_time_share_two_arms():
    plan = paper("durations")
    assert values(plan, "budget", "duration", "num_videos") == {
        **{("videos", band, 5 * M): 1 for band in ("long", "short", "long_center")},
        **{("minutes", band, 5 * M): 1 for band in ("short", "long_center")},
        ("minutes", "long", 500_000): 1,
    }
    assert kinds(plan)["pretrain"] == 4
    assert len({p.stage.name for p in plan.points}) == 4
    assert len({p.id for p in plan.points}) == 6


def test_table_3_with_minutes_holds_each_arm_to_them_in_equal_proportions():
    plan = paper("durations", minutes=400_000.0)
    drawn = [stage.config.sampling for stage in plan.stages if stage.kind == "subset"]
    timed = [s for s in drawn if s.minutes is not None]
    assert [(s.duration, s.minutes, s.num_videos, s.strategy) for s in timed] == [
        (band, 400_000.0, None, "random") for band in ("long", "short", "long_center")
    ]


def test_table_4_two_dimensional_networks_are_inflated_and_clips_are_not():
    plan = paper("frames")
    rows = {(p.axes["pretraining"], p.num_videos, p.axes["input"]): p for p in plan.points}
    assert set(rows) == {
        ("imagenet", 0, "image"),
        ("ig-kinetics-images", 19 * M, "image"),
        ("ig-kinetics-images", 250 * M, "image"),
        ("ig-kinetics", 19 * M, "frame"),
        ("scratch", 0, "clip"),
        ("ig-kinetics", 19 * M, "clip"),
    }
    for (_, _, kind), point in rows.items():
        transfer = point.stage.config
        assert (transfer.model.name, transfer.clip.length, transfer.protocol) == ("r3d_18", 8, "full_ft")
        assert transfer.inflate == ("" if kind == "clip" else "mean")
        trained = [stage.config for stage in plan.behind(point) if stage.kind == "pretrain"]
        flat = [("r2d_18", 1)] if kind != "clip" else [("r3d_18", 8)]
        assert [(c.model.name, c.clip.length) for c in trained] == (flat if point.kind != "scratch" else [])
    assert kinds(plan) == {
        "build": 2,
        "dedup": 2,
        "subset": 3,
        "pretrain": 5,
        "transfer": 6,
    }  # frames and clips share one
    assert {v["value"] for v in plan.layout.paper} == {0.665, 0.67, 0.675, 0.656, 0.717}
    passes = {p.axes["input"]: p.stage.config.passes for p in of(plan, pretraining="ig-kinetics")}
    assert passes == {"frame": 96, "clip": 188}  # Table 12


# ------------------------------------------------------------------------------------------------------ tables 5 to 7


@pytest.mark.parametrize(
    ("kind", "targets", "views", "baselines"),
    [
        ("kinetics", 1, {"plain": 2, "short_edge": 2, "salient": 1}, 1),
        ("epic", 3, {"plain": 2, "short_edge": 2}, 2),
        ("something", 1, {"plain": 2, "short_edge": 2}, 2),
    ],
)
def test_tables_5_to_7_depths_34_and_152_in_each_view(kind, targets, views, baselines):
    plan = paper(kind)
    ours = Counter(p.axes["view"] for p in plan.points if p.kind == "pretrained")
    assert ours == {view: count * targets for view, count in views.items()}
    others = [p for p in plan.points if p.kind == "baseline"]
    assert len(others) == baselines * targets
    assert {(p.axes["model"], p.axes["view"]) for p in others} == {("r2plus1d_34", "plain")}
    assert kinds(plan)["pretrain"] == 2 + baselines
    for point in plan.points:
        transfer = point.transfer
        assert (transfer.test_crop_px, transfer.batch_per_gpu, transfer.batch) == (128, 6, 64 * 6)
        assert transfer.clip.short_edge == (point.axes["view"] != "plain")
        assert (transfer.clip_choice == "salient") == (point.axes["view"] == "salient")


@pytest.mark.parametrize("kind", ["data_size", "capacity", "durations", "frames", "kinetics", "epic", "something"])
def test_the_papers_values_belong_to_points(kind):
    """But the test sets of EPIC-Kitchens, which are targets of their own."""
    plan = paper(kind)
    for value in plan.layout.paper:
        axes = {key: v for key, v in value.items() if key not in ("value", "where", "metric")}
        assert of(plan, **axes) or axes["target"].endswith(("-s1", "-s2")), value
        assert 0 < value["value"] < 1


@pytest.mark.parametrize(
    ("kind", "target", "schedules"),
    [
        ("data_size", "kinetics", {(58, 16, (16, 16))}),  # Table 8
        ("data_size", "epic_verb", {(27, 0, (9, 9, 9))}),  # Table 14
        ("data_size", "epic_noun", {(27, 0, (9, 9, 9))}),
        ("something", "something", {(16, 0, (6, 6)), (16, 0, (12,))}),  # Table 17: depth 34, depth 152
    ],
)
def test_fine_tuning_is_that_of_tables_8_to_17(kind, target, schedules):
    transfers = [
        stage.config for stage in paper(kind).stages if stage.kind == "transfer" and stage.config.target == target
    ]
    assert {(t.passes, t.warmup_passes, t.decay_passes) for t in transfers} == schedules


def test_rates_of_a_table_are_a_grid_by_target_and_network():
    """Table 15, EPIC-Kitchens: verbs 0.000025 and nouns 0.0001 a GPU at depth 101; 64 GPUs."""
    plan = paper("capacity")
    (point,) = [p for p in of(plan, target="epic_action", model="r2plus1d_101") if p.kind == "pretrained"]
    verb, noun = (plan.stage(name).config for name in point.stage.needs)
    assert (verb.target, noun.target) == ("epic_verb", "epic_noun")
    assert verb.learning_rates == pytest.approx((64 * 0.000025,))
    assert noun.learning_rates == pytest.approx((64 * 0.0001,))


def test_table_6_joins_the_models_of_its_verbs_and_nouns():
    """No network is trained for actions: those of the other two rows serve."""
    plan = paper("epic")
    assert kinds(plan)["transfer"] == 2 * kinds(plan)["joint"] == len(plan.points) * 2 // 3
    for action in of(plan, target="epic_action"):
        same = {key: value for key, value in action.axes.items() if key != "target"}
        parts = [next(p for p in of(plan, **same, target=target)) for target in ("epic_verb", "epic_noun")]
        assert action.stage.needs == tuple(p.stage.name for p in parts)
        folders = [graph.marker(p.stage).rpartition("/")[0] for p in parts]
        assert [action.stage.config.verb, action.stage.config.noun] == folders
        assert graph.marker(action.stage) == folders[0].replace("epic_verb", "epic_action") + "/result.json"


def test_figure_2_has_actions_as_a_target_of_their_own():
    """By fc-only a regression a target is fitted to the same features."""
    plan = paper("label_kinds")
    assert {p.stage.kind for p in of(plan, target="epic_action")} == {"transfer"}


# ---------------------------------------------------------------------------------------------------------- all


@pytest.mark.parametrize(("kind", "scale"), [(k, s) for s in sweeps.SCALES for k in sweeps.kinds(s)])
def test_every_sweep_at_every_scale_is_in_order_and_keeps_all_its_targets_out(kind, scale):
    config = sweeps.scaled(kind, scale)
    plan = sweeps.plan(config)
    seen = set()
    for stage in plan.stages:
        assert seen.issuperset(stage.needs)
        assert stage.name not in seen
        seen.add(stage.name)
    cleaned = [stage.config for stage in plan.stages if stage.kind == "dedup"]
    assert cleaned
    assert {c.targets for c in cleaned} == {config.keep_out or config.targets}
    assert not {c.name for c in config.joint} & {target for c in cleaned for target in c.targets}
    assert len({p.id for p in plan.points}) == len(plan.points)
    names = {plan.layout.x, *plan.layout.series, *plan.layout.panels}
    assert all(names <= set(p.axes) for p in plan.points)
    assert configs.from_dict(SweepConfig, configs.to_dict(config)) == config


@pytest.mark.parametrize("kind", [kind for kind in sweeps.SWEEPS if kind != "label_distribution"])
def test_seeds_are_a_dimension_and_share_the_source(kind):
    config = sweeps.scaled(kind, "paper")
    one, three = (sweeps.plan(replace(config, seeds=seeds)) for seeds in ((0,), (0, 1, 2)))
    for stage, count in kinds(one).items():
        assert kinds(three)[stage] == count * (1 if stage in ("build", "dedup") else 3)
    assert len(three.points) == 3 * len(one.points)
    for point in three.points:
        assert point.transfer.seed == point.axes["seed"]
        for stage in three.behind(point):
            if stage.kind == "pretrain":
                assert stage.config.recipe.seed == point.axes["seed"]


def test_all_sweeps_at_the_papers_size_agree_on_what_a_name_means():
    """Under one root, a source, a subset or a run of one sweep serves the others."""
    made = {}
    for kind in sweeps.SWEEPS:
        for stage in sweeps.plan(sweeps.scaled(kind, "paper")).stages:
            if stage.kind in ("build", "dedup", "subset", "pretrain"):
                assert made.setdefault(stage.name, stage.config) == stage.config
    assert "pretrain-ig-kinetics-65000000-s0-r2plus1d_34-32f" in made


def test_the_preset_of_figure_1_is_the_sweep_on_kinetics():
    preset, sweep = presets.ig_kinetics_65m(), scales.paper("data_size")
    assert (preset.sizes, preset.strategies, preset.pretrain) == (sweep.sizes, sweep.strategies, sweep.pretrain)
    on_kinetics = next(p.stage.config for p in sweeps.plan(sweep).points if p.axes["target"] == "kinetics")
    assert on_kinetics.learning_rates == pytest.approx(preset.transfer.learning_rates)
    names = ("passes", "warmup_passes", "decay_passes", "batch", "batch_per_gpu")
    assert [getattr(on_kinetics, n) for n in names] == [getattr(preset.transfer, n) for n in names]
    assert recipes.preset(SweepConfig, "ig_kinetics_65m") == preset


def test_weights_of_a_file_are_a_baseline_without_a_run():
    baseline = BaselineConfig("published", weights="/models/r34.safetensors")
    plan = paper("label_kinds", baselines=(baseline,), seeds=(0,))
    transfers = [p.stage for p in plan.points if p.kind == "baseline"]
    assert len(transfers) == 4
    assert {t.config.run_from for t in transfers} == {baseline.weights}
    assert all(not t.needs and t.files == (baseline.weights,) for t in transfers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ()}, "--targets"),
        ({"kind": "sise"}, r"unknown sweep 'sise'; choose from data_size, sampling"),
        ({"baselines": (BaselineConfig("b"),)}, "either a dataset or a weights file"),
        ({"sources": (SweepSourceConfig("a", "noun"), SweepSourceConfig("a", "verb"))}, "name the sources apart"),
        ({"sources": (SweepSourceConfig("my source"),)}, "only letters, digits"),
    ],
)
def test_what_cannot_be_planned_is_refused_by_name(changes, message):
    with pytest.raises(ConfigError, match=message):
        sweeps.plan(replace(sweeps.scaled("label_kinds", "paper"), **changes))


@pytest.mark.parametrize(
    ("joint", "repeats", "message"),
    [
        (JointTargetConfig("epic_action", "epic_verb"), 1, "needs a name and two targets that are built"),
        (JointTargetConfig("epic_action", "epic_action", "epic_noun"), 1, "two targets that are built"),
        (JointTargetConfig("epic_action", "epic_verb", "epic_noun"), 3, r"transfer\.repeats must be 1, not 3"),
    ],
)
def test_a_target_that_cannot_be_made_of_two_is_refused(joint, repeats, message):
    transfer = replace(scales.paper("epic").transfer, repeats=repeats)
    with pytest.raises(ConfigError, match=message):
        paper("epic", joint=(joint,), transfer=transfer)


def test_what_a_joint_target_is_made_of_is_kept_out_and_simulated():
    plan = sweeps.plan(replace(sweeps.scaled("epic", "tiny"), targets=("verb_noun",), keep_out=()))
    (clean,) = [stage.config for stage in plan.stages if stage.kind == "dedup"]
    assert clean.targets == ("verb", "noun")
    assert [stage.name for stage in plan.stages if stage.kind == "target"] == ["target-verb", "target-noun"]


def test_frames_need_a_network_that_has_a_flat_counterpart():
    with pytest.raises(ConfigError, match=r"for R3D networks, not pretrain\.model\.name = 'r2plus1d_34'"):
        paper("frames", pretrain=presets.pretraining("r2plus1d_34", 8))


def test_the_list_names_every_sweep_with_its_place_in_the_paper():
    lines = sweeps.listing().splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(sweeps.SWEEPS)
    assert all("Figure" in line or "Table" in line or "Beyond the paper" in line for line in lines)
