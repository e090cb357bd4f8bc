"""The official Caffe2 models: pickles of blobs, and what each blob is called here.

`comp_{c}` counts blocks over the whole network, `conv_{j}` convolutions within a block. A (2+1)D convolution is two:
`..._middle` in space, then one in time. `_riv` is the running variance itself. Step counters do not exist there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from pipeline.config import ConfigError
from pretrain.models import BUILDERS
from pretrain.models.identify import Network, expected_shapes, find_depth, refuse_misfits
from pretrain.models.numpy_pickle import dump_arrays, load_arrays

BATCH_NORM = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
STEM_2PLUS1D = {"0": "conv1_middle", "1": "conv1_middle_spatbn_relu", "3": "conv1", "4": "conv1_spatbn_relu"}
STEM_PLAIN = {"0": "conv1", "1": "conv1_spatbn_relu"}
BLOCK = re.compile(r"comp_(\d+)_")
FINAL = re.compile(r"last_out_L(\d+)_w")


def blob_names(network: Network) -> dict[str, str]:
    """Name of the blob of each parameter of a network, in the network's order, without step counters."""
    parameters = [name for name in expected_shapes(network) if not name.endswith("num_batches_tracked")]
    stem = STEM_2PLUS1D if "stem.3.weight" in parameters else STEM_PLAIN
    modules = {f"stem.{place}": blob for place, blob in stem.items()} | {"fc": f"last_out_L{network.num_labels}"}
    blocks = dict.fromkeys(".".join(name.split(".")[:2]) for name in parameters if name.startswith("layer"))
    for number, block in enumerate(blocks):
        modules |= {f"{block}.{module}": blob for module, blob in _block_blobs(number).items()}
    return {name: _blob(modules, *name.rsplit(".", 1)) for name in parameters}


def _block_blobs(block: int) -> dict[str, str]:
    """Blobs of the modules that a block of any kind may have."""
    blobs = {
        "downsample.0": f"shortcut_projection_{block}",
        "downsample.1": f"shortcut_projection_{block}_spatbn",
    }
    for number in (1, 2, 3):
        blobs |= {
            f"conv{number}.0": f"comp_{block}_conv_{number}",
            f"conv{number}.0.0": f"comp_{block}_conv_{number}_middle",
            f"conv{number}.0.1": f"comp_{block}_spatbn_{number}_middle",
            f"conv{number}.0.3": f"comp_{block}_conv_{number}",
            f"conv{number}.1": f"comp_{block}_spatbn_{number}",
        }
    return blobs


def _blob(modules: dict[str, str], module: str, kind: str) -> str:
    blob = modules[module]
    return f"{blob}_{BATCH_NORM[kind] if 'spatbn' in blob else kind[0]}"


def read(data: bytes) -> dict[str, Tensor]:
    """float32 tensors by our names, from the bytes of a pickle; every blob is used, and their shapes are not checked.

    Raises:
        ConfigError: the blobs are those of no network here. pickle.UnpicklingError: see `load_arrays`.
    """
    blobs = load_arrays(data)
    network = _network(blobs)
    blob_of = blob_names(network)
    wanted = set(blob_of.values())
    missing = [f"missing {blob}" for blob in blob_of.values() if blob not in blobs]
    refuse_misfits(missing + [f"unknown {blob}" for blob in blobs if blob not in wanted], f"{network.name} of Caffe2")
    return {name: torch.from_numpy(blobs[blob].astype(np.float32, order="C")) for name, blob in blob_of.items()}


def _network(blobs: Mapping[str, np.ndarray]) -> Network:
    """The network, told from the names of the final layer, of the blocks and of the stem."""
    final = [int(found[1]) for blob in blobs if (found := FINAL.fullmatch(blob))]
    num_blocks = len({found[1] for blob in blobs if (found := BLOCK.match(blob))})
    depth = find_depth(num_blocks, is_bottleneck="comp_0_conv_3_w" in blobs)
    if "conv1_middle_w" in blobs:
        family = "r2plus1d"
    else:
        family = "r2d" if "conv1_w" in blobs and blobs["conv1_w"].shape[2:3] == (1,) else "r3d"
    if len(final) != 1 or f"{family}_{depth}" not in BUILDERS:
        raise ConfigError(
            f"the blobs are of no network here: {num_blocks} blocks (comp_*), {len(final)} final layers (last_out_L*_w)"
        )
    return Network(f"{family}_{depth}", final[0])


def write(tensors: Mapping[str, Tensor], network: Network) -> Iterator[bytes]:
    """The pieces of a pickle of float32 blobs, which Python 2 and 3 read; step counters are left out."""
    return dump_arrays({blob: tensors[name].float().numpy() for name, blob in blob_names(network).items()})
