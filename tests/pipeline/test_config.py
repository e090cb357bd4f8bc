"""The config tree is strict, round-trips, and its digest covers only what determines an artefact."""

import dataclasses
import inspect
import json
from pathlib import Path

import pytest

from pipeline import config as configs
from pipeline.config import BuildConfig, ConfigError, PretrainConfig, SweepConfig

STAGES = [getattr(configs, name) for name in dir(configs) if name.endswith("Config")]


@pytest.mark.parametrize("kind", STAGES)
def test_round_trip(kind):
    assert configs.from_dict(kind, configs.to_dict(kind())) == kind()


@pytest.mark.parametrize("kind", STAGES)
def test_every_field_says_what_it_means(kind):
    source = Path(inspect.getfile(kind)).read_text()
    body = source.split(f"class {kind.__name__}:")[1].split("@dataclass")[0]
    for field in dataclasses.fields(kind):
        if (
            dataclasses.is_dataclass(field.type)
            or "Config = field(" in body.split(f"    {field.name}: ")[1].split("\n")[0]
        ):
            continue  # a section explains itself
        assert body.split(f"    {field.name}: ")[1].split("\n")[1].strip().startswith('"""'), field.name


def test_a_pair_has_two_values():
    with pytest.raises(ConfigError, match=r"'clip.size_hw' must have 2 values, not \[128, 171, 3\]"):
        configs.from_dict(PretrainConfig, {"clip": {"size_hw": [128, 171, 3]}})


def test_an_unknown_key_is_named_with_its_path():
    with pytest.raises(ConfigError, match=r"unknown key 'source.sed_labels'.*seed_labels"):
        configs.from_dict(BuildConfig, {"source": {"sed_labels": "x"}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sampling": {"num_videos": "many"}}, "'sampling.num_videos' must be int"),
        ({"sampling": {"strategy": "best"}}, "'sampling.strategy' must be one of"),
        ({"sampling": {"num_videos": True}}, "'sampling.num_videos' must be int"),
        ({"force": 1}, "'force' must be bool"),
    ],
)
def test_a_wrong_type_is_named_with_its_path(values, message):
    with pytest.raises(ConfigError, match=message):
        configs.from_dict(BuildConfig, values)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.json", '{"sizes": [1, 2], "build": {"dataset": "d"}}'),
        ("c.toml", 'sizes = [1, 2]\n[build]\ndataset = "d"\n'),
    ],
)
def test_load_json_and_toml(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    config = configs.load(SweepConfig, tmp_path / name)
    assert config.sizes == (1, 2)
    assert config.build.dataset == "d"


def test_load_names_a_missing_or_broken_file(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.json' does not exist"):
        configs.load(BuildConfig, tmp_path / "nowhere.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ConfigError, match=r"broken.json' is not valid"):
        configs.load(BuildConfig, tmp_path / "broken.json")


def test_digest_ignores_where_and_how_but_not_what():
    base = PretrainConfig()
    same = dataclasses.replace(base, root="elsewhere", num_processes=8, force=True, loader_workers=3)
    other = dataclasses.replace(base, recipe=dataclasses.replace(base.recipe, seed=1))
    assert configs.digest(same) == configs.digest(base)
    assert configs.digest(other) != configs.digest(base)


def test_differences_name_the_fields():
    changed = dataclasses.replace(BuildConfig(), sampling=dataclasses.replace(BuildConfig().sampling, seed=4))
    assert configs.differences(configs.to_dict(BuildConfig()), configs.to_dict(changed)) == ["sampling.seed: 0 → 4"]


def test_paper_defaults():
    """Section 3.3: 490M clips, 128 workers of 16 clips, rate 0.192 halved 13 times."""
    recipe = PretrainConfig().recipe
    assert recipe.total_clips == 490_000_000
    assert recipe.virtual_workers * recipe.batch_per_gpu == 2048
    assert recipe.virtual_workers * recipe.lr_per_gpu == pytest.approx(0.192)
    assert (recipe.num_decays, recipe.decay_factor) == (13, 0.5)
    assert json.dumps(configs.to_dict(PretrainConfig()))
