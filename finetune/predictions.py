"""What the predictions of finished transfers say: pairs of labels that are confused, and where two transfers differ.

Pure functions of `Scored`, the scored test videos of one transfer. N videos, K labels.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from finetune import metrics
from pipeline import storage
from pipeline.config import ConfigError


@dataclass(frozen=True)
class Scored:
    """The scored test videos of a finished transfer."""

    names: tuple[str, ...]
    """[K], of the labels."""
    keys: tuple[str, ...]
    """[N]"""
    labels: np.ndarray
    """int64 [N]"""
    scores: np.ndarray
    """float32 [N, K]"""
    undecodable: dict[str, int]
    """Test videos without scores, by reason."""

    @property
    def predicted(self) -> np.ndarray:
        """int64 [N], the label with the highest score."""
        return self.scores.argmax(axis=1)

    @property
    def correct(self) -> np.ndarray:
        """bool [N], as the result counts it: a tie is wrong."""
        return metrics.top_k_correct(self.scores, self.labels, 1)


@dataclass(frozen=True)
class Pair:
    """Videos of one label that were taken for another."""

    label: str
    predicted: str
    videos: int
    share: float
    """Of the label's videos."""


@dataclass(frozen=True)
class Difference:
    """How one label does in two transfers, on the videos that both scored."""

    label: str
    videos: int
    top1: float
    top1_against: float
    top1_difference: float
    top5_difference: float


def read_scored(folder: str, names: list[str], seed: int) -> Scored:
    """From a result's predictions.parquet; of several final trainings that of `seed`."""
    table = storage.read_parquet(storage.join(folder, "predictions.parquet"))
    if "seed" in table.column_names:
        table = table.filter(np.equal(table["seed"].to_numpy(), seed))
    rows = table.to_pylist()
    scored = [row for row in rows if row["scores"] is not None]
    if any(len(row["labels"]) != 1 for row in scored):
        raise ConfigError(
            f"the videos of '{folder}' have several labels each, and confusions are of one label with another"
        )
    return Scored(
        tuple(names),
        tuple(row["key"] for row in scored),
        np.array([row["labels"][0] for row in scored], np.int64),
        np.array([row["scores"] for row in scored], np.float32).reshape(len(scored), len(names)),
        dict(Counter(row["reason"] for row in rows if row["scores"] is None)),
    )


def confused_pairs(scored: Scored) -> list[Pair]:
    """All pairs with a video, those with most first; ties by the share of the label's videos, then by name."""
    wrong = scored.predicted != scored.labels
    counts = Counter(zip(scored.labels[wrong].tolist(), scored.predicted[wrong].tolist(), strict=True))
    totals = np.bincount(scored.labels, minlength=len(scored.names))
    pairs = [
        Pair(scored.names[label], scored.names[other], videos, videos / int(totals[label]))
        for (label, other), videos in counts.items()
    ]
    return sorted(pairs, key=lambda pair: (-pair.videos, -pair.share, pair.label, pair.predicted))


def in_common(here: Scored, there: Scored) -> tuple[Scored, Scored]:
    """The videos that both transfers scored, in one order. Raises: ConfigError where the targets are not the same."""
    if here.names != there.names:
        raise ConfigError("the two results have different labels: compare transfers to the same target")
    rows_here, rows_there = ({key: row for row, key in enumerate(scored.keys)} for scored in (here, there))
    keys = tuple(key for key in here.keys if key in rows_there)
    if not keys:
        raise ConfigError("the two results have no test video in common: compare transfers to the same target")
    pair = [_taken(here, keys, rows_here), _taken(there, keys, rows_there)]
    if (pair[0].labels != pair[1].labels).any():
        raise ConfigError("the two results give the same videos different labels: their targets differ")
    return pair[0], pair[1]


def _taken(scored: Scored, keys: tuple[str, ...], rows: dict[str, int]) -> Scored:
    places = [rows[key] for key in keys]
    return Scored(scored.names, keys, scored.labels[places], scored.scores[places], {})


def differences(here: Scored, there: Scored) -> list[Difference]:
    """Of every label that has videos, for two transfers' videos in common (`in_common`); the greatest gain first."""
    shares = [
        [
            metrics.class_accuracies(
                metrics.top_k_correct(scored.scores, scored.labels, k), scored.labels, len(here.names)
            )
            for k in (1, 5)
        ]
        for scored in (here, there)
    ]
    ((top1, totals), (top5, _)), ((top1_there, _), (top5_there, _)) = shares
    found = [
        Difference(
            here.names[label],
            int(totals[label]),
            float(top1[label]),
            float(top1_there[label]),
            float(top1[label] - top1_there[label]),
            float(top5[label] - top5_there[label]),
        )
        for label in np.flatnonzero(totals)
    ]
    return sorted(found, key=lambda each: (-each.top1_difference, -each.top5_difference, each.label))
