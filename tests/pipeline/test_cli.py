"""One way to read a command line: defaults, --config, options; strict; clear endings."""

import subprocess
import sys

import pytest

from pipeline import cli
from pipeline.config import BuildConfig, ConfigError


def test_options_win_over_the_file_and_the_file_over_defaults(tmp_path):
    (tmp_path / "c.toml").write_text('dataset = "from-file"\n[sampling]\nseed = 5\nmin_videos = 3\n')
    config = cli.parse(BuildConfig, ["--config", str(tmp_path / "c.toml"), "--sampling.min-videos", "9"])
    assert (config.dataset, config.sampling.seed, config.sampling.min_videos) == ("from-file", 5, 9)


def test_an_unknown_option_ends_with_status_2(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.parse(BuildConfig, ["--source.sed-labels", "x"])
    assert ended.value.code == 2
    assert "sed-labels" in capsys.readouterr().err


def test_what_the_user_can_mend_is_one_message_and_status_2(capsys):
    def stage(config):
        raise ConfigError("posts 'x.csv' has no column video_uri")

    with pytest.raises(SystemExit) as ended:
        cli.run_stage(BuildConfig, stage, [])
    assert ended.value.code == cli.EXIT_BAD_INPUT
    assert capsys.readouterr().err == "tagreel: posts 'x.csv' has no column video_uri\n"


def test_a_reader_that_has_seen_enough_ends_it_quietly():
    code = "import sys; from pipeline import cli; sys.exit(cli.guarded(lambda: [print(i, flush=True) for i in range(10**6)]))"
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    program.stdout.readline()
    program.stdout.close()
    assert program.stderr.read() == b""
    assert program.wait() == 141


def test_a_defect_is_not_disguised_as_bad_input():
    def stage(config):
        raise KeyError("bug")

    with pytest.raises(KeyError):
        cli.run_stage(BuildConfig, stage, [])


def test_help_lists_every_verb_and_an_unknown_verb_the_choices(capsys):
    cli.main(["--help"])
    text = capsys.readouterr().out
    assert all(verb in text for verb in cli.VERBS)
    with pytest.raises(SystemExit, match=r"unknown verb 'biuld'; choose from .*build"):
        cli.main(["biuld"])


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_leads_to_a_main(verb):
    import importlib

    module, _, name = cli.VERBS[verb][0].partition(":")
    assert callable(getattr(importlib.import_module(module), name or "main"))
