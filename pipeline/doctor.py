"""`tagreel doctor`: is this machine fit for the job? Versions and a small real try of each part; status 1 if one fails."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
import traceback
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

LIBRARIES = (
    *("av", "fsspec", "numpy", "pyarrow", "tqdm", "tyro"),
    *("ray", "nltk", "lemminflect", "webdataset"),
    *("numba", "faiss-cpu", "imagehash"),
    *("torch", "torchvision", "safetensors", "scipy", "matplotlib"),
    "s3fs",
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
    """One matrix product on each kind of device that torch sees."""
    import torch

    devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    for device in devices:
        ones = torch.ones(64, 64, device=device)
        if (ones @ ones).sum().item() != 64**3:
            raise AssertionError(f"a matrix product on {device} is wrong")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{', '.join(names) or 'CPU only'}; cuDNN {torch.backends.cudnn.version() or 'absent'}"


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


def main(argv: Sequence[str] | None = None) -> None:
    """Print versions, run every check, exit with 1 if any fails."""
    print(f"python {platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores")
    print("\n".join(f"  {name:<12} {version}" for name, version in versions().items()))
    failed = 0
    for name, check in CHECKS.items():
        try:
            print(f"{name}: ok: {check()}")
        except Exception:  # a broken part must not hide the others
            failed += 1
            print(f"{name}: FAILED\n{traceback.format_exc()}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
