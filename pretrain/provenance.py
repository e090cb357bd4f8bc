"""What a run was made with: versions and devices, for run.json and for who has to repeat it."""

import importlib.metadata
import platform

import torch

from pretrain.distributed import World


def provenance(world: World) -> dict[str, str | int | None]:
    """Versions, device, number of processes and threads of each, of this (the last) part of a run."""
    return {
        **versions("torchvision", "av"),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "device": device_name(world.device),
        "world_size": world.size,
        "cpu_threads": torch.get_num_threads(),
    }


def versions(*more: str) -> dict[str, str | None]:
    """Of the project, torch and Python, and of `more` packages; None for one that is not installed."""
    packages = {name: _version(name) for name in ("tagreel", *more)}
    return {**packages, "torch": str(torch.__version__), "python": platform.python_version()}


def device_name(device: torch.device) -> str:
    """ "NVIDIA H200", or "cpu": the processor's name says little without its surroundings."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
