import pickle

import pytest
import torch

from pipeline.config import ConfigError
from pretrain.models import build_model, weights


def small(num_labels: int = 4):
    torch.manual_seed(num_labels)
    return build_model("r2plus1d_10", num_labels, width=0.125)


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_export_and_load_give_the_same_network(tmp_path):
    model = small()
    weights.export(model, tmp_path / "model.safetensors")
    tensors = weights.load(tmp_path / "model.safetensors")
    other = build_model("r2plus1d_10", weights.num_labels(tensors), width=0.125)
    weights.fill(other, tensors)
    assert equal(other.state_dict(), model.state_dict())


def test_published_pth_files_load_even_without_step_counters(tmp_path):
    model = small(487)
    tensors = {name: t for name, t in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(tensors, tmp_path / "r2plus1d.pth")
    loaded = weights.load(tmp_path / "r2plus1d.pth")
    assert weights.num_labels(loaded) == 487
    other = build_model("r2plus1d_10", 487, width=0.125)
    weights.fill(other, loaded)
    assert equal(other.state_dict(), model.state_dict())


def test_a_pth_file_with_code_in_it_is_refused(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"fc.weight": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(pickle.UnpicklingError):
        weights.load(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


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
