"""Which network a set of weights belongs to, told from the names and shapes of its tensors alone."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.config import ConfigError
from pretrain.models import BUILDERS, build_model
from pretrain.models.r2plus1d import BLOCKS_PER_LAYER, LAYER_WIDTHS, STEM_CHANNELS

MAX_NAMED = 5  # of the tensors that do not fit, in a message
MAX_DENOMINATOR = 1000  # of a width

Shapes = Mapping[str, tuple[int, ...]]


class Network(NamedTuple):
    """What `build_model` takes."""

    name: str
    """One of `BUILDERS`."""
    num_labels: int
    """K, the size of the final layer."""
    width: float = 1.0
    """Multiplier of all channel counts; 1 is the published networks'."""


def describe(tensors: Mapping[str, Tensor]) -> Network:
    """The network that these weights fit in every tensor.

    Raises:
        ConfigError: they fit none; the message names the nearest network and the first few tensors that differ.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    family, depth = _family(shapes), _depth(shapes)
    names = [name for name in (f"{family}_{depth}", f"torchvision_{family}_{depth}") if name in BUILDERS]
    if not names:
        raise ConfigError(
            f"the weights are those of an unknown network, {family}_{depth}; known: {', '.join(BUILDERS)}"
        )
    networks = [Network(name, num_labels(tensors), _width(shapes)) for name in names]
    wrong, nearest = min(
        ((misfits(expected_shapes(network), shapes), network) for network in networks), key=lambda pair: len(pair[0])
    )
    refuse_misfits(wrong, nearest.name)
    return nearest


def num_labels(tensors: Mapping[str, Tensor]) -> int:
    """K, the size of the final layer that the weights were trained with."""
    if "fc.weight" not in tensors:
        raise ConfigError("the weights have no final layer (fc.weight)")
    return tensors["fc.weight"].shape[0]


@functools.lru_cache(maxsize=4)
def expected_shapes(network: Network) -> Shapes:
    """Names and shapes of a network's tensors, in its own order; no memory is taken for the tensors."""
    with torch.device("meta"):
        model = build_model(*network)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def misfits(expected: Shapes, given: Shapes) -> list[str]:
    """One phrase for each tensor that is missing, unknown or of another shape."""
    missing = [f"missing {name} {list(expected[name])}" for name in expected if name not in given]
    unknown = [f"unknown {name} {list(given[name])}" for name in given if name not in expected]
    both = [name for name in expected if name in given and given[name] != expected[name]]
    return missing + unknown + [f"{name} is {list(given[name])}, not {list(expected[name])}" for name in both]


def refuse_misfits(wrong: list[str], network: str) -> None:
    """ConfigError with the first few of the misfits; nothing where there are none."""
    if wrong:
        more = f" … and {len(wrong) - MAX_NAMED} more" if len(wrong) > MAX_NAMED else ""
        raise ConfigError(f"weights do not fit {network} in {len(wrong)} tensors: {'; '.join(wrong[:MAX_NAMED])}{more}")


def find_depth(blocks_per_layer: tuple[int, ...] | int, is_bottleneck: bool) -> int | None:
    """Depth of the network with these blocks in its layers, or with so many in all; None if there is no such one."""
    for depth, blocks in BLOCKS_PER_LAYER.items():
        if blocks_per_layer in (blocks, sum(blocks)) and (depth >= 50) == is_bottleneck:
            return depth
    return None


def _family(shapes: Shapes) -> str:
    first = shapes.get("stem.0.weight", ())
    if len(first) != 5:
        raise ConfigError(
            "the weights have no stem.0.weight of five dimensions: they are not those of an R(2+1)D, R3D or R2D network "
            f"(they begin with {', '.join([*shapes][:MAX_NAMED]) or 'nothing'})"
        )
    if "stem.3.weight" in shapes:
        return "r2plus1d"
    return "r2d" if first[2] == 1 else "r3d"


def _depth(shapes: Shapes) -> int:
    blocks = {tuple(name.split(".")[:2]) for name in shapes if name.startswith("layer")}
    per_layer = tuple(sum(layer == f"layer{number}" for layer, _ in blocks) for number in (1, 2, 3, 4))
    depth = find_depth(per_layer, is_bottleneck="layer1.0.conv3.0.weight" in shapes)
    if depth is None:
        raise ConfigError(f"the weights have {per_layer} blocks in their layers, as no network here has")
    return depth


def _width(shapes: Shapes) -> float:
    """The simplest width that gives the channels of the stem and of the layers; 1 where none does."""
    stem = "stem.4.weight" if "stem.3.weight" in shapes else "stem.1.weight"
    names = [stem, *(f"layer{number}.0.conv1.1.weight" for number in (1, 2, 3, 4))]
    found = [shapes.get(name, (0,))[0] for name in names]
    low, high = (
        bound((channels + half) / base for channels, base in zip(found, (STEM_CHANNELS, *LAYER_WIDTHS), strict=True))
        for bound, half in ((max, -0.5), (min, 0.5))
    )
    if not 0 <= low < high:
        return 1.0
    simple = (Fraction((low + high) / 2).limit_denominator(most) for most in range(1, MAX_DENOMINATOR))
    return next((float(width) for width in simple if low < width < high), (low + high) / 2)
