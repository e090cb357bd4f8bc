"""`tagreel explain RESULT`: where the network of a finished transfer looks, what it confuses, how another one differs.

{result folder}/explain/{name}/config.json
                               videos/{number}-{key}.png, .mp4   evidence over space and time
                               videos.csv confusions.csv [differences.csv]
                               index.html     all of it on one page
                               explain.json   written last: its existence means that the rest is whole
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tyro.conf import Positional

from finetune import activation_maps, explain_page, overlay, predictions, tested_model, views
from finetune.activation_maps import LAST
from finetune.comparison import ClassDifference, compare
from finetune.data import open_split
from finetune.explain_page import Shown
from finetune.metrics import most_confused, predicted
from finetune.predictions import Predictions
from finetune.start import open_start
from pipeline import artifacts, progress, storage
from pipeline import config as configs
from pipeline.artifacts import TransferFiles
from pipeline.cli import run_stage
from pipeline.config import ConfigError, TransferConfig
from pretrain.distributed import World, joined
from pretrain.models import VideoResNet
from pretrain.reading import FrameReader


@dataclass(frozen=True)
class ExplainConfig:
    """A finished transfer → where its network looks, what it confuses, how another one differs."""

    result: Positional[str] = ""
    """Folder of the transfer, with its result.json: ROOT/runs/RUN/transfer/TARGET-PROTOCOL."""
    name: str = "all"
    """Of this explanation among those of the same result."""
    right: int = 4
    """Test videos shown of those that are right, the most confident first."""
    wrong: int = 4
    """... of those that are wrong."""
    keys: tuple[str, ...] = ()
    """Test videos shown besides these: their keys, or the names of their files."""
    layer: str = LAST
    """Of the network: layer4 decomposes the label's logit exactly; others (layer3, layer2.0.conv1, …) by Grad-CAM."""
    frames: int = 8
    """Frames on a video's strip."""
    against: str = ""
    """Folder of another transfer to the same target: also list the labels on which the two differ."""
    force: bool = False
    """Discard what is at the same path and start over."""


@dataclass(frozen=True)
class Finished:
    """A finished transfer, as far as it is on disk."""

    folder: str
    marker: dict[str, Any]
    config: TransferConfig
    """Its root is where the folder lies now."""
    scored: Predictions


def explain(config: ExplainConfig) -> None:
    """Write the explanation of one result."""
    here = open_finished(config.result)
    there = open_finished(config.against) if config.against else None
    uris = uris_of(here)
    chosen = choose_videos(dataclasses.replace(config, keys=keys_of(config.keys, uris)), here.scored)
    compared = compare(there.scored, here.scored) if there else None
    folder = artifacts.explanation_folder(here.folder, config.name)
    marker = storage.join(folder, "explain.json")
    digests = {name: found.marker["digest"] for name, found in (("result", here), ("against", there)) if found}
    asked = dataclasses.replace(config, result="", against="")  # of the two, their content counts, not their paths
    with joined() as world:
        network = network_of(here, config.layer, world) if chosen else None
        if artifacts.open_stage(folder, marker, asked, digests):
            progress.say(f"explain: '{folder}' is finished; nothing to do")
            return
        shown, pictures = show_videos(config, here, chosen, uris, network, folder, world)

    pairs = most_confused(here.scored.scores, here.scored.labels, here.scored.names, limit=None)
    write_rows(storage.join(folder, "videos.csv"), map(dataclasses.asdict, shown))
    write_rows(storage.join(folder, "confusions.csv"), map(dataclasses.asdict, pairs))
    if compared is not None:
        write_rows(storage.join(folder, "differences.csv"), map(difference_row, compared.classes))
    against = (there.folder, compared) if there else None
    page = explain_page.page(
        here.folder, here.scored, config.layer, list(zip(shown, pictures, strict=True)), pairs, against
    )
    storage.write_bytes(storage.join(folder, "index.html"), page.encode())
    counts = {
        "test_videos": len(here.scored.keys) + sum(here.scored.undecodable.values()),
        "scored": len(here.scored.keys),
        "undecodable": here.scored.undecodable,
        "right": int(here.scored.correct.sum()),
        "shown": len(shown),
        "confused_pairs": len(pairs),
    }
    artifacts.seal(folder, marker, counts, against=there.folder if there else None)
    progress.say(f"explain: {storage.join(folder, 'index.html')}")


# ------------------------------------------------------------------------------------------------ what there is


def open_finished(folder: str) -> Finished:
    """Raises: ConfigError for a folder that is not that of a finished transfer."""
    folder = folder.removesuffix("/result.json").rstrip("/")
    parts = folder.split("/")
    if len(parts) < 4 or (parts[-4], parts[-2]) != ("runs", "transfer"):
        raise ConfigError(f"'{folder}' is not the folder of a transfer: name ROOT/runs/RUN/transfer/TARGET-PROTOCOL")
    root = "/".join(parts[:-4]) or ("/" if folder.startswith("/") else ".")
    marker = artifacts.read_marker(
        storage.join(folder, "result.json"), "name the folder of a finished transfer (tagreel transfer)"
    )
    resolved = storage.read_json(storage.join(folder, "config.json"))["resolved"]
    config = configs.from_dict(TransferConfig, {**resolved, "root": root})
    scored = predictions.read(TransferFiles(folder), marker, config.seed)
    if scored.multi_label:
        raise ConfigError(
            f"the videos of '{folder}' have several labels each, and confusions are of one label with another"
        )
    return Finished(folder, marker, config, scored)


def uris_of(finished: Finished) -> dict[str, str]:
    """{key: where it was read from} of the test videos."""
    files = artifacts.target_files(finished.config.root, finished.config.target, "test")
    manifest = storage.read_parquet_parts(files.manifest, ["video_id", "uri"]).to_pydict()
    return dict(zip(manifest["video_id"], manifest["uri"], strict=True))


def keys_of(names: Sequence[str], uris: dict[str, str]) -> tuple[str, ...]:
    """Names of files, with or without suffix, as keys, those of all segments of a file; other names stay as they are."""
    found: dict[str, list[str]] = {}
    for key, uri in uris.items():
        name = uri.rpartition("/")[2]
        for each in {name, os.path.splitext(name)[0]}:
            found.setdefault(each, []).append(key)
    return tuple(key for name in names for key in ([name] if name in uris else found.get(name, [name])))


def choose_videos(config: ExplainConfig, scored: Predictions) -> dict[int, str]:
    """Rows of `scored` to show, with the reason: the surest that are right, the surest that are wrong, then those named."""
    unknown = [key for key in config.keys if key not in scored.keys]
    if unknown:
        raise ConfigError(
            f"keys: '{unknown[0]}' is no scored test video of the result; its first is '{scored.keys[0]}'"
        )
    if config.frames < 1 or min(config.right, config.wrong) < 0:
        raise ConfigError("frames must be at least 1, right and wrong at least 0")
    surest, correct = scored.scores.max(axis=1), scored.correct
    rows = sorted(range(len(scored.keys)), key=lambda row: (-surest[row], scored.keys[row]))
    right = [row for row in rows if correct[row]][: config.right]
    wrong = [row for row in rows if not correct[row]][: config.wrong]
    named = [scored.keys.index(key) for key in config.keys]
    return {
        **dict.fromkeys(named, "named"),
        **dict.fromkeys(wrong, "wrong, and sure of it"),
        **dict.fromkeys(right, "right, and sure of it"),
    }


class Network(NamedTuple):
    """What a transfer tested, and what it saw."""

    model: VideoResNet
    reader: FrameReader
    """Of the test videos, at the size of the test."""


def network_of(finished: Finished, layer: str, world: World) -> Network:
    """The network that was tested, with all that its `layer` needs; ConfigError where it has no such layer."""
    config = finished.config
    start = open_start(config)
    for name, digest in start.digests.items():
        if finished.marker["input_digests"].get(name) != digest:
            raise ConfigError(
                f"what '{finished.folder}' started from ({name}) is no longer the same: transfer it again"
            )
    test = open_split(config.root, config.target, "test")
    model = start.new_model(len(finished.scored.names), config.seed, world)
    tested_model.load(finished.folder, config.seed, model)
    activation_maps.find_layer(model, layer)
    return Network(model, FrameReader(test.samples, views.test_clip(config, start.clip)))


# ------------------------------------------------------------------------------------------------ what is written


def show_videos(
    config: ExplainConfig,
    here: Finished,
    chosen: dict[int, str],
    uris: dict[str, str],
    network: Network | None,
    folder: str,
    world: World,
) -> tuple[list[Shown], list[bytes]]:
    """Write the pictures of the chosen videos; their rows and their strips."""
    if network is None:
        return [], []
    model, reader = network
    samples = {key: sample for sample, key in enumerate(reader.samples.keys.to_pylist())}
    sheets, shown, pictures = drawing(), [], []
    for number, (row, reason) in enumerate(progress.bar(chosen.items(), desc="videos", unit="video"), start=1):
        key, labels = here.scored.keys[row], explained_labels(here.scored, row)
        names = [here.scored.names[label] for label in labels]
        maps = overlay.video_maps(model, reader, samples[key], labels, names, config.layer, world.device)
        stem = f"videos/{number:02d}-{safe_name(key)}"
        pictures.append(overlay.strip(maps, config.frames, sheets))
        storage.write_bytes(storage.join(folder, f"{stem}.png"), pictures[-1])
        storage.write_bytes(storage.join(folder, f"{stem}.mp4"), overlay.film(maps))
        shown.append(
            Shown(
                key=key,
                uri=uris[key],
                chosen=reason,
                label=here.scored.names[here.scored.labels[row]],
                predicted=names[0],
                score=float(here.scored.scores[row].max()),
                label_score=float(here.scored.scores[row, here.scored.labels[row]]),
                peak_s=round(maps.peak_s, 3),
                png=f"{stem}.png",
                mp4=f"{stem}.mp4",
            )
        )
    return shown, pictures


def explained_labels(scored: Predictions, row: int) -> list[int]:
    """The predicted label, and the video's own where that is another."""
    own = scored.labels[row : row + 1]
    return list(dict.fromkeys([int(predicted(scored.scores[row : row + 1], own)[0]), int(own[0])]))


def safe_name(key: str) -> str:
    """A file's name for a video's key: letters, digits and a few signs."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", key)[:60]


def drawing() -> Any:
    try:
        from pipeline import contact_sheet
    except ImportError as error:
        raise ConfigError("the pictures need Pillow: pip install 'tagreel[report]'") from error
    return contact_sheet


def difference_row(found: ClassDifference) -> dict[str, Any]:
    """The result that is explained is the second of the two."""
    return {
        "label": found.name,
        "videos": found.num_videos,
        "top1": found.second,
        "top1_against": found.first,
        "top1_difference": found.difference,
        "low": found.interval[0],
        "high": found.interval[1],
        "right_here_only": found.won,
        "right_there_only": found.lost,
        "top5_difference": found.top5_difference,
    }


def write_rows(path: str, rows: Iterable[dict[str, Any]]) -> None:
    """A CSV; without any row, an empty file."""
    text = io.StringIO()
    for number, row in enumerate(rows):
        if not number:
            writer = csv.DictWriter(text, row, lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)
    storage.write_bytes(path, text.getvalue().encode())


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the stage."""
    run_stage(ExplainConfig, explain, argv)


if __name__ == "__main__":
    main()
