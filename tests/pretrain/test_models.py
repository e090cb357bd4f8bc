import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pretrain.models import BUILDERS, build_model, count
from pretrain.models import layers as layers_module
from pretrain.models.layers import Conv3d, folded_conv3d
from pretrain.models.resnet import temporal_strides

TABLE_2 = {"r2plus1d_18": (33, 83), "r2plus1d_34": (64, 152), "r2plus1d_101": (86, 176), "r2plus1d_152": (118, 252)}


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build_model(name, 400)


@pytest.mark.parametrize("name", TABLE_2)
def test_sizes_are_those_of_table_2(name):
    params, gmac = count(on_meta(name), 32, 112)
    assert (round(params / 1e6), round(gmac)) == TABLE_2[name]


@pytest.mark.parametrize(("name", "gmac"), [("r2plus1d_34", 199.0), ("r2plus1d_152", 329.1)])
def test_multiply_adds_are_those_of_the_official_model_zoo(name, gmac):
    assert round(count(on_meta(name), 32, 128)[1], 1) == gmac


def test_34_layers_have_the_names_and_shapes_of_the_published_weights():
    shapes = {name: tuple(tensor.shape) for name, tensor in on_meta("r2plus1d_34").state_dict().items()}
    assert len(shapes) == 416
    expected = {
        "stem.0.weight": (45, 3, 1, 7, 7),
        "stem.1.running_var": (45,),
        "stem.3.weight": (64, 45, 3, 1, 1),
        "stem.4.num_batches_tracked": (),
        "layer1.2.conv1.0.0.weight": (144, 64, 1, 3, 3),
        "layer1.2.conv1.0.1.bias": (144,),
        "layer1.2.conv2.0.3.weight": (64, 144, 3, 1, 1),
        "layer2.0.conv1.0.0.weight": (230, 64, 1, 3, 3),
        "layer2.0.conv2.0.0.weight": (288, 128, 1, 3, 3),
        "layer3.0.conv1.0.3.weight": (256, 460, 3, 1, 1),
        "layer4.0.conv1.0.1.weight": (921,),
        "layer4.2.conv2.1.running_mean": (512,),
        "layer4.0.downsample.0.weight": (512, 256, 1, 1, 1),
        "layer4.0.downsample.1.weight": (512,),
        "fc.weight": (400, 512),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    assert not any(name.startswith("layer1.0.downsample") for name in shapes)


def test_bottlenecks_have_the_published_names_and_a_projection_in_every_layer():
    shapes = {name: tuple(tensor.shape) for name, tensor in on_meta("r2plus1d_152").state_dict().items()}
    expected = {
        "layer1.0.conv1.0.weight": (64, 64, 1, 1, 1),
        "layer1.0.conv2.0.0.weight": (144, 64, 1, 3, 3),
        "layer1.0.conv2.0.3.weight": (64, 144, 3, 1, 1),
        "layer1.0.conv2.1.weight": (64,),
        "layer1.0.conv3.0.weight": (256, 64, 1, 1, 1),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1, 1),
        "layer4.2.conv3.1.bias": (2048,),
        "fc.weight": (400, 2048),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    blocks = [name for name in shapes if name.endswith("downsample.0.weight")]
    assert blocks == [f"layer{n}.0.downsample.0.weight" for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("kernel", [(1, 3, 3), (1, 7, 7), (3, 1, 1), (1, 1, 1), (3, 3, 3)])
@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2), (1, 2, 2), (2, 1, 1)])
@pytest.mark.parametrize("memory", [torch.channels_last_3d, torch.contiguous_format])
def test_folded_convolution_equals_conv3d_with_its_gradients(kernel, stride, memory):
    torch.manual_seed(0)
    padding = tuple(size // 2 for size in kernel)
    x = torch.randn(2, 5, 4, 8, 10, dtype=torch.float64).contiguous(memory_format=memory)
    weight = torch.randn(7, 5, *kernel, dtype=torch.float64)
    results = []
    for convolve in (
        lambda x, w: folded_conv3d(x, w, stride, padding),
        lambda x, w: F.conv3d(x, w, None, stride, padding),
    ):
        inputs = (x.clone().requires_grad_(), weight.clone().requires_grad_())
        y = convolve(*inputs)
        seen_by_loss = torch.arange(y.numel(), dtype=torch.float64).reshape(y.shape).cos()
        results.append((y, *torch.autograd.grad((y * seen_by_loss).sum(), inputs)))
    for folded, plain in zip(*results, strict=True):
        torch.testing.assert_close(folded, plain, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["r2plus1d_10", "r3d_10", "r2d_10"])
@pytest.mark.parametrize("clip_length", [2, 8])
def test_whole_networks_equal_ones_made_of_conv3d(name, clip_length, monkeypatch):
    torch.manual_seed(0)
    model = build_model(name, 5, width=0.125).double()
    clips = torch.randn(3, 3, clip_length, 32, 32, dtype=torch.float64)

    def logits_and_gradients():
        model.zero_grad()
        logits = model(clips)
        F.cross_entropy(logits, torch.tensor([0, 1, 2])).backward()
        return [logits.detach(), *[parameter.grad.clone() for parameter in model.parameters()]]

    folded = logits_and_gradients()
    monkeypatch.setattr(layers_module, "folded_conv3d", lambda x, w, stride, pad: F.conv3d(x, w, None, stride, pad))
    for ours, plain in zip(folded, logits_and_gradients(), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("clip_length", [4, 8, 16])
def test_bf16_gradients_of_every_convolution_are_right(clip_length):
    """oneDNN's 3-D bf16 weight gradient is wrong where fewer frames than the kernel's are left; ours must not be."""
    torch.manual_seed(0)
    model = build_model("r2plus1d_10", 5, width=0.25)
    inputs = {}
    convolutions = [module for module in model.modules() if isinstance(module, Conv3d)]
    for module in convolutions:
        module.register_forward_hook(lambda module, given, _: inputs.update({module: given[0].detach()}))
    model(torch.randn(2, 3, clip_length, 32, 32))
    assert min(x.shape[2] for x in inputs.values()) < 3 <= max(module.kernel_size[0] for module in convolutions)
    for module in convolutions:
        gradients = []
        for dtype in (torch.float32, torch.bfloat16):
            x, weight = inputs[module].to(dtype).requires_grad_(), module.weight.detach().to(dtype).requires_grad_()
            y = folded_conv3d(x, weight, module.stride, module.padding)
            weighting = torch.arange(y.numel(), dtype=torch.float32).reshape(y.shape).cos().to(dtype)
            gradients.append(torch.autograd.grad((y * weighting).float().sum(), (x, weight)))
        for exact, rounded in zip(*gradients, strict=True):
            error = (rounded.float() - exact).norm() / exact.norm()
            assert error < 0.02, (module, x.shape)


@pytest.mark.parametrize(
    ("clip_length", "strides"), [(32, (2, 2, 2)), (8, (2, 2, 2)), (7, (2, 2, 1)), (4, (2, 2, 1)), (3, (2, 1, 1))]
)
def test_short_clips_keep_time_in_the_last_layers(clip_length, strides):
    assert temporal_strides(clip_length) == strides
    frames = clip_length
    for stride in strides:
        frames = -(-frames // stride)
    model = build_model("r2plus1d_10", 5, width=0.125).eval()
    for length in (32, clip_length):  # the same network takes clips of any length, in any order
        trunk = model.forward_trunk(torch.zeros(1, 3, length, 32, 32))
    assert trunk.shape == (1, model.num_features, frames, 2, 2)


def test_fully_convolutional_head_equals_the_plain_one_at_112_and_gives_a_grid_at_128():
    torch.manual_seed(0)
    model = build_model("r2plus1d_10", 5, width=0.125).eval()
    clip = torch.randn(1, 3, 4, 112, 112)
    features = model.forward_trunk(clip).mean(dim=(2, 3, 4))
    torch.testing.assert_close(model.forward_grid(clip)[:, :, 0, 0], model.fc(features))
    torch.testing.assert_close(model(clip), model.fc(features))
    grid = model.forward_grid(torch.randn(1, 3, 4, 128, 128))
    assert grid.shape == (1, 5, 2, 2)


def test_width_scales_every_channel_count():
    narrow, full = build_model("r2plus1d_10", 5, width=0.25).state_dict(), on_meta("r2plus1d_10").state_dict()
    assert narrow["stem.0.weight"].shape[0] == 11
    assert narrow["layer4.0.conv2.1.weight"].shape[0] * 4 == full["layer4.0.conv2.1.weight"].shape[0] == 512


def test_initial_weights_follow_the_specification():
    torch.manual_seed(0)
    model = build_model("r2plus1d_10", 400)
    weight = model.layer4[0].conv2[0][0].weight  # 1×3×3, 1152 out: std sqrt(2 / (1152·9))
    assert weight.std().item() == pytest.approx((2 / (1152 * 9)) ** 0.5, rel=0.01)
    assert model.fc.weight.abs().max().item() == pytest.approx((3 / 512) ** 0.5, rel=0.01)
    assert not model.fc.bias.any()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm3d)]
    assert {(module.eps, module.momentum) for module in norms} == {(1e-3, 0.1)}


@pytest.mark.parametrize("name", BUILDERS)
def test_every_builder_builds(name):
    with torch.device("meta"):
        logits = build_model(name, 7, width=0.25)(torch.empty(2, 3, 8, 32, 32))
    assert logits.shape == (2, 7)


def test_unknown_names_raise_and_list_the_choices():
    with pytest.raises(ValueError, match=r"unknown model 'resnet50'.*r2plus1d_34.*r3d_18"):
        build_model("resnet50", 10)
