"""Tables 8 to 17 of the paper: how every network of it was fine-tuned, row by row (Section A.4).

The tables give a rate for one GPU and a batch for one GPU, on 16 nodes of 4 GPUs. Here a GPU of theirs is a virtual
worker: `batch_per_gpu` is theirs, `batch` is 64 of them and `learning_rates` is 64 times their rate, on any number of processes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pipeline.config import ClipConfig, ModelConfig, TransferConfig

GPUS = 16 * 4
BATCH_PER_GPU = {8: 16, 32: 6}
"""Clips by clip length (captions of the tables; Table 12 has none, and is taken for the others of 8 frames)."""

Target = Literal["kinetics", "epic_verb", "epic_noun", "something"]


VARIED = {
    8: "amount of pre-training data (4.1.1)",
    9: "depth, pre-trained on all of IG-Kinetics-65M (4.1.2)",
    10: "number of labels of IG-Verb+Noun (4.2.2)",
    11: "number of labels of IG-Kinetics (4.2.2)",
    12: "pictures inflated, or video (4.3.2)",
    13: "against the state of the art, test crops of 128 px (4.4)",
    14: "amount of pre-training data (4.1.1)",
    15: "depth, pre-trained on all of IG-Kinetics-65M (4.1.2)",
    16: "against the state of the art, test crops of 128 px (4.4)",
    17: "against the state of the art, test crops of 128 px (4.4)",
}
"""What the rows of a table differ in."""
FULLY_CONVOLUTIONAL = (13, 16, 17)
"""Tables of Section 4.4, which tests 128×128 crops."""
INFLATED = ("imagenet", "ig_19m_images", "ig_250m_images", "ig_19m_frames")
"""Rows of Table 12 whose network was pretrained on pictures."""


@dataclass(frozen=True)
class Row:
    """A row of a table, or its half for the verbs or for the nouns of EPIC-Kitchens."""

    table: int
    target: Target
    model: str
    length: int
    """Frames of a clip."""
    pretraining: str
    """What tells the row from others of its table, as in its name."""
    passes: int
    lr_per_gpu: float
    warmup: int
    """Passes; Tables 14 to 17 have none (A.4)."""
    steps: tuple[int, ...]
    """Passes from the end of the warm-up to the first reduction, and from each to the next; each is by 0.1."""

    @property
    def name(self) -> str:
        depth = self.model.replace("r2plus1d_", "r").replace("r3d_", "r3d")
        return f"table{self.table}_{self.target}_{depth}_{self.length}f_{self.pretraining}"

    @property
    def learning_rate(self) -> float:
        """Of the whole batch; the product as in decimal arithmetic."""
        return round(GPUS * self.lr_per_gpu, 12)

    @property
    def about(self) -> str:
        return f"{self.model} on {self.target}, full fine-tuning (Table {self.table})"

    def config(self) -> TransferConfig:
        """The transfer; the target is named as in the row, and the run is yours to name."""
        batch_per_gpu = BATCH_PER_GPU[self.length]
        made = TransferConfig(
            target=self.target,
            protocol="full_ft",
            model=ModelConfig(self.model),
            clip=ClipConfig(length=self.length),
            learning_rates=(self.learning_rate,),
            passes=self.passes,
            warmup_passes=self.warmup,
            decay_passes=self.steps,
            decay_factor=0.1,
            batch=GPUS * batch_per_gpu,
            batch_per_gpu=batch_per_gpu,
            weight_decay=1e-4,
            num_processes=8,
        )
        if self.table in FULLY_CONVOLUTIONAL:
            return replace(made, test_crop_px=128)
        return replace(made, inflate="mean") if self.pretraining in INFLATED else made


def kinetics(table: int, model: str, length: int, rates: dict[str, float]) -> list[Row]:
    """Tables 8 to 11 and 13: what is varied → rate."""
    return [Row(table, "kinetics", model, length, name, 58, rate, 16, (16, 16)) for name, rate in rates.items()]


def inflation(pretraining: str, passes: int, rate: float, warmup: int, steps: tuple[int, ...]) -> Row:
    """Table 12; network and clips are of Section 4.3.2."""
    return Row(12, "kinetics", "r3d_18", 8, pretraining, passes, rate, warmup, steps)


def epic(table: int, model: str, length: int, pretraining: str, verb: float, noun: float) -> list[Row]:
    """Tables 14 to 16: a network for the verbs and one for the nouns."""
    rates: dict[Target, float] = {"epic_verb": verb, "epic_noun": noun}
    return [Row(table, target, model, length, pretraining, 27, rate, 0, (9, 9, 9)) for target, rate in rates.items()]


def something(model: str, pretraining: str, rate: float, steps: tuple[int, ...]) -> Row:
    """Table 17."""
    return Row(17, "something", model, 32, pretraining, 16, rate, 0, steps)


ROWS: tuple[Row, ...] = (
    *kinetics(8, "r2plus1d_34", 8, dict.fromkeys(("ig_500k", "ig_1m", "ig_5m"), 0.0003)),
    *kinetics(8, "r2plus1d_34", 8, dict.fromkeys(("ig_10m", "ig_19m", "ig_65m"), 0.00003)),
    *(row for depth in (18, 34, 101, 152) for row in kinetics(9, f"r2plus1d_{depth}", 32, {"ig_65m": 0.00003})),
    *kinetics(10, "r2plus1d_34", 8, {f"{labels}_labels": 0.0003 for labels in (675, 1350, 2700, 5400, 10563)}),
    *kinetics(11, "r2plus1d_34", 8, {f"{labels}_labels": 0.0003 for labels in (20, 45, 90, 180, 359)}),
    inflation("imagenet", 167, 0.01, 20, (40, 40, 40)),
    inflation("ig_19m_images", 96, 0.00025, 20, (20, 20, 20)),
    inflation("ig_250m_images", 96, 0.0025, 20, (20, 20, 20)),
    inflation("ig_19m_frames", 96, 0.0005, 20, (20, 20, 20)),
    inflation("ig_19m_video", 188, 0.01, 40, (40, 40, 40)),
    *kinetics(13, "r2plus1d_34", 32, {"sports_1m": 0.00003, "ig": 0.00003}),
    *kinetics(13, "r2plus1d_152", 32, {"ig": 0.00003}),
    *epic(14, "r2plus1d_34", 8, "ig_500k", 0.0005, 0.0005),
    *epic(14, "r2plus1d_34", 8, "ig_1m", 0.0005, 0.0005),
    *epic(14, "r2plus1d_34", 8, "ig_5m", 0.0005, 0.0001),
    *epic(14, "r2plus1d_34", 8, "ig_10m", 0.00025, 0.0001),
    *epic(14, "r2plus1d_34", 8, "ig_19m", 0.00025, 0.0001),
    *epic(14, "r2plus1d_34", 8, "ig_65m", 0.00025, 0.0001),
    *epic(14, "r2plus1d_34", 8, "kinetics", 0.00025, 0.0001),
    *epic(15, "r2plus1d_18", 32, "ig_65m", 0.00005, 0.00025),
    *epic(15, "r2plus1d_34", 32, "ig_65m", 0.000025, 0.00025),
    *epic(15, "r2plus1d_101", 32, "ig_65m", 0.000025, 0.0001),
    *epic(15, "r2plus1d_152", 32, "ig_65m", 0.00005, 0.0001),
    *epic(16, "r2plus1d_34", 32, "kinetics", 0.0025, 0.0025),
    *epic(16, "r2plus1d_34", 32, "sports_1m", 0.0025, 0.0025),
    *epic(16, "r2plus1d_34", 32, "ig", 0.000025, 0.00025),
    *epic(16, "r2plus1d_152", 32, "ig", 0.00005, 0.0001),
    something("r2plus1d_34", "kinetics", 0.001, (6, 6)),
    something("r2plus1d_34", "sports_1m", 0.001, (6, 6)),
    something("r2plus1d_34", "ig", 0.00025, (6, 6)),
    something("r2plus1d_152", "ig", 0.00013, (12,)),
)


def listing() -> str:
    """The rows with their columns, table by table."""
    headings = ("name", "passes", "warm-up", "steps", "rate a GPU", "× 64", "batch")
    lines = {
        row: (
            row.name,
            f"{row.passes}",
            f"{row.warmup or '–'}",
            " + ".join(map(str, row.steps)),
            f"{row.lr_per_gpu:f}".rstrip("0"),
            f"{row.learning_rate:f}".rstrip("0"),
            f"{GPUS} × {BATCH_PER_GPU[row.length]}",
        )
        for row in ROWS
    }
    widths = [max(map(len, column)) for column in zip(headings, *lines.values(), strict=True)]
    blocks = []
    for table, varied in VARIED.items():
        found = [cells for row, cells in lines.items() if row.table == table]
        block = [_aligned(cells, widths) for cells in (headings, *found)]
        blocks.append("\n".join([f"Table {table}: {varied}", *block]))
    return "\n\n".join(blocks)


def _aligned(cells: tuple[str, ...], widths: list[int]) -> str:
    first, *others = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    return "  ".join(["  " + first, *others]).rstrip()
