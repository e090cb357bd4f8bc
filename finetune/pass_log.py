"""metrics.jsonl of a transfer: one line for each pass of each training."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from pipeline import progress, storage
from pretrain.engine import StepResult


class PassLog:
    """Mean loss and accuracy of the clips of each pass, inside a `with` block.

    Args:
        path: of metrics.jsonl; None writes none.
        about: which training; it stands in each of its lines.
        state: of the checkpoint that the training goes on from, empty at its beginning; lines beyond it are forgotten,
            for they will be written again.
    """

    def __init__(self, path: str | None, about: dict[str, Any], state: dict[str, Any]) -> None:
        self.path, self.about = path, about
        self.state = state or {"passes": 0, "losses": [], "accuracies": [], "loss": math.nan, "accuracy": math.nan}
        """What a checkpoint stores."""

    def __enter__(self) -> PassLog:
        self.metrics = None
        if self.path is not None:
            kept = [line for line in progress.read_metrics(self.path) if not self._is_beyond(line)]
            storage.write_bytes(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())
            self.metrics = progress.MetricsFile(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        if self.metrics is not None:
            self.metrics.close()

    @property
    def loss(self) -> float:
        """Of the last whole pass."""
        return self.state["loss"]

    @property
    def accuracy(self) -> float:
        """Of the last whole pass."""
        return self.state["accuracy"]

    def step(self, result: StepResult, passes: float, rate: float) -> None:
        """After each step: what it said, the passes done now, its learning rate."""
        losses, accuracies = self.state["losses"] + [result.loss], self.state["accuracies"] + [result.accuracy]
        if math.floor(passes) == self.state["passes"]:
            self.state |= {"losses": losses, "accuracies": accuracies}
            return
        means = {"loss": float(np.mean(losses)), "accuracy": float(np.mean(accuracies))}
        self.state = {"passes": math.floor(passes), "losses": [], "accuracies": [], **means}
        if self.metrics is not None:
            self.metrics.write(**self.about, passes=self.state["passes"], learning_rate=rate, **means)

    def _is_beyond(self, line: dict[str, Any]) -> bool:
        return (
            all(line.get(key) == value for key, value in self.about.items()) and line["passes"] > self.state["passes"]
        )
