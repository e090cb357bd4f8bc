"""The model card: what a file of weights is, as plain values (JSON) and for people (Markdown, made of those values).

Both stand beside the weights, as `FILE.json` and `FILE.md`; safetensors carry the values in their header too. What is
not known of weights that came from elsewhere is null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from pipeline import artifacts, progress, storage
from pipeline.artifacts import DatasetFiles
from pipeline.config import ClipConfig, from_dict
from pipeline.report.markup import clean
from pretrain.checkpoint import Checkpoint
from pretrain.models import build_model, count
from pretrain.models.files import Format
from pretrain.models.identify import Network
from pretrain.transforms import MEAN_RGB, STD_RGB

Card = dict[str, Any]
LICENCE_TO_FILL_IN = "not stated; whoever publishes this file fills it in"


def preprocessing(clip: ClipConfig) -> Card:
    """How clips are made for a network: what a consumer must do, or check its own way against."""
    return {
        "colours": "RGB",
        "scale": "pixel / 255, then (x - mean) / std",
        "mean": list(MEAN_RGB),
        "std": list(STD_RGB),
        "size_hw": list(clip.size_hw),
        "short_edge": clip.short_edge,
        "crop_px": clip.crop_px,
        "clip_length": clip.length,
        "stride": clip.stride,
        "fps": clip.fps,
    }


def of_network(network: Network, preprocessing: Card | None) -> Card:
    """Architecture and size; multiply-adds where the size of the clips is known."""
    with torch.device("meta"):
        model = build_model(*network)
    about = {**network._asdict(), "parameters": sum(parameter.numel() for parameter in model.parameters())}
    if preprocessing is not None:
        gmac = count(model, preprocessing["clip_length"], preprocessing["crop_px"])[1]
        about["gmac_per_clip"] = round(gmac, 3)
    return about


def of_run(root: str, run: str, checkpoint: Checkpoint) -> Card:
    """Labels, preprocessing, training and data of a run, finished or not, at one of its checkpoints."""
    files = artifacts.run_files(root, run)
    begun = storage.read_json(storage.join(files.folder, "config.json"))
    config, digests = begun["resolved"], begun["input_digests"]
    marker = storage.read_json(files.marker) if storage.exists(files.marker) else {}
    dataset = artifacts.dataset_files(root, config["dataset"])
    described = storage.read_json(dataset.marker) if storage.exists(dataset.marker) else {}
    if described.get("digest") != digests["dataset"]:
        described = {}  # it is gone, or another by now
    labels = marker.get("labels") or [label["name"] for label in described.get("labels", [])]
    lines = [line for line in progress.read_metrics(files.metrics) if line["clips_seen"] <= checkpoint.clips_seen]
    return {
        "labels": list(labels) or None,
        "preprocessing": preprocessing(from_dict(ClipConfig, config["clip"])),
        "training": {
            "run": run,
            "config_digest": begun["config_digest"],
            "finished": bool(marker),
            "clips_seen": checkpoint.clips_seen,
            "recipe": config["recipe"],
            "last_metrics": lines[-1] if lines else None,
        },
        "data": {
            "dataset": config["dataset"],
            "digests": digests,
            "videos": described.get("num_videos"),
            "minutes": described.get("minutes"),
            "counts": marker.get("counts"),
            "exclusions": list(_exclusions(dataset)) if described else None,
        },
    }


def _exclusions(dataset: DatasetFiles) -> Iterator[Card]:
    """The dedups that a dataset went through: its own, and those of the datasets that it was drawn from."""
    if storage.exists(dataset.dedup_marker):
        dedup = storage.read_json(dataset.dedup_marker)
        asked = dedup["config"]
        about = {"targets": asked["targets"], "mode": asked["mode"], "digest": dedup["digest"]}
        yield {"dataset": dataset.name, **about, "counts": dedup["counts"]}
    marker = storage.read_json(dataset.marker) if storage.exists(dataset.marker) else {}
    if (base := marker.get("config", {}).get("base")) is not None:
        yield from _exclusions(DatasetFiles(artifacts.shard_path(dataset.folder, f"../{base}"), base))


# ------------------------------------------------------------------------------------------------------ Markdown


def markdown(card: Mapping[str, Any]) -> str:
    """The card for people: every value of it, and how to load the file."""
    file, network = card["file"], card["network"]
    parts = [
        f"# {_text(file['name'])}",
        f"{network['name']}, {network['parameters']:,} parameters, {network['num_labels']:,} labels.",
        _section("File", {**file, "licence": card["licence"] or LICENCE_TO_FILL_IN}),
        "## How to load it\n\n" + _fenced(_loading(file["name"], network["name"], file["format"]), "python"),
        _section("Network", network),
        *(_section(name.capitalize(), card[name]) for name in ("preprocessing", "training", "data", "source")),
        _section("Written by", card["versions"]),
        "## Labels\n\n" + _labels(card["labels"]),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, values: Mapping[str, Any] | None) -> str:
    if values is None:
        return f"## {title}\n\nNot known."
    rows = [f"| {name.replace('_', ' ')} | {_cell(value)} |" for name, value in _flat(values)]
    return "\n".join([f"## {title}\n", "| | |", "|---|---|", *rows])


def _flat(values: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if value and isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
            value = {str(number): item for number, item in enumerate(value, start=1)}
        if isinstance(value, Mapping):
            yield from _flat(value, f"{where}{name}: ")
        else:
            yield f"{where}{name}", value


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return _text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _text(text: str) -> str:
    """Text that stays text in a table of Markdown, whoever wrote it."""
    return "".join(f"\\{c}" if c in "\\|`*_<>[]" else c for c in " ".join(clean(text).split()))


def _labels(labels: list[str] | None) -> str:
    if labels is None:
        return "Not known."
    width = len(str(len(labels)))
    lines = [f"{number:>{width}}  {' '.join(clean(name).split())}" for number, name in enumerate(labels)]
    return "By their number in the final layer:\n\n" + _fenced("\n".join(lines))


def _fenced(text: str, language: str = "") -> str:
    """A block of code; its fence is longer than any run of the same character in the text."""
    fence = "~~~"
    while fence in text:
        fence += "~"
    return f"{fence}{language}\n{text}\n{fence}"


def _loading(file: str, network: str, format: Format) -> str:
    lines = [
        "import torch",
        "from pretrain.models import weights",
        "",
        f"model = weights.build({file!r}).eval()",
        f"weights.preprocessing({file!r})  # how clips must be prepared",
        "",
        "# or, from a checkout of the project, without installing it",
        f"model = torch.hub.load('CHECKOUT', {network!r}, weights={file!r}, source='local').eval()",
    ]
    return "\n".join(lines + [line.format(file=repr(file)) for line in WITHOUT_THE_PROJECT.get(format, ())])


WITHOUT_THE_PROJECT = {
    "caffe2": (
        "",
        "# or without the project: NumPy arrays by the names of their blobs",
        "blobs = pickle.load(open({file}, 'rb'), encoding='latin1')['blobs']",
    ),
    "torchvision": (
        "",
        "# or without the project",
        "tensors = torch.load({file}, weights_only=True)",
        "model = torchvision.models.video.r2plus1d_18(num_classes=len(tensors['fc.bias']))",
        "model.load_state_dict(tensors)",
    ),
}
