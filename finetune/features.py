"""Features before the final layer of every clip of every video of a split: computed once, kept on disk, read by memory map.

Shape letters: N videos, R rows a video, D features. The folder's name is a digest of all that decides its content; the
split is cut into parts of consecutive videos, the same for any number of processes. A part is one Arrow file that gets
its name when it is whole, so an interrupted extraction goes on with the parts that are missing, on however many processes.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from finetune import evaluate
from finetune.rows import Block, Rows
from pipeline import artifacts, progress, storage
from pipeline import config as configs
from pipeline.artifacts import RunFiles
from pipeline.config import ClipConfig
from pretrain.distributed import World
from pretrain.models import VideoResNet
from pretrain.reading import FrameReader
from pretrain.samples import SampleError, Samples

MIN_PARTS = 256  # of a large split: work for that many processes
PART_BYTES = 64 << 20
REASONS, SHAPE, CHECKSUM = b"undecodable", b"shape", b"crc32"


@dataclass(frozen=True)
class View:
    """What the network sees of a video, and how it is computed; with weights and split it decides the features."""

    clip: ClipConfig
    num_clips: int
    """Uniformly placed clips, their centre crops of clip.crop_px."""
    positions: Literal["mean", "each"]
    """Where crops are larger than the head's 7×7 map: one row a clip, averaged over positions, or a row for each."""
    precision: str
    """Of the forward pass."""
    version: int = 2
    """Of the code that prepares clips: a change that alters features raises it."""


@dataclass(frozen=True)
class Part:
    """Consecutive videos of a split."""

    samples: np.ndarray
    """int64 [n], sample numbers of those that could be decoded."""
    values_NRD: np.ndarray
    """float32 [n, R, D], memory-mapped."""
    undecodable: dict[int, str]
    """Sample number → reason, for the others."""


@dataclass(frozen=True)
class Features:
    """Of a split; the same on every process."""

    folder: str
    parts: tuple[Part, ...]
    num_features: int

    @property
    def undecodable(self) -> dict[int, str]:
        """Sample number → reason."""
        return {sample: reason for part in self.parts for sample, reason in part.undecodable.items()}

    def rows(self, labels: np.ndarray, mask: np.ndarray, world: World) -> Rows:
        """This process's share of the rows of the videos where `mask`, bool [N].

        Args:
            labels: of all N videos of the split, int64 [N] or bool [N, K].
        """
        blocks = []
        for part in self.parts[world.rank :: world.size]:
            taken = np.flatnonzero(mask[part.samples])
            blocks.append(Block(part.values_NRD, taken, labels[part.samples[taken]]))
        return Rows(blocks, self.num_features, world.device)

    def of(self, samples: np.ndarray) -> np.ndarray:
        """float32 [n, R, D] of some videos, copied into memory; all of them must have been decoded."""
        where = {sample: (part, row) for part in self.parts for row, sample in enumerate(part.samples.tolist())}
        return np.stack([where[sample][0].values_NRD[where[sample][1]] for sample in samples.tolist()])


def extract(files: RunFiles, model: VideoResNet, reader: FrameReader, view: View, world: World) -> Features:
    """The features of all videos that `reader` reads: those on disk, and those that are missing there, computed now.

    Every video is a forward pass of its own, so that its features do not depend on what else is computed with it. A part
    whose checksum is wrong, or of which a video can be read that could not before, is computed again.

    Raises: StorageError where the disk fails or is full.
    """
    inputs = {"weights": trunk_digest(model), **reader.samples.digests}
    folder = files.features(configs.digest({"view": configs.to_dict(view), **inputs}))
    marker = storage.join(folder, "features.json")
    if world.is_first:
        artifacts.open_stage(folder, marker, view, inputs)
    cut = part_ranges(len(reader.samples), view.num_clips, model.num_features)
    paths = [storage.join(folder, f"part-{number:05d}.arrow") for number in range(len(cut))]

    missing = _missing(paths, reader, view, world)
    mine = missing[world.rank :: world.size]
    stream = _computed(model, reader, view, [sample for number in mine for sample in cut[number]], world)
    for number in mine:
        _write(paths[number], cut[number], list(islice(stream, len(cut[number]))), model.num_features)
    world.barrier()

    features = Features(folder, tuple(_map(path) for path in paths), model.num_features)
    if world.is_first and (missing or not storage.exists(marker)):
        _seal(folder, marker, reader.samples, features)
    return features


def trunk_digest(model: VideoResNet) -> str:
    """SHA-256 of names, shapes, types and values of all weights and batch-norm statistics but the final layer's."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith("fc."):
            found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def part_ranges(num_videos: int, num_clips: int, num_features: int) -> list[range]:
    """Sample numbers of each part: at most about `PART_BYTES`, and where there are so many videos, `MIN_PARTS` parts."""
    fitting = max(1, PART_BYTES // (4 * num_clips * num_features))
    step = max(1, min(fitting, num_videos // MIN_PARTS))
    return [range(begin, min(begin + step, num_videos)) for begin in range(0, num_videos, step)]


# ------------------------------------------------------------------------------------------------- computing them


def _computed(
    model: VideoResNet, reader: FrameReader, view: View, samples: list[int], world: World
) -> Iterator[np.ndarray | str]:
    """float32 [R, D] of each video, or the reason why it cannot be decoded."""

    def compute(clips_BCTHW: Tensor) -> Tensor:
        if view.positions == "mean":
            return model.forward_features(clips_BCTHW).float()
        grid_BDhw = model.forward_feature_grid(clips_BCTHW).float()
        return grid_BDhw.permute(0, 2, 3, 1).reshape(-1, grid_BDhw.shape[1])

    stream = evaluate.each_video(compute, model, _clips(reader, view), samples, world, view.precision)
    return iter(progress.bar(stream, desc="features", total=len(samples), unit="video"))


def _clips(reader: FrameReader, view: View) -> Callable[[int], np.ndarray]:
    return lambda sample: evaluate.video_clips(reader, sample, view.num_clips)


def _missing(paths: list[str], reader: FrameReader, view: View, world: World) -> list[int]:
    """Numbers of the parts that must be computed, on every process; each checks its share."""
    is_missing = torch.zeros(len(paths), dtype=torch.int64, device=world.device)
    for number in range(world.rank, len(paths), world.size):
        is_missing[number] = not _is_good(paths[number], reader, view)
    found = torch.nonzero(world.sum_(is_missing)).flatten().tolist()
    if found and len(found) < len(paths):
        progress.say(
            f"features: {len(paths) - len(found):,} of {len(paths):,} parts are there; going on with the others"
        )
    return found


def _is_good(path: str, reader: FrameReader, view: View) -> bool:
    """Is a part there, as it was written, and as well as it can be made?"""
    if not storage.exists(path):
        return False
    try:
        part = _map(path, verify=True)
    except (storage.StorageError, pa.ArrowInvalid, ValueError, KeyError) as error:
        progress.say(f"features: '{path}' is damaged ({error}) and computed again")
        return False
    return not any(_can_be_read(sample, reader, view) for sample in part.undecodable)


def _can_be_read(sample: int, reader: FrameReader, view: View) -> bool:
    try:
        _clips(reader, view)(sample)
    except SampleError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------- on disk


def _write(path: str, samples: range, results: list[np.ndarray | str], num_features: int) -> None:
    """One Arrow file: columns `sample` and `features`, rows of R·D values; in the schema, the rest and a checksum."""
    decoded = {sample: result for sample, result in zip(samples, results, strict=True) if not isinstance(result, str)}
    undecodable = {sample: result for sample, result in zip(samples, results, strict=True) if isinstance(result, str)}
    values_NRD = np.stack(list(decoded.values())) if decoded else np.empty((0, 1, num_features), np.float32)
    shape = values_NRD.shape[1:]
    columns = [
        pa.array(decoded, pa.int64()),
        pa.FixedSizeListArray.from_arrays(pa.array(values_NRD.ravel()), int(np.prod(shape))),
    ]
    metadata = {
        SHAPE: json.dumps(shape),
        REASONS: json.dumps(undecodable),
        CHECKSUM: str(zlib.crc32(values_NRD)),
    }
    table = pa.table(columns, names=["sample", "features"]).replace_schema_metadata(metadata)
    with storage.whole_file(path, values_NRD.nbytes) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _map(path: str, verify: bool = False) -> Part:
    """A part; its values are read from disk when they are touched.

    Raises: StorageError, or ValueError and its kind, for a file that is not a whole part; with `verify`, also where
    values differ from those that were written.
    """
    try:
        table = pa.ipc.open_file(pa.memory_map(path)).read_all().combine_chunks()
    except OSError as error:
        raise storage.StorageError(f"cannot read '{path}': {error}") from error
    metadata = table.schema.metadata
    values = table["features"].chunk(0).values.to_numpy() if table.num_rows else np.empty(0, np.float32)
    if verify and zlib.crc32(values) != int(metadata[CHECKSUM]):
        raise ValueError("its checksum is another")
    return Part(
        table["sample"].to_numpy(),
        values.reshape(table.num_rows, *json.loads(metadata[SHAPE])),
        {int(sample): reason for sample, reason in json.loads(metadata[REASONS]).items()},
    )


def _seal(folder: str, marker: str, samples: Samples, features: Features) -> None:
    """The marker: in = kept + undecodable by reason."""
    kept, undecodable = sum(len(part.samples) for part in features.parts), Counter(features.undecodable.values())
    progress.say_counts("features: videos", len(samples), kept, undecodable)
    counts = {"attempted": len(samples), "kept": kept, "undecodable": dict(undecodable)}
    artifacts.seal(folder, marker, counts, num_parts=len(features.parts))
