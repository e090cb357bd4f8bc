"""Protocol fc_only: features of the frozen network, then a logistic regression (paper, Section 4).

N videos, R rows a video (one a clip), D features, K labels. Each of the uniformly placed centre-crop clips of a training
video is a row of its own, all of equal weight, because in the test too the regression sees single clips and its
probabilities are averaged. (The paper says neither how many clips of a training video it takes nor whether it averages
their features first.) Videos with one label get a softmax, videos with several a sigmoid for each label.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from finetune import features
from finetune.data import Split
from finetune.evaluate import Outputs
from finetune.features import Features, View
from finetune.logistic import GRADIENT_TOLERANCE, LogisticRegression, Problem
from finetune.search import Fitted, held_out, search
from pipeline import artifacts, progress
from pipeline.config import ClipConfig, TransferConfig
from pipeline.storage import StorageError
from pretrain.distributed import World
from pretrain.models import VideoResNet
from pretrain.reading import FrameReader


def fit(config: TransferConfig, model: VideoResNet, train: Split, reader: FrameReader, world: World) -> Fitted:
    """Search the penalty on held-out training videos, then fit on all; the model's final layer becomes the regression."""
    found = training_features(config, model, train, reader, world)
    labels, num_labels = train.labels, train.samples.num_labels
    mask = held_out(train.samples.keys.to_pylist(), train.strata, config.held_out, config.seed, train.groups)
    path: dict[float, LogisticRegression] = {}

    def solve(videos: np.ndarray, l2s: list[float], start: LogisticRegression | None = None) -> None:
        """From the strongest penalty to the weakest, each from the answer before."""
        problem = Problem(found.rows(labels, videos, world), num_labels, loss_of(labels), world)
        for l2 in sorted(l2s, reverse=True):
            path[l2] = start = regress(problem, l2, start)

    def scores_with(l2: float) -> np.ndarray:
        if not path:
            solve(~mask, list(config.l2))
        return video_probabilities(path[l2], found, mask, world)

    chosen, trials = search("l2", config.l2, labels[mask], scores_with)
    solve(np.ones(len(labels), dtype=bool), [chosen], path.get(chosen))
    solved = path[chosen]
    set_final_layer(model, solved, world)
    account = {
        "iterations": solved.iterations,
        "gradient_norm": solved.gradient_norm,
        "converged": solved.converged,
        "features": found.folder.rpartition("/")[2],
    }
    return Fitted(model, chosen, trials, account)


def loss_of(labels: np.ndarray) -> str:
    """ "softmax" for int64 [N], "sigmoid" for bool [N, K]."""
    return "sigmoid" if labels.ndim == 2 else "softmax"


# ------------------------------------------------------------------------------------------------------- features


def training_features(
    config: TransferConfig, model: VideoResNet, train: Split, reader: FrameReader, world: World
) -> Features:
    """Of all training videos; a stored video that cannot be read is damage and raises StorageError."""
    found = frozen_features(config, model, reader, "mean", world)
    if found.undecodable:
        sample, reason = next(iter(found.undecodable.items()))
        raise StorageError(
            f"{len(found.undecodable)} stored training videos cannot be read; the first is "
            f"{train.samples.describe(sample)} ({reason})"
        )
    return found


def frozen_features(
    config: TransferConfig, model: VideoResNet, reader: FrameReader, positions: Literal["mean", "each"], world: World
) -> Features:
    """Of what `reader` reads; where crops are larger than the head's map, training takes the mean of its positions (as
    the network does in training) and the test scores each of them."""
    view = View(reader.clip, config.num_clips, positions, config.precision)
    return features.extract(artifacts.transferred_run_files(config), model, reader, view, world)


# ----------------------------------------------------------------------------------------------------- regression


def regress(problem: Problem, l2: float, start: LogisticRegression | None) -> LogisticRegression:
    """Solve, and say so when the solver gave up."""
    solved = problem.solve(l2, start)
    if not solved.converged:
        progress.say(
            f"  l2 {l2:g}: stopped after {solved.iterations} iterations, gradient {solved.gradient_norm:.1e} "
            f"(converged is {GRADIENT_TOLERANCE:.0e})"
        )
    return solved


def video_probabilities(solved: LogisticRegression, found: Features, mask: np.ndarray, world: World) -> np.ndarray:
    """float32 [n, K] of the videos where `mask`, bool [N], in order, on every process: the mean over their rows.

    A video that could not be decoded has zeros.
    """
    place_N = np.cumsum(mask) - 1
    result_NK = torch.zeros(int(mask.sum()), len(solved.bias_K), device=world.device)
    for part in found.parts[world.rank :: world.size]:
        taken = np.flatnonzero(mask[part.samples])
        rows_NRD = torch.from_numpy(part.values_NRD[taken]).to(world.device)
        probabilities_NRK = solved.probabilities(rows_NRD.flatten(0, 1)).unflatten(0, rows_NRD.shape[:2])
        result_NK[place_N[part.samples[taken]]] = probabilities_NRK.mean(dim=1).float()
    return world.sum_(result_NK).cpu().numpy()


def scores_from_features(config: TransferConfig, clip: ClipConfig) -> bool:
    """Does the test of a transfer want what `test_outputs` scores: centre crops of uniform clips, of the trained size?"""
    same_crops = config.num_crops == 1 and config.test_crop_px in (None, clip.crop_px)
    return config.protocol == "fc_only" and same_crops and config.clip_choice == "uniform"


def test_outputs(config: TransferConfig, model: VideoResNet, test: Split, reader: FrameReader, world: World) -> Outputs:
    """Probabilities of the test videos by the network with the regression as its final layer, from cached features.

    The same numbers as `evaluate.video_scores` gives with centre crops of uniform clips, up to rounding.
    """
    found = frozen_features(config, model, reader, "each", world)
    solved = LogisticRegression(
        model.fc.weight.detach().double(), model.fc.bias.detach().double(), loss_of(test.labels)
    )
    decoded = np.ones(len(test.samples), dtype=bool)
    decoded[list(found.undecodable)] = False
    return Outputs(np.flatnonzero(decoded), video_probabilities(solved, found, decoded, world), found.undecodable)


@torch.no_grad()
def set_final_layer(model: VideoResNet, solved: LogisticRegression, world: World) -> None:
    """Weights and bias of the regression become those of `model.fc`; the first process's are given to all."""
    model.fc.weight.copy_(solved.weight_KD)
    model.fc.bias.copy_(solved.bias_K)
    for parameter in model.fc.parameters():
        world.broadcast_(parameter.data)
