"""What a checkpoint costs training, and what its writing beside training costs.

    python -m benchmarks.checkpoints --folder /a/folder/on/the/disk/in/question

CPU time on one core, all actions in turn. `copy` is what a step waits for; `write` is what the thread does: hash, write
and flush; `library` writes the same tensors the obvious way, as the bytes that safetensors makes of them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks import record

record.one_core()  # before torch counts cores

import safetensors.torch  # noqa: E402
import torch  # noqa: E402
import tyro  # noqa: E402

from pretrain import checkpoint, tensor_file  # noqa: E402
from pretrain.models import build_model  # noqa: E402
from pretrain.saver import copy_to_host  # noqa: E402


@dataclass(frozen=True)
class Options:
    folder: Path
    """Where the checkpoints go; a folder in it is made and removed."""
    model: str = "r2plus1d_34"
    num_labels: int = 359
    rounds: int = 5


def measure(options: Options, folder: Path) -> dict[str, object]:
    model = build_model(options.model, options.num_labels)
    state = model.state_dict()
    momenta = {name: torch.randn_like(parameter) for name, parameter in model.named_parameters()}
    copies: tuple[dict, dict] = ({}, {})

    def copy() -> None:
        copy_to_host(state, copies[0])
        copy_to_host(momenta, copies[1])

    def library() -> None:
        for name, tensors in zip(("a", "b"), copies, strict=True):
            data = safetensors.torch.save(tensors)
            hashlib.sha256(data).hexdigest()
            with open(folder / name, "wb") as file:
                file.write(data)
                os.fsync(file.fileno())

    copy()
    actions = {"copy": copy, "write": lambda: checkpoint.save(folder / "ours", 1, *copies), "library": library}
    seconds = record.interleave(actions, options.rounds)
    return {
        "model": options.model,
        "bytes": sum(map(tensor_file.size, copies)),
        "rounds": options.rounds,
        "cpu_s": {name: record.spread(times) for name, times in seconds.items()},
        "copy_to_write": record.ratio(seconds, "copy", "write"),
        "write_to_library": record.ratio(seconds, "write", "library"),
    }


def main(options: Options) -> None:
    folder = options.folder / "benchmark-checkpoints"
    folder.mkdir(parents=True)
    try:
        print(record.write("checkpoints", measure(options, folder), "torch", "safetensors"))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
