"""torch.hub entries: every network of this project, with weights of any published format.

    model = torch.hub.load("path/of/this/checkout", "r2plus1d_34", weights="r2plus1d_34.pth", source="local")

The entries are those of `pretrain.models.BUILDERS`. `weights` is a file that is there, or an fsspec URL.
"""

from collections.abc import Callable as _Callable

from torch import nn as _nn

from pretrain.models import BUILDERS as _BUILDERS
from pretrain.models import build_model as _build_model
from pretrain.models import weights as _weights

dependencies = ["torch", "numpy", "safetensors", "fsspec", "pyarrow"]

_KINETICS = 400


def _entry(name: str) -> _Callable[..., _nn.Module]:
    def entry(weights: str = "", num_labels: int | None = None, width: float = 1.0, dropout: float = 0.0) -> _nn.Module:
        if weights:
            return _weights.build(weights, name, num_labels, dropout)
        return _build_model(name, _KINETICS if num_labels is None else num_labels, width, dropout)

    entry.__name__ = name
    entry.__doc__ = f"""{name}: clips float [B, 3, T, H, W] → logits [B, K].

    Args:
        weights: file of its weights, in any published format (see docs/weights.md); empty initialises at random.
        num_labels: K. With weights, a number other than the file's gives a new final layer; None takes the file's.
            Without weights, None is {_KINETICS}.
        width: multiplies every number of channels; with weights, the file's is taken.
        dropout: share of features zeroed before the final layer while training.
    """
    return entry


globals().update({name: _entry(name) for name in _BUILDERS})
