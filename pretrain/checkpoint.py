"""Checkpoints that a kill at any moment cannot spoil, without pickle.

`{folder}/{clips_seen:012d}/` holds model.safetensors, optimizer.safetensors and state.json, which carries the SHA-256
of the other two. It is written under a temporary name, flushed to disk, then renamed: what has a final name is whole.
The reader verifies the digests all the same and falls back to the one before when they do not match.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from pipeline.progress import say
from pipeline.storage import sync_folder

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
TEMPORARY = ".tmp"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk; the tensors are read when asked for."""

    path: Path
    state: dict[str, Any]

    @property
    def clips_seen(self) -> int:
        return self.state["clips_seen"]

    def model_tensors(self) -> dict[str, Tensor]:
        return safetensors.torch.load_file(self.path / MODEL)

    def optimizer_tensors(self) -> dict[str, Tensor]:
        return safetensors.torch.load_file(self.path / OPTIMIZER)


def save(
    folder: str | Path,
    clips_seen: int,
    model_tensors: dict[str, Tensor],
    optimizer_tensors: dict[str, Tensor],
    keep_last: int = 2,
    **state: Any,
) -> Path:
    """Write a checkpoint and drop all but the newest `keep_last` (at least two); returns its folder.

    Call it on one rank only. `state` is stored beside `clips_seen` as JSON.
    """
    final = Path(folder) / f"{clips_seen:012d}"
    temporary = final.with_name(final.name + TEMPORARY)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    digests = {
        name: _write_durably(temporary / name, safetensors.torch.save(_storable(tensors)))
        for name, tensors in ((MODEL, model_tensors), (OPTIMIZER, optimizer_tensors))
    }
    content = {"clips_seen": clips_seen, **state, "sha256": digests}
    _write_durably(temporary / STATE, (json.dumps(content, indent=1) + "\n").encode())
    sync_folder(str(temporary))
    shutil.rmtree(final, ignore_errors=True)  # only ever a damaged one: a whole one would have been resumed from
    os.rename(temporary, final)
    sync_folder(str(folder))
    for old in _folders(folder)[: -max(2, keep_last)]:
        shutil.rmtree(old)
    return final


def newest(folder: str | Path) -> Checkpoint | None:
    """The newest checkpoint whose files match their digests, or None; a damaged one is named and passed over."""
    for path in reversed(_folders(folder)):
        damage = _damage(path)
        if damage is None:
            return Checkpoint(path, json.loads((path / STATE).read_text()))
        say(f"checkpoint '{path}' is damaged ({damage}); trying the one before")
    return None


def _folders(folder: str | Path) -> list[Path]:
    return sorted(path for path in Path(folder).glob("*") if path.is_dir() and path.name.isdigit())


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint folder, or None."""
    try:
        state = json.loads((path / STATE).read_text())
        for name, expected in state["sha256"].items():
            if hashlib.sha256((path / name).read_bytes()).hexdigest() != expected:
                return f"{name} does not match its SHA-256"
        if not {MODEL, OPTIMIZER} <= state["sha256"].keys() or state["clips_seen"] != int(path.name):
            return f"{STATE} is not of this checkpoint"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _storable(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _write_durably(path: Path, data: bytes) -> str:
    """Write, flush to disk, and return the SHA-256 of what was written."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()
