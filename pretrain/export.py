"""`tagreel export`: a run's newest checkpoint, or a file of weights, → one file in a published format, with a model card."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pipeline import artifacts, progress, storage
from pipeline.cli import run_stage
from pipeline.config import ConfigError
from pretrain import card as cards
from pretrain import checkpoint
from pretrain.checkpoint import MODEL
from pretrain.models import files, weights
from pretrain.models.files import Format
from pretrain.provenance import versions


@dataclass(frozen=True)
class ExportConfig:
    """A run, or a file of weights → one file of weights in a published format, and its model card."""

    root: str = "tagreel-data"
    """Folder that holds every artefact."""
    run: str = ""
    """Run whose newest whole checkpoint is exported, finished or not."""
    weights: str = ""
    """Or a file of weights, in any of the formats, to convert."""
    format: Format = "safetensors"
    """safetensors: ours; ig65m: the .pth of the IG-65M port; caffe2: the official .pkl; torchvision: the .pth of its own
    R(2+1)D-18."""
    to: str = ""
    """File to write; the model card is written beside it, as FILE.json and FILE.md."""
    licence: str = ""
    """Licence of the weights, for the card; empty leaves the field for you to fill in."""
    force: bool = False
    """Write over another file of that name."""


@dataclass(frozen=True)
class Origin:
    """What is exported."""

    tensors: dict[str, Tensor]
    source: dict[str, Any]
    """Where the tensors are from, with their SHA-256."""
    about: dict[str, Any]
    """labels, preprocessing, training and data of the card; null where not known."""


def export(config: ExportConfig) -> dict[str, Any]:
    """Write the file and, after it, its card; returns the card. Nothing is done where both are there already.

    Raises:
        ConfigError: nothing to export, a format that is not for the network, another file in the place of this one.
    """
    if not config.to:
        raise ConfigError("no file to write: name it with --to")
    if bool(config.run) == bool(config.weights):
        raise ConfigError("name either a run (--run) or a file of weights (--weights)")
    origin = of_run(config) if config.run else of_file(config)
    network = weights.describe(origin.tensors)
    files.check_format(config.format, network)
    if (done := written(config, origin)) is not None:
        progress.say(f"export: '{config.to}' is there already; nothing to do")
        return done
    card = {
        "network": cards.of_network(network, origin.about["preprocessing"]),
        **origin.about,
        "source": origin.source,
        "licence": config.licence,
        "versions": versions(),
    }
    weights.export(origin.tensors, config.to, config.format, card)
    data = storage.read_bytes(config.to)
    file = {
        "name": os.path.basename(config.to),
        "format": config.format,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    card = {"file": file, **card}
    storage.write_bytes(f"{config.to}.md", cards.markdown(card).encode())
    storage.write_json(f"{config.to}.json", card)
    progress.say(
        f"export: {network.name}, {network.num_labels:,} labels, as {config.format}: {config.to} ({len(data):,} bytes), "
        f"its card beside it (.md, .json)"
    )
    return card


def of_run(config: ExportConfig) -> Origin:
    """The newest whole checkpoint of a run."""
    folder = artifacts.run_files(config.root, config.run)
    found = checkpoint.newest(folder.checkpoints)
    if found is None:
        raise ConfigError(f"run '{config.run}' has no whole checkpoint in '{folder.checkpoints}'")
    source = {"run": config.run, "checkpoint": found.path.name, "sha256": found.state["sha256"][MODEL]}
    return Origin(found.model_tensors(), source, cards.of_run(config.root, config.run, found))


def of_file(config: ExportConfig) -> Origin:
    """A file of weights, with what its own card says of them."""
    known = weights.card(config.weights) or {}
    digest = weights.digest(config.weights)
    source = {"file": os.path.basename(config.weights), "sha256": digest, "source": known.get("source")}
    about = {name: known.get(name) for name in ("labels", "preprocessing", "training", "data")}
    return Origin(weights.load(config.weights), source, about)


def written(config: ExportConfig, origin: Origin) -> dict[str, Any] | None:
    """The card of the file that is in the place already, if it is this one; None where there is none, or with --force."""
    if config.force or not storage.exists(config.to):
        return None
    beside = f"{config.to}.json"
    found = storage.read_json(beside) if storage.exists(beside) else None
    if found is None or (found["source"], found["file"]["format"], found["licence"], found["file"]["sha256"]) != (
        *(origin.source, config.format, config.licence),
        weights.digest(config.to),
    ):
        raise ConfigError(f"'{config.to}' exists and is another file: give --to another name, or pass --force")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the stage."""
    run_stage(ExportConfig, export, argv)


if __name__ == "__main__":
    main()
