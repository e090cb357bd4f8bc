"""MAIN FLOW 3: checkpoint × target × protocol → result.json (paper, Section 4).

    torchrun --nproc-per-node=8 -m finetune.transfer --config transfer.json
    python -m finetune.transfer --config transfer.json        (one process: the same result up to rounding)

Hyper-parameters are chosen on held-out training videos; the test split is read once, after the last training step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import pyarrow as pa
import torch

from finetune import evaluate, fc_only, full_ft, metrics
from finetune.data import Split, open_split
from finetune.evaluate import Outputs
from finetune.search import Fitted
from pipeline import artifacts, progress, storage
from pipeline import config as configs
from pipeline.cli import run_stage
from pipeline.config import ClipConfig, ConfigError, ModelConfig, TransferConfig
from pretrain import checkpoint
from pretrain.data import FrameReader
from pretrain.distributed import World, joined
from pretrain.models import VideoResNet, build_model

SCRATCH = "scratch"  # runs whose name begins so have no checkpoint
PREDICTIONS = pa.schema(  # predictions.parquet: one row per stored test video; enough to compute every metric again
    [
        ("key", pa.string()),
        ("label", pa.int32()),
        ("scores", pa.list_(pa.float32())),  # [K], sum 1; null when undecodable
        ("reason", pa.string()),  # null when scored
    ]
)


@dataclass(frozen=True)
class Start:
    """The weights a transfer starts from, and the network and clips that go with them."""

    model: ModelConfig
    clip: ClipConfig
    checkpoint: checkpoint.Checkpoint | None
    """None: random weights."""
    digests: dict[str, str]

    def new_model(self, num_labels: int, seed: int, world: World) -> VideoResNet:
        """The pretrained trunk under a new final layer; what is random depends on `seed` alone."""
        torch.manual_seed(seed)
        model = build_model(self.model.name, num_labels, self.model.width)
        if self.checkpoint is not None:
            trunk = {name: t for name, t in self.checkpoint.model_tensors().items() if not name.startswith("fc.")}
            model.load_state_dict(trunk | {f"fc.{name}": tensor for name, tensor in model.fc.state_dict().items()})
        return model.to(world.device)


def transfer(config: TransferConfig) -> None:
    """Transfer one run to one target by one protocol, and write the result."""
    with joined() as world:
        start = open_start(config)
        train, test = (open_split(config.root, config.target, part) for part in ("train", "test"))
        check(config, start, train, test, world)
        folder = artifacts.run_files(config.root, config.run).transfer(config.target, config.protocol)
        digests = {**start.digests, "train": train.digest, "test": test.digest}
        if is_finished(config, folder, digests, world):
            progress.say(f"transfer: '{folder}' is finished; nothing to do")
            return
        announce(config, start, train, test)

        began = time.perf_counter()
        reader = FrameReader(train.samples, start.clip, config.cache_mb)

        def new_model() -> VideoResNet:
            return start.new_model(train.samples.num_labels, config.seed, world)

        if config.protocol == "fc_only":
            fitted = fc_only.fit(config, new_model(), train, reader, world)
        else:
            with pass_log(folder, world) as log:
                fitted = full_ft.fit(config, new_model, train, reader, world, log)
        trained = time.perf_counter()

        test_reader, everything = FrameReader(test.samples, start.clip), range(len(test.samples))
        outputs = evaluate.video_scores(
            fitted.model, test_reader, everything, config.num_clips, world, config.precision
        )
        seconds = {"training": round(trained - began, 2), "test": round(time.perf_counter() - trained, 2)}
        if world.is_first:
            write(folder, train, test, outputs, start, fitted, seconds)
        world.barrier()


# ------------------------------------------------------------------------------------------------ before training


def open_start(config: TransferConfig) -> Start:
    """The run's final checkpoint with its own network and clips; or random weights of the transfer's config."""
    if config.run.startswith(SCRATCH):
        return Start(config.model, config.clip, None, {})
    files = artifacts.run_files(config.root, config.run)
    marker = artifacts.read_marker(
        files.marker,
        f"run `tagreel pretrain --run {config.run}` to its end (or name a run that starts with '{SCRATCH}')",
    )
    found = checkpoint.newest(files.checkpoints)
    if found is None or found.clips_seen != marker["counts"]["clips_seen"]:
        raise ConfigError(
            f"the final checkpoint of run '{config.run}', '{marker['checkpoint']}', is missing or damaged"
        )
    model, clip = (
        configs.from_dict(kind, marker["config"][name]) for kind, name in ((ModelConfig, "model"), (ClipConfig, "clip"))
    )
    return Start(model, clip, found, {"run": marker["digest"]})


def check(config: TransferConfig, start: Start, train: Split, test: Split, world: World) -> None:
    """Refuse what cannot work before anything is written."""
    if not storage.is_local(config.root):
        raise ConfigError(f"checkpoints and results are on local disks only; root = '{config.root}' is a URL")
    if train.samples.labels != test.samples.labels:
        raise ConfigError(f"the train and test splits of target '{config.target}' have different label spaces")
    if start.clip.crop_px > min(start.clip.size_hw):
        raise ConfigError(f"clip.crop_px = {start.clip.crop_px} does not fit into clip.size_hw = {start.clip.size_hw}")
    if not 0 < config.held_out < 1:
        raise ConfigError(f"held_out = {config.held_out} is not a share between 0 and 1")
    for name in ("num_clips", "passes", "batch"):
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} must be at least 1")
    if config.protocol == "full_ft":
        full_ft.share_batch(config, world)


def is_finished(config: TransferConfig, folder: str, digests: dict[str, str], world: World) -> bool:
    """Begin the result's folder, on the first rank; true on all when there is nothing left to do."""
    finished = torch.zeros(1, device=world.device)
    if world.is_first:
        finished += artifacts.open_stage(folder, result_path(folder), config, digests) is not None
    return bool(world.broadcast_(finished))


@contextlib.contextmanager
def pass_log(folder: str, world: World) -> Iterator[progress.MetricsFile | None]:
    """metrics.jsonl, on the first rank, begun anew."""
    path = storage.join(folder, "metrics.jsonl")
    if not world.is_first:
        yield None
        return
    storage.remove(path)
    with contextlib.closing(progress.MetricsFile(path)) as log:
        yield log


def announce(config: TransferConfig, start: Start, train: Split, test: Split) -> None:
    """What is about to be done, for the person at the terminal."""
    origin = f"run '{config.run}'" if start.checkpoint else "random weights"
    progress.say(
        f"transfer: {origin}, {start.model.name}, to '{config.target}' by {config.protocol}, "
        f"{train.samples.num_labels} labels"
    )
    progress.say_counts("transfer: training videos", train.total, len(train.samples), train.undecodable)
    progress.say_counts("transfer: test videos", test.total, len(test.samples), test.undecodable)


# ---------------------------------------------------------------------------------------------------- the result


def result_path(folder: str) -> str:
    """The marker of a transfer."""
    return storage.join(folder, "result.json")


def write(
    folder: str, train: Split, test: Split, outputs: Outputs, start: Start, fitted: Fitted, seconds: dict[str, float]
) -> None:
    """Write predictions.parquet and, last of all, result.json; say the result.

    A test video that could not be decoded is counted by reason and has no part in the accuracies.
    """
    undecodable = Counter(test.undecodable) + Counter(outputs.undecodable.values())
    progress.say_counts("transfer: tested", test.total, len(outputs.samples), undecodable)
    if not len(outputs.samples):
        raise ConfigError(f"none of the {test.total} test videos could be decoded: {dict(undecodable)}")
    storage.write_parquet(storage.join(folder, "predictions.parquet"), predictions(test, outputs), PREDICTIONS)
    measured = metrics.summarise(outputs.values, test.labels[outputs.samples], list(test.samples.labels))
    measured["num_undecodable"] = undecodable.total()
    counts = {
        "train_videos": {"attempted": train.total, "used": len(train.samples), "undecodable": train.undecodable},
        "test_videos": {"attempted": test.total, "scored": len(outputs.samples), "undecodable": dict(undecodable)},
    }
    artifacts.seal(
        folder,
        result_path(folder),
        counts,
        metrics=measured,
        search=[dataclasses.asdict(trial) for trial in fitted.trials],
        chosen=fitted.chosen,
        training=fitted.account,
        model=dataclasses.asdict(start.model),
        clip=dataclasses.asdict(start.clip),
        num_train_videos=len(train.samples),
        versions={
            "torch": torch.__version__,
            "torchvision": _version("torchvision"),
            "python": platform.python_version(),
        },
        seconds=seconds,
    )
    low, high = measured["top1_interval"]
    progress.say(
        f"transfer: top-1 {measured['top1']:.1%} ({low:.1%} to {high:.1%}), top-5 {measured['top5']:.1%}, "
        f"mean class accuracy {measured['mean_class_accuracy']:.1%}; {result_path(folder)}"
    )


def predictions(test: Split, outputs: Outputs) -> pa.Table:
    """Rows of `PREDICTIONS`, scored videos first."""
    scored = [(int(sample), list(values), None) for sample, values in zip(outputs.samples, outputs.values, strict=True)]
    rows = scored + [(sample, None, reason) for sample, reason in outputs.undecodable.items()]
    return pa.table(
        {
            "key": [test.samples.key(sample) for sample, _, _ in rows],
            "label": [int(test.labels[sample]) for sample, _, _ in rows],
            "scores": pa.array([scores for _, scores, _ in rows], pa.list_(pa.float32())),
            "reason": pa.array([reason for _, _, reason in rows], pa.string()),
        }
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the stage."""
    run_stage(TransferConfig, transfer, argv)


if __name__ == "__main__":
    main()
