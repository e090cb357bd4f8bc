"""The study's size: several hundred to several thousand simulated videos, three seeds; what docs/study.md reports.

Settings were fixed before the first run. Sweeps that need the same platform share a root; one pretraining run is the
same number of clips at every size of a sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pipeline import presets, storage
from pipeline.config import ConfigError, ModelConfig, PlatformConfig, SamplingConfig, SweepConfig, SweepSourceConfig

SEEDS = (0, 1, 2)
USUAL = PlatformConfig(num_posts=1_500, train_videos_per_class=8, test_videos_per_class=30)
LARGE = replace(USUAL, num_posts=5_600)
TAILED = replace(USUAL, num_posts=3_000, zipf_exponent=1.0)
TIMED = replace(USUAL, num_posts=700, long_rate=0.4, long_duration_s=(55.0, 60.0))
WORDED = replace(USUAL, word_tag_rate=1.0)
CLEAN = replace(USUAL, num_posts=1_000, wrong_label_rate=0.0)
COPIED = replace(USUAL, num_posts=1_200, duplicate_rate=0.25)


_FC_ONLY = {"protocols": ("fc_only",)}


def study(kind: str, root: str = "") -> SweepConfig:
    """A sweep at the study's size, one process a stage: the study runs several sweeps beside each other.

    Raises: ConfigError for a sweep that is not part of the study.
    """
    if kind not in SWEEPS:
        raise ConfigError(f"the study has no sweep '{kind}'; it has {', '.join(SWEEPS)}")
    platform, fields = SWEEPS[kind]
    folder = root or storage.join("tagreel-study", _PLATFORMS.get(kind, kind))
    demo = presets.demo(folder, posts="", seed_labels="", num_workers=1, num_processes=1)
    build = replace(demo.build, execution=replace(demo.build.execution, backend="process"))
    usual = replace(
        demo,
        kind=kind,
        name="",
        seeds=SEEDS,
        sizes=(512,),
        platform=platform,
        build=build,
        pretrain=replace(demo.pretrain, recipe=replace(demo.pretrain.recipe, total_clips=10_240, warmup_clips=1_024)),
        transfer=replace(demo.transfer, held_out=0.25, passes=30, warmup_passes=6, decay_passes=(12, 6)),
    )
    return replace(usual, **fields(usual))


def _data_size(usual: SweepConfig) -> dict[str, Any]:
    recipe = replace(usual.pretrain.recipe, total_clips=18_432)
    return {
        "sizes": (128, 256, 512, 1_024, 2_048, 4_096),
        "strategies": ("random",),
        "pretrain": replace(usual.pretrain, recipe=recipe),
    }


def _label_kinds(_: SweepConfig) -> dict[str, Any]:
    kinds = ("verb", "noun", "verb_noun")
    return {
        "sources": tuple(SweepSourceConfig(kind.replace("_", "-"), kind) for kind in kinds),
        "targets": kinds,
        "keep_out": ("verb",),
        **_FC_ONLY,
    }


def _num_labels(_: SweepConfig) -> dict[str, Any]:
    return {"sources": (SweepSourceConfig("platform", num_labels=(4, 8, 16, 32)),), "sizes": (256,), **_FC_ONLY}


def _durations(usual: SweepConfig) -> dict[str, Any]:
    return {
        "sizes": (96,),
        "minutes": 10.0,
        **_FC_ONLY,
        "build": replace(usual.build, sampling=SamplingConfig(min_videos=1)),
    }


def _frames(usual: SweepConfig) -> dict[str, Any]:
    return {
        "sources": (SweepSourceConfig("images", frames="one"), SweepSourceConfig("platform")),
        "inflations": ("mean", "center"),
        "pretrain": replace(usual.pretrain, model=ModelConfig("r3d_10", usual.pretrain.model.width)),
    }


_PLATFORMS = {"data_size": "large", "num_labels": "large"}
"""Sweeps that draw from the same platform share a root; each of the others has its own."""
SWEEPS: dict[str, tuple[PlatformConfig, Callable[[SweepConfig], dict[str, Any]]]] = {
    "data_size": (LARGE, _data_size),
    "sampling": (TAILED, lambda _: {"sizes": (256, 1_024), "strategies": ("random", "tail_preserving"), **_FC_ONLY}),
    "label_kinds": (WORDED, _label_kinds),
    "num_labels": (LARGE, _num_labels),
    "durations": (TIMED, _durations),
    "frames": (USUAL, _frames),
    "label_noise": (CLEAN, lambda _: _FC_ONLY),
    "near_duplicates": (COPIED, lambda _: {}),
}
