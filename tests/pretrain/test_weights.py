"""Weights at the size of the published files: names, shapes and numbers as published, the same after every round trip."""

import argparse
import pickle
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pipeline.config import ConfigError
from pipeline.storage import StorageError
from pretrain.models import BUILDERS, build_model, files, weights
from pretrain.models.caffe2 import blob_names
from pretrain.models.weights import Network

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
PROJECTIONS = {18: {2, 4, 6}, 34: {3, 7, 13}, 101: {0, 3, 7, 30}, 152: {0, 3, 11, 47}}
MIDDLE = {  # by Cin, Cout
    **{(64, 64): 144, (64, 128): 230, (128, 128): 288, (128, 256): 460},
    **{(256, 256): 576, (256, 512): 921, (512, 512): 1152},
}
NORM = ("weight", "bias", "running_mean", "running_var")

# --------------------------------------------- the published layout, written down from its description, not from the code


def published(depth: int, num_labels: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the `.pth` files of the IG-65M port and of VMZ."""
    shapes = {"stem.0.weight": (45, 3, 1, 7, 7), **norm("stem.1", 45)}
    shapes |= {"stem.3.weight": (64, 45, 3, 1, 1), **norm("stem.4", 64)}
    channels = 64
    for layer, (num_blocks, width) in enumerate(zip(BLOCKS[depth], (64, 128, 256, 512), strict=True), start=1):
        out = width * (4 if depth > 34 else 1)
        for block in range(num_blocks):
            at = f"layer{layer}.{block}"
            if depth > 34:
                shapes |= {f"{at}.conv1.0.weight": (width, channels, 1, 1, 1), **norm(f"{at}.conv1.1", width)}
                shapes |= factorised(f"{at}.conv2", width, width)
                shapes |= {f"{at}.conv3.0.weight": (out, width, 1, 1, 1), **norm(f"{at}.conv3.1", out)}
            else:
                shapes |= {**factorised(f"{at}.conv1", channels, width), **factorised(f"{at}.conv2", width, width)}
            if block == 0 and (layer > 1 or depth > 34):
                shapes |= {f"{at}.downsample.0.weight": (out, channels, 1, 1, 1), **norm(f"{at}.downsample.1", out)}
            channels = out
    return {**shapes, "fc.weight": (num_labels, channels), "fc.bias": (num_labels,)}


def factorised(at: str, channels: int, out: int) -> dict[str, tuple[int, ...]]:
    middle = MIDDLE[channels, out]
    space = {f"{at}.0.0.weight": (middle, channels, 1, 3, 3), **norm(f"{at}.0.1", middle)}
    return {**space, f"{at}.0.3.weight": (out, middle, 3, 1, 1), **norm(f"{at}.1", out)}


def norm(at: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {**{f"{at}.{kind}": (channels,) for kind in NORM}, f"{at}.num_batches_tracked": ()}


def blobs_of(depth: int, num_labels: int) -> set[str]:
    """Names in the official Caffe2 pickles."""

    def spatbn(at: str) -> Iterator[str]:
        return (f"{at}_{suffix}" for suffix in ("s", "b", "rm", "riv"))

    names = {"conv1_middle_w", "conv1_w", f"last_out_L{num_labels}_w", f"last_out_L{num_labels}_b"}
    names |= {*spatbn("conv1_middle_spatbn_relu"), *spatbn("conv1_spatbn_relu")}
    for c in range(sum(BLOCKS[depth])):
        for j in (1, 2) if depth <= 34 else (1, 2, 3):
            names |= {f"comp_{c}_conv_{j}_w", *spatbn(f"comp_{c}_spatbn_{j}")}
            if depth <= 34 or j == 2:
                names |= {f"comp_{c}_conv_{j}_middle_w", *spatbn(f"comp_{c}_spatbn_{j}_middle")}
        if c in PROJECTIONS[depth]:
            names |= {f"shortcut_projection_{c}_w", *spatbn(f"shortcut_projection_{c}_spatbn")}
    return names


def shaped(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Tensors without numbers."""
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def published_34() -> dict[str, torch.Tensor]:
    """A random state_dict of the published 34-layer network with 359 labels, zeros of both signs in it."""
    torch.manual_seed(0)
    tensors = {
        name: torch.tensor(7) if name.endswith("num_batches_tracked") else torch.empty(shape).uniform_(-1, 1)
        for name, shape in published(34, 359).items()
    }
    tensors["fc.weight"][0, :2] = torch.tensor([0.0, -0.0])
    return tensors


def assert_same(found: dict, expected: dict, but_counters: bool = False) -> None:
    """Equal names, dtypes and bits."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        if but_counters and name.endswith("num_batches_tracked"):
            tensor = torch.tensor(0)
        assert found[name].dtype == tensor.dtype
        as_bits = (t.view(torch.int32) if t.is_floating_point() else t for t in (found[name], tensor))
        assert torch.equal(*as_bits), name


# ------------------------------------------------------------------------------------------------ every format, full size


def test_the_published_file_has_416_tensors():
    assert len(published(34, 359)) == 416


@pytest.mark.parametrize("depth", BLOCKS)
def test_networks_have_the_names_and_shapes_of_the_published_files(depth):
    with torch.device("meta"):
        model = build_model(f"r2plus1d_{depth}", 487)
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == published(depth, 487)
    assert weights.describe(shaped(published(depth, 487))) == Network(f"r2plus1d_{depth}", 487, 1.0)


@pytest.mark.parametrize("depth", BLOCKS)
def test_blobs_have_the_names_of_the_official_files(depth):
    names = blob_names(Network(f"r2plus1d_{depth}", 400))
    assert set(names.values()) == blobs_of(depth, 400)
    assert len(set(names.values())) == len(names)
    first_of_layer_3 = sum(BLOCKS[depth][:2])
    expected = {
        "stem.0.weight": "conv1_middle_w",
        "stem.4.running_var": "conv1_spatbn_relu_riv",
        "layer1.1.conv2.0.0.weight": "comp_1_conv_2_middle_w",
        "layer3.0.conv2.0.1.running_mean": f"comp_{first_of_layer_3}_spatbn_2_middle_rm",
        "layer3.1.conv2.0.3.weight": f"comp_{first_of_layer_3 + 1}_conv_2_w",
        "layer3.1.conv2.1.weight": f"comp_{first_of_layer_3 + 1}_spatbn_2_s",
        "layer3.0.downsample.0.weight": f"shortcut_projection_{first_of_layer_3}_w",
        "layer3.0.downsample.1.bias": f"shortcut_projection_{first_of_layer_3}_spatbn_b",
        "fc.bias": "last_out_L400_b",
    }
    if depth > 34:
        expected |= {"layer2.0.conv3.0.weight": "comp_3_conv_3_w", "layer1.0.conv1.1.bias": "comp_0_spatbn_1_b"}
    assert {name: names[name] for name in expected} == expected


@pytest.mark.parametrize("format", ["safetensors", "ig65m", "caffe2"])
def test_weights_of_full_size_keep_every_bit_in_every_format(published_34, tmp_path, format):
    path = tmp_path / "weights"  # without a suffix: the content says what it is
    assert weights.export(published_34, path, format) == Network("r2plus1d_34", 359)
    loaded = weights.load(path)
    assert_same(loaded, published_34, but_counters=format == "caffe2")
    assert weights.describe(loaded) == Network("r2plus1d_34", 359)
    if format == "ig65m":  # what the port itself does with its files
        assert_same(torch.load(path, weights_only=True), published_34)
    if format == "caffe2":
        assert_same(weights.import_caffe2(path), loaded)
        blobs = pickle.loads(path.read_bytes(), encoding="latin1")["blobs"]
        assert blobs.keys() == blobs_of(34, 359)
        np.testing.assert_array_equal(blobs["comp_9_conv_1_middle_w"], published_34["layer3.2.conv1.0.0.weight"])
        np.testing.assert_array_equal(blobs["last_out_L359_w"], published_34["fc.weight"])


# ---------------------------------------------------------------------------------------- wrappings, identity, misfits


def small(num_labels: int = 4, name: str = "r2plus1d_10", width: float = 0.125):
    torch.manual_seed(num_labels)
    return build_model(name, num_labels, width)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda tensors: {"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}, "epoch": 3},
        lambda tensors: {"model": tensors, "optimizer": {"state": {}}, "args": argparse.Namespace(lr=0.1), "epoch": 44},
        lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()},
        lambda tensors: {f"module._orig_mod.{name}": tensor for name, tensor in tensors.items()},
        lambda tensors: {name: tensor for name, tensor in tensors.items() if "num_batches" not in name},
    ],
    ids=["trainer", "VMZ's trainer", "several processes", "compiled", "without step counters"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_wrapped_and_old_pth_files_load(wrapped, zipped, tmp_path):
    model = small(487)
    torch.save(wrapped(model.state_dict()), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert_same(weights.load(tmp_path / "w.pth"), model.state_dict())


@pytest.mark.parametrize(
    ("name", "width"),
    [
        *((name, 1.0) for name in BUILDERS),
        *(("r2plus1d_10", width) for width in (0.02, 0.125, 0.3, 1.5)),
        *((name, 0.5) for name in ("r2plus1d_101", "r3d_10", "r2d_10", "torchvision_r2plus1d_18")),
    ],
)
def test_every_network_is_recognised_with_its_labels_and_width(name, width):
    with torch.device("meta"):
        tensors = build_model(name, 11, width).state_dict()
    assert weights.describe(tensors) == Network(name, 11, pytest.approx(width, rel=0.03))


@pytest.mark.parametrize(("name", "format"), [("r3d_18", "caffe2"), ("r2d_10", "caffe2"), ("r3d_10", "safetensors")])
def test_plain_networks_keep_every_bit_too(name, format, tmp_path):
    model = small(5, name)
    weights.export(model, tmp_path / "w", format)
    assert_same(weights.load(tmp_path / "w"), model.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer2.0.conv1.0.0.weight": (231, 64, 1, 3, 3)}, r"do not fit r2plus1d_34 in 1 tensors: layer2.0.conv1.0.0"),
        ({"layer4.2.conv2.0.3.weight": None, "x": (2,)}, r"2 tensors: missing layer4.2.conv2.0.3.weight.*unknown x"),
        ({"fc.bias": (360,)}, r"fc.bias is \[360\], not \[359\]"),
        ({"fc.weight": None}, r"no final layer"),
        ({"layer1.3.conv1.0.0.weight": (144, 64, 1, 3, 3)}, r"\(4, 4, 6, 3\) blocks"),
        ({"stem.0.weight": None}, r"no stem.0.weight.*begin with stem.1.weight"),
        ({"stem.0.weight": (64, 3, 7, 7)}, r"five dimensions"),
    ],
)
def test_weights_of_no_network_are_refused_and_say_why(change, message):
    shapes = {name: shape for name, shape in (published(34, 359) | change).items() if shape is not None}
    with pytest.raises(ConfigError, match=message):
        weights.describe(shaped(shapes))


def test_misfits_are_named():
    tensors = small().state_dict()
    del tensors["stem.3.weight"]
    tensors["stem.9.weight"] = torch.zeros(2)
    with pytest.raises(
        ConfigError, match=r"in 3 tensors.*missing stem.3.weight.*unknown stem.9.*fc.weight is \[4, 64\]"
    ) as e:
        weights.fill(small(5), tensors | {"fc.bias": torch.zeros(5)})
    assert "fc.bias" not in str(e.value)


def test_trunk_only_keeps_the_models_own_final_layer():
    source, model = small(4), small(9)
    final = model.fc.weight.clone()
    weights.fill(model, source.state_dict(), trunk_only=True)
    assert torch.equal(model.fc.weight, final)
    assert torch.equal(model.stem[0].weight, source.stem[0].weight)


def test_build_gives_the_files_network_with_its_final_layer_or_another(tmp_path):
    model = small(4)
    weights.export(model, tmp_path / "w")
    assert_same(weights.build(tmp_path / "w").state_dict(), model.state_dict())
    other = weights.build(tmp_path / "w", "r2plus1d_10", num_labels=9)
    assert other.fc.out_features == 9
    assert torch.equal(other.layer4[0].conv2[0][0].weight, model.layer4[0].conv2[0][0].weight)
    with pytest.raises(ConfigError, match="holds weights of r2plus1d_10, not of r2plus1d_34"):
        weights.build(tmp_path / "w", "r2plus1d_34")


# ------------------------------------------------------------------------------------------------- what is refused


def test_a_pth_file_with_code_in_it_is_refused(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    for zipped in (True, False):
        torch.save({"fc.weight": Payload()}, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(ConfigError, match=r"evil.pth' .*it asks for (_?io|builtins)\.open"):
            weights.load(tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"blobs": {"w": Payload()}}, 2))
    with pytest.raises(ConfigError, match=r"evil.pkl' .*asks for (_?io|__builtin__)\.open"):
        weights.load(tmp_path / "evil.pkl")
    assert not (tmp_path / "ran").exists()


def test_files_of_other_kinds_and_damaged_ones_are_refused_by_name(tmp_path):
    model = small()
    for format in ("safetensors", "ig65m", "caffe2"):
        weights.export(model, tmp_path / "whole", format)
        whole = (tmp_path / "whole").read_bytes()
        for size in (0, 4, 9, 100, len(whole) // 2, len(whole) - 1):
            (tmp_path / "cut").write_bytes(whole[:size])
            with pytest.raises(ConfigError, match="cut' cannot be read as weights"):
                weights.load(tmp_path / "cut")
    for content in (b"version https://git-lfs.github.com/spec/v1\n", b"<!DOCTYPE html>", pickle.dumps([1, 2])):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(ConfigError, match="other' cannot be read as weights"):
            weights.load(tmp_path / "other")
    torch.save({"fc.weight": 3}, tmp_path / "numbers.pth")
    with pytest.raises(ConfigError, match="not a state_dict"):
        weights.load(tmp_path / "numbers.pth")
    with pytest.raises(StorageError, match="absent"):
        weights.load(tmp_path / "absent")


def test_a_caffe2_file_with_other_blobs_names_them(tmp_path):
    weights.export(small(), tmp_path / "w.pkl", "caffe2")
    blobs = pickle.loads((tmp_path / "w.pkl").read_bytes(), encoding="latin1")["blobs"]
    blobs["comp_1_conv_7_w"] = blobs.pop("comp_1_conv_1_w")
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"blobs": blobs}, 4))
    with pytest.raises(ConfigError, match=r"2 tensors: missing comp_1_conv_1_w; unknown comp_1_conv_7_w"):
        weights.import_caffe2(tmp_path / "w.pkl")
    weights.export(small(), tmp_path / "w.pth", "ig65m")
    with pytest.raises(ConfigError, match="of no known form"):
        weights.import_caffe2(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("r3d_10", "ig65m", "not for r3d_10; these are: safetensors, caffe2"),
        ("r2plus1d_10", "torchvision", "not for r2plus1d_10; these are: safetensors, ig65m, caffe2"),
        ("torchvision_r2plus1d_18", "ig65m", "these are: safetensors, torchvision"),
        ("r2plus1d_10", "onnx", "unknown format 'onnx'; choices: safetensors, ig65m, caffe2, torchvision"),
    ],
)
def test_formats_are_for_their_own_networks(name, format, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        weights.export(small(4, name), tmp_path / "w", format)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["safetensors", "ig65m", "caffe2"])
def test_a_write_that_fails_leaves_what_was_there(format, tmp_path, monkeypatch):
    path = tmp_path / "w"
    path.write_bytes(b"before")
    write = files.write

    def cut_off(file, *arguments):
        write(file, *arguments)
        raise OSError("No space left on device")

    monkeypatch.setattr(files, "write", cut_off)
    with pytest.raises(StorageError, match="No space left"):
        weights.export(small(), path, format)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("w", b"before")]


# --------------------------------------------------------------------------------------------- torchvision's network


@pytest.fixture(scope="module")
def torchvisions():
    """torchvision's network with random weights and statistics, its variances small enough for eps to count."""
    video = pytest.importorskip("torchvision").models.video
    torch.manual_seed(1)
    model = video.r2plus1d_18(weights=None, num_classes=6)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(1e-4, 1e-2)
        elif tensor.dim() == 1:
            tensor.normal_(0, 0.1)
    return model.eval()


@pytest.fixture(scope="module")
def torchvisions_file(torchvisions, tmp_path_factory):
    """Its weights as torchvision publishes them."""
    path = tmp_path_factory.mktemp("torchvision") / "r2plus1d_18.pth"
    torch.save(torchvisions.state_dict(), path)
    return path


def test_torchvisions_weights_give_torchvisions_scores(torchvisions, torchvisions_file):
    """At the size it is made for, with fewer frames than are halved, and with a map larger than 7 × 7."""
    model = weights.build(torchvisions_file, "torchvision_r2plus1d_18").eval()
    for size in ((2, 112, 112), (1, 32, 32), (3, 32, 144)):
        clips = torch.randn(1, 3, *size)
        with torch.no_grad():
            ours, theirs = model(clips), torchvisions(clips)
        assert theirs.std() > 0.1  # scores that say something
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def test_torchvisions_weights_go_back_to_torchvision(torchvisions, torchvisions_file, tmp_path):
    tensors = weights.load(torchvisions_file)
    assert weights.describe(tensors) == Network("torchvision_r2plus1d_18", 6)
    weights.export(tensors, tmp_path / "w.pth", "torchvision")
    assert_same(torch.load(tmp_path / "w.pth", weights_only=True), torchvisions.state_dict())


def test_torchvisions_weights_do_not_fit_the_papers_network(torchvisions):
    with torch.device("meta"):
        model = build_model("r2plus1d_18", 6)
    with pytest.raises(ConfigError, match=r"layer2.0.conv2.0.0.weight is \[230, 128, 1, 3, 3\], not \[288"):
        weights.fill(model, torchvisions.state_dict())


def test_torchvisions_r3d_has_our_names_and_shapes():
    video = pytest.importorskip("torchvision").models.video
    with torch.device("meta"):
        model = video.r3d_18(weights=None)
    assert weights.describe(model.state_dict()) == Network("r3d_18", 400)
