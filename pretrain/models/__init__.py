"""Networks by name: `build_model(name, num_labels)`, their sizes, and reading and writing their weights."""

from collections.abc import Callable
from functools import partial

from pipeline.config import ConfigError
from pretrain.models.counts import count
from pretrain.models.r2plus1d import r2plus1d
from pretrain.models.r3d import r2d, r3d
from pretrain.models.resnet import VideoResNet
from pretrain.models.torchvision_r2plus1d import torchvision_r2plus1d

BUILDERS: dict[str, Callable[..., VideoResNet]] = {
    **{f"r2plus1d_{depth}": partial(r2plus1d, depth) for depth in (10, 18, 34, 101, 152)},
    **{f"r3d_{depth}": partial(r3d, depth) for depth in (10, 18, 34)},
    **{f"r2d_{depth}": partial(r2d, depth) for depth in (10, 18, 34)},
    "torchvision_r2plus1d_18": partial(torchvision_r2plus1d, 18),
}

__all__ = ["BUILDERS", "VideoResNet", "build_model", "count"]


def build_model(name: str, num_labels: int, width: float = 1.0, dropout: float = 0.0) -> VideoResNet:
    """A freshly initialised network.

    Args:
        name: one of `BUILDERS`, such as "r2plus1d_34".
        num_labels: K, the size of the final layer.
        width: multiplies every number of channels; 1 is the paper's network.
        dropout: share of features zeroed before the final layer while training.
    Raises:
        ConfigError (a ValueError): unknown name; the message lists the choices.
    """
    if name not in BUILDERS:
        raise ConfigError(f"unknown model {name!r}; choices: {', '.join(BUILDERS)}")
    return BUILDERS[name](num_labels, width=width, dropout=dropout)
