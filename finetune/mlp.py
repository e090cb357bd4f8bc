"""A multi-layer perceptron of 512 units on frozen features, the second head of the few-shot protocol.

Shape letters: V videos, R rows a video, D features, K labels. Nothing is tuned: with a handful of videos a label there
is nothing to tune on. Adam at rate 0.001 is the published recipe (docs/fc-only.md); the number of steps is ours.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN = 512
RATE = 1e-3
BATCH = 256  # rows
PASSES = 50
MIN_STEPS = 500  # of a handful of videos, 50 passes are too few


class Perceptron(nn.Module):
    """Standardised features → 512 units → K logits; `mean_D` and `std_D` are those of the training rows."""

    def __init__(self, mean_D: Tensor, std_D: Tensor, num_labels: int, generator: torch.Generator) -> None:
        super().__init__()
        self.register_buffer("mean_D", mean_D)
        self.register_buffer("std_D", std_D)
        self.hidden, self.last = nn.Linear(len(mean_D), HIDDEN), nn.Linear(HIDDEN, num_labels)
        for layer in (self.hidden, self.last):  # what torch does by default, from a generator of its own
            bound = 1 / math.sqrt(layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound, generator)
            nn.init.uniform_(layer.bias, -bound, bound, generator)

    def forward(self, rows_ND: Tensor) -> Tensor:
        """float32 [N, D] → logits [N, K]."""
        return self.last(F.relu(self.hidden((rows_ND - self.mean_D) / self.std_D)))

    @torch.inference_mode()
    def probabilities(self, rows_ND: Tensor) -> Tensor:
        """float32 [N, D] → [N, K], on the device of the perceptron."""
        return self(rows_ND).softmax(dim=1)


def fit(features_VRD: np.ndarray, labels_V: np.ndarray, num_labels: int, seed: int, device: torch.device) -> Perceptron:
    """Train on every row with its video's label; a function of its arguments, `seed` deciding weights and order."""
    generator = torch.Generator().manual_seed(seed)
    rows_ND = torch.from_numpy(features_VRD.reshape(-1, features_VRD.shape[2])).to(device)
    labels_N = torch.from_numpy(np.repeat(labels_V, features_VRD.shape[1])).to(device)
    std_D, mean_D = torch.std_mean(rows_ND.double(), dim=0, correction=0)
    std_D = torch.where(std_D > 1e-12, std_D, 1.0)
    model = Perceptron(mean_D.float().cpu(), std_D.float().cpu(), num_labels, generator).to(device)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    for batch in _batches(len(rows_ND), generator):
        optimizer.zero_grad()
        F.cross_entropy(model(rows_ND[batch]), labels_N[batch]).backward()
        optimizer.step()
    return model


def _batches(num_rows: int, generator: torch.Generator) -> list[Tensor]:
    """Row numbers of each step: whole passes, each in an order of its own."""
    per_pass = math.ceil(num_rows / BATCH)
    passes = max(PASSES, math.ceil(MIN_STEPS / per_pass))
    return [batch for _ in range(passes) for batch in torch.randperm(num_rows, generator=generator).split(BATCH)]
