"""torch.hub entries of a checkout."""

import importlib.util
import runpy
from pathlib import Path

import pytest
import torch

from pipeline.config import ConfigError
from pretrain.models import BUILDERS, build_model, weights

CHECKOUT = str(Path(__file__).parents[2])


def load(*arguments, **options):
    return torch.hub.load(CHECKOUT, *arguments, source="local", **options)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    return build_model("r2plus1d_10", 4, width=0.125)


def test_every_network_is_an_entry_and_nothing_else_is():
    module = runpy.run_path(f"{CHECKOUT}/hubconf.py")
    entries = {name: entry for name, entry in module.items() if callable(entry) and not name.startswith("_")}
    assert entries.keys() == BUILDERS.keys()
    for name, entry in entries.items():
        assert entry.__name__ == name
        assert entry.__doc__.startswith(f"{name}: clips")
    missing = [library for library in module["dependencies"] if importlib.util.find_spec(library) is None]
    assert missing == []


@pytest.mark.parametrize("format", ["safetensors", "ig65m", "caffe2"])
def test_weights_of_any_format_come_with_their_final_layer_or_a_new_one(model, format, tmp_path):
    weights.export(model, tmp_path / "w", format)
    loaded = load("r2plus1d_10", weights=str(tmp_path / "w"))
    clips = torch.randn(1, 3, 4, 32, 32)
    torch.testing.assert_close(loaded.eval()(clips), model.eval()(clips), rtol=0, atol=0)
    other = load("r2plus1d_10", weights=str(tmp_path / "w"), num_labels=7)
    assert other.fc.out_features == 7
    torch.testing.assert_close(other.eval().forward_features(clips), model.forward_features(clips), rtol=0, atol=0)


def test_without_weights_a_network_is_new():
    assert load("r3d_10", num_labels=5, width=0.25).fc.weight.shape == (5, 128)
    assert load("r2d_10", width=0.25).fc.out_features == 400


def test_weights_of_another_network_are_refused(model, tmp_path):
    weights.export(model, tmp_path / "w")
    with pytest.raises(ConfigError, match="holds weights of r2plus1d_10, not of r2plus1d_34"):
        load("r2plus1d_34", weights=str(tmp_path / "w"))
