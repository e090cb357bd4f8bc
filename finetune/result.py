"""What a transfer leaves behind: predictions.parquet and, last of all, result.json.

N videos, K labels, R final trainings. A test video that could not be decoded is counted by reason and has no part in the
accuracies.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from finetune import metrics
from finetune.data import Split
from finetune.evaluate import Outputs
from finetune.few_shot import FewShot
from finetune.predictions import Predictions
from finetune.search import Fitted
from finetune.settings import seeds
from finetune.start import Start
from finetune.unfinished import Unfinished
from pipeline import artifacts, progress, storage
from pipeline.artifacts import TransferFiles
from pipeline.command_line import command_line
from pipeline.config import ConfigError, TransferConfig
from pipeline.report.estimates import MIN_SEEDS, estimate
from pretrain import card as cards
from pretrain.distributed import World
from pretrain.provenance import device_name, versions

OVER_VIDEOS = "95 % bootstrap over the test videos, of one training"
OVER_TRAININGS = "95 % Student's t over the trainings, on these test videos"
OVER_DRAWS = "95 % Student's t over the draws of training videos, on these test videos"
OVER_VIDEOS_MEAN = "95 % bootstrap over the test videos, ends averaged over the trainings (too few for one over them)"


def account(fitted: Fitted, salience: dict[str, Any] | None, seconds: dict[str, float]) -> dict[str, Any]:
    """What result.json will say of one final training beside its metrics."""
    return {
        "chosen": fitted.chosen,
        "search": [dataclasses.asdict(trial) for trial in fitted.trials],
        "training": fitted.account,
        "salience": salience,
        "seconds": seconds,
    }


def predictions(test: Split, outputs: Outputs, seed: int) -> pa.Table:
    """Rows of `artifacts.PREDICTIONS`, scored videos first."""
    scored = [(int(sample), list(values), None) for sample, values in zip(outputs.samples, outputs.values, strict=True)]
    rows = scored + [(sample, None, reason) for sample, reason in outputs.undecodable.items()]
    return pa.table(
        {
            "key": [test.samples.key(sample) for sample, _, _ in rows],
            "seed": [seed] * len(rows),
            "labels": pa.array(
                [test.samples.labels_of(sample).tolist() for sample, _, _ in rows], pa.list_(pa.int32())
            ),
            "scores": pa.array([scores for _, scores, _ in rows], pa.list_(pa.float32())),
            "reason": pa.array([reason for _, _, reason in rows], pa.string()),
        }
    )


def write(
    config: TransferConfig,
    files: TransferFiles,
    start: Start,
    train: Split | None,
    test: Split,
    labels: tuple[str, ...],
    unfinished: Unfinished,
    world: World,
) -> None:
    """Write predictions.parquet and result.json from what each final training left; say the result.

    `labels` are the names of the K scores.
    """
    tables, accounts = zip(*(unfinished.read(seed) for seed in seeds(config)), strict=True)
    counts = count_videos(train, test, tables[0]["reason"].drop_null().to_pylist())
    storage.write_parquet(files.predictions, pa.concat_tables(tables), artifacts.PREDICTIONS)
    results = [Predictions.from_table(table, list(labels), test.multi_label) for table in tables]
    measured = [metrics.summarise(each.scores, each.labels, each.names) for each in results]
    summary = over_trainings(measured) | {"num_undecodable": sum(counts["test_videos"]["undecodable"].values())}
    artifacts.seal(
        files.folder,
        files.marker,
        counts,
        metrics=summary,
        repeats=[
            {"seed": seed, "training": account["training"], "seconds": account["seconds"], "metrics": found}
            for seed, account, found in zip(seeds(config), accounts, measured, strict=True)
        ],
        search=accounts[0]["search"],
        chosen=accounts[0]["chosen"],
        training=accounts[0]["training"],
        salience=accounts[0]["salience"],
        labels=list(labels),
        most_confused=[] if test.multi_label else confusions(results),
        seeds=list(seeds(config)),
        seconds={name: sum(account["seconds"][name] for account in accounts) for name in accounts[0]["seconds"]},
        **provenance(config, start, train, world),
    )
    progress.say(f"transfer: {metrics.sentence(summary)}; {files.marker}")


def write_few_shot(
    config: TransferConfig,
    files: TransferFiles,
    start: Start,
    train: Split,
    test: Split,
    found: FewShot,
    seconds: float,
    world: World,
) -> None:
    """Write the result.json of the few-shot protocol: each head at each number of shots.

    The headline is the regression's at the most shots; its interval is over the draws (None of a single one).
    """
    counts = count_videos(train, test, list(found.undecodable.values()))
    most = found.heads["logistic"][str(max(config.shots))]
    headline = {"name": "top1", "value": most["mean"], "interval": most["interval"]}
    scored_videos = counts["test_videos"]["scored"]
    artifacts.seal(
        files.folder,
        files.marker,
        counts,
        metrics={
            "headline": headline,
            "top1": most["mean"],
            "top1_interval": most["interval"],
            "interval_of": OVER_DRAWS,
            "num_videos": scored_videos,
            "num_undecodable": sum(counts["test_videos"]["undecodable"].values()),
        },
        few_shot={"heads": found.heads, "num_short": found.num_short},
        labels=list(test.samples.labels),
        seeds=[config.seed],
        seconds={"all": seconds},
        **provenance(config, start, train, world),
    )
    progress.say(f"transfer: few_shot on {scored_videos:,} test videos; {files.marker}")


def count_videos(train: Split | None, test: Split, unread: list[str]) -> dict[str, Any]:
    """Videos of both splits, in = used + undecodable by reason; `unread` are reasons found in the test. Says the test's.

    Raises: ConfigError when no test video could be decoded.
    """
    undecodable = Counter(test.undecodable) + Counter(unread)
    num_scored = test.total - undecodable.total()
    progress.say_counts("transfer: tested", test.total, num_scored, undecodable)
    if not num_scored:
        raise ConfigError(f"none of the {test.total} test videos could be decoded: {dict(undecodable)}")
    tested = {"attempted": test.total, "scored": num_scored, "undecodable": dict(undecodable)}
    if train is None:
        return {"test_videos": tested}
    used = {"attempted": train.total, "used": len(train.samples), "undecodable": train.undecodable}
    return {"train_videos": used, "test_videos": tested}


def provenance(config: TransferConfig, start: Start, train: Split | None, world: World) -> dict[str, Any]:
    """Where every result comes from: weights, preprocessing, versions, devices, the command."""
    return {
        "start": start.description,
        "remarks": list(start.remarks),
        "model": {"name": start.model.name, "width": start.model.width},
        "clip": dataclasses.asdict(start.clip),
        "preprocessing": cards.preprocessing(start.clip),
        "num_train_videos": None if train is None else len(train.samples),
        "versions": versions("torchvision", "numpy"),
        "device": device_name(world.device),
        "world_size": world.size,
        "command": command_line("transfer", config),
    }


def confusions(results: list[Predictions]) -> list[dict[str, Any]]:
    """The most confused pairs of labels over the videos of all trainings together."""
    scores, labels = (np.concatenate([getattr(each, name) for each in results]) for name in ("scores", "labels"))
    return [dataclasses.asdict(pair) for pair in metrics.most_confused(scores, labels, results[0].names)]


def over_trainings(measured: list[dict[str, Any]]) -> dict[str, Any]:
    """The metrics of one training, or their means over several; `interval_of` says what the headline's interval is.

    The interval over trainings tells how far other trainings would be from their mean on the same test videos; two
    trainings are too few for one.
    """
    if len(measured) == 1:
        return {**measured[0], "interval_of": OVER_VIDEOS}
    headlines = [each["headline"] for each in measured]
    found = estimate([each["value"] for each in headlines], [tuple(each["interval"]) for each in headlines])
    means = {name: _mean([each[name] for each in measured]) for name in measured[0]}
    return {
        **means,
        "headline": {**means["headline"], "interval": list(found.interval)},
        f"{means['headline']['name']}_interval": list(found.interval),
        f"{means['headline']['name']}_sd": found.sd,
        "interval_of": OVER_TRAININGS if len(measured) >= MIN_SEEDS else OVER_VIDEOS_MEAN,
    }


def _mean(values: list[Any]) -> Any:
    """Of numbers, entry by entry within dictionaries and lists; what is not a number is the same in all."""
    first = values[0]
    if isinstance(first, dict):
        return {name: _mean([value[name] for value in values]) for name in first}
    if isinstance(first, list):
        return [_mean(list(entries)) for entries in zip(*values, strict=True)]
    is_measured = isinstance(first, float)
    return float(np.mean(values)) if is_measured else first
