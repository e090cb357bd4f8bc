"""The bytes of a file of weights ↔ tensors by name, in each published format. Nothing in a file is ever run.

| format        | a file is                                                          | of                        |
|---------------|--------------------------------------------------------------------|---------------------------|
| `safetensors` | ours; its header can hold a model card                             | every network             |
| `ig65m`       | a `.pth` of the IG-65M port, and of VMZ's PyTorch code             | R(2+1)D                   |
| `caffe2`      | a `.pkl` of VMZ's Caffe2 code                                      | R(2+1)D, R3D, R2D         |
| `torchvision` | a `.pth` of torchvision's R(2+1)D-18, which is a different network | `torchvision_r2plus1d_18` |

The two kinds of `.pth` differ in shapes only. Which form a file has is told from its content, whatever its name.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import re
from collections.abc import Mapping
from typing import Any, BinaryIO, Literal, get_args

import safetensors.torch
import torch
from torch import Tensor

from pipeline.config import ConfigError
from pretrain.models import caffe2
from pretrain.models.identify import Network

Format = Literal["safetensors", "ig65m", "caffe2", "torchvision"]
FAMILIES = {"ig65m": ("r2plus1d_",), "caffe2": ("r2plus1d_", "r3d_", "r2d_"), "torchvision": ("torchvision_",)}

TORCH = (b"PK\x03\x04", pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2))  # how its files begin: new, legacy
PICKLE = (pickle.PROTO, pickle.EMPTY_DICT, b"(d")  # protocols 0 and 1 have no mark of their own: a dictionary
WRAPPERS = ("state_dict", "model", "model_state_dict")  # keys under which trainers put the weights
PREFIXES = ("module.", "_orig_mod.")  # of a network wrapped for several processes, or compiled
CARD = "tagreel"  # key of the model card in the header of a safetensors file


def parse(data: bytes) -> dict[str, Tensor]:
    """Tensors by name, wrappings taken off.

    Raises: ConfigError where the file is of no known form or holds more than tensors; whatever the library of its
    format raises where it is damaged.
    """
    if header(data) is not None:
        return safetensors.torch.load(data)
    if data.startswith(TORCH):
        return _state_dict(data)
    return parse_caffe2(data)


def parse_caffe2(data: bytes) -> dict[str, Tensor]:
    """As `parse`, of a Caffe2 pickle and of nothing else."""
    if data.startswith(TORCH) or not data.startswith(PICKLE):
        raise ConfigError(f"it is of no known form, it begins with {data[:16]!r}")
    return caffe2.read(data)


def header(data: bytes) -> dict[str, Any] | None:
    """The header of a safetensors file, whose beginning at least is given; None for a file of another form."""
    size = int.from_bytes(data[:8], "little")
    if data[8:9] != b"{" or len(data) < 8 + size:
        return None
    return json.loads(data[8 : 8 + size])


def _state_dict(data: bytes) -> dict[str, Tensor]:
    """What `torch.save` wrote; the options that VMZ's trainer stores beside the weights are let pass."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its message tells how to run the file
        asked = re.search(r"GLOBAL (\S+)", str(error))
        raise ConfigError(f"it holds more than tensors{f', it asks for {asked[1]}' if asked else ''}") from error
    tensors = _unwrapped(content)
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ConfigError("it is not a state_dict: names to tensors were expected")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return dict(tensors)


def _unwrapped(content: Any) -> Any:
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            return content[key]
    return content


def check_format(format: str, network: Network) -> None:
    """ConfigError where the format is unknown or not for the network."""
    if format not in get_args(Format):
        raise ConfigError(f"unknown format '{format}'; choices: {', '.join(get_args(Format))}")
    if not network.name.startswith(FAMILIES.get(format, "")):
        fitting = [name for name in get_args(Format) if network.name.startswith(FAMILIES.get(name, ""))]
        raise ConfigError(f"format '{format}' is not for {network.name}; these are: {', '.join(fitting)}")


def write(
    file: BinaryIO,
    tensors: Mapping[str, Tensor],
    network: Network,
    format: Format,
    card: Mapping[str, Any] | None = None,
) -> None:
    """Write contiguous tensors on the CPU; `card` is for the header of a safetensors file, others have no place for it."""
    if format == "safetensors":
        about = {"format": "pt"} | ({CARD: json.dumps(card)} if card is not None else {})
        file.write(safetensors.torch.save(dict(tensors), about))
    elif format == "caffe2":
        file.writelines(caffe2.write(tensors, network))
    else:
        torch.save(dict(tensors), file)
