"""Each sweep at the paper's size, for a cluster, and at a tiny one on a simulated platform, for minutes on two cores.

Both are starting points: a file and options change them. Names of targets, and of the baselines' datasets, are what the
paper's size expects to find; docs/sweeps.md says how they are made.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from pipeline import presets
from pipeline.config import (
    BaselineConfig,
    JointTargetConfig,
    ModelConfig,
    PlatformConfig,
    SamplingConfig,
    SweepConfig,
    SweepSourceConfig,
    TransferConfig,
    TransferSettings,
)
from pipeline.sweeps.printed import IG, IMAGENET, IMAGES, SPORTS
from pipeline.sweeps.study import study
from pipeline.sweeps.study_gpu import study_gpu
from pipeline.transfer_recipes import GPUS, ROWS, Row

KEEP_OUT = ("kinetics", "epic_verb", "epic_noun", "something")
"""Near-duplicates of all the paper's targets are kept out of every source (Section 3.2); EPIC's actions are of these videos."""
EPIC = ("epic_verb", "epic_noun", "epic_action")
ACTIONS = (JointTargetConfig("epic_action", "epic_verb", "epic_noun"),)
"""By full fine-tuning there are two models, with rates of their own in Tables 14 to 16, and none for actions (A.4)."""
KINDS = ("kinetics", "noun", "verb", "verb_noun")
LABELS = {IG: (20, 45, 90, 180, 359), "ig-verb-noun": (675, 1350, 2700, 5400, 10653)}
"""Tables 10 and 11; of verb-noun pairs all, which are 10,653 in Table 1 and 10,563 in Table 10."""


def source(kind: str, sizes: tuple[int, ...] = (), num_labels: tuple[int, ...] = ()) -> SweepSourceConfig:
    """A source of the paper (Table 1)."""
    return SweepSourceConfig(f"ig-{kind.replace('_', '-')}", kind, sizes=sizes, num_labels=num_labels)


# --------------------------------------------------------------------------------------------- the paper's size


def _tuned(*tables: int) -> tuple[TransferSettings, ...]:
    """Tables 8 to 17 as settings by target and network: the rates of a table's rows are a grid, for held-out videos to choose."""
    grids: dict[tuple[str, str], list[Row]] = {}
    for row in ROWS:
        if row.table in tables:
            grids.setdefault((row.target, row.model), []).append(row)
    return tuple(replace(_grid(rows), target=target, model=model) for (target, model), rows in grids.items())


def _grid(rows: list[Row]) -> TransferSettings:
    """What rows of one schedule say; of Table 17 the baselines' reductions serve all rows of a network."""
    rates = tuple(sorted({row.learning_rate for row in rows}))
    return TransferSettings("", "", "", rates, rows[0].passes, rows[0].warmup, rows[0].steps)


def _tuned_by_arm() -> tuple[TransferSettings, ...]:
    """Table 12; training from scratch, of which it says nothing, as on clips."""
    arms = {
        "images": ("ig_19m_images", "ig_250m_images"),
        "frames": ("ig_19m_frames",),
        IMAGENET: ("imagenet",),
        "clips": ("ig_19m_video",),
        "scratch": ("ig_19m_video",),
    }
    rows = [row for row in ROWS if row.table == 12]
    return tuple(replace(_grid([r for r in rows if r.pretraining in names]), arm=arm) for arm, names in arms.items())


def _paper(kind: str, model: str, length: int, **fields: object) -> SweepConfig:
    """R(2+1)D or R3D by the recipe of Section 3.3, fine-tuned as in A.4."""
    batch = presets.BATCH_PER_GPU[length]
    transfer = TransferConfig(
        passes=58,
        warmup_passes=16,
        decay_passes=(16, 16),
        batch=GPUS * batch,
        batch_per_gpu=batch,
        num_processes=8,
    )
    usual = {"targets": ("kinetics",), "keep_out": KEEP_OUT, "build": presets.ig_source("kinetics")}
    values = {**usual, "pretrain": presets.pretraining(model, length), "transfer": transfer, **fields}
    return SweepConfig(kind=kind, **values)


_ON_KINETICS = BaselineConfig("kinetics", dataset="kinetics-train", targets=EPIC)
_ON_SPORTS = BaselineConfig(SPORTS, dataset=SPORTS)


def _comparison(kind: str, targets: tuple[str, ...], table: int) -> SweepConfig:
    """32 frames, 65M videos, depths 34 and 152 (Tables 5 to 7); baselines at depth 34."""
    on_kinetics = BaselineConfig("kinetics", dataset="kinetics-train")
    return _paper(
        kind,
        "r2plus1d_34",
        32,
        sizes=(65_000_000,),
        models=("r2plus1d_34", "r2plus1d_152"),
        protocols=("full_ft",),
        targets=targets,
        joint=ACTIONS if kind == "epic" else (),
        baselines=(_ON_SPORTS,) if kind == "kinetics" else (on_kinetics, _ON_SPORTS),
        views=("plain", "short_edge", "salient") if kind == "kinetics" else ("plain", "short_edge"),
        settings=_tuned(table),
    )


def _frames() -> SweepConfig:
    """Depth 18 (Tables 4 and 12)."""
    images = SweepSourceConfig(IMAGES, "kinetics", frames="one", sizes=(19_000_000, 250_000_000))
    return _paper(
        "frames",
        "r3d_18",
        8,
        sources=(images, source("kinetics", (19_000_000,))),
        baselines=(BaselineConfig(IMAGENET, dataset=IMAGENET),),
        protocols=("full_ft",),
        settings=_tuned_by_arm(),
    )


def _num_labels() -> SweepConfig:
    sources = (source("verb_noun", num_labels=LABELS["ig-verb-noun"]), source("kinetics", num_labels=LABELS[IG]))
    return _paper("num_labels", "r2plus1d_34", 8, sizes=(1_000_000,), sources=sources, settings=_tuned(10, 11))


def _label_kinds(kind: str) -> SweepConfig:
    return _paper(
        kind,
        "r2plus1d_34",
        32,
        sizes=(19_000_000,),
        sources=tuple(map(source, KINDS)),
        targets=("kinetics", "epic_noun", "epic_verb", "epic_action"),
        protocols=("fc_only",),
        baselines=(_ON_SPORTS,),
    )


def _ours(kind: str) -> SweepConfig:
    """Of a question that is not in the paper: its smaller sizes and its setting of Figure 1."""
    return _paper(kind, "r2plus1d_34", 8, sizes=(1_000_000,), settings=_tuned(8))


_PAPER: dict[str, Callable[[], SweepConfig]] = {
    "data_size": lambda: _paper(
        "data_size",
        "r2plus1d_34",
        8,
        strategies=("random",),
        targets=("kinetics", "epic_action"),
        joint=ACTIONS,
        baselines=(_ON_KINETICS,),
        settings=_tuned(8, 14),
    ),
    "sampling": lambda: _paper(
        "sampling",
        "r2plus1d_34",
        8,
        strategies=("random", "tail_preserving"),
        protocols=("fc_only",),
        settings=_tuned(8),
    ),
    "capacity": lambda: _paper(
        "capacity",
        "r2plus1d_34",
        32,
        sizes=(65_000_000,),
        models=("r2plus1d_18", "r2plus1d_34", "r2plus1d_101", "r2plus1d_152"),
        targets=("kinetics", "epic_action"),
        joint=ACTIONS,
        protocols=("full_ft",),
        baselines=(_ON_KINETICS,),
        settings=_tuned(9, 15),
    ),
    "label_kinds": lambda: _label_kinds("label_kinds"),
    "label_distribution": lambda: _label_kinds("label_distribution"),
    "num_labels": _num_labels,
    "durations": lambda: _paper(  # the length of the clips is not in the paper: 8, as in Section 4.1.1
        "durations", "r2plus1d_34", 8, sizes=(5_000_000,), protocols=("fc_only",), settings=_tuned(8)
    ),
    "frames": _frames,
    "kinetics": lambda: _comparison("kinetics", ("kinetics",), 13),
    "epic": lambda: _comparison("epic", EPIC, 16),
    "something": lambda: _comparison("something", ("something",), 17),
    "label_noise": lambda: _ours("label_noise"),
    "near_duplicates": lambda: _ours("near_duplicates"),
}


def paper(kind: str, root: str = "tagreel-data") -> SweepConfig:
    """A sweep at the paper's size: its arms, its recipe, its fine-tuning."""
    return replace(_PAPER[kind](), root=root)


# ---------------------------------------------------------------------------------------------------- the tiny size


OWN_PLATFORM = ("durations", "near_duplicates")
"""Tiny sweeps whose platform is another than that of the rest, and so has a root of its own."""


def tiny(kind: str, root: str = "") -> SweepConfig:
    """The same arms, few and small: a simulated platform, 32-pixel clips, networks of a quarter of the width."""
    root = root or f"tagreel-tiny{f'-{kind}' if kind in OWN_PLATFORM else ''}"
    cores = os.cpu_count() or 1
    demo = presets.demo(root, posts="", seed_labels="", num_workers=cores, num_processes=min(2, cores))
    recipe = replace(demo.pretrain.recipe, total_clips=4_096, warmup_clips=512)
    build = replace(demo.build, execution=replace(demo.build.execution, backend="process"))
    usual = replace(
        demo,
        build=build,
        kind=kind,
        name="",
        sizes=(256,),
        platform=PlatformConfig(num_posts=1200, test_videos_per_class=10, word_tag_rate=1.0),
        pretrain=replace(demo.pretrain, recipe=recipe),
        transfer=replace(demo.transfer, passes=12, warmup_passes=2, decay_passes=(5, 3)),
    )
    return replace(usual, **_TINY[kind](usual))


def _tiny_comparison(target: str) -> Callable[[SweepConfig], dict[str, object]]:
    def fields(_: SweepConfig) -> dict[str, object]:
        return {"models": ("r2plus1d_10", "r2plus1d_18"), "protocols": ("full_ft",), "targets": (target,)}

    return fields


def _tiny_durations(usual: SweepConfig) -> dict[str, object]:
    platform = PlatformConfig(num_posts=400, test_videos_per_class=10, long_rate=0.4, long_duration_s=(55.0, 60.0))
    build = replace(usual.build, sampling=SamplingConfig(min_videos=1))
    return {"sizes": (64,), "minutes": 4.0, "protocols": ("fc_only",), "platform": platform, "build": build}


def _tiny_kinds(usual: SweepConfig) -> dict[str, object]:
    return {
        "sources": tuple(SweepSourceConfig(kind.replace("_", "-"), kind) for kind in KINDS),
        "targets": ("verb", "noun", "verb_noun"),
        "keep_out": ("verb",),
        "protocols": ("fc_only",),
    }


def _tiny_frames(usual: SweepConfig) -> dict[str, object]:
    model = ModelConfig("r3d_10", usual.pretrain.model.width)
    return {
        "sources": (SweepSourceConfig("images", frames="one"), SweepSourceConfig("platform")),
        "inflations": ("mean", "center"),
        "protocols": ("full_ft",),
        "pretrain": replace(usual.pretrain, model=model),
    }


def _tiny_duplicates(usual: SweepConfig) -> dict[str, object]:
    return {"platform": replace(usual.platform, duplicate_rate=0.25), "protocols": ("fc_only",)}


_TINY: dict[str, Callable[[SweepConfig], dict[str, object]]] = {
    "data_size": lambda _: {"sizes": (64, 256), "strategies": ("random",)},
    "sampling": lambda _: {
        "sizes": (64, 256),
        "strategies": ("random", "tail_preserving"),
        "protocols": ("fc_only",),
    },
    "capacity": lambda _: {"models": ("r2plus1d_10", "r2plus1d_18"), "protocols": ("full_ft",)},
    "label_kinds": _tiny_kinds,
    "label_distribution": _tiny_kinds,
    "num_labels": lambda _: {
        "sources": (
            SweepSourceConfig("verb-noun", "verb_noun", num_labels=(8, 16, 32)),
            SweepSourceConfig("platform", "kinetics", num_labels=(4, 8, 16)),
        ),
        "sizes": (64,),
    },
    "durations": _tiny_durations,
    "frames": _tiny_frames,
    "kinetics": _tiny_comparison("verb"),
    "epic": lambda _: {
        "models": ("r2plus1d_10", "r2plus1d_18"),
        "protocols": ("full_ft",),
        "targets": ("verb", "noun", "verb_noun"),
        "joint": (JointTargetConfig("verb_noun", "verb", "noun"),),
        "keep_out": ("verb",),
        "views": ("plain", "short_edge"),
    },
    "something": _tiny_comparison("verb"),
    "label_noise": lambda _: {"label_noise": (0.0, 0.5), "protocols": ("fc_only",)},
    "near_duplicates": _tiny_duplicates,
}
SCALES: dict[str, Callable[[str], SweepConfig]] = {"paper": paper, "tiny": tiny, "study": study, "study_gpu": study_gpu}
