"""`tagreel doctor`: is this machine fit for the job? Versions and a small real try of each part; status 1 if one fails."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Literal

import numpy as np

from pipeline import cli, storage
from pipeline import config as configs
from pipeline.config import PretrainConfig

LIBRARIES = (
    *("av", "fsspec", "numpy", "pyarrow", "tqdm", "tyro"),
    *("ray", "nltk", "lemminflect", "webdataset"),
    *("numba", "faiss-cpu", "imagehash"),
    *("torch", "torchvision", "safetensors", "scipy", "matplotlib"),
    "s3fs",
)


@dataclass(frozen=True)
class DoctorConfig:
    """Check this machine: versions, a small real try of each part, and every convolution of the network to be trained."""

    model: str = "r2plus1d_34"
    """Network whose convolutions and gradients are tried."""
    width: float = 1.0
    """Multiplier of all its channel counts."""
    clip_length: int = 8
    """Frames per clip."""
    crop_px: int = 112
    """Side of the square crop, in pixels."""
    batch: int = 2
    """Clips at a time; kernels may be chosen by it."""
    device: str = ""
    """cpu, cuda or cuda:N; empty takes every CUDA device, or the CPU where there is none."""
    form: Literal["folded", "conv3d"] = "folded"
    """folded: the 2-D convolutions that training uses; conv3d: torch's own 3-D ones, to see what those would do here."""


def parse(argv: Sequence[str] | None = None) -> DoctorConfig:
    """Command line of the doctor; its `--config` is a file of `tagreel pretrain`, or the run.json of a run."""
    return cli.parse(DoctorConfig, argv, _of_training)


def _of_training(path: str) -> DoctorConfig:
    run = storage.read_json(path) if path.endswith("run.json") else {}
    config = configs.from_dict(PretrainConfig, run["config"]) if "config" in run else configs.load(PretrainConfig, path)
    return DoctorConfig(
        model=config.model.name,
        width=config.model.width,
        clip_length=config.clip.length,
        crop_px=config.clip.crop_px,
        batch=config.recipe.batch_per_gpu,
    )


def versions() -> dict[str, str]:
    """Installed version of each library the project uses, "missing" where there is none."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def check_video() -> str:
    """Encode and decode a clip; the frames must come back in order."""
    import av

    from pipeline import video

    encoder = video.Encoder(64, 64, 10)
    for level in range(0, 240, 10):
        encoder.write(av.VideoFrame.from_ndarray(np.full((96, 64), level, np.uint8), format="yuv420p"))
    brightness = video.read_clip(encoder.finish(), [2, 9, 23]).mean(axis=(1, 2, 3))
    if not brightness[0] < brightness[1] < brightness[2]:
        raise AssertionError(f"frames came back in the wrong order: {brightness}")
    return f"H.264 out and in, FFmpeg libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"


def check_torch() -> str:
    """One matrix product on each kind of device that torch sees; the libraries that compute its convolutions."""
    import torch

    devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    for device in devices:
        ones = torch.ones(64, 64, device=device)
        if (ones @ ones).sum().item() != 64**3:
            raise AssertionError(f"a matrix product on {device} is wrong")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    onednn = re.search(r"MKL-DNN v([\d.]+)", torch.__config__.show())
    return (
        f"{', '.join(names) or 'CPU only'}; CUDA {torch.version.cuda or 'absent'}, "
        f"cuDNN {torch.backends.cudnn.version() or 'absent'}, oneDNN {onednn[1] if onednn else 'absent'}, "
        f"CPU capability {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    )


def check_gradients(config: DoctorConfig) -> str:
    """The self-test of the network's convolutions, in a process of its own: it belongs to the training."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in configs.to_dict(config).items()]
    command = [sys.executable, "-m", "pretrain.models.selftest", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"status {done.returncode} of {' '.join(command)}\n{done.stdout}{done.stderr}")
    return "; ".join(line for line in done.stdout.splitlines() if "convolution shapes" in line)


def check_ray() -> str:
    """A task on a private local Ray."""
    from pipeline.config import ExecutionConfig
    from pipeline.execute import run_parts

    answer = run_parts(_one_third, [3], ExecutionConfig(num_workers=1), desc="ray")
    if answer != [Fraction(1, 3)]:
        raise AssertionError(f"a Ray task gave {answer}")
    return "a local Ray runs tasks"


def _one_third(part: int, shared: None) -> Fraction:
    return Fraction(1, part)


CHECKS: dict[str, Callable[[], str]] = {"video": check_video, "torch": check_torch, "ray": check_ray}


def diagnose(config: DoctorConfig) -> None:
    """Print versions, run every check, exit with 1 if any fails."""
    print(f"python {platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores")
    print("\n".join(f"  {name:<12} {version}" for name, version in versions().items()))
    failed = 0
    for name, check in {**CHECKS, "gradients": partial(check_gradients, config)}.items():
        try:
            print(f"{name}: ok: {check()}", flush=True)
        except Exception:  # a broken part must not hide the others
            failed += 1
            print(f"{name}: FAILED\n{traceback.format_exc()}", flush=True)
    sys.exit(1 if failed else 0)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of `tagreel doctor`."""
    sys.exit(cli.guarded(lambda: diagnose(parse(argv))))


if __name__ == "__main__":
    main()
