"""The scores of test videos as predictions.parquet keeps them. N videos, K labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from finetune import metrics
from pipeline import storage
from pipeline.artifacts import TransferFiles
from pipeline.config import ConfigError


@dataclass(frozen=True)
class Predictions:
    """What one training says about the test videos that could be scored."""

    keys: list[str]
    """[N]."""
    labels: np.ndarray
    """int64 [N], or bool [N, K] where videos have several labels."""
    scores: np.ndarray
    """float32 [N, K]."""
    names: list[str]
    """Of the K labels."""
    unscored: dict[str, str]
    """Key → reason, of the other test videos."""

    @classmethod
    def from_table(cls, table: pa.Table, names: list[str], multi_label: bool) -> Predictions:
        """Of rows of `artifacts.PREDICTIONS`, of one training.

        Raises: ConfigError for a video that occurs twice, and for several labels where one is wanted.
        """
        is_scored = table["scores"].is_valid()
        scored, others = table.filter(is_scored), table.filter(pc.invert(is_scored))
        keys, lists = scored["key"].to_pylist(), scored["labels"].to_pylist()
        if len(set(keys)) < len(keys):
            raise ConfigError("these predictions hold some videos more than once: take those of one training (seed)")
        values = scored["scores"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return cls(
            keys,
            label_array(lists, len(names), multi_label),
            values.reshape(len(keys), len(names)),
            names,
            dict(zip(others["key"].to_pylist(), others["reason"].to_pylist(), strict=True)),
        )

    @property
    def multi_label(self) -> bool:
        return metrics.is_multi_label(self.labels)

    @property
    def correct(self) -> np.ndarray:
        """bool [N], as the result counts it: a tie is wrong."""
        return metrics.top_k_correct(self.scores, self.labels, 1)

    @property
    def undecodable(self) -> dict[str, int]:
        """Reason → videos that were not scored."""
        return dict(Counter(self.unscored.values()))

    def take(self, keys: list[str]) -> Predictions:
        """These videos, in this order."""
        place = {key: number for number, key in enumerate(self.keys)}
        rows = [place[key] for key in keys]
        return Predictions(keys, self.labels[rows], self.scores[rows], self.names, {})


def read(files: TransferFiles, marker: dict[str, Any], seed: int) -> Predictions:
    """Those of a finished transfer, given its result.json; of several final trainings that of `seed`.

    Raises: ConfigError for a protocol that keeps none.
    """
    if not storage.exists(files.predictions):
        raise ConfigError(
            f"'{files.folder}' holds no scores of its test videos ({marker['config']['protocol']} keeps no predictions): "
            "name a transfer by another protocol"
        )
    table = storage.read_parquet(files.predictions)
    multi_label = marker["metrics"]["headline"]["name"] == "map"
    return Predictions.from_table(table.filter(pc.equal(table["seed"], seed)), marker["labels"], multi_label)


def label_array(label_lists: list[list[int]], num_labels: int, multi_label: bool) -> np.ndarray:
    """Lists of label ids as int64 [N], or where `multi_label` as bool [N, K].

    Raises: ConfigError for several labels where one is wanted.
    """
    if not multi_label:
        if any(len(labels) != 1 for labels in label_lists):
            raise ConfigError("these are predictions of videos with several labels, and one a video is needed here")
        return np.array([label for (label,) in label_lists], dtype=np.int64)
    found = np.zeros((len(label_lists), num_labels), dtype=bool)
    rows = np.repeat(np.arange(len(label_lists)), [len(labels) for labels in label_lists])
    found[rows, [label for labels in label_lists for label in labels]] = True
    return found
