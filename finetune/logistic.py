"""L2-regularised multinomial logistic regression, solved to convergence in double precision (paper, Section 4).

Shape letters: N rows, D features, K labels.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import torch
import torch.nn.functional as F
from torch import Tensor

GRADIENT_TOLERANCE = 1e-7
MAX_ITERATIONS = 2000
SMALL = 100_000_000  # multiplications of one evaluation


@dataclass(frozen=True)
class LogisticRegression:
    """logits = features · weight + bias, for features as they come (the scaling used in the fit is folded in)."""

    weight_KD: Tensor
    """float64 [K, D]."""
    bias_K: Tensor
    """float64 [K]."""
    iterations: int
    gradient_norm: float
    """Largest absolute component of the objective's gradient where the solver stopped."""

    @property
    def converged(self) -> bool:
        return self.gradient_norm <= GRADIENT_TOLERANCE

    def logits(self, features_ND: Tensor) -> Tensor:
        """float [N, D] → float64 [N, K]."""
        return F.linear(features_ND.double(), self.weight_KD, self.bias_K)


def standardisation(features_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature, float64 [D] each; a constant feature gets deviation 1."""
    features_ND = features_ND.double()
    std_D = features_ND.std(dim=0, correction=0)
    return features_ND.mean(dim=0), torch.where(std_D > 1e-12, std_D, 1.0)


def fit(features_ND: Tensor, labels_N: Tensor, num_labels: int, l2: float) -> LogisticRegression:
    """Minimise mean cross-entropy + l2 / 2 · ‖weight‖² over standardised features, from zero; the bias has no penalty.

    The objective is strictly convex in the weights, so there is one answer. The penalty is on the weights of
    standardised features, which lets one grid of l2 serve every network.

    Args:
        features_ND: float [N, D], on any device.
        labels_N: int64 [N], on the same device.
        num_labels: K.
        l2: penalty; scikit-learn's C is 1 / (l2 · N).
    """
    mean_D, std_D = standardisation(features_ND)
    problem = Problem((features_ND.double() - mean_D) / std_D, labels_N, num_labels, l2)
    start = np.zeros(num_labels * (len(mean_D) + 1))
    # ftol 0: only the gradient ends the search, not a step that gains little
    limits = {"maxiter": MAX_ITERATIONS, "maxfun": 2 * MAX_ITERATIONS, "gtol": GRADIENT_TOLERANCE, "ftol": 0.0}
    with _few_threads(problem.scaled_ND.numel() * num_labels):
        found = scipy.optimize.minimize(problem, start, jac=True, method="L-BFGS-B", options={**limits, "maxcor": 20})
    weight_KD, bias_K = problem.split(found.x)
    unscaled_KD = weight_KD / std_D
    return LogisticRegression(unscaled_KD, bias_K - unscaled_KD @ mean_D, found.nit, float(np.abs(found.jac).max()))


@contextlib.contextmanager
def _few_threads(multiplications: int) -> Iterator[None]:
    """One thread for a small problem: on a busy machine, threads that wait for each other cost a hundred times more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if multiplications < SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Problem:
    """The objective and its gradient at a flat float64 vector of all weights, then all biases; computed in torch."""

    def __init__(self, scaled_ND: Tensor, labels_N: Tensor, num_labels: int, l2: float) -> None:
        self.scaled_ND, self.labels_N, self.l2 = scaled_ND, labels_N, l2
        self.shape = (num_labels, scaled_ND.shape[1])

    def split(self, flat: np.ndarray) -> tuple[Tensor, Tensor]:
        """Weight [K, D] and bias [K] on the device of the features."""
        whole = torch.from_numpy(flat.copy()).to(self.scaled_ND.device)
        return whole[: math.prod(self.shape)].view(self.shape), whole[math.prod(self.shape) :]

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight_KD, bias_K = self.split(flat)
        log_probabilities_NK = F.linear(self.scaled_ND, weight_KD, bias_K).log_softmax(dim=1)
        value = F.nll_loss(log_probabilities_NK, self.labels_N) + 0.5 * self.l2 * weight_KD.square().sum()
        residual_NK = log_probabilities_NK.exp_()
        residual_NK[torch.arange(len(self.labels_N), device=residual_NK.device), self.labels_N] -= 1.0
        residual_NK /= len(self.labels_N)
        gradient_KD = residual_NK.T @ self.scaled_ND + self.l2 * weight_KD
        return value.item(), torch.cat([gradient_KD.flatten(), residual_NK.sum(dim=0)]).cpu().numpy()
