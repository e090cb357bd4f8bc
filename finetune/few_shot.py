"""Protocol few_shot: k training videos a label, frozen features, a logistic regression and a perceptron of 512 units.

N videos, V of them drawn, R rows a video (one a clip), D features, K labels. After Mahdisoltani et al. 2018, "Fine-grained
Video Classification and Captioning" (Section 6.2): each head sees single rows, a test video gets the mean of its rows'
probabilities, and accuracies are averaged over draws, with a 95 % interval. docs/fc-only.md says where we differ.

Nothing is chosen on test videos: the regression's penalty is chosen by cross-validation over the k videos, the
perceptron's recipe is fixed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.stats
import torch
from torch import Tensor

from finetune import fc_only, logistic, mlp
from finetune.data import Split
from finetune.features import Features
from finetune.logistic import LogisticRegression, Problem
from finetune.metrics import top_k_correct
from finetune.rows import Rows
from pipeline import progress
from pipeline.config import ConfigError, TransferConfig
from pretrain.distributed import World
from pretrain.models import VideoResNet
from pretrain.reading import FrameReader

HEADS = ("logistic", "mlp")
FOLDS = 5
FOLD_TOLERANCE = 1e-4  # of the gradient: the folds only rank the penalties
CONFIDENCE = 0.95


class Head(Protocol):
    def probabilities(self, rows_ND: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class FewShot:
    """What the protocol hands over for the result."""

    heads: dict[str, dict[str, dict[str, Any]]]
    """Head → k → {accuracies: of each draw, mean, interval: [low, high] or None, and for logistic l2: of each draw}."""
    num_short: dict[str, int]
    """k → labels with fewer than k training videos: all they have are used."""
    undecodable: dict[int, str]
    """Test videos without a part in the accuracies: sample number → reason."""


def run(
    config: TransferConfig,
    model: VideoResNet,
    train: Split,
    test: Split,
    readers: tuple[FrameReader, FrameReader],
    world: World,
) -> FewShot:
    """Both heads at every number of shots and every draw, shared out over the processes; `readers` of train and test.

    What cannot be drawn was refused by `check`.
    """
    known = fc_only.training_features(config, model, train, readers[0], world)
    asked = fc_only.frozen_features(config, model, readers[1], "each", world)
    keys, names = train.samples.keys.to_pylist(), train.samples.labels
    jobs = [(head, k, draw) for k in sorted(config.shots) for draw in range(config.draws) for head in HEADS]
    found = torch.zeros(len(jobs), 2, dtype=torch.float64, device=world.device)
    mine = range(world.rank, len(jobs), world.size)
    for number in progress.bar(mine, desc="few_shot", unit="fit"):
        head, k, draw = jobs[number]
        drawn = draw_videos(keys, train.labels, k, config.seed, draw)
        fitted, l2 = fit_head(head, known.of(drawn), train.labels[drawn], len(names), config, draw, world.device)
        found[number, 0], found[number, 1] = accuracy(fitted, asked, test.labels, world.device), l2
    world.sum_(found)

    heads: dict[str, dict[str, dict[str, Any]]] = {head: {} for head in HEADS}
    for head in HEADS:
        for k in sorted(config.shots):
            values = found[[job[:2] == (head, k) for job in jobs]].cpu().numpy()
            heads[head][str(k)] = summary(values[:, 0].tolist())
            if head == "logistic":
                heads[head][str(k)]["l2"] = values[:, 1].tolist()
            progress.say(f"few_shot: {k} a label, {head}: {describe(heads[head][str(k)])}")
    return FewShot(heads, num_short(config, train), asked.undecodable)


def check(config: TransferConfig, train: Split) -> None:
    """Refuse what cannot be drawn; say what is drawn short."""
    if train.labels.ndim == 2:
        raise ConfigError(
            f"few_shot draws videos label by label and needs one label a video; target '{train.samples.name}' has several: "
            "use --protocol fc_only"
        )
    if config.num_crops != 1 or config.clip_choice != "uniform":
        raise ConfigError(
            f"few_shot scores features of uniform clips, one crop each: leave out num_crops = {config.num_crops} and "
            f"clip_choice = {config.clip_choice}"
        )
    if not config.shots or min(config.shots) < 1 or config.draws < 1:
        raise ConfigError(f"shots = {config.shots} and draws = {config.draws} must be numbers of at least 1")
    most = np.bincount(train.labels).max()
    if max(config.shots) > most:
        raise ConfigError(
            f"shots: no label of '{train.samples.name}' has {max(config.shots)} videos; the most is {most}: give --shots of "
            "at most that"
        )
    for k, count in num_short(config, train).items():
        if count:
            progress.say(
                f"few_shot: {count:,} of {train.samples.num_labels:,} labels have fewer than {k} training videos; all "
                "they have are used"
            )


def num_short(config: TransferConfig, train: Split) -> dict[str, int]:
    """k → labels with fewer than k training videos."""
    num_videos = np.bincount(train.labels, minlength=train.samples.num_labels)
    return {str(k): int((num_videos < k).sum()) for k in sorted(config.shots)}


def draw_videos(keys: Sequence[str], labels: np.ndarray, k: int, seed: int, draw: int) -> np.ndarray:
    """int64 [V], ascending: of each label the `k` videos (or all it has) with the least hash(seed, draw, key).

    So the draws of a seed are nested: the videos of 1 shot are among those of 5.
    """
    hashes = [hashlib.sha256(f"{seed}/few shot/{draw}/{key}".encode()).digest() for key in keys]
    taken: dict[int, int] = {}
    drawn = []
    for index in sorted(range(len(keys)), key=hashes.__getitem__):
        taken[labels[index]] = taken.get(labels[index], 0) + 1
        if taken[labels[index]] <= k:
            drawn.append(index)
    return np.sort(np.array(drawn, dtype=np.int64))


# ---------------------------------------------------------------------------------------------------------- heads


def fit_head(
    head: str,
    features_VRD: np.ndarray,
    labels_V: np.ndarray,
    num_labels: int,
    config: TransferConfig,
    draw: int,
    device: torch.device,
) -> tuple[Head, float]:
    """The head fitted to the drawn videos, and its l2 (of the perceptron: not a number)."""
    if head == "mlp":
        seed = int.from_bytes(hashlib.sha256(f"{config.seed}/mlp/{draw}".encode()).digest()[:7], "little")
        return mlp.fit(features_VRD, labels_V, num_labels, seed, device), float("nan")
    l2 = choose_l2(features_VRD, labels_V, num_labels, config.l2, device)
    return logistic.fit(Rows.of(features_VRD, labels_V, device), num_labels, l2), l2


def choose_l2(
    features_VRD: np.ndarray, labels_V: np.ndarray, num_labels: int, grid: Sequence[float], device: torch.device
) -> float:
    """The penalty of the grid with the least cross-entropy of left-out videos; the stronger one of equals.

    Each label's videos are dealt out to at most five folds, so that every fit knows every label that has two videos; one
    video a label cannot be divided, and takes 1 / V: what scikit-learn's C = 1 is, with a video counted as one row.
    """
    place_V, folds = places_within_labels(labels_V), min(FOLDS, int(np.bincount(labels_V).max()))
    if folds < 2:
        return 1 / len(labels_V)
    if len(grid) == 1:
        return grid[0]
    losses = dict.fromkeys(sorted(grid, reverse=True), 0.0)
    for fold in range(folds):
        left_out = (place_V % folds == fold) & (np.bincount(labels_V)[labels_V] > 1)
        problem = Problem(Rows.of(features_VRD[~left_out], labels_V[~left_out], device), num_labels)
        solved: LogisticRegression | None = None
        for l2 in losses:
            solved = problem.solve(l2, solved, FOLD_TOLERANCE)
            losses[l2] += loss_of_videos(solved, features_VRD[left_out], labels_V[left_out], device)
    return min(losses, key=losses.__getitem__)


def places_within_labels(labels_V: np.ndarray) -> np.ndarray:
    """int64 [V]: how many videos of the same label come before."""
    order = np.argsort(labels_V, kind="stable")
    first = np.searchsorted(labels_V[order], labels_V[order])
    places = np.empty(len(labels_V), dtype=np.int64)
    places[order] = np.arange(len(labels_V)) - first
    return places


def loss_of_videos(head: Head, features_VRD: np.ndarray, labels_V: np.ndarray, device: torch.device) -> float:
    """Sum of the cross-entropies of the videos' averaged probabilities."""
    if not len(labels_V):
        return 0.0
    own_V = video_probabilities(head, features_VRD, device)[np.arange(len(labels_V)), labels_V]
    return float(-np.log(np.clip(own_V, 1e-12, None)).sum())


def video_probabilities(head: Head, features_VRD: np.ndarray, device: torch.device) -> np.ndarray:
    """float [V, K]: the mean over a video's rows."""
    rows_ND = torch.from_numpy(np.array(features_VRD)).to(device).flatten(0, 1)
    return head.probabilities(rows_ND).unflatten(0, features_VRD.shape[:2]).mean(dim=1).cpu().numpy()


def accuracy(head: Head, asked: Features, labels_N: np.ndarray, device: torch.device) -> float:
    """Top-1 accuracy over the decoded videos of a split, read part by part."""
    correct = [
        top_k_correct(video_probabilities(head, part.values_NRD, device), labels_N[part.samples], 1)
        for part in asked.parts
        if len(part.samples)
    ]
    if not correct:
        raise ConfigError("none of the test videos could be decoded")
    return float(np.concatenate(correct).mean())


# -------------------------------------------------------------------------------------------------------- summary


def summary(accuracies: list[float]) -> dict[str, Any]:
    """{accuracies, mean, interval}: Student's t over the draws; it covers which videos were drawn, not which are tested.

    One draw has no interval: None.
    """
    mean, interval = float(np.mean(accuracies)), None
    if len(accuracies) > 1:
        error = float(np.std(accuracies, ddof=1)) / len(accuracies) ** 0.5
        half = error * float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(accuracies) - 1))
        interval = [mean - half, mean + half]
    return {"accuracies": accuracies, "mean": mean, "interval": interval}


def describe(found: dict[str, Any]) -> str:
    """For the person at the terminal."""
    draws = f"{len(found['accuracies'])} draws"
    if found["interval"] is None:
        return f"top-1 {found['mean']:.1%} ({draws})"
    return f"top-1 {found['mean']:.1%} ({found['interval'][0]:.1%} to {found['interval'][1]:.1%}, {draws})"
