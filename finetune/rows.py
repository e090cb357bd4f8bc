"""Rows of features for a solver that reads them again and again, in chunks: from memory-mapped parts or from memory.

Shape letters: V videos, R rows a video, N = V·R rows, D features, K labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CHUNK_VALUES = 1 << 23  # features of a chunk: 32 MiB as they are stored, 64 MiB in the solver's double precision
RESIDENT_BYTES = 256 << 20  # on a CPU, where the system keeps what was read anyway; on a GPU: half of its free memory


@dataclass(frozen=True)
class Block:
    """Videos of one part."""

    features_VRD: np.ndarray
    """float32, memory-mapped or not; may hold more videos than are taken."""
    videos: np.ndarray
    """int64 [V]: which of them are taken."""
    labels: np.ndarray
    """Of those taken: int64 [V], or bool [V, K] where a video may have several."""


class Rows:
    """This process's rows; iterating gives (float32 [n, D], labels int64 [n] or bool [n, K]) on `device`, the same each time.

    What fits into `resident_bytes` is read once and kept on the device; what does not is read anew each time, one chunk
    ahead of its use, so that memory does not grow with the number of rows.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        num_features: int,
        device: torch.device | None = None,
        resident_bytes: int | None = None,
    ) -> None:
        self.num_features, self.device = num_features, device or torch.device("cpu")
        self._chunks = [chunk for block in blocks for chunk in _cut(block, num_features)]
        self.num_rows = sum(len(chunk.videos) * chunk.features_VRD.shape[1] for chunk in self._chunks)
        room = _room(self.device) if resident_bytes is None else resident_bytes
        self._fits, self._held = 4 * self.num_rows * num_features <= room, None

    @classmethod
    def of(cls, features_VRD: np.ndarray, labels: np.ndarray, device: torch.device | None = None) -> Rows:
        """Rows of an array: float32 [V, R, D], or [N, D] for one row a video."""
        if features_VRD.ndim == 2:
            features_VRD = features_VRD[:, None]
        return cls([Block(features_VRD, np.arange(len(features_VRD)), labels)], features_VRD.shape[2], device)

    def label_counts(self, num_labels: int) -> np.ndarray:
        """int64 [K]: rows of each label; no feature is read."""
        counts = np.zeros(num_labels, np.int64)
        for chunk in self._chunks:
            several = chunk.labels.ndim == 2
            videos = chunk.labels.sum(axis=0) if several else np.bincount(chunk.labels, minlength=num_labels)
            counts += videos * chunk.features_VRD.shape[1]
        return counts

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if not self._fits:
            yield from self._read_ahead()
            return
        if self._held is None:
            self._held = [self._on_device(_read(chunk)) for chunk in self._chunks]
        yield from self._held

    def _read_ahead(self) -> Iterator[tuple[Tensor, Tensor]]:
        with ThreadPoolExecutor(1) as pool:
            coming: Future | None = None
            for chunk in self._chunks:
                read, coming = coming, pool.submit(_read, chunk)
                if read is not None:
                    yield self._on_device(read.result())
            if coming is not None:
                yield self._on_device(coming.result())

    def _on_device(self, arrays: tuple[np.ndarray, np.ndarray]) -> tuple[Tensor, Tensor]:
        features_ND, labels = (torch.from_numpy(array).to(self.device) for array in arrays)
        return features_ND, labels


def _cut(block: Block, num_features: int) -> Iterator[Block]:
    step = max(1, CHUNK_VALUES // (block.features_VRD.shape[1] * num_features))
    for begin in range(0, len(block.videos), step):
        taken = slice(begin, begin + step)
        yield Block(block.features_VRD, block.videos[taken], block.labels[taken])


def _read(chunk: Block) -> tuple[np.ndarray, np.ndarray]:
    """float32 [n, D] and labels of a chunk, copied: the clips of a video all have its labels."""
    taken_VRD = chunk.features_VRD[chunk.videos]
    labels = np.repeat(chunk.labels, taken_VRD.shape[1], axis=0)
    return taken_VRD.reshape(-1, taken_VRD.shape[2]), labels


def _room(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else RESIDENT_BYTES
