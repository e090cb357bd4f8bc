import copy

import pytest
import torch
from torch import Tensor, nn

from pipeline.config import ConfigError
from pretrain.distributed import World
from pretrain.engine import Engine
from pretrain.models import build_model, weights
from pretrain.models.layers import BatchNorm3d, Conv3d
from pretrain.models.padding import pad_channels, strip
from pretrain.sgd import FlatSgd


def pair() -> tuple[nn.Module, nn.Module]:
    """A network in fp64 with nothing at its default, and a padded copy."""
    torch.manual_seed(0)
    plain = build_model("r2plus1d_10", 3, width=0.1).double()
    with torch.no_grad():
        for tensor_name, tensor in plain.state_dict().items():
            if tensor.dim() == 1:
                tensor.uniform_(0.5, 1.5) if "bias" not in tensor_name else tensor.normal_()
    padded = copy.deepcopy(plain)
    pad_channels(padded)
    return plain, padded


def batches(num: int = 2) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(2, 3, 2, 24, 24, dtype=torch.float64), torch.tensor([0, 2])) for _ in range(num)]


def engine_of(model: nn.Module) -> Engine:
    """The engine in fp64: its flat buffers follow the default type."""
    torch.set_default_dtype(torch.float64)
    try:
        return Engine(model, World(), momentum=0.9, weight_decay=0.01)
    finally:
        torch.set_default_dtype(torch.float32)


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=1e-10, msg=name)


def test_a_padded_network_trains_like_the_plain_one_and_what_was_added_stays_zero():
    plain, padded = (engine_of(model) for model in pair())
    for rate in (0.05, 0.02, 0.1):
        expected = plain.step(batches(), 2, rate)
        assert padded.step(batches(), 2, rate).gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-9)
    assert_close(padded.model.state_dict(), plain.model.state_dict())  # running statistics included
    assert_close(padded.optimizer_tensors(), plain.optimizer_tensors())
    assert padded.sgd.values.numel() > plain.sgd.values.numel()
    for flat, plain_flat in ((padded.sgd.values, plain.sgd.values), (padded.sgd.momenta, plain.sgd.momenta)):
        assert torch.count_nonzero(flat) == torch.count_nonzero(plain_flat)
    plain.model.eval(), padded.model.eval()
    torch.testing.assert_close(padded.model(batches()[0][0]), plain.model(batches()[0][0]), rtol=1e-9, atol=1e-10)


def test_widths_between_convolutions_become_multiples_of_8_and_stored_shapes_stay():
    model = build_model("r2plus1d_18", 400)
    before = {name: tensor.shape for name, tensor in model.state_dict().items()}
    pad_channels(model)
    widths = {module.in_channels for module in model.modules() if isinstance(module, Conv3d)}
    widths |= {module.out_channels for module in model.modules() if isinstance(module, Conv3d)}
    assert {48, 232, 464, 928} < widths
    assert widths - {4} == {width for width in widths if width % 8 == 0}
    assert {module.num_features % 8 for module in model.modules() if isinstance(module, BatchNorm3d)} == {0}
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == before


def test_training_goes_on_from_the_other_kind_of_network():
    once = [engine_of(model) for model in pair()]
    for engine in once:
        engine.step(batches(), 2, 0.05)
    saved = [copy.deepcopy((engine.model.state_dict(), engine.optimizer_tensors())) for engine in once]
    again = [engine_of(model) for model in pair()]
    for engine, (model_tensors, optimizer_tensors) in zip(again, reversed(saved), strict=True):
        engine.load(model_tensors, optimizer_tensors)
    for engine in (*once, *again):
        engine.step(batches(), 2, 0.05)
    for engine in again:
        assert_close(engine.model.state_dict(), once[0].model.state_dict())
        assert_close(engine.optimizer_tensors(), once[0].optimizer_tensors())


def test_weights_are_exported_from_a_padded_network_and_still_read_strictly(tmp_path):
    plain, padded = pair()
    weights.export(padded, tmp_path / "padded.safetensors")
    tensors = weights.load(tmp_path / "padded.safetensors")
    assert_close(tensors, plain.state_dict())
    weights.fill(padded, tensors)
    narrow = {name: tensor[:1] if tensor.dim() == 5 else tensor for name, tensor in tensors.items()}
    with pytest.raises(ConfigError, match="do not fit the model"):
        weights.fill(padded, narrow)
    with pytest.raises(RuntimeError, match="size mismatch"):
        padded.load_state_dict(narrow)


def test_strip_cuts_gradients_and_leaves_an_unpadded_network_alone():
    plain, padded = pair()
    for model in (plain, padded):
        sgd = FlatSgd(model, 0.9, 0.0)
        whole = sgd.views(torch.arange(sgd.values.numel()).double())
        cut = strip(whole, model)
        assert {name: tensor.shape for name, tensor in cut.items()} == {
            name: tensor.shape for name, tensor in plain.named_parameters()
        }
        for name, tensor in cut.items():
            assert tensor.data_ptr() == whole[name].data_ptr()


def test_a_padded_network_still_refuses_clips_of_another_number_of_colours():
    for model in pair():
        for colours in (1, 4):
            with pytest.raises(RuntimeError, match="channels"):
                model(torch.zeros(1, colours, 2, 24, 24, dtype=torch.float64))
