"""Reading and writing a network's weights: our safetensors, and the published IG-65M port's `.pth`. Always strict."""

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from pipeline.config import ConfigError

COUNTER = "num_batches_tracked"  # batch norm's step counter; some published files do not have it


def load(path: str | Path) -> dict[str, Tensor]:
    """Tensors by parameter name, of a `.safetensors` file or of a `.pth` `state_dict` (read without running pickles)."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"weights '{path}' do not exist")
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ConfigError(f"'{path}' is not a state_dict: names to tensors were expected")
    return tensors


def num_labels(tensors: dict[str, Tensor]) -> int:
    """K, the size of the final layer that the weights were trained with."""
    if "fc.weight" not in tensors:
        raise ConfigError("the weights have no final layer (fc.weight)")
    return tensors["fc.weight"].shape[0]


def fill(model: nn.Module, tensors: dict[str, Tensor], trunk_only: bool = False) -> None:
    """Give the model these weights; with `trunk_only` the model keeps its own final layer.

    Raises:
        ConfigError: a tensor is missing, unknown or of another shape; the message names the first few.
    """
    own = model.state_dict()
    given = {name: tensor for name, tensor in tensors.items() if not (trunk_only and name.startswith("fc."))}
    kept = {name: tensor for name, tensor in own.items() if trunk_only and name.startswith("fc.")}
    kept |= {name: tensor for name, tensor in own.items() if name.endswith(COUNTER) and name not in given}
    given |= kept
    wrong = [f"missing {name} {list(own[name].shape)}" for name in own if name not in given]
    wrong += [f"unknown {name} {list(given[name].shape)}" for name in given if name not in own]
    wrong += [
        f"{name} is {list(given[name].shape)}, the model has {list(own[name].shape)}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    if wrong:
        raise ConfigError(f"weights do not fit the model in {len(wrong)} tensors: " + "; ".join(wrong[:5]))
    model.load_state_dict(given)


def export(model: nn.Module, path: str | Path) -> None:
    """Write all weights as safetensors, under the names of the IG-65M port."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(tensors, path)
