"""Protocol fc_only: features of the frozen network, then a logistic regression (paper, Section 4).

N videos, C clips a video, D features, K labels. Each of the uniformly placed centre-crop clips of a training video is a
row of its own, all of equal weight, because in the test too the regression sees single clips and its probabilities are
averaged. (The paper does not say whether it averages features of a training video first.) The regression then becomes
the final layer of the network, so that the test is the same as after full fine-tuning.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from finetune import evaluate, logistic
from finetune.data import Split
from finetune.logistic import LogisticRegression
from finetune.search import Fitted, held_out, search
from pipeline import progress
from pipeline.config import TransferConfig
from pipeline.storage import StorageError
from pretrain.distributed import World
from pretrain.models import VideoResNet
from pretrain.reading import FrameReader


def fit(config: TransferConfig, model: VideoResNet, train: Split, reader: FrameReader, world: World) -> Fitted:
    """Search the penalty on held-out training videos, then fit on all; the model's final layer becomes the regression."""
    features_NCD = training_features(config, model, train, reader, world)
    mask = held_out(train.samples.keys.to_pylist(), train.strata, config.held_out, config.seed, train.groups)

    def scores_with(l2: float) -> np.ndarray:
        solved = regress(features_NCD[~mask], train.labels[~mask], train.samples.num_labels, l2, world)
        return video_probabilities(solved, features_NCD[mask], world)

    chosen, trials = search("l2", config.l2, train.labels[mask], scores_with)
    solved = regress(features_NCD, train.labels, train.samples.num_labels, chosen, world)
    set_final_layer(model, solved, world)
    account = {"iterations": solved.iterations, "gradient_norm": solved.gradient_norm, "converged": solved.converged}
    return Fitted(model, chosen, trials, account)


def training_features(
    config: TransferConfig, model: VideoResNet, train: Split, reader: FrameReader, world: World
) -> np.ndarray:
    """float32 [N, C, D] of all training videos; a stored video that cannot be read is damage and raises StorageError."""
    outputs = evaluate.clip_features(
        model, reader, range(len(train.samples)), config.num_clips, world, config.precision
    )
    if outputs.undecodable:
        sample, reason = next(iter(outputs.undecodable.items()))
        raise StorageError(
            f"{len(outputs.undecodable)} stored training videos cannot be read; the first is "
            f"{train.samples.describe(sample)} ({reason})"
        )
    return outputs.values


def regress(
    features_NCD: np.ndarray, labels: Sequence[int], num_labels: int, l2: float, world: World
) -> LogisticRegression:
    """Logistic regression on the clips of the videos, on the world's device."""
    rows_ND = torch.from_numpy(features_NCD.reshape(-1, features_NCD.shape[2])).to(world.device)
    row_labels = torch.from_numpy(np.repeat(labels, features_NCD.shape[1])).to(world.device)
    solved = logistic.fit(rows_ND, row_labels, num_labels, l2)
    if not solved.converged:
        progress.say(f"  l2 {l2:g}: stopped after {solved.iterations} iterations, gradient {solved.gradient_norm:.1e}")
    return solved


def video_probabilities(solved: LogisticRegression, features_NCD: np.ndarray, world: World) -> np.ndarray:
    """float64 [N, K]: the mean over clips of the softmax."""
    features = torch.from_numpy(features_NCD).to(world.device)
    return solved.logits(features).softmax(dim=2).mean(dim=1).cpu().numpy()


@torch.no_grad()
def set_final_layer(model: VideoResNet, solved: LogisticRegression, world: World) -> None:
    """Weights and bias of the regression become those of `model.fc`; the first process's are given to all."""
    model.fc.weight.copy_(solved.weight_KD)
    model.fc.bias.copy_(solved.bias_K)
    for parameter in model.fc.parameters():
        world.broadcast_(parameter.data)
