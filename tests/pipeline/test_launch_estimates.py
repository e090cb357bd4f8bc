"""Estimates: closed forms, exact sums, rates in proportion to work that other code counts."""

import json
from dataclasses import replace

import pytest

from pipeline import artifacts, storage, sweeps
from pipeline.config import PretrainConfig, TransferConfig
from pipeline.launch import estimates, rates
from pipeline.launch.entry import show
from pipeline.sweeps import Stage

models = pytest.importorskip("pretrain.models")


@pytest.mark.parametrize("name", rates.GMAC)
def test_work_and_size_of_networks_are_those_of_the_networks(name):
    from pretrain.models.counts import shapes_only

    with shapes_only():
        model = models.build_model(name, 400)
    for length, gmac in rates.GMAC[name].items():
        parameters, counted = models.count(model, length, 112)
        assert gmac == pytest.approx(counted, abs=0.006)
    assert rates.PARAMETERS_M[name] == pytest.approx(parameters / 1e6, abs=0.06)


def test_gpu_rates_are_the_targets_where_nothing_was_measured_and_scale_with_work(monkeypatch):
    monkeypatch.setattr(rates, "_measured_gpu", dict)
    for (depth, length), value in rates.GPU_TARGETS.items():
        rate = rates.gpu_clips_per_s(f"r2plus1d_{depth}", length)
        assert rate.value == pytest.approx(value)
        assert "not measured" in rate.source
    deep, shallow = (rates.gpu_clips_per_s(f"r2plus1d_{depth}", 32).value for depth in (152, 34))
    assert deep / shallow == pytest.approx(152.36 / 252)


def test_measured_gpu_rates_take_the_place_of_targets(monkeypatch, tmp_path):
    cells = [
        {"depth": 34, "length": 8, "device": "cuda", "clips_per_s": speed, "way": way}
        for way, speed in (("conv3d", 500.0), ("folded", 1234.0))
    ]
    cells += [
        {"depth": 34, "length": 8, "device": "cpu", "clips_per_s": 9999.0},
        {"depth": 18, "length": 8, "failed": ""},
    ]
    (tmp_path / "gpu_train.json").write_text(json.dumps({"results": {"cells": cells}}))
    monkeypatch.setattr(rates, "RESULTS", tmp_path)
    for cached in (rates.read, rates._measured_gpu):
        cached.cache_clear()
    try:
        rate = rates.gpu_clips_per_s("r2plus1d_34", 8)
        assert rate == rates.Rate(1234.0, "benchmarks/results/gpu_train.json")
    finally:
        for cached in (rates.read, rates._measured_gpu):
            cached.cache_clear()


def test_cpu_rates_are_those_of_the_network_that_is_nearer_in_work():
    tiny = rates.cpu_clips_per_s("r2plus1d_10", 8, width=0.25, crop_px=32)
    assert tiny.source.endswith("tiny_step.json")
    large = rates.cpu_clips_per_s("r2plus1d_34", 8)
    assert large.source.endswith("cpu_step.json")
    assert large.value / rates.cpu_clips_per_s("r2plus1d_152", 32).value == pytest.approx(252 / 38.09)


def test_an_installation_without_the_benchmarks_estimates_too(monkeypatch, tmp_path):
    monkeypatch.setattr(rates, "RESULTS", tmp_path)
    rates.read.cache_clear()
    try:
        for scale in sweeps.SCALES:
            assert "total" in estimates.summary(sweeps.plan(sweeps.scaled("data_size", scale)))
    finally:
        rates.read.cache_clear()


@pytest.mark.parametrize("name", rates._STATED)
def test_stated_rates_are_those_that_were_measured_last(name):
    def is_in(stated, measured) -> bool:
        if isinstance(stated, dict):
            return all(key in measured and is_in(value, measured[key]) for key, value in stated.items())
        return stated == measured

    assert is_in(rates._STATED[name], rates.read(name))


def test_a_pretraining_is_its_recipes_clips_at_the_networks_rate():
    stage = Stage("p", "pretrain", "pretrain.train", PretrainConfig())
    found = estimates.cost(stage, {})
    steps = -(-490_000_000 // 2048)
    assert found.clips == steps * 2048
    assert found.gpu_hours == pytest.approx(found.clips / rates.gpu_clips_per_s("r2plus1d_34", 8).value / 3600)
    assert found.num_bytes == pytest.approx(2 * 63.7e6 * 8)  # two checkpoints of weights and momentum


def test_a_transfer_counts_its_search_its_final_training_and_its_test():
    config = TransferConfig(protocol="full_ft", learning_rates=(0.1, 0.2), passes=10, held_out=0.1, num_clips=10)
    sizes = {"target": (1000, 300)}
    full = estimates.cost(Stage("t", "transfer", "finetune.transfer", config), sizes)
    trained = 2 * 10 * 900 + 10 * 1000
    tested = 2 * 100 * 10 + 300 * 10
    assert full.clips == pytest.approx(trained + tested / 3)
    fc = estimates.cost(Stage("t", "transfer", "finetune.transfer", replace(config, protocol="fc_only")), sizes)
    assert fc.clips == pytest.approx((1000 * 10 + 300 * 10) / 3)


def test_a_single_rate_is_one_training_without_a_search():
    config = TransferConfig(protocol="full_ft", learning_rates=(0.1,), passes=10, repeats=3, num_clips=10)
    found = estimates.cost(Stage("t", "transfer", "finetune.transfer", config), {"target": (1000, 300)})
    assert found.clips == pytest.approx(3 * 10 * 1000 + 300 * 10 / 3)


def test_a_build_is_counted_once_by_its_largest_arm_and_subsets_copy_nothing():
    plan = sweeps.plan(sweeps.scaled("data_size", "paper"))
    builds = [estimates.cost(s, {}) for s in plan.stages if s.kind == "build"]
    found = rates.read("build_pass")["720p"]
    assert len(builds) == 1
    assert builds[0].core_hours == pytest.approx(65e6 * found["cpu_ms_per_video"]["shard_pass"]["median"] / 3.6e6)
    assert all(estimates.cost(s, {}).num_bytes == 0 for s in plan.stages if s.kind == "subset")


def test_an_image_source_is_reckoned_by_its_frames():
    plan = sweeps.plan(sweeps.scaled("frames", "paper"))
    measured, whole = rates.read("one_frame")["720p"], rates.read("build_pass")["720p"]["cpu_ms_per_video"]
    (build,) = [s for s in plan.stages if s.kind == "build" and s.config.storage.frames == "one"]
    (dedup,) = [s for s in plan.stages if s.kind == "dedup" and s.config.dataset == build.config.dataset]
    assert build.num_videos == dedup.num_videos == 250_000_000
    built = estimates.cost(build, {})
    assert built.core_hours == pytest.approx(
        250e6 * whole["shard_pass"]["median"] * measured["one_to_all"]["median"] / 3.6e6
    )
    assert built.num_bytes == pytest.approx(250e6 * measured["bytes_per_video"]["one"])
    # a code an image, upright and mirrored
    codes_per_s = rates.read("dedup_join_5e7")["natural"]["numba"]["r7"]["queries_per_s"]
    assert estimates.cost(dedup, {}).core_hours == pytest.approx(2 * 250e6 / codes_per_s / 3600)


def test_a_dedup_is_reckoned_as_its_document_does():
    """65M videos of 1e10 frames: 17 core-hours at radius 7 (docs/dedup-speed.md)."""
    duration_s = rates.read("build_pass")["720p"]["mean_duration_s"]
    stage = Stage("d", "dedup", "dedup.find", None, num_videos=round(1e10 / 16 / duration_s))
    assert estimates.cost(stage, {}).core_hours == pytest.approx(17, abs=0.5)


@pytest.mark.parametrize("kind", ["num_labels", "frames", "epic"])
def test_the_table_adds_up(kind):
    plan = sweeps.plan(sweeps.scaled(kind, "paper"))
    sizes = estimates.target_sizes(plan)
    costs = [estimates.cost(stage, sizes) for stage in plan.stages]
    whole = estimates.total(costs)
    for field in ("clips", "gpu_hours", "cpu_hours", "core_hours", "num_bytes"):
        assert getattr(whole, field) == pytest.approx(sum(getattr(cost, field) for cost in costs))
    runs = sum(stage.kind == "pretrain" for stage in plan.stages)
    (row,) = [line.split() for line in estimates.summary(plan).splitlines() if line.startswith("pretrain ")]
    assert row[1] == str(runs)
    assert whole.clips > runs * 490_000_000


def test_targets_on_disk_are_counted_as_they_are_and_unknown_ones_are_named(tmp_path, capsys):
    config = replace(sweeps.scaled("something", "paper"), root=str(tmp_path), targets=("mine", "other"), baselines=())
    for split, count in (("train", 40), ("test", 20)):
        path = artifacts.target_files(str(tmp_path), "mine", split).marker
        storage.write_json(path, {"num_videos": count})
    assert estimates.target_sizes(sweeps.plan(config)) == {"mine": (40, 20), "other": (0, 0)}
    show(config)
    assert "not known before it is built: target other\n" in capsys.readouterr().out


def test_targets_of_a_platform_are_known_before_it_is_there():
    plan = sweeps.plan(sweeps.scaled("label_kinds", "tiny"))
    assert set(estimates.target_sizes(plan).values()) == {(12 * 5, 12 * 10)}
