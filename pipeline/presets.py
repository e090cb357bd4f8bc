"""Named configs as functions: a variant calls the base and changes a few fields."""

from __future__ import annotations

from dataclasses import replace

from pipeline.config import (
    BuildConfig,
    ClipConfig,
    DedupConfig,
    ExecutionConfig,
    ModelConfig,
    PretrainConfig,
    RecipeConfig,
    SamplingConfig,
    SourceConfig,
    StorageConfig,
    SweepConfig,
    TransferConfig,
)

BATCH_PER_GPU = {1: 16, 8: 16, 32: 6}
"""Clips per virtual worker by clip length (paper, Section 3.3; for single frames, our choice)."""


def pretraining(model: str, length: int) -> PretrainConfig:
    """Section 3.3: 490M clips on 128 workers, 0.192 after warm-up, halved 13 times; bf16 and 8 processes are ours."""
    return PretrainConfig(
        model=ModelConfig(model),
        clip=ClipConfig(length=length),
        recipe=RecipeConfig(batch_per_gpu=BATCH_PER_GPU[length], precision="bf16"),
        num_processes=8,
    )


def ig_source(kind: str) -> BuildConfig:
    """Table 1: a source made from one kind of seed labels; the list shipped for it, or your own."""
    name = f"ig-{kind.replace('_', '-')}"
    return BuildConfig(dataset=name, source=SourceConfig(name=name, kind=kind))


def ig_kinetics_65m(root: str = "tagreel-data") -> SweepConfig:
    """Figure 1 of the paper: R(2+1)D-34 on 8-frame clips, 500K to 65M videos, the recipe of Section 3.3."""
    return SweepConfig(
        root=root,
        strategies=("random",),
        build=replace(ig_source("kinetics"), root=root),
        pretrain=replace(pretraining("r2plus1d_34", 8), root=root),
        transfer=TransferConfig(  # Table 8: 64 GPUs × 16 clips; 0.0003 a GPU up to 5M videos, 0.00003 beyond
            root=root,
            learning_rates=(64 * 0.00003, 64 * 0.0003),
            passes=58,
            warmup_passes=16,
            decay_passes=(16, 16),
            batch=64 * 16,
            batch_per_gpu=16,
            num_processes=8,
        ),
    )


def demo(root: str, posts: str, seed_labels: str, num_workers: int, num_processes: int) -> SweepConfig:
    """The main job at a size that two cores finish in minutes: small pictures, a narrow 10-layer R(2+1)D, 18K clips a run."""
    clip = ClipConfig(length=8, stride=1, fps=8.0, size_hw=(36, 36), crop_px=32)
    execution = ExecutionConfig(num_workers=num_workers)
    storage = demo_storage()
    sampling = SamplingConfig(min_videos=8)
    source = SourceConfig(name="platform", posts=posts, seed_labels=seed_labels)
    recipe = RecipeConfig(
        total_clips=18_432,
        virtual_workers=2,
        batch_per_gpu=16,
        lr_per_gpu=0.05,
        warmup_clips=1_024,
        num_decays=4,
    )
    return SweepConfig(
        root=root,
        name="demo",
        sizes=(128, 512, 2048),
        seeds=(0,),
        targets=("verb",),
        build=BuildConfig(
            root=root, dataset="platform", source=source, sampling=sampling, storage=storage, execution=execution
        ),
        dedup=DedupConfig(root=root, execution=execution),
        pretrain=PretrainConfig(
            root=root,
            model=ModelConfig("r2plus1d_10", 0.25),
            clip=clip,
            recipe=recipe,
            checkpoint_clips=4_096,
            cache_mb=512,
            tensorboard=False,  # its import would take a tenth of each run
            num_processes=num_processes,
        ),
        transfer=TransferConfig(
            root=root,
            held_out=0.2,  # of 60 videos: one of each label
            learning_rates=(0.03, 0.1),
            l2=(0.01, 0.1, 1.0),
            passes=40,
            warmup_passes=8,
            decay_passes=(16, 8),
            batch=16,
            batch_per_gpu=8,
            cache_mb=512,
            num_processes=num_processes,
        ),
    )


def demo_storage() -> StorageConfig:
    """How the demo stores videos: the smallest picture that the 32 px crop allows for."""
    return StorageConfig(samples_per_shard=256, short_side_px=40, max_duration_s=90.0)
