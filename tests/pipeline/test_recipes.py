"""The recipes are the paper's, and reach every command line."""

import json

import pytest

from pipeline import cli, presets, recipes, sweeps
from pipeline.config import (
    BuildConfig,
    ConfigError,
    DedupConfig,
    PretrainConfig,
    SweepConfig,
    TargetConfig,
    TransferConfig,
    from_dict,
)


@pytest.mark.parametrize("depth", [18, 34, 101, 152])
@pytest.mark.parametrize(("length", "global_batch"), [(8, 2048), (32, 768)])
def test_pretraining_is_section_3_3(depth, length, global_batch):
    config = cli.parse(PretrainConfig, ["--preset", f"r2plus1d_{depth}_{length}f"])
    recipe = config.recipe
    assert (config.model.name, config.model.width) == (f"r2plus1d_{depth}", 1.0)
    assert (config.clip.length, config.clip.size_hw, config.clip.crop_px) == (length, (128, 171), 112)
    assert recipe.virtual_workers * recipe.batch_per_gpu == global_batch
    assert recipe.virtual_workers * recipe.lr_per_gpu == pytest.approx(0.192)
    assert (recipe.total_clips, recipe.num_decays, recipe.decay_factor) == (490_000_000, 13, 0.5)
    assert recipe.total_clips / (recipe.num_decays + 1) == 35_000_000
    assert (recipe.momentum, recipe.weight_decay) == (0.9, 1e-4)
    assert recipe.virtual_workers % config.num_processes == 0


def test_table_4_compares_r3d_on_clips_with_r2d_on_frames():
    clips, frames = (recipes.preset(PretrainConfig, name) for name in ("r3d_18_8f", "r2d_18_1f"))
    assert (clips.model.name, clips.clip.length, frames.model.name, frames.clip.length) == ("r3d_18", 8, "r2d_18", 1)
    assert clips.recipe == frames.recipe


@pytest.mark.parametrize("kind", ["kinetics", "noun", "verb", "verb_noun"])
def test_the_sources_are_table_1s_label_spaces(kind):
    config = recipes.preset(BuildConfig, f"ig_{kind}")
    assert config.source.kind == kind
    assert config.sampling.min_videos == 50  # footnote 2


def test_a_sweeps_recipe_serves_every_stage():
    sweep = presets.ig_kinetics_65m()
    assert sweep.sizes == (500_000, 1_000_000, 5_000_000, 10_000_000, 19_000_000, 65_000_000)
    for kind, part in {
        SweepConfig: sweep,
        BuildConfig: sweep.build,
        DedupConfig: sweep.dedup,
        PretrainConfig: sweep.pretrain,
        TransferConfig: sweep.transfer,
    }.items():
        assert recipes.preset(kind, "ig_kinetics_65m") == part


def test_a_sweep_repeats_only_what_has_something_random():
    config = SweepConfig(sizes=(10,), targets=("ucf",), transfer=TransferConfig(repeats=3))
    found = {(point.stage.config.protocol, point.stage.config.repeats) for point in sweeps.plan(config).points}
    assert found == {("full_ft", 3), ("fc_only", 1)}


def test_a_file_wins_over_the_preset_and_options_over_the_file(tmp_path):
    (tmp_path / "c.toml").write_text('run = "mine"\n[recipe]\nseed = 5\nprecision = "fp32"\n')
    words = ["--config", str(tmp_path / "c.toml"), "--preset", "r2plus1d_18_32f", "--recipe.seed", "6"]
    config = cli.parse(PretrainConfig, words)
    assert (config.run, config.recipe.seed, config.recipe.precision) == ("mine", 6, "fp32")
    assert (config.recipe.batch_per_gpu, config.model.name) == (6, "r2plus1d_18")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (PretrainConfig, r"no preset 'r2plus1d_43_8f' for this command; choose from ig_kinetics_65m, r2plus1d_18_8f, "),
        (TargetConfig, "this command has no presets"),
    ],
)
def test_an_unknown_preset_names_the_choices_of_the_command(kind, message):
    with pytest.raises(ConfigError, match=message):
        cli.parse(kind, ["--preset", "r2plus1d_43_8f"])


def test_the_list_names_every_recipe_with_its_commands(capsys):
    recipes.show(None)
    lines = capsys.readouterr().out.splitlines()
    said = {line.split()[0]: line for line in lines if line}
    assert max(len(line) for line in lines if line.startswith("  table")) <= 110
    assert set(recipes.RECIPES) <= set(said)
    assert "build, dedup, pretrain, transfer, sweep" in said["ig_kinetics_65m"]
    with pytest.raises(ConfigError, match=r"unknown recipe 'x'; `tagreel recipes` lists all \d+"):
        recipes.show("x")


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_recipe_that_is_printed_can_be_read_again(name, capsys):
    recipes.show(name)
    made = recipes.RECIPES[name].make()
    assert from_dict(type(made), json.loads(capsys.readouterr().out)) == made
