"""Starting from given weights: the trunk, 2-D kernels inflated over time, and clear refusals."""

import dataclasses
import hashlib
import json

import fsspec
import pytest
import torch

from pipeline import artifacts
from pipeline.config import ConfigError, ModelConfig
from pretrain.models import build_model, weights
from pretrain.models.inflation import centered, inflate, repeated
from pretrain.models.start import started
from pretrain.train import train

NARROW = 0.07
KERNELS_OF_10_LAYERS = 9  # the stem, and two in each of four blocks; projections stay 1×1×1


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A 2-D network with weights and statistics unlike fresh ones, and its file."""
    torch.manual_seed(1)
    model = build_model("r2d_10", 5, NARROW)
    for _ in range(3):
        model(torch.randn(8, 3, 1, 32, 32))
    path = tmp_path_factory.mktemp("weights") / "r2d.safetensors"
    weights.export(model, path)
    return model.double().eval(), path


def inflated(images, how: str):
    """The 3-D network made from the 2-D one, in float64."""
    model = build_model("r3d_10", 5, NARROW).double().eval()
    weights.fill(model, inflate(images[0].state_dict(), model, how)[0])
    return model


def still(frames: int, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """A clip of one repeated frame [1, 3, T, H, W], and the frame [1, 3, 1, H, W]."""
    torch.manual_seed(3)
    frame = torch.rand(1, 3, 1, size, size, dtype=torch.float64)
    return frame.expand(-1, -1, frames, -1, -1), frame


def test_both_ways_keep_the_sum_over_time_and_differ_in_where_it_lies():
    kernel = torch.randn(4, 3, 1, 5, 5, dtype=torch.float64)
    for length in (1, 3, 5):
        mean, center = repeated(kernel, length), centered(kernel, length)
        assert mean.shape == center.shape == (4, 3, length, 5, 5)
        torch.testing.assert_close(mean.sum(2), kernel[:, :, 0])
        torch.testing.assert_close(center.sum(2), kernel[:, :, 0])
        torch.testing.assert_close(mean, mean[:, :, :1].expand_as(mean))
        assert torch.equal(center[:, :, length // 2], kernel[:, :, 0])


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 8, 16])
def test_centered_networks_see_a_repeated_frame_as_the_2d_one_sees_the_frame(images, frames):
    clip, frame = still(frames)
    model = inflated(images, "center")
    trunk, trunk_2d = model.forward_trunk(clip), images[0].forward_trunk(frame)
    torch.testing.assert_close(trunk, trunk_2d.expand_as(trunk), rtol=1e-12, atol=1e-12)
    moving = clip + torch.rand(1, 1, frames, 1, 1, dtype=torch.float64)  # each frame is seen for itself
    per_frame = torch.cat([images[0].stem(moving[:, :, t : t + 1]) for t in range(frames)], dim=2)
    torch.testing.assert_close(model.stem(moving), per_frame, rtol=1e-12, atol=1e-12)


def test_averaging_networks_do_so_away_from_the_ends_of_the_clip_only(images):
    clip, frame = still(64)
    model = inflated(images, "mean")
    model.set_time_strides(64)
    images[0].set_time_strides(1)
    x, x_2d = clip, frame
    reach = 0  # frames at each end that have seen the zeros beyond it
    for name, convolutions, stride in [("stem", 1, 1), ("layer1", 2, 1), ("layer2", 2, 2), ("layer3", 2, 2)]:
        x, x_2d = model.get_submodule(name)(x), images[0].get_submodule(name)(x_2d)
        reach = -(-(reach + 1) // stride) + convolutions - 1
        interior = x[:, :, reach:-reach]
        assert interior.shape[2] >= 2
        torch.testing.assert_close(interior, x_2d.expand_as(interior), rtol=1e-10, atol=1e-10)
        for end in (0, -1):
            assert (x[:, :, end] - x_2d[:, :, 0]).abs().max() > 1e-3 * x_2d.abs().max()


@pytest.mark.parametrize("how", ["mean", "center"])
def test_the_trunk_is_taken_and_the_final_layer_is_new(images, how):
    model, origin = started(ModelConfig("r3d_10", NARROW, str(images[1]), how), 5)
    given = images[0].state_dict()
    for name, tensor in model.state_dict().items():
        if name.startswith("fc."):
            continue
        taken = tensor.sum(2, keepdim=True) if tensor.dim() == 5 else tensor
        torch.testing.assert_close(taken, given[name].to(tensor.dtype))
    assert not torch.equal(model.fc.weight, given["fc.weight"].float())  # though the number of labels is the same
    assert f"{KERNELS_OF_10_LAYERS} 2-D kernels inflated ({how}); the final layer is new" in origin.description
    assert origin.digests == {"weights": hashlib.sha256(images[1].read_bytes()).hexdigest()}


def test_the_file_may_be_a_url(images):
    with fsspec.open("memory://first.safetensors", "wb") as file:
        file.write(images[1].read_bytes())
    model, origin = started(ModelConfig("r2d_10", NARROW, "memory://first.safetensors"), 5)
    assert torch.equal(model.stem[0].weight.double(), images[0].stem[0].weight)
    assert origin.digests == {"weights": hashlib.sha256(images[1].read_bytes()).hexdigest()}


def test_equal_networks_are_taken_as_they_are_and_none_means_random(images):
    model, origin = started(ModelConfig("r2d_10", NARROW, str(images[1])), 9)
    assert torch.equal(model.layer4[0].conv2[0].weight.double(), images[0].layer4[0].conv2[0].weight)
    assert model.fc.out_features == 9
    assert "inflated" not in origin.description
    assert started(ModelConfig("r2d_10", NARROW), 9)[1].digests == {}


@pytest.mark.parametrize(
    ("name", "width", "message"),
    [
        ("r2plus1d_10", NARROW, r"r2d.safetensors.*cannot be inflated into R\(2\+1\)D.*choose the r3d model"),
        ("r3d_18", NARROW, r"r2d.safetensors.*'r3d_18'.*missing layer1.1.conv1.0.weight"),
        ("r3d_10", 2 * NARROW, r"stem.0.weight is \[4, 3, 1, 7, 7\], not \[9, 3, 3, 7, 7\]"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(images, name, width, message):
    with pytest.raises(ConfigError, match=message):
        started(ModelConfig(name, width, str(images[1])), 5)


def test_clip_weights_do_not_become_those_of_images(tmp_path):
    weights.export(build_model("r3d_10", 5, NARROW), tmp_path / "r3d.safetensors")
    with pytest.raises(ConfigError, match=r"stem.0.weight is \[4, 3, 3, 7, 7\], not \[4, 3, 1, 7, 7\]"):
        started(ModelConfig("r2d_10", NARROW, str(tmp_path / "r3d.safetensors")), 5)


def test_runs_start_from_the_weights_and_notice_another_file(config, images, tmp_path, capsys):
    path = tmp_path / "first.safetensors"
    path.write_bytes(images[1].read_bytes())
    model = ModelConfig("r3d_10", NARROW, str(path))
    recipe = dataclasses.replace(config.recipe, total_clips=8, lr_per_gpu=0.0, num_decays=0)
    config = dataclasses.replace(config, root=config.root, run="inflated", model=model, recipe=recipe)

    wrong = dataclasses.replace(config, model=dataclasses.replace(model, name="r2plus1d_10"))
    with pytest.raises(ConfigError, match="cannot be inflated"):
        train(wrong)  # before the run's folder is begun: the same name is free
    train(config)
    assert "2-D kernels inflated (mean); the final layer is new" in capsys.readouterr().out
    files = artifacts.run_files(config.root, config.run)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with open(files.marker) as file:
        marker = json.load(file)
    assert marker["input_digests"]["weights"] == digest
    trained = weights.load(f"{files.folder}/{marker['checkpoint']}/model.safetensors")
    given = images[0].stem[0].weight.float()
    torch.testing.assert_close(trained["stem.0.weight"], given.expand(-1, -1, 3, -1, -1) / 3)  # the rate is 0

    weights.export(build_model("r2d_10", 5, NARROW), path)
    with pytest.raises(ConfigError, match=r"input_digests.weights: '" + digest):
        train(config)
