"""What a sweep will cost before it is run: clips, GPU-hours, cores' hours and storage of every stage, from measured rates.

Training time is clips over clips/s, on GPUs or, for the tiny size, on cores; loaders decode beside it. The rest is videos
times measured CPU time. A stage's numbers are estimates, the sums are exact; `assumptions` says what they rest on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from pipeline import artifacts, storage
from pipeline.config import PlatformConfig, PretrainConfig, TransferConfig
from pipeline.launch import rates
from pipeline.sweeps import Plan, Stage
from pipeline.sweeps.printed import TARGET_VIDEOS

Sizes = dict[str, tuple[int, int]]
"""{target: training and test videos}"""
UPLOAD = "720p"
"""The uploads of `benchmarks/build_pass` that a source's videos are taken to be like."""
SIGNATURE_FPS = 16
DISTINCT_CODES = 0.57
"""Of a video's frames, by their codes (docs/dedup-speed.md)."""
DIRECTIONS = 2
"""In which dedup compares: as the videos are, and mirrored."""
FORWARD = 1 / 3
"""Of a training step's work."""
BYTES_PER_PARAMETER = 8
"""Of a checkpoint: weights and momentum in fp32."""


@dataclass(frozen=True)
class Cost:
    """What one stage takes; nothing by default."""

    clips: float = 0.0
    """Clips trained on, those of a search included; a clip that is only tested counts a third."""
    gpu_hours: float = 0.0
    cpu_hours: float = 0.0
    """Core-hours that the clips would take without a GPU."""
    core_hours: float = 0.0
    """Core-hours of the data stages: reading, decoding, storing, comparing."""
    num_bytes: float = 0.0
    """Storage that stays."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def total(costs: Iterable[Cost]) -> Cost:
    return sum(costs, Cost())


def cost(stage: Stage, sizes: Sizes) -> Cost:
    """The estimate of one stage, with the `sizes` of the targets."""
    match stage.kind:
        case "pretrain":
            return _pretrain(stage.config)
        case "transfer":
            return _transfer(stage.config, sizes[stage.config.target])
        case "build":
            return _build(stage.num_videos, stage.one_frame)
        case "dedup":
            return _dedup(stage.num_videos, stage.one_frame)
        case "subset":
            return _subset(stage.num_videos)
        case "target":
            return _build(sum(sizes[stage.config.target]))
    return Cost()


# ------------------------------------------------------------------------------------------------------ training


def _pretrain(config: PretrainConfig) -> Cost:
    recipe = config.recipe
    step = recipe.virtual_workers * recipe.batch_per_gpu
    checkpoint = BYTES_PER_PARAMETER * rates.PARAMETERS_M.get(config.model.name, 0.0) * 1e6 * config.model.width**2
    kept = config.keep_last + (recipe.total_clips // config.keep_every if config.keep_every else 0)
    return _clips(config, -(-recipe.total_clips // step) * step) + Cost(num_bytes=kept * checkpoint)


def _transfer(config: TransferConfig, target: tuple[int, int]) -> Cost:
    """full_ft: a training a rate on all but the held-out videos, whose clips are tested, and one on all; then the test.

    A single rate is taken as it is (`finetune.search`): there is the training on all videos alone.
    """
    train, test = target
    views = config.num_clips * config.num_crops
    if config.protocol == "full_ft":
        tried = len(config.learning_rates) if len(config.learning_rates) > 1 else 0
        trained = config.passes * train * (tried * (1 - config.held_out) + config.repeats)
        seen = tried * config.held_out * train * config.num_clips + test * views
    else:
        trained, seen = 0.0, (train * config.num_clips if config.protocol != "evaluate" else 0) + test * views
    return _clips(config, trained + FORWARD * seen)


def _clips(config: PretrainConfig | TransferConfig, clips: float) -> Cost:
    network = (config.model.name, config.clip.length, config.model.width, config.clip.crop_px)
    gpu, cpu = rates.gpu_clips_per_s(*network), rates.cpu_clips_per_s(*network)
    return Cost(clips=clips, gpu_hours=clips / gpu.value / 3600, cpu_hours=clips / cpu.value / 3600)


def target_sizes(plan: Plan) -> Sizes:
    """Of every target that the plan's stages name: as the platform will have it, or of the one on disk, or of the paper's."""
    named = [stage.config for stage in plan.stages if stage.kind in ("transfer", "target")]
    platform = next((stage.config for stage in plan.stages if stage.kind == "platform"), None)
    return {c.target: _simulated(platform) if platform else _known_size(c.root, c.target) for c in named}


def _simulated(platform: PlatformConfig) -> tuple[int, int]:
    from pipeline.world.config import WorldConfig  # and with it the renderer: only where there is a platform

    verbs = WorldConfig.num_target_verbs
    return verbs * platform.train_videos_per_class, verbs * platform.test_videos_per_class


def _known_size(root: str, target: str) -> tuple[int, int]:
    """(0, 0) where nothing is known."""
    markers = [artifacts.target_files(root, target, split).marker for split in ("train", "test")]
    if all(map(storage.exists, markers)):
        train, test = (storage.read_json(marker)["num_videos"] for marker in markers)
        return train, test
    return next((videos for name, videos in TARGET_VIDEOS.items() if target.startswith(name)), (0, 0))


# ---------------------------------------------------------------------------------------------------------- data


def _build(num_videos: int, one_frame: bool = False) -> Cost:
    found = rates.read("build_pass")[UPLOAD]
    seconds = found["cpu_ms_per_video"]["shard_pass"]["median"] / 1000
    share = next(iter(rates.read("stored_form")[UPLOAD]["settings"].values()))["bytes_of_source"]
    num_bytes = found["mean_kb"] * 1000 * share
    if one_frame:
        one = rates.read("one_frame")[UPLOAD]
        seconds, num_bytes = seconds * one["one_to_all"]["median"], one["bytes_per_video"]["one"]
    return Cost(core_hours=num_videos * seconds / 3600, num_bytes=num_videos * num_bytes)


def _dedup(num_videos: int, one_frame: bool = False) -> Cost:
    """At radius 7, against targets of 5e7 frames in all: every code of a video once, as it is and mirrored."""
    upload_frames = rates.read("build_pass")[UPLOAD]["mean_duration_s"] * SIGNATURE_FPS
    codes = num_videos * (1 if one_frame else upload_frames * DISTINCT_CODES)
    codes_per_s = rates.read("dedup_join_5e7")["natural"]["numba"]["r7"]["queries_per_s"]
    return Cost(core_hours=DIRECTIONS * codes / codes_per_s / 3600)


def _subset(num_videos: int) -> Cost:
    found = rates.read("manifest_scale")["all"]
    per_million_s = found["choice_cpu_s_per_million"] + found["manifest_cpu_s_per_million"]
    return Cost(core_hours=num_videos / 1e6 * per_million_s / 3600)


# ---------------------------------------------------------------------------------------------------------- text


def summary(plan: Plan) -> str:
    """The estimates by kind of stage, their sum, and what they rest on."""
    kinds = list(dict.fromkeys(stage.kind for stage in plan.stages))
    sizes = target_sizes(plan)
    by_kind = {kind: [cost(stage, sizes) for stage in plan.stages if stage.kind == kind] for kind in kinds}
    rows = [("stage", "times", "clips", "GPU-hours", "or core-hours", "data core-hours", "storage")]
    rows += [_row(kind, len(costs), total(costs)) for kind, costs in by_kind.items()]
    rows.append(_row("total", len(plan.stages), total(c for costs in by_kind.values() for c in costs)))
    return "\n".join(["estimates, not promises:", *_aligned(rows), *assumptions(plan, sizes)])


def _row(name: str, times: int, found: Cost) -> tuple[str, ...]:
    numbers = (found.clips, found.gpu_hours, found.cpu_hours, found.core_hours)
    return (name, str(times), *(_number(value) for value in numbers), _bytes(found.num_bytes))


def _number(value: float) -> str:
    """Three digits, as a person says them: 0, 0.02, 12.3, 490M."""
    if not value:
        return "–"
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e4)):
        if value >= size:
            scale = 1e3 if unit == "K" else size
            return f"{value / scale:.3g}{unit}" if value / scale < 1000 else f"{value / scale:.0f}{unit}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.01 else "<0.01"


def _bytes(value: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return "–" if not value else "under 1 MB"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([f"{row[0]:<{widths[0]}}", *(f"{c:>{w}}" for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def assumptions(plan: Plan, sizes: Sizes) -> list[str]:
    """Where the rates are from, and what is not counted."""
    trained = [s.config for s in plan.stages if s.kind in ("pretrain", "transfer")]
    networks = dict.fromkeys((c.model.name, c.clip.length, c.model.width, c.clip.crop_px) for c in trained)
    lines = []
    for name, length, width, crop in networks:
        gpu, cpu = rates.gpu_clips_per_s(name, length, width, crop), rates.cpu_clips_per_s(name, length, width, crop)
        lines.append(
            f"  {name}{f' × {width:g}' if width != 1 else ''}, {length} × {crop} × {crop}: {gpu.value:,.0f} clips/s on a GPU "
            f"({gpu.source}, in proportion to multiply-adds), {cpu.value:.3g} on a core ({cpu.source})"
        )
    upload = rates.read("build_pass")[UPLOAD]
    lines += [
        f"  build: {upload['cpu_ms_per_video']['shard_pass']['median']:.0f} ms and "
        f"{_build(1).num_bytes / 1000:.0f} kB a video, as {upload['mean_duration_s']:.1f} s at {UPLOAD} "
        "(benchmarks/results/build_pass.json, stored_form.json; images: one_frame.json); dedup at radius 7 in both directions "
        "(dedup_join_5e7.json); subsets name shards, and copy none (manifest_scale.json)",
        "  storage: shards, and the checkpoints that are kept; not signatures, features and predictions",
    ]
    if unknown := sorted(target for target, videos in sizes.items() if not any(videos)):
        lines.append(f"  not counted, for its size is not known before it is built: target {', '.join(unknown)}")
    if any(stage.kind == "platform" for stage in plan.stages):
        lines.append("  not counted: drawing and encoding the platform's videos")
    return lines
