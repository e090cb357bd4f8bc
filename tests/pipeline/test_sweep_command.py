"""`tagreel sweep`: how the name, the scale, a file and options make a config; and what it prints."""

import json

import pytest

from pipeline import launch, sweeps
from pipeline.config import SweepConfig
from pipeline.launch import entry


@pytest.fixture
def asked(monkeypatch):
    """The config that a command line asks for."""

    def config(*words: str) -> SweepConfig:
        seen: list[SweepConfig] = []
        monkeypatch.setattr(entry, "sweep", lambda config, dry_run: seen.append(config))
        with pytest.raises(SystemExit) as ended:
            launch.sweep_main(list(words))
        assert ended.value.code == 0
        return seen[0]

    return config


def test_a_name_gives_the_papers_size_and_a_scale_another(asked):
    assert asked("capacity") == asked("--kind", "capacity") == sweeps.scaled("capacity", "paper")
    assert asked("capacity", "--scale", "tiny") == sweeps.scaled("capacity", "tiny")
    assert asked("--scale", "tiny") == sweeps.scaled("data_size", "tiny")


def test_without_a_name_the_defaults_are_plain(asked):
    config = asked("--sizes", "10", "20", "--targets", "ucf")
    assert config == SweepConfig(sizes=(10, 20), targets=("ucf",))


def test_a_file_wins_over_the_scale_and_options_over_the_file(asked, tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"kind": "durations", "sizes": [40], "targets": ["mine"]}))
    config = asked("--config", str(path), "--seeds", "3", "--targets", "yours")
    assert (config.kind, config.sizes, config.seeds, config.targets) == ("durations", (40,), (3,), ("yours",))
    assert config.protocols == ("fc_only",)  # of the sweep over durations


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sise"], "unknown sweep 'sise'; choose from data_size"),
        (["epic", "--kind", "frames"], "two sweeps are named"),
        (["epic", "--targets", "--dry-run"], "--targets"),
    ],
)
def test_what_is_not_a_sweep_is_one_message_and_status_2(words, message, capsys):
    with pytest.raises(SystemExit) as ended:
        launch.sweep_main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_the_list_needs_no_name(capsys):
    with pytest.raises(SystemExit):
        launch.sweep_main(["--list"])
    assert "label_distribution  Figure 3" in capsys.readouterr().out


def test_help_names_the_sweeps_and_what_stands_beside_the_config(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as ended:
        launch.sweep_main(["--help"])
    assert not ended.value.code
    text = capsys.readouterr().out
    for word in ("NAME", *sweeps.SWEEPS, "--scale", *sweeps.SCALES, "--list", "--dry-run", "--status", "--targets"):
        assert word in text
