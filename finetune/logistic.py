"""L2-regularised logistic regression, solved to convergence in double precision (paper, Section 4).

Shape letters: N rows, D features, K labels. Videos with one label: one softmax over the labels. Videos with several: a
sigmoid for each label, K regressions that share nothing but the reading of the rows. The rows may be spread over
processes: each adds up the objective and its gradient over its own, the first one runs L-BFGS on the sums.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.optimize
import torch
import torch.nn.functional as F
from torch import Tensor

from finetune.rows import Rows
from pretrain.distributed import World

Loss = Literal["softmax", "sigmoid"]

GRADIENT_TOLERANCE = 1e-7
MAX_ITERATIONS = 2000
MEMORY = 10  # steps that L-BFGS remembers; it needs 2 × MEMORY + 5 times the memory of the weights
SMALL = 100_000_000  # multiplications of one evaluation


@dataclass(frozen=True)
class LogisticRegression:
    """logits = features · weight + bias, for features as they come (the scaling used in the fit is folded in)."""

    weight_KD: Tensor
    """float64 [K, D]."""
    bias_K: Tensor
    """float64 [K]."""
    loss: Loss = "softmax"
    iterations: int = 0
    gradient_norm: float = math.inf
    """Largest absolute component of the objective's gradient where the solver stopped."""

    @property
    def converged(self) -> bool:
        return self.gradient_norm <= GRADIENT_TOLERANCE

    def logits(self, features_ND: Tensor) -> Tensor:
        """float [N, D] → float64 [N, K]."""
        return F.linear(features_ND.double(), self.weight_KD, self.bias_K)

    def probabilities(self, features_ND: Tensor) -> Tensor:
        """float [N, D] → float64 [N, K]; over the labels they add up to 1 with the softmax only."""
        logits_NK = self.logits(features_ND)
        return logits_NK.softmax(dim=1) if self.loss == "softmax" else logits_NK.sigmoid()


def indicator(label_ids: Sequence[Sequence[int]], num_labels: int) -> np.ndarray:
    """bool [N, K] of lists of label ids, as "sigmoid" wants them."""
    found = np.zeros((len(label_ids), num_labels), dtype=bool)
    for row, ids in enumerate(label_ids):
        found[row, list(ids)] = True
    return found


def fit(
    rows: Rows, num_labels: int, l2: float, loss: Loss = "softmax", start: LogisticRegression | None = None
) -> LogisticRegression:
    """One regression on the rows of this process alone; `Problem` says what is solved."""
    return Problem(rows, num_labels, loss).solve(l2, start)


class Problem:
    """Minimise mean loss + l2 / 2 · ‖weight‖² over standardised features; the bias has no penalty.

    The loss of a row is the cross-entropy of the softmax, or the sum over labels of that of the sigmoids. The objective
    is strictly convex in the weights, so there is one answer wherever the search starts. The penalty is on the weights of
    standardised features, which lets one grid of l2 serve every network; scikit-learn's C is 1 / (l2 · N).

    Args:
        rows: of this process, on its device.
        num_labels: K.
        loss: "softmax" for int64 labels, "sigmoid" for bool [N, K].
        world: the processes that hold the other rows; all make this object, and call `solve`, at the same time.

    The answer depends on how the rows are spread over processes as the order of a sum does: in the last digits.
    """

    def __init__(self, rows: Rows, num_labels: int, loss: Loss = "softmax", world: World | None = None) -> None:
        self.rows, self.loss, self.world = rows, loss, world or World(device=rows.device)
        self.shape = (num_labels, rows.num_features)
        self.num_rows = int(self.world.sum_(torch.tensor([rows.num_rows], device=rows.device)))
        self.mean_D, self.std_D = standardisation(rows, self.num_rows, self.world)
        counts_K = torch.from_numpy(rows.label_counts(num_labels)).to(rows.device)
        # A label without rows has no best bias: the lower the better. It counts as half a row.
        self.share_K = self.world.sum_(counts_K).cpu().numpy().clip(0.5, self.num_rows - 0.5) / self.num_rows

    def solve(
        self, l2: float, start: LogisticRegression | None = None, tolerance: float = GRADIENT_TOLERANCE
    ) -> LogisticRegression:
        """The regression, on every process; `start` is one to begin from, of whatever features of that size."""
        with _few_threads(self.num_rows * math.prod(self.shape)):
            if self.world.is_first:
                found = self._search(l2, self._flat(start), tolerance)
            else:
                found = self._serve(l2)
        weight_KD, bias_K = self._split(found[:-2])
        unscaled_KD, (iterations, gradient_norm) = weight_KD / self.std_D, found[-2:].tolist()
        unscaled_bias_K = bias_K - unscaled_KD @ self.mean_D
        return LogisticRegression(unscaled_KD, unscaled_bias_K, self.loss, int(iterations), gradient_norm)

    def _search(self, l2: float, start: np.ndarray, tolerance: float) -> Tensor:
        """L-BFGS, on the first process: the solution, then iterations and gradient norm; all processes get it.

        It searches in weights and scaled biases: without a penalty, the bias of a rare label hardly bends the objective,
        and would take most of the iterations. No scale is below 1, so the gradient it stops at is that of the biases or
        more.
        """
        curvature_K = self.share_K * (1 - self.share_K)
        scale = np.ones_like(start)
        scale[-len(curvature_K) :] = np.sqrt((curvature_K.max() + l2) / curvature_K)

        def objective(scaled: np.ndarray) -> tuple[float, np.ndarray]:
            asked = self.world.broadcast_(self._message(scaled * scale, [0.0, 0.0]))
            value_and_gradient = self.evaluate(asked[1:-2], l2).cpu().numpy()
            return float(value_and_gradient[0]), value_and_gradient[1:] * scale

        # ftol 0: only the gradient ends the search, not a step that gains little
        limits = {"maxiter": MAX_ITERATIONS, "maxfun": 2 * MAX_ITERATIONS, "gtol": tolerance, "ftol": 0.0}
        found = scipy.optimize.minimize(
            objective, start / scale, jac=True, method="L-BFGS-B", options={**limits, "maxcor": MEMORY}
        )
        answer = self._message(found.x * scale, [found.nit, np.abs(found.jac / scale).max()], ended=True)
        return self.world.broadcast_(answer)[1:]

    def _serve(self, l2: float) -> Tensor:
        """The other processes: evaluate wherever the first one asks, until it sends the answer."""
        message = self._message(np.zeros(math.prod(self.shape) + self.shape[0]), [0.0, 0.0])
        while not self.world.broadcast_(message)[0]:
            self.evaluate(message[1:-2], l2)
        return message[1:]

    def _message(self, flat: np.ndarray, numbers: list[float], ended: bool = False) -> Tensor:
        return torch.from_numpy(np.concatenate([[float(ended)], flat, numbers])).to(self.rows.device)

    def evaluate(self, flat: Tensor, l2: float) -> Tensor:
        """Objective, then its gradient, at all weights, then all biases: float64 [K·D + K] → [1 + K·D + K]."""
        weight_KD, bias_K = self._split(flat)
        result = torch.zeros(1 + len(flat), dtype=torch.float64, device=flat.device)
        gradient_KD, gradient_K = self._split(result[1:])
        for features_ND, labels in self.rows:
            scaled_ND = features_ND.double().sub_(self.mean_D).div_(self.std_D)
            loss, residual_NK = _loss_and_residual(F.linear(scaled_ND, weight_KD, bias_K), labels)
            result[0] += loss
            gradient_KD.addmm_(residual_NK.T, scaled_ND)
            gradient_K += residual_NK.sum(dim=0)
        self.world.sum_(result).div_(self.num_rows)
        result[0] += 0.5 * l2 * weight_KD.square().sum()
        gradient_KD.add_(weight_KD, alpha=l2)
        return result

    def _split(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Weight [K, D] and bias [K]: views of a flat vector."""
        return flat[: math.prod(self.shape)].view(self.shape), flat[math.prod(self.shape) :]

    def _flat(self, start: LogisticRegression | None) -> np.ndarray:
        if start is None:  # no weights; biases that give each label its share
            others_K = 1 - self.share_K if self.loss == "sigmoid" else 1.0
            return np.concatenate([np.zeros(math.prod(self.shape)), np.log(self.share_K / others_K)])
        weight_KD, bias_K = start.weight_KD * self.std_D, start.bias_K + start.weight_KD @ self.mean_D
        return torch.cat([weight_KD.flatten(), bias_K]).cpu().numpy()


def standardisation(rows: Rows, num_rows: int, world: World) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature over all processes' rows, float64 [D] each.

    A constant feature gets deviation 1. Two passes: a sum of squares would lose the digits of a mean that is large.
    """
    mean_D, square_D = torch.zeros(2, rows.num_features, dtype=torch.float64, device=rows.device)
    for features_ND, _ in rows:
        mean_D += features_ND.double().sum(dim=0)
    world.sum_(mean_D).div_(num_rows)
    for features_ND, _ in rows:
        square_D += (features_ND.double() - mean_D).square_().sum(dim=0)
    std_D = world.sum_(square_D).div_(num_rows).sqrt_()
    return mean_D, torch.where(std_D > 1e-12, std_D, 1.0)


def _loss_and_residual(logits_NK: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the loss over rows, and its derivative by the logits [N, K]; the logits are overwritten."""
    if labels.ndim == 2:
        loss = F.softplus(logits_NK).sum() - logits_NK[labels].sum()
        return loss, logits_NK.sigmoid_().sub_(labels.to(logits_NK.dtype))
    log_probabilities_NK = logits_NK.log_softmax(dim=1)
    loss = F.nll_loss(log_probabilities_NK, labels, reduction="sum")
    residual_NK = log_probabilities_NK.exp_()
    residual_NK[torch.arange(len(labels), device=labels.device), labels] -= 1.0
    return loss, residual_NK


@contextlib.contextmanager
def _few_threads(multiplications: int) -> Iterator[None]:
    """One thread for a small problem: on a busy machine, threads that wait for each other cost a hundred times more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if multiplications < SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
