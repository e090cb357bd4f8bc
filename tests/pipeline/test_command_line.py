"""A command line gives the config that it was made of."""

import shlex

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import config as configs
from pipeline.cli import parse
from pipeline.command_line import command_line
from pipeline.config import ClipConfig, ModelConfig, TransferConfig
from pipeline.launch import verbs

transfers = st.builds(
    TransferConfig,
    run=st.sampled_from(["run", "scratch s1", "it's"]),
    result=st.sampled_from(["", "3 crops", "a;b"]),
    protocol=st.sampled_from(["full_ft", "evaluate"]),
    model=st.builds(ModelConfig, name=st.sampled_from(["r2plus1d_34", "r3d_18"]), width=st.floats(0.1, 1.0)),
    clip=st.builds(
        ClipConfig,
        fps=st.none() | st.floats(1, 60),
        short_edge=st.booleans(),
        size_hw=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    ),
    learning_rates=st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=3).map(tuple),
    decay_passes=st.sampled_from([(16, 16), (9, 9, 9), (12,)]),
    test_crop_px=st.none() | st.integers(32, 256),
)


@given(config=transfers)
@settings(max_examples=15)
def test_the_command_gives_the_config_again(config):
    verb, *options = shlex.split(command_line("transfer", config))[1:]
    assert verb == "transfer"
    assert parse(TransferConfig, options) == config


def test_how_a_command_runs_is_left_to_who_runs_it():
    config = TransferConfig(root="there", num_processes=8, force=True, loader_workers=3)
    assert command_line("transfer", config) == "tagreel transfer --root there"


def test_a_command_is_named_after_the_folder_of_its_result(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(verbs, "run", ran.append)
    config = TransferConfig(root=str(tmp_path), run_from="/data/net.pth", target="ucf", result="32f", num_processes=2)
    verbs.transfer(config)
    assert ran[0].name == "transfer-net-ucf-fc_only-32f"
    assert configs.from_dict(TransferConfig, configs.to_dict(ran[0].config)) == config
