"""A sweep's commands: shared work once, every point there, seeds apart."""

import pytest

from pipeline import artifacts, launch, presets, storage, sweeps
from pipeline import config as configs
from pipeline.config import SweepConfig


@pytest.fixture
def sweep(tmp_path) -> SweepConfig:
    config = presets.demo(str(tmp_path), "posts.jsonl", "labels.txt", num_workers=1, num_processes=2)
    values = configs.to_dict(config) | {"sizes": [10, 20], "seeds": [0, 1]}
    return configs.from_dict(SweepConfig, values)


def test_shared_work_comes_once_and_before_what_needs_it(sweep):
    names = [step.name for step in launch.commands(sweep)]
    assert len(names) == len(set(names))
    kinds = [name.split("-")[0] for name in names]
    # One source, one clean-up; 2 sizes × 2 seeds of subsets and runs; (2 sizes + scratch) × 2 seeds × 2 protocols of transfers.
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "build": 1,
        "dedup": 1,
        "subset": 4,
        "pretrain": 4,
        "transfer": 12,
    }
    assert kinds[:2] == ["build", "dedup"]
    for size in sweep.sizes:
        for seed in sweep.seeds:
            run = f"platform-{size}-s{seed}"
            network = f"{run}-r2plus1d_10-8f"
            order = [
                names.index(f"subset-{run}"),
                names.index(f"pretrain-{network}"),
                names.index(f"transfer-{network}-verb-fc_only"),
            ]
            assert order == sorted(order)


def test_seeds_differ_in_subset_weights_and_transfer(sweep):
    plan = sweeps.plan(sweep)
    points = [p for p in plan.points if p.num_videos == 10 and p.axes["protocol"] == "fc_only"]
    first, second = ([stage.config for stage in plan.behind(point)] for point in points)
    assert first[:2] == second[:2]  # the source and its clean-up
    (subset, run, transfer), (other_subset, other_run, other_transfer) = first[2:], second[2:]
    assert subset.sampling.seed != other_subset.sampling.seed
    assert run.recipe.seed != other_run.recipe.seed
    assert transfer.seed != other_transfer.seed


def test_training_runs_under_torchrun_with_the_processes_asked_for(sweep):
    step = next(step for step in launch.commands(sweep) if step.name.startswith("pretrain-"))
    assert "--nproc-per-node=2" in step.argv
    assert step.argv[-2:] == ("--config", step.config_path)


def test_the_plan_names_every_point_its_axes_and_its_result(sweep):
    folder = launch.write_plan(sweep, notes=["n"])
    plan = storage.read_json(storage.join(folder, "plan.json"))
    assert len(plan["points"]) == 12
    assert {p["kind"] for p in plan["points"] if p["num_videos"] == 0} == {"scratch"}
    assert len({p["result"] for p in plan["points"]}) == 12
    for point in plan["points"]:
        shared = {key: point[key] for key in ("num_videos", "seed", "protocol", "target")}
        assert point["axes"] == point["axes"] | shared
    assert plan["layout"]["x"] == "num_videos"
    assert plan["notes"] == ["n"]
    assert [stage["name"] for stage in plan["stages"]] == [step.name for step in launch.commands(sweep)]


def test_the_plan_says_what_was_drawn_once_it_is(sweep):
    made = artifacts.dataset_files(sweep.root, "platform-20-s1").marker
    storage.write_json(made, {"num_videos": 17, "minutes": 3.5})
    points = storage.read_json(storage.join(launch.write_plan(sweep), "plan.json"))["points"]
    drawn = {point["dataset"]: point["drawn"] for point in points}
    assert drawn.pop("platform-20-s1") == {"videos": 17, "minutes": 3.5}
    assert drawn == {None: None, "platform-10-s0": None, "platform-10-s1": None, "platform-20-s0": None}


def test_dry_run_prints_the_commands_and_runs_nothing(sweep, capsys):
    launch.sweep(sweep, dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("python -m ") for line in lines) == 22
    # Alone each of 8 pretrained points would take 5 stages, each of 4 from scratch 1.
    assert "12 points of 22 stages; 44 if nothing were shared" in lines
    assert storage.listing(storage.join(sweep.root, "*")) == []


def test_a_failed_stage_stops_the_sweep_with_its_command(sweep):
    step = launch.command("bad", "no_such_module", sweep, sweep.root)
    with pytest.raises(launch.CommandFailed, match=r"'bad' failed with status 1[\s\S]*python -m no_such_module"):
        launch.run(step)


def test_the_papers_preset_is_table_8_and_divides_over_its_processes():
    """Table 8: rates 0.0003 and 0.00003 per GPU, batch 16 per GPU; A.4: 16 nodes × 4 GPUs."""
    transfer = presets.ig_kinetics_65m().transfer
    assert transfer.batch == 16 * 4 * 16
    assert [rate / 64 for rate in transfer.learning_rates] == pytest.approx([0.00003, 0.0003])
    assert (transfer.passes, transfer.warmup_passes, transfer.decay_passes) == (58, 16, (16, 16))
    assert transfer.batch // transfer.batch_per_gpu % transfer.num_processes == 0
    assert (
        presets.ig_kinetics_65m().pretrain.recipe.virtual_workers % presets.ig_kinetics_65m().pretrain.num_processes
        == 0
    )
