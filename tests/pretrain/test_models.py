"""The networks are those of the paper and of the published weights: names, shapes, sizes, strides, constants."""

import math

import pytest
import torch
import torchvision.models.video.resnet as peers
from torch import nn

from pretrain.models import BUILDERS, build_model, count
from pretrain.models.counts import shapes_only, trace
from pretrain.models.layers import Conv2Plus1d, Conv3d
from pretrain.models.r2plus1d import stem_2plus1d
from pretrain.models.resnet import Bottleneck, VideoResNet

TABLE_2 = {"r2plus1d_18": (33, 83), "r2plus1d_34": (64, 152), "r2plus1d_101": (86, 176), "r2plus1d_152": (118, 252)}
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
MIDDLE = {  # of the (2+1)D convolution from … to … channels
    **{(64, 64): 144, (64, 128): 230, (128, 128): 288, (128, 256): 460},
    **{(256, 256): 576, (256, 512): 921, (512, 512): 1152},
}


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in without_values(name).state_dict().items()}


def without_values(name: str, num_labels: int = 400) -> VideoResNet:
    with shapes_only():
        return build_model(name, num_labels)


# ------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("name", TABLE_2)
def test_sizes_are_those_of_table_2(name):
    params, gmac = count(without_values(name), 32, 112)
    assert (round(params / 1e6), round(gmac)) == TABLE_2[name]


@pytest.mark.parametrize(("name", "gmac"), [("r2plus1d_34", 199.0), ("r2plus1d_152", 329.1)])
def test_multiply_adds_are_those_of_the_official_model_zoo(name, gmac):
    assert round(count(without_values(name), 32, 128)[1], 1) == gmac


def test_r3d_18_has_the_size_of_the_peers_model_card():
    card = peers.R3D_18_Weights.KINETICS400_V1.meta
    params, gmac = count(without_values("r3d_18"), 16, 112)
    assert (params, round(gmac, 1)) == (card["num_params"], round(card["_ops"], 1))


@pytest.mark.parametrize(
    ("name", "clip_length"), [*((name, 3) for name in BUILDERS), *(("r2plus1d_10", length) for length in (1, 8, 20))]
)
def test_traced_sizes_are_those_that_networks_put_out(name, clip_length):
    model, seen = build_model(name, 7, width=0.05).eval(), {}
    for part in ("stem", "layer1", "layer2", "layer3", "layer4"):
        model.get_submodule(part).register_forward_hook(lambda _, given, out, part=part: seen.update({part: out.shape}))
    with torch.no_grad():
        assert model(torch.zeros(2, 3, clip_length, 45, 45)).shape == (2, 7)
    sizes = {part: (shape[2], shape[3], shape[4]) for part, shape in seen.items()}
    assert {part.name: part.after for part in trace(model, clip_length, 45)} == sizes


# ------------------------------------------------------------------------------------- names, shapes and strides


def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    names = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{part}": (channels,) for part in names}, f"{name}.num_batches_tracked": ()}


def split(name: str, before: int, after: int) -> dict[str, tuple[int, ...]]:
    """A (2+1)D convolution."""
    middle = MIDDLE[before, after]
    return {
        f"{name}.0.weight": (middle, before, 1, 3, 3),
        **norm(f"{name}.1", middle),
        f"{name}.3.weight": (after, middle, 3, 1, 1),
    }


def published(depth: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes as the published weights have them, written from their description alone."""
    expected = {"stem.0.weight": (45, 3, 1, 7, 7), **norm("stem.1", 45)}
    expected |= {"stem.3.weight": (64, 45, 3, 1, 1), **norm("stem.4", 64)}
    before = 64
    for layer, (num_blocks, inner) in enumerate(zip(BLOCKS[depth], (64, 128, 256, 512), strict=True), start=1):
        for number in range(num_blocks):
            block = f"layer{layer}.{number}"
            after = 4 * inner if depth > 34 else inner
            if depth > 34:
                expected |= {f"{block}.conv1.0.weight": (inner, before, 1, 1, 1), **norm(f"{block}.conv1.1", inner)}
                expected |= split(f"{block}.conv2.0", inner, inner) | norm(f"{block}.conv2.1", inner)
                expected |= {f"{block}.conv3.0.weight": (after, inner, 1, 1, 1), **norm(f"{block}.conv3.1", after)}
            else:
                expected |= split(f"{block}.conv1.0", before, after) | norm(f"{block}.conv1.1", after)
                expected |= split(f"{block}.conv2.0", after, after) | norm(f"{block}.conv2.1", after)
            if number == 0 and before != after:
                projection = f"{block}.downsample"
                expected |= {f"{projection}.0.weight": (after, before, 1, 1, 1), **norm(f"{projection}.1", after)}
            before = after
    return expected | {"fc.weight": (400, before), "fc.bias": (400,)}


@pytest.mark.parametrize("depth", BLOCKS)
def test_names_and_shapes_are_those_of_the_published_weights(depth):
    assert shapes_of(f"r2plus1d_{depth}") == published(depth)


def test_34_layers_have_416_tensors():
    assert len(shapes_of("r2plus1d_34")) == 416


@pytest.mark.parametrize(
    ("clip_length", "strides"),
    [(32, (2, 2, 2)), (8, (2, 2, 2)), (7, (2, 2, 1)), (4, (2, 2, 1)), (3, (2, 1, 1)), (1, (2, 1, 1))],
)
@pytest.mark.parametrize("depth", [18, 101])
def test_strides_are_in_the_first_blocks_and_short_clips_keep_their_time(depth, clip_length, strides):
    model = without_values(f"r2plus1d_{depth}")
    trace(model, 32 if clip_length < 8 else 1, 112)  # whatever was set before
    model.set_time_strides(clip_length)
    found = {name: module.stride for name, module in model.named_modules() if isinstance(module, Conv3d)}
    strided = {name: stride for name, stride in found.items() if stride != (1, 1, 1)}
    carrier = "conv2.0" if depth > 34 else "conv1.0"
    expected = {"stem.0": (1, 2, 2)}
    for layer, time in zip((2, 3, 4), strides, strict=True):
        expected[f"layer{layer}.0.{carrier}.0"] = (1, 2, 2)
        expected[f"layer{layer}.0.{carrier}.3"] = (time, 1, 1)
        expected[f"layer{layer}.0.downsample.0"] = (time, 2, 2)
    assert strided == {name: stride for name, stride in expected.items() if stride != (1, 1, 1)}


# ------------------------------------------------------------------------------------- what they compute


def with_paper_constants(peer: nn.Module) -> nn.Module:
    for module in peer.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps, module.momentum = 1e-3, 0.1
    return peer


def own_middle(peer: nn.Module) -> nn.Module:
    """The peer takes one middle width per block; the published weights have one per convolution."""
    for parent in list(peer.modules()):
        for name, split in list(parent.named_children()):
            if isinstance(split, peers.Conv2Plus1D):
                before, after, stride = split[0].in_channels, split[3].out_channels, split[0].stride[1]
                setattr(parent, name, peers.Conv2Plus1D(before, after, MIDDLE[before, after], stride))
    return peer


def assert_same_network(model: VideoResNet, peer: nn.Module) -> None:
    """Given the same weights, the same logits and running statistics; the names must agree too."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with_paper_constants(peer).load_state_dict(state, strict=True, assign=True)
    clips = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(clips), peer(clips), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(model.state_dict(), peer.state_dict(), rtol=1e-3, atol=1e-4)


def peer_of(block: type[nn.Module], conv: type[nn.Module], stem: type[nn.Module], blocks: list[int]) -> nn.Module:
    with shapes_only():
        return own_middle(peers.VideoResNet(block, [conv] * 4, blocks, stem, num_classes=5))


def test_r3d_computes_what_the_peers_does():
    torch.manual_seed(0)
    peer = peer_of(peers.BasicBlock, peers.Conv3DSimple, peers.BasicStem, [1, 1, 1, 1])
    assert_same_network(build_model("r3d_10", 5), peer)


def test_r2plus1d_computes_what_the_peers_does_with_the_published_widths():
    torch.manual_seed(0)
    peer = peer_of(peers.BasicBlock, peers.Conv2Plus1D, peers.R2Plus1dStem, [2, 2, 2, 2])
    assert_same_network(build_model("r2plus1d_18", 5), peer)


def test_bottlenecks_compute_what_the_peers_do():
    torch.manual_seed(0)
    blocks = (1, 2, 1, 1)
    model = VideoResNet(stem_2plus1d(45, 64), 64, Conv2Plus1d, Bottleneck, blocks, (64, 128, 256, 512), 5)
    assert_same_network(model, peer_of(peers.Bottleneck, peers.Conv2Plus1D, peers.R2Plus1dStem, list(blocks)))


def test_fully_convolutional_head_equals_the_plain_one_at_112_and_gives_a_grid_at_128():
    torch.manual_seed(0)
    model = build_model("r2plus1d_10", 5, width=0.125).eval()
    clip = torch.randn(1, 3, 4, 112, 112)
    features = model.forward_trunk(clip).mean(dim=(2, 3, 4))
    torch.testing.assert_close(model.forward_grid(clip)[:, :, 0, 0], model.fc(features))
    torch.testing.assert_close(model(clip), model.fc(features))
    large = torch.randn(1, 3, 4, 128, 128)
    grid, trunk = model.forward_grid(large), model.forward_trunk(large)
    assert (trunk.shape[3:], grid.shape) == ((8, 8), (1, 5, 2, 2))
    window = trunk[:, :, :, 1:8, 0:7].mean(dim=(2, 3, 4))  # 7×7, moved by one position
    torch.testing.assert_close(grid[:, :, 1, 0], model.fc(window))


def test_width_scales_every_channel_count():
    with shapes_only():
        narrow, full = build_model("r2plus1d_10", 5, 0.25).state_dict(), build_model("r2plus1d_10", 5).state_dict()
    assert narrow["stem.0.weight"].shape[0] == 11
    assert narrow["layer4.0.conv2.1.weight"].shape[0] * 4 == full["layer4.0.conv2.1.weight"].shape[0] == 512


@pytest.mark.parametrize("name", ["r2plus1d_10", "r3d_10", "r2d_10"])
def test_initial_values_follow_the_specification(name):
    torch.manual_seed(0)
    model = build_model(name, 400)
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            assert module.bias is None
            std = math.sqrt(2 / (module.out_channels * math.prod(module.kernel_size)))
            error = 4 / math.sqrt(2 * module.weight.numel())  # four standard errors of a standard deviation
            assert module.weight.std().item() == pytest.approx(std, rel=error)
        elif isinstance(module, nn.BatchNorm3d):
            assert (module.eps, module.momentum) == (1e-3, 0.1)
            assert bool((module.weight == 1).all())
            assert not module.bias.any()
    bound = math.sqrt(3 / 512)
    assert 0.999 * bound < model.fc.weight.abs().max().item() <= bound
    assert model.fc.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)  # uniform
    assert not model.fc.bias.any()


def test_unknown_names_raise_and_list_the_choices():
    with pytest.raises(ValueError, match=r"unknown model 'resnet50'.*r2plus1d_34.*r3d_18"):
        build_model("resnet50", 10)
