"""What a target's kind of labels means for training: one label a video, or several (multi-label).

B clips, N videos, K labels. One label: softmax and cross-entropy. Several: a sigmoid for each label and the sum over labels of
the binary cross-entropies, which like the cross-entropy is minus the log-likelihood of what a clip's video has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pretrain.data import Batch
from pretrain.engine import Loss


def training_loss(multi_label: bool) -> Loss:
    """For `Engine(loss=...)`: of logits [B, K] and labels, int64 [B] or (as `with_all_labels` gives them) float32 [B, K]."""
    return sum_of_binary_cross_entropies if multi_label else F.cross_entropy


def sum_of_binary_cross_entropies(logits_BK: Tensor, labels_BK: Tensor) -> Tensor:
    """Mean over clips of the sum over labels."""
    return F.binary_cross_entropy_with_logits(logits_BK, labels_BK, reduction="sum") / len(logits_BK)


def with_all_labels(batches: Iterable[Batch], labels: np.ndarray) -> Iterator[Batch]:
    """The same microbatches; where `labels` is bool [N, K], each clip has all labels of its video, float32 [B, K].

    Where `labels` is int64 [N], nothing changes.
    """
    for batch in batches:
        yield batch if labels.ndim == 1 else batch._replace(labels=torch.from_numpy(labels[batch.samples]).float())


def probabilities(logits: Tensor, multi_label: bool) -> Tensor:
    """Of logits [B, K, ...]: over the labels they add up to 1 only where a video has one."""
    return logits.sigmoid() if multi_label else logits.softmax(dim=1)


def log_loss(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean over videos of the loss of their probabilities, float [N, K]; infinite where one is not a number.

    Probabilities of 0 count as 1e-12.
    """
    if not np.isfinite(scores).all():
        return np.inf
    if labels.ndim == 1:
        own = scores[np.arange(len(labels)), labels].astype(np.float64)
        return float(-np.log(np.clip(own, 1e-12, None)).mean())
    of_what_is = np.where(labels, scores, 1 - scores.astype(np.float64))
    return float(-np.log(np.clip(of_what_is, 1e-12, None)).sum(axis=1).mean())
