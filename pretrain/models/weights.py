"""A network's weights: read from any published format, identified, given to a model, written, and their model card.

Names are those of the IG-65M port throughout. The formats are in `pretrain.models.files`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline import storage
from pipeline.config import ConfigError
from pretrain.models import VideoResNet, build_model, files
from pretrain.models.files import Format
from pretrain.models.identify import Network, describe, expected_shapes, misfits, num_labels, refuse_misfits

COUNTER = "num_batches_tracked"  # batch norm's step counter; unused at a fixed momentum, absent in some files

__all__ = [
    "Format",
    "Network",
    "build",
    "card",
    "describe",
    "export",
    "fill",
    "import_caffe2",
    "load",
    "num_labels",
    "preprocessing",
]

# ------------------------------------------------------------------------------------------------------ reading


def load(path: str | Path) -> dict[str, Tensor]:
    """Tensors by parameter name, on the CPU, from a file of any of the formats (local or an fsspec URL).

    Wrappings are taken off, and step counters that a file does not have are added as zeros. Whether the tensors are
    those of a network is for `describe` and `fill` to say.

    Raises:
        ConfigError: the file is of no such format, is damaged, or holds anything but tensors. StorageError: no file.
    """
    return _read(path, files.parse)


def import_caffe2(path: str | Path) -> dict[str, Tensor]:
    """As `load`, of an official Caffe2 pickle and of nothing else."""
    return _read(path, files.parse_caffe2)


def _read(path: str | Path, parse: Callable[[bytes], dict[str, Tensor]]) -> dict[str, Tensor]:
    data = storage.read_bytes(str(path))
    try:
        return _with_counters(parse(data))
    except Exception as error:  # a damaged or hostile file fails in any of the ways that its library knows
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigError(f"'{path}' cannot be read as weights: {reason}") from error


def _with_counters(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    layers = [name.removesuffix("running_var") for name in tensors if name.endswith(".running_var")]
    counters = {f"{layer}{COUNTER}": torch.zeros((), dtype=torch.int64) for layer in layers}
    return counters | dict(tensors)


# --------------------------------------------------------------------------------------------------- into models


def build(path: str | Path, name: str = "", num_labels: int | None = None, dropout: float = 0.0) -> VideoResNet:
    """The network that a file holds, with its weights.

    Args:
        path: a file of any of the formats.
        name: the network expected, one of `BUILDERS`; empty takes any.
        num_labels: K wanted; where the file's is another, the final layer is a new one. None takes the file's.
        dropout: as in `build_model`.
    Raises:
        ConfigError: the file holds another network, or none.
    """
    tensors = load(path)
    network = describe(tensors)
    if name and name != network.name:
        raise ConfigError(f"'{path}' holds weights of {network.name}, not of {name}")
    wanted = network.num_labels if num_labels is None else num_labels
    model = build_model(network.name, wanted, network.width, dropout)
    fill(model, tensors, trunk_only=wanted != network.num_labels)
    return model


def fill(model: nn.Module, tensors: Mapping[str, Tensor], trunk_only: bool = False) -> None:
    """Give the model these weights; with `trunk_only` the model keeps its own final layer.

    Raises:
        ConfigError: a tensor is missing, unknown or of another shape; the message names the first few.
    """
    own, given = model.state_dict(), _with_counters(tensors)
    if trunk_only:
        given = {name: tensor for name, tensor in given.items() if not name.startswith("fc.")}
        given |= {name: tensor for name, tensor in own.items() if name.startswith("fc.")}
    shapes = [{name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (own, given)]
    refuse_misfits(misfits(*shapes), "the model")
    model.load_state_dict(given)


# ------------------------------------------------------------------------------------------------------ writing


def export(
    source: nn.Module | Mapping[str, Tensor],
    path: str | Path,
    format: Format = "safetensors",
    card: Mapping[str, Any] | None = None,
) -> Network:
    """Write weights, whole or not at all; returns the network that they are of.

    Args:
        source: a network, or its tensors by name.
        path: local or an fsspec URL.
        format: one of `files.Format`. Caffe2 has no step counters: they are left out, and zero when read again.
        card: plain JSON values (see `pretrain.card`), kept in the header of a safetensors file.
    Raises:
        ConfigError: the tensors are of no network, or of one that the format is not for.
    """
    tensors = _with_counters(source.state_dict() if isinstance(source, nn.Module) else source)
    network = describe(tensors)
    files.check_format(format, network)
    stored = {name: tensors[name].detach().cpu().contiguous() for name in expected_shapes(network)}
    with storage.whole_file(str(path)) as file:
        files.write(file, stored, network, format, card)
    return network


# -------------------------------------------------------------------------------------------------------- cards


def card(path: str | Path) -> dict[str, Any] | None:
    """The model card stored with a file: in its header, or beside it as `FILE.json`; None where it has none.

    A card beside a file counts only while it states the file's SHA-256.
    """
    path = str(path)
    data = storage.read_bytes(path)
    if (header := files.header(data)) is not None:
        return json.loads(header.get("__metadata__", {}).get(files.CARD, "null"))
    if not storage.exists(f"{path}.json"):
        return None
    found = storage.read_json(f"{path}.json")
    return found if found["file"]["sha256"] == hashlib.sha256(data).hexdigest() else None


def digest(path: str | Path) -> str:
    """SHA-256 of a file, by which cards and runs know it."""
    return hashlib.sha256(storage.read_bytes(str(path))).hexdigest()


def preprocessing(path: str | Path) -> dict[str, Any] | None:
    """How clips must be prepared for these weights (see `pretrain.card.preprocessing`); None where the file does not say."""
    found = card(path)
    return None if found is None else found["preprocessing"]
