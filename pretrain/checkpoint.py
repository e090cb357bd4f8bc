"""Checkpoints that a kill, a full disk or a failing one cannot spoil, without pickle.

`{folder}/{clips_seen:012d}/` holds model.safetensors, optimizer.safetensors and state.json, which carries the SHA-256
of the other two. It is written under a temporary name, flushed to disk, then renamed, and loses its name before it is
removed: what has a final name is whole. Readers verify the digests all the same, and fall back to the one before.
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from pipeline.progress import say
from pipeline.storage import FULL, UNFINISHED, StorageError, sync_folder
from pretrain import tensor_file

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
DAMAGED = ".damaged"
STATE_ROOM = 1 << 16  # bytes reserved for state.json and the folder itself


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


# ------------------------------------------------------------------------------------------------------ writing


def save(
    folder: str | Path,
    clips_seen: int,
    model_tensors: dict[str, Tensor],
    optimizer_tensors: dict[str, Tensor],
    keep_last: int = 2,
    keep_every: int = 0,
    **state: Any,
) -> Path:
    """Write a checkpoint, then drop old ones (see `to_drop`); returns its folder.

    Call it on one rank only. Tensors are contiguous and on the CPU. `state` is stored beside `clips_seen` as JSON.

    Raises:
        StorageError: naming the folder and, for a full disk, what is needed; what was there before is still there.
    """
    final = Path(folder) / f"{clips_seen:012d}"
    temporary = _unfinished(final, "written")
    needed = size(model_tensors, optimizer_tensors)
    with _reported(folder, needed):
        try:
            check_room(folder, needed)
            _remove(temporary)
            temporary.mkdir(parents=True)
            digests = {
                name: tensor_file.write_durably(temporary / name, tensor_file.parts(tensors))
                for name, tensors in ((MODEL, model_tensors), (OPTIMIZER, optimizer_tensors))
            }
            content = {"clips_seen": clips_seen, **state, "sha256": digests}
            tensor_file.write_durably(temporary / STATE, [(json.dumps(content, indent=1) + "\n").encode()])
            sync_folder(str(temporary))
            if final.exists():
                _discard(final)
            os.rename(temporary, final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)  # a full disk needs the room
            raise
        for parent in (Path(folder), Path(folder).parent):  # which may be as new as the checkpoint
            sync_folder(str(parent))
        for clips in to_drop([int(path.name) for path in _folders(folder)], keep_last, keep_every):
            _discard(Path(folder) / f"{clips:012d}")
    return final


def size(model_tensors: dict[str, Tensor], optimizer_tensors: dict[str, Tensor]) -> int:
    """Bytes that a checkpoint of these tensors takes on disk, at most."""
    return tensor_file.size(model_tensors) + tensor_file.size(optimizer_tensors) + STATE_ROOM


def check_room(folder: str | Path, needed: int) -> None:
    """StorageError when the disk under a folder, which need not exist yet, has less than `needed` bytes free."""
    free = _free(folder)
    if free < needed:
        raise StorageError(f"cannot write a checkpoint to '{folder}': {_lacking(needed, free)}")


def to_drop(clips_seen: list[int], keep_last: int, keep_every: int) -> list[int]:
    """Which checkpoints go: all but the newest `keep_last` (at least two) and, where `keep_every` is not 0, the first
    one in each stretch of that many clips, but for the stretch that training began in."""
    kept = sorted(clips_seen)[-max(2, keep_last) :]
    if keep_every:
        first = {clips // keep_every: clips for clips in sorted(clips_seen, reverse=True) if clips >= keep_every}
        kept += first.values()
    return sorted(set(clips_seen) - set(kept))


@contextmanager
def _reported(folder: str | Path, needed: int) -> Iterator[None]:
    """Errors of the operating system become a StorageError that names the folder, and what a full disk lacks."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in FULL:
            reason += f": {_lacking(needed, _free(folder))}"
        raise StorageError(f"cannot write a checkpoint to '{folder}': {reason}; older ones are kept") from error


def _lacking(needed: int, free: int) -> str:
    return f"{needed:,} bytes are needed and {free:,} are free; make room and run the same command again"


def _free(folder: str | Path) -> int:
    """Bytes free for this user on the disk of a folder or of its nearest parent that exists."""
    path = Path(folder).absolute()
    return shutil.disk_usage(next(parent for parent in (path, *path.parents) if parent.exists())).free


def _unfinished(final: Path, verb: str) -> Path:
    """A name beside a checkpoint's that no other process uses."""
    return final.with_name(f"{final.name}.{verb}-{platform.node()}-{os.getpid()}{UNFINISHED}")


def _discard(path: Path) -> None:
    """Remove a checkpoint; not under its own name, which a half removed one must not have."""
    gone = _unfinished(path, "removed")
    _remove(gone)
    os.rename(path, gone)
    _remove(gone)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


# ------------------------------------------------------------------------------------------------------ reading


def newest(folder: str | Path) -> Checkpoint | None:
    """The newest checkpoint whose files match their digests, or None without any; a damaged one is named and passed over.

    Raises:
        StorageError: there are checkpoints, but not one is whole.
    """
    paths = _folders(folder)
    for path in reversed(paths):
        try:
            return read(path)
        except StorageError as error:
            say(f"{error}; trying the one before")
    if paths:
        raise StorageError(
            f"none of the {len(paths)} checkpoints in '{folder}' is whole; put a copy of one in its place, or pass "
            "--force to begin anew"
        )
    return None


def read(path: Path) -> Checkpoint:
    """One checkpoint, its digests verified; StorageError says what is wrong with it."""
    try:
        state = json.loads((path / STATE).read_text())
        if state["clips_seen"] != int(path.name):
            raise ValueError(f"{STATE} is of another checkpoint")
        for name in (MODEL, OPTIMIZER):
            with open(path / name, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != state["sha256"][name]:
                    raise ValueError(f"{name} does not match its SHA-256")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StorageError(f"checkpoint '{path}' is damaged ({type(error).__name__}: {error})") from error
    return Checkpoint(path, state)


def recover(folder: str | Path) -> Checkpoint | None:
    """`newest`, for the one process that is about to write here: what killed ones left is removed, and damaged
    checkpoints beyond the newest whole one are set aside under another name, never to count among those kept."""
    found = newest(folder)
    with _reported(folder, 0):
        for path in Path(folder).glob(f"*{UNFINISHED}/"):
            shutil.rmtree(path)
        for path in _folders(folder):
            if path.name > found.path.name:
                aside = path.with_name(path.name + DAMAGED)
                _remove(aside)
                os.rename(path, aside)
    return found


def _folders(folder: str | Path) -> list[Path]:
    return sorted(path for path in Path(folder).glob("*") if path.is_dir() and path.name.isdigit())
