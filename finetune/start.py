"""What weights a transfer starts from: a run's checkpoint, a file of weights, or random numbers; and their own clips.

A file tells its network, and its model card (if it has one) the labels of its final layer and how clips were made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline import artifacts, storage
from pipeline import config as configs
from pipeline.config import ClipConfig, ConfigError, ModelConfig, TransferConfig
from pretrain import card as cards
from pretrain import checkpoint
from pretrain.distributed import World
from pretrain.models import VideoResNet, build_model, weights
from pretrain.models.inflation import inflate
from pretrain.models.start import started

SCRATCH = "scratch"  # runs whose name begins so have no checkpoint
CLIP_FIELDS = {
    "clip_length": "length",
    **{name: name for name in ("stride", "fps", "size_hw", "short_edge", "crop_px")},
}


@dataclass(frozen=True)
class Start:
    """The weights a transfer starts from, and the network and clips that go with them."""

    model: ModelConfig
    clip: ClipConfig
    description: str
    """Where the weights are from, for the person at the terminal."""
    tensors: dict[str, Tensor] | None = None
    """None: random weights, or those that `model.weights` names."""
    labels: tuple[str, ...] | None = None
    """Names in the order of the final layer, where they are known."""
    digests: dict[str, str] = dataclasses.field(default_factory=dict)
    """Of the run or of the file."""
    has_own_clip: bool = False
    """`clip` is the weights', not the config's."""
    remarks: tuple[str, ...] = ()
    """What is odd but allowed."""

    def new_model(self, num_labels: int, seed: int, world: World) -> VideoResNet:
        """The trunk under a new final layer; what is random depends on `seed` alone."""
        torch.manual_seed(seed)
        if self.tensors is None:
            return started(self.model, num_labels)[0].to(world.device)
        model = build_model(self.model.name, num_labels, self.model.width)
        weights.fill(model, self.tensors, trunk_only=True)
        return model.to(world.device)

    def own_model(self, columns: list[int], world: World) -> VideoResNet:
        """The network under its own final layer, whose labels are put into the order of `columns`."""
        model = build_model(self.model.name, len(columns), self.model.width)
        final = {name: self.tensors[name][columns] for name in ("fc.weight", "fc.bias")}
        weights.fill(model, self.tensors | final)
        return model.to(world.device)

    @property
    def num_labels(self) -> int | None:
        """Size of the final layer that the weights bring."""
        return None if self.tensors is None else weights.num_labels(self.tensors)


def open_start(config: TransferConfig) -> Start:
    """The weights that the config names.

    Raises:
        ConfigError: they do not exist, are damaged, or do not fit what else the config says.
    """
    if config.run_from:
        start = of_file(config)
    elif config.run.startswith(SCRATCH):
        return of_nothing(config)
    else:
        start = of_run(config)
    return inflated(start, config) if config.inflate else start


def of_nothing(config: TransferConfig) -> Start:
    """Random weights of the config's network, or the trunk that `model.weights` names."""
    if config.inflate:
        raise ConfigError(f"inflate needs a 2-D network to inflate, and run '{config.run}' starts from random weights")
    file = config.model.weights
    digests = {"weights": hashlib.sha256(storage.read_bytes(file)).hexdigest()} if file else {}
    return Start(config.model, config.clip, f"trunk of '{file}'" if file else "random weights", digests=digests)


def of_run(config: TransferConfig) -> Start:
    """A finished run's last checkpoint, with its own network and clips; what the run itself began with is in it."""
    files = artifacts.run_files(config.root, config.run)
    marker = artifacts.read_marker(
        files.marker,
        f"run `tagreel pretrain --run {config.run}` to its end (or name a run that starts with '{SCRATCH}', or a file of "
        "weights with --run-from)",
    )
    found = checkpoint.newest(files.checkpoints)
    if found is None or found.clips_seen != marker["counts"]["clips_seen"]:
        raise ConfigError(
            f"the final checkpoint of run '{config.run}', '{marker['checkpoint']}', is missing or damaged"
        )
    model = configs.from_dict(ModelConfig, marker["config"]["model"])
    own = configs.from_dict(ClipConfig, marker["config"]["clip"])
    is_own = config.clip_from == "weights"
    return Start(
        model=ModelConfig(model.name, model.width),
        clip=own if is_own else config.clip,
        description=f"run '{config.run}'",
        tensors=found.model_tensors(),
        labels=tuple(marker["labels"]) if "labels" in marker else None,
        digests={"run": marker["digest"]},
        has_own_clip=is_own,
        remarks=() if is_own else overridden(config.clip, own),
    )


def of_file(config: TransferConfig) -> Start:
    """A file of weights: its network from its tensors, labels and clips from its model card."""
    path = config.run_from
    refuse_taken_names(config)
    tensors = weights.load(path)
    try:
        network = weights.describe(tensors)
    except ConfigError as error:
        raise ConfigError(f"'{path}' cannot be transferred: {error}") from error
    model = ModelConfig(network.name, network.width)
    if not config.inflate and config.model.name not in (ModelConfig.name, network.name):
        raise ConfigError(
            f"'{path}' holds weights of {network.name}, and model.name = '{config.model.name}': leave it out, as a file "
            "brings its own network (a 2-D one is made 3-D by --inflate)"
        )
    known = weights.card(path) or {}
    own, labels = stated_clip(path, known.get("preprocessing")), known.get("labels")
    is_own = own is not None and config.clip_from == "weights"
    return Start(
        model=model,
        clip=own if is_own else config.clip,
        description=f"'{path}'",
        tensors=tensors,
        labels=tuple(labels) if labels else None,
        digests={"weights": hashlib.sha256(storage.read_bytes(path)).hexdigest()},
        has_own_clip=is_own,
        remarks=remarks_on_clip(config, own),
    )


def refuse_taken_names(config: TransferConfig) -> None:
    """Results of a file are not put among those of a run, or of random weights."""
    run = os.path.basename(artifacts.transfer_files(config).folder.rpartition("/transfer/")[0])
    if run.startswith(SCRATCH):
        raise ConfigError(f"run = '{run}' means random weights, but run_from names a file: give it another --run")
    if storage.exists(storage.join(artifacts.run_files(config.root, run).folder, "config.json")):
        raise ConfigError(
            f"'{run}' is a pretraining run, and the results of '{config.run_from}' would be taken for its own: give them "
            "another name with --run"
        )


def inflated(start: Start, config: TransferConfig) -> Start:
    """The 2-D weights as those of the config's 3-D network, seen by the config's clips (paper, Section 4.3.2)."""
    model = ModelConfig(config.model.name, config.model.width)
    with torch.device("meta"):
        wanted = build_model(model.name, start.num_labels, model.width)
    try:
        tensors, names = inflate(start.tensors, wanted, config.inflate)
        weights.fill(wanted.to_empty(device="cpu"), tensors)
    except ConfigError as error:
        raise ConfigError(
            f"{start.description} cannot be inflated into model.name = '{model.name}': {error}"
        ) from error
    if not names:
        raise ConfigError(
            f"{start.description} has no 2-D kernel to inflate: it is {start.model.name}; leave out inflate"
        )
    description = f"{start.description} ({start.model.name}), {len(names)} 2-D kernels inflated ({config.inflate})"
    return dataclasses.replace(
        start,
        model=model,
        clip=config.clip,
        description=description,
        tensors=tensors,
        has_own_clip=False,
        remarks=(),
    )


# ------------------------------------------------------------------------------------------------------ clips


def stated_clip(path: str, stated: dict[str, Any] | None) -> ClipConfig | None:
    """The clips that a file's model card states (its `preprocessing`); None where nobody said.

    Raises: ConfigError for clips that are made in another way than here.
    """
    if stated is None:
        return None
    try:
        own = configs.from_dict(ClipConfig, {name: stated[key] for key, name in CLIP_FIELDS.items()})
        ours = cards.preprocessing(own)
        other = [f"{key} = {stated[key]} (here: {ours[key]})" for key in ours if stated[key] != ours[key]]
    except (KeyError, TypeError) as error:
        raise ConfigError(f"the model card of '{path}' does not say how clips are made: no {error}") from error
    if other:
        raise ConfigError(f"'{path}' wants clips that cannot be made here: {'; '.join(other)}")
    return own


def remarks_on_clip(config: TransferConfig, own: ClipConfig | None) -> tuple[str, ...]:
    """What to say about the clips of a file that states `own`, or nothing.

    Raises: ConfigError where the config asks for others and does not say that it means to.
    """
    if own is None:
        return unstated(config)
    if config.clip_from == "config":
        return overridden(config.clip, own)
    if config.clip not in (ClipConfig(), own) and not config.inflate:
        raise ConfigError(
            f"the clips of '{config.run_from}', by its model card, are not those of the config: "
            f"{'; '.join(clip_differences(own, config.clip))}. Leave `clip` out to take the file's, or pass --clip-from "
            "config to take the config's all the same"
        )
    return ()


def unstated(config: TransferConfig) -> tuple[str, ...]:
    """Of a file without a card; the names of published files tell the length."""
    clip = ", ".join(f"{name} {value}" for name, value in vars(config.clip).items())
    remark = f"'{config.run_from}' does not say how clips were made; taken from the config: {clip}"
    found = re.search(r"clip(\d+)", os.path.basename(config.run_from))
    if found and int(found[1]) != config.clip.length:
        return remark, f"clip.length = {config.clip.length}, but by its name the file is of {found[1]}-frame clips"
    return (remark,)


def overridden(asked: ClipConfig, own: ClipConfig) -> tuple[str, ...]:
    """Where the clips asked for differ from those that the weights were trained on."""
    changed = clip_differences(own, asked)
    return (f"other clips than the weights were trained on: {'; '.join(changed)}",) if changed else ()


def clip_differences(old: ClipConfig, new: ClipConfig) -> list[str]:
    return configs.differences(configs.to_dict(old), configs.to_dict(new), "clip.")
