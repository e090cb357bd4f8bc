"""Settings that cannot be meant, refused before any work: what would come to light after hours, or never."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any

from pipeline import storage
from pipeline.config import BuildConfig, ConfigError, ExecutionConfig, SamplingConfig, TargetConfig
from pipeline.execute import ray_address

MIN_MEMORY_MB = 512  # of a child that decodes: the interpreter and its libraries alone take 400 of address space
MIN_SHORT_SIDE_PX = 16  # one macroblock


@dataclass(frozen=True)
class Range:
    """Finite values from `low` (or above it, where `is_open`) to `high`."""

    low: float
    high: float = float("inf")
    is_open: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.is_open else self.low <= value) and value <= self.high and value < float("inf")

    def __str__(self) -> str:
        low = f"more than {self.low:g}" if self.is_open else f"at least {self.low:g}"
        return low if self.high == float("inf") else f"{low} and at most {self.high:g}"


RANGES: dict[str, dict[str, Range]] = {
    "sampling": {
        **dict.fromkeys(("num_videos", "num_labels", "min_videos"), Range(1)),
        "minutes": Range(0, is_open=True),
        "label_noise": Range(0, 1),
    },
    "storage": {
        **dict.fromkeys(("samples_per_shard", "gop", "max_pixels"), Range(1)),
        "short_side_px": Range(MIN_SHORT_SIDE_PX),
        "max_fps": Range(1),
        "max_duration_s": Range(0, is_open=True),
        "crf": Range(0, 51),
    },
    "execution": {
        "num_workers": Range(1),
        "decode_timeout_s": Range(0, is_open=True),
        "decode_memory_mb": Range(MIN_MEMORY_MB),
    },
}
"""{section: {field: its values}}; None is always allowed."""


def check(config: BuildConfig | TargetConfig) -> None:
    """ConfigError for settings that contradict each other, choose nothing, or that no upload could be stored with."""
    for section in fields(config):
        for name, allowed in RANGES.get(section.name, {}).items():
            _check_range(section.name, name, getattr(getattr(config, section.name), name), allowed)
    if config.storage.short_side_px % 2:
        raise ConfigError(f"--storage.short-side-px must be even, not {config.storage.short_side_px}: chroma is halved")
    _check_path("--root", config.root, config.execution)
    if isinstance(config, BuildConfig):
        _check_path("--source.uri-prefix", config.source.uri_prefix, config.execution)
        _check_origin(config)
        _check_sampling(config.sampling)


def _check_range(section: str, name: str, value: Any, allowed: Range) -> None:
    if value is not None and value not in allowed:
        raise ConfigError(f"--{section}.{name.replace('_', '-')} must be {allowed}, not {value}")


def _check_origin(config: BuildConfig) -> None:
    if config.base is None and not config.source.posts:
        raise ConfigError(
            "--source.posts is empty: name the posts table (Parquet, JSON lines or CSV), or a finished dataset with --base"
        )
    if config.base == config.dataset:
        raise ConfigError(f"--base and --dataset are both '{config.dataset}': give the subset another name")
    if config.base is None and config.sampling.keep_duplicates:
        raise ConfigError("--sampling.keep-duplicates is for subsets (--base): a build does not leave any out")
    if config.base is not None and config.retry_failed:
        raise ConfigError(
            f"a subset reads no video: give --retry-failed to the build of '{config.base}', without --base"
        )


def _check_sampling(config: SamplingConfig) -> None:
    if config.minutes is None:
        return
    if config.num_videos is not None:
        raise ConfigError("--sampling.num-videos and --sampling.minutes both set the size: give one of them")
    if config.duration != "any" and config.strategy == "tail_preserving":
        raise ConfigError(
            "--sampling.minutes with --sampling.duration needs --sampling.strategy random: short and long datasets of "
            "equal length have different numbers of videos, and a cap would give them different proportions of labels"
        )


def _check_path(option: str, path: str, execution: ExecutionConfig) -> None:
    """Workers of a cluster have other working folders: each node would write to, or read from, a folder of its own."""
    if execution.backend == "ray" and path and storage.is_local(path) and not os.path.isabs(path):
        address = ray_address(execution)
        if address != "local":
            raise ConfigError(
                f"{option} '{path}' is relative, and the parts run on the Ray cluster '{address}', in other folders: give "
                "an absolute path that every node sees, or an fsspec URL"
            )
