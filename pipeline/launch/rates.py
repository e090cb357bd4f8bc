"""How fast stages run: what `benchmarks/` measured where it is at hand, else stated values; each with its source."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"

GMAC = {
    "r2plus1d_10": {1: 2.32, 8: 10.34, 32: 41.37},
    "r2plus1d_18": {1: 5.10, 8: 20.75, 32: 82.99},
    "r2plus1d_34": {1: 10.64, 8: 38.09, 32: 152.36},
    "r2plus1d_101": {1: 15.36, 8: 44.12, 32: 176.47},
    "r2plus1d_152": {1: 23.00, 8: 63.00, 32: 252.00},
    "r3d_10": {1: 2.36, 8: 9.94, 32: 39.77},
    "r3d_18": {1: 5.14, 8: 20.35, 32: 81.39},
    "r3d_34": {1: 10.69, 8: 37.69, 32: 150.76},
    "r2d_10": {1: 0.80, 8: 3.34, 32: 13.38},
    "r2d_18": {1: 1.73, 8: 6.81, 32: 27.25},
    "r2d_34": {1: 3.57, 8: 12.59, 32: 50.37},
    "torchvision_r2plus1d_18": {1: 4.89, 8: 20.26, 32: 81.04},
}
"""Multiply-adds of a forward pass of one 112 × 112 clip, by its length (`tagreel models`)."""
PARAMETERS_M = {
    "r2plus1d_10": 14.6, "r2plus1d_18": 33.4, "r2plus1d_34": 63.7, "r2plus1d_101": 86.1, "r2plus1d_152": 118.2,
    "r3d_10": 14.6, "r3d_18": 33.4, "r3d_34": 63.7, "r2d_10": 5.1, "r2d_18": 11.4, "r2d_34": 21.5,
    "torchvision_r2plus1d_18": 31.5,
}  # fmt: skip
"""Millions, with 400 labels (`tagreel models`)."""
GPU_TARGETS = {(18, 8): 1_900.0, (34, 8): 1_150.0, (18, 32): 480.0, (34, 32): 290.0}
"""R(2+1)D training clips/s of one H200 in bf16 by (depth, clip length): 60 to 70 % of a roofline, not measured."""


@dataclass(frozen=True)
class Rate:
    value: float
    source: str


def gpu_clips_per_s(model: str, length: int, width: float = 1.0, crop_px: int = 112) -> Rate:
    """Training clips a second on one GPU: of the R(2+1)D that is nearest in multiply-adds, in proportion to these."""
    work, _ = gmac(model, length, width, crop_px)
    measured = _measured_gpu()
    rates = measured or GPU_TARGETS
    references = {key: GMAC[f"r2plus1d_{key[0]}"][key[1]] for key in rates}
    same_length = {key: g for key, g in references.items() if key[1] == length} or references
    nearest = min(same_length, key=lambda key: abs(same_length[key] - work))
    what = "benchmarks/results/gpu_train.json" if measured else "a roofline target for an H200, not measured"
    return Rate(rates[nearest] * references[nearest] / work, what)


def gmac(model: str, length: int, width: float = 1.0, crop_px: int = 112) -> tuple[float, str]:
    """Multiply-adds (1e9) of a clip's forward pass, and how they were found; in proportion to width² and to the picture."""
    table = GMAC.get(model) or GMAC["r2plus1d_34"]
    nearest = min(table, key=lambda known: abs(known - length))
    value = table[nearest] * length / nearest * width**2 * (crop_px / 112) ** 2
    return value, "tagreel models" if model in GMAC else "unknown network: as r2plus1d_34"


def cpu_clips_per_s(model: str, length: int, width: float = 1.0, crop_px: int = 112) -> Rate:
    """Training clips a second on one core in fp32: of the nearer of two measured networks, in proportion to multiply-adds."""
    work, _ = gmac(model, length, width, crop_px)
    large, small = read("cpu_step"), read("tiny_step")
    step_s = large["cpu_s_per_step"]["ours_fp32"]["median"]
    measured = {
        "cpu_step": (large["gmac_per_clip"]["ours"], large["settings"]["batch"] / step_s),
        "tiny_step": (small["gmac_per_clip"], small["clips_per_s"]),
    }
    name = min(measured, key=lambda known: abs(math.log(measured[known][0] / work)))
    reference, clips_per_s = measured[name]
    return Rate(clips_per_s * reference / work, f"benchmarks/results/{name}.json")


@cache
def _measured_gpu() -> dict[tuple[int, int], float]:
    """{(depth, length): best clips/s of all ways}; empty where nothing was measured on a GPU."""
    best: dict[tuple[int, int], float] = {}
    for cell in read("gpu_train").get("cells", ()):
        if "clips_per_s" in cell and cell.get("device", "").startswith("cuda"):
            key = (cell["depth"], cell["length"])
            best[key] = max(best.get(key, 0.0), cell["clips_per_s"])
    return best


@cache
def read(name: str) -> dict[str, Any]:
    """`results` of a benchmark; the values of the day this was written where the checkout's `benchmarks/` is not at hand."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text())["results"] if path.is_file() else _STATED.get(name, {})


_STATED: dict[str, dict[str, Any]] = {
    "cpu_step": {
        "settings": {"batch": 2},
        "gmac_per_clip": {"ours": 20.75},
        "cpu_s_per_step": {"ours_fp32": {"median": 1.6287}},
    },
    "tiny_step": {"gmac_per_clip": 0.05517, "clips_per_s": 268.9},
    "build_pass": {
        "720p": {"mean_duration_s": 7.46, "mean_kb": 696, "cpu_ms_per_video": {"shard_pass": {"median": 587.4}}}
    },
    "stored_form": {"720p": {"settings": {"veryfast gop 16 crf 20": {"bytes_of_source": 0.331}}}},
    "one_frame": {"720p": {"bytes_per_video": {"one": 10752}, "one_to_all": {"median": 0.199}}},
    "dedup_join_5e7": {"natural": {"numba": {"r7": {"queries_per_s": 190457}}}},
    "manifest_scale": {"all": {"choice_cpu_s_per_million": 3.703, "manifest_cpu_s_per_million": 4.371}},
}
