"""The study on a GPU: the same questions with R(2+1)D-18 on 8×112×112 clips, and up to 131,072 videos. Not run so far."""

from __future__ import annotations

from dataclasses import replace

from pipeline import presets, storage
from pipeline.config import ModelConfig, RecipeConfig, StorageConfig, SweepConfig
from pipeline.sweeps.study import study

FACTOR = 32
"""Times as many posts and videos as on CPUs."""
FACTORS = {"durations": 8}
"""Of a sweep whose videos take a minute each to draw."""


def study_gpu(kind: str, root: str = "") -> SweepConfig:
    """A sweep of the study at the size of a GPU; its platform is drawn, and its videos stored, on all cores.

    Raises: ConfigError for a sweep that is not part of the study.
    """
    small = study(kind, root)
    factor = FACTORS.get(kind, FACTOR)
    clip = presets.pretraining("r2plus1d_18", 8).clip
    execution = replace(small.build.execution, num_workers=None)
    recipe = RecipeConfig(
        total_clips=100 * small.pretrain.recipe.total_clips,
        warmup_clips=100 * small.pretrain.recipe.warmup_clips,
        virtual_workers=8,
        batch_per_gpu=16,
        lr_per_gpu=0.0125,  # 0.1 in all, as on CPUs
        num_decays=small.pretrain.recipe.num_decays,
        precision="bf16",
    )
    stored = StorageConfig(max_duration_s=small.build.storage.max_duration_s)
    model = ModelConfig(small.pretrain.model.name.replace("_10", "_18"))
    transfer = replace(small.transfer, batch=32, batch_per_gpu=16, learning_rates=(0.01, 0.03, 0.1))
    return replace(
        small,
        root=root or storage.join("tagreel-study-gpu", small.root.rpartition("/")[2]),
        sizes=tuple(factor * size for size in small.sizes),
        minutes=None if small.minutes is None else factor * small.minutes,
        platform=replace(small.platform, num_posts=factor * small.platform.num_posts, short_side_px=(128, 176)),
        build=replace(small.build, storage=stored, execution=execution),
        dedup=replace(small.dedup, execution=execution),
        pretrain=replace(small.pretrain, model=model, clip=clip, recipe=recipe, checkpoint_clips=100_000),
        transfer=transfer,
    )
