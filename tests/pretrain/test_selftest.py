"""The self-test finds what is wrong with a convolution, and nothing wrong with right ones."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from pipeline.doctor import DoctorConfig
from pretrain.models import build_model, layers, selftest
from pretrain.models.counts import shapes_only
from pretrain.models.selftest import ConvShape, compare, distinct_shapes

CPU = torch.device("cpu")
SMALL = DoctorConfig(model="r2plus1d_10", width=0.1, crop_px=32, device="cpu")
TEMPORAL = ConvShape(8, 8, (3, 1, 1), (1, 1, 1), (2, 6, 6))  # the shape whose bf16 weight gradient oneDNN gets wrong
RIGHT_BF16 = 2**-8  # half a unit in the last place of bf16, relative to the smallest number of its binade


def command(*options: str) -> int:
    with pytest.raises(SystemExit) as ended:
        selftest.main(options)
    return ended.value.code


@pytest.mark.parametrize("model", ["r2plus1d_10", "r3d_10", "r2d_10"])
@pytest.mark.parametrize("clip_length", [4, 8])
def test_all_convolutions_of_small_networks_are_right(model, clip_length):
    for shape in distinct_shapes(model, 0.1, clip_length, 32):
        for found in compare(shape, 2, CPU):
            assert found.wrong == [], str(found)
            assert max(found.errors) < {"fp32": 1e-5, "bf16": RIGHT_BF16}[found.precision]


def test_every_convolution_of_a_network_is_among_the_shapes_and_none_twice():
    shapes = distinct_shapes("r2plus1d_34", 1.0, 8, 112)
    assert (
        len(shapes) == len(set(shapes)) == 19
    )  # 2 in the stem, 2 in layer 1, 5 in each other: its first block's and 2
    assert ConvShape(576, 256, (3, 1, 1), (1, 1, 1), (2, 14, 14)) in shapes
    with shapes_only():
        model = build_model("r2plus1d_34", 1)
    tried = {(s.out_channels, s.in_channels, *s.kernel) for s in shapes}
    assert tried == {tuple(m.weight.shape) for m in model.modules() if isinstance(m, layers.Conv3d)}


class Faulty(torch.autograd.Function):
    """Passes a tensor on; its gradient comes back changed."""

    @staticmethod
    def forward(ctx, x: Tensor, change) -> Tensor:
        ctx.change = change
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return ctx.change(gradient), None


def last_tap_lost(gradient: Tensor) -> Tensor:
    changed = gradient.clone()
    changed[:, :, -1] = 0
    return changed


FAULTS = {
    "last tap lost": last_tap_lost,
    "not a number": lambda gradient: gradient * math.nan,
    "overflow": lambda gradient: gradient * math.inf,
    "3 % too large": lambda gradient: gradient * 1.03,
}


def unchanged(tensor: Tensor) -> Tensor:
    return tensor


def with_faults(monkeypatch, output=unchanged, input=unchanged, weight=unchanged, bf16_only=True):
    """Let the folded convolution be wrong in its results: each is passed through a function."""
    right = layers.folded_conv3d

    def folded_conv3d(x, w, stride, padding):
        if bf16_only and not torch.is_autocast_enabled("cpu"):
            return right(x, w, stride, padding)
        y = right(Faulty.apply(x, input), Faulty.apply(w, weight), stride, padding)
        return y + (output(y) - y).detach()

    monkeypatch.setattr(layers, "folded_conv3d", folded_conv3d)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_weight_gradient_is_found_whatever_its_kind(fault, monkeypatch):
    with_faults(monkeypatch, weight=FAULTS[fault])
    fp32, bf16 = compare(TEMPORAL, 2, CPU)
    assert (fp32.wrong, bf16.wrong) == ([], ["weight gradient"])


@pytest.mark.parametrize(
    ("faults", "named"),
    [({"output": lambda y: 0.97 * y}, ["output"]), ({"input": lambda gradient: -gradient}, ["input gradient"])],
)
def test_wrong_outputs_and_input_gradients_are_found_by_name(faults, named, monkeypatch):
    with_faults(monkeypatch, **faults)
    assert [found.wrong for found in compare(TEMPORAL, 2, CPU)] == [[], named]


def test_fp32_is_held_to_fp32s_precision(monkeypatch):
    with_faults(monkeypatch, output=lambda y: 1.001 * y, bf16_only=False)
    fp32, bf16 = compare(TEMPORAL, 2, CPU)
    assert (fp32.wrong, bf16.wrong) == (["output"], [])


def test_the_command_ends_with_0_when_all_is_right_and_with_1_and_the_shape_when_not(monkeypatch, capsys):
    options = [f"--{name.replace('_', '-')}={value}" for name, value in dataclasses.asdict(SMALL).items()]
    assert command(*options) == 0
    out = capsys.readouterr().out
    assert "cpu: none of" in out
    assert "WRONG" not in out
    with_faults(monkeypatch, weight=FAULTS["not a number"])
    assert command(*options) == 1
    out = capsys.readouterr().out
    assert "WRONG: weight gradient" in out
    assert "largest error fp32" in out
    assert "bf16 nan" in out


@pytest.mark.parametrize(
    ("option", "message"),
    [("--model=resnet50", "unknown model 'resnet50'"), ("--device=abacus", "unknown device 'abacus'")],
)
def test_questions_that_make_no_sense_end_with_2(option, message, capsys):
    assert command(option) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_published_network_is_right_on_this_machine():
    for shape in distinct_shapes("r2plus1d_34", 1.0, 8, 112):
        assert [found.wrong for found in compare(shape, 2, CPU)] == [[], []]


@pytest.mark.gpu
def test_the_published_networks_are_right_on_every_cuda_device():
    for device in selftest.devices(""):
        assert device.type == "cuda"
        for model, clip_length in (("r2plus1d_34", 8), ("r2plus1d_34", 32), ("r3d_18", 8)):
            for shape in distinct_shapes(model, 1.0, clip_length, 112):
                assert [found.wrong for found in compare(shape, 8, device)] == [[], []], str(shape)
