"""The network that a transfer tested, kept beside its result: what can be explained, exported or used afterwards."""

from __future__ import annotations

import safetensors.torch
from torch import Tensor

from pipeline import storage
from pipeline.config import ConfigError
from pretrain.models import VideoResNet

TRAINS_ALL = ("full_ft",)  # the other protocols change the final layer alone


def path(folder: str, seed: int) -> str:
    """Of the weights, by the seed of the final training."""
    return storage.join(folder, f"model-{seed}.safetensors")


def save(folder: str, seed: int, model: VideoResNet, protocol: str) -> None:
    """Write what the transfer learnt: all weights, or the final layer where the trunk is still that of the start."""
    learnt = {name: tensor for name, tensor in model.state_dict().items() if protocol in TRAINS_ALL or _is_final(name)}
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in learnt.items()}
    storage.write_bytes(path(folder, seed), safetensors.torch.save(content))


def load(folder: str, seed: int, model: VideoResNet) -> VideoResNet:
    """Give `model`, the network that the transfer started from with a final layer of its size, what the transfer learnt.

    Raises: ConfigError where nothing was kept or it is of another network.
    """
    file = path(folder, seed)
    if not storage.exists(file):
        raise ConfigError(f"'{file}' does not exist: run the transfer again with --force, which keeps its network")
    learnt: dict[str, Tensor] = safetensors.torch.load(storage.read_bytes(file))
    try:
        model.load_state_dict(model.state_dict() | learnt)
    except RuntimeError as error:
        reason = str(error).partition("\n")[2].strip() or error
        raise ConfigError(f"'{file}' does not fit the network that the result names: {reason}") from error
    return model.eval()


def _is_final(name: str) -> bool:
    return name.startswith("fc.")
