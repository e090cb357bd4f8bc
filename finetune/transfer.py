"""MAIN FLOW 3: weights × target × protocol → result.json (paper, Section 4).

    torchrun --nproc-per-node=8 -m finetune.transfer --config transfer.json
    python -m finetune.transfer --config transfer.json        (one process: the same result up to rounding)

Hyper-parameters are chosen on held-out training videos; the test split is read after the last step of a final training.
An interrupted transfer goes on from what is finished, and from the last checkpoint of the training at hand.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from finetune import evaluate, fc_only, few_shot, final_layer, full_ft, result, salient, tested_model, views
from finetune.data import Split, open_split
from finetune.evaluate import Outputs
from finetune.final_layer import FinalLayer
from finetune.search import Fitted
from finetune.settings import check, seeds, unused
from finetune.start import Start, open_start
from finetune.unfinished import Unfinished, ends_when_told
from pipeline import artifacts, progress
from pipeline.artifacts import TransferFiles
from pipeline.cli import run_stage
from pipeline.config import TransferConfig
from pretrain.distributed import World, joined
from pretrain.models import VideoResNet
from pretrain.reading import FrameReader


def transfer(config: TransferConfig) -> None:
    """Transfer some weights to one target by one protocol, and write the result."""
    with joined() as world, ends_when_told():
        start = open_start(config)
        evaluates = config.protocol == "evaluate"
        needs_train = not evaluates or config.clip_choice == "salient"
        train = open_split(config.root, config.target, "train") if needs_train else None
        test = open_split(config.root, config.target, "test")
        check(config, start, train, test, world)
        own = final_layer.match(start, config.target, test.samples.labels) if evaluates else None
        files = artifacts.transfer_files(config)
        if is_finished(config, files, start, train, test, world):
            progress.say(f"transfer: '{files.folder}' is finished; nothing to do")
            return
        announce(config, start, own, train, test)
        if config.protocol == "few_shot":
            few_shots(config, files, start, train, test, world)
            return

        unfinished = Unfinished(files, world, config.checkpoint_minutes)
        reader = None if train is None else FrameReader(train.samples, start.clip, config.cache_mb)
        for seed in seeds(config):
            if unfinished.is_done(seed):
                continue
            began = time.perf_counter()
            fitted = fit(config, start, own, train, reader, world, seed, unfinished)
            trained = time.perf_counter()
            outputs, salience = tested(config, start, fitted.model, train, test, world)
            seconds = {"training": round(trained - began, 2), "test": round(time.perf_counter() - trained, 2)}
            if world.is_first:
                tested_model.save(files.folder, seed, fitted.model, config.protocol)
                account = result.account(fitted, salience, seconds)
                unfinished.put(seed, result.predictions(test, outputs, seed), account)

        if world.is_first:
            labels = test.samples.labels if own is None else own.labels
            result.write(config, files, start, train, test, labels, unfinished, world)
            unfinished.remove()
        world.barrier()


def few_shots(
    config: TransferConfig, files: TransferFiles, start: Start, train: Split, test: Split, world: World
) -> None:
    """Fit and test the heads of the few-shot protocol, and write the result."""
    began = time.perf_counter()
    model = start.new_model(train.samples.num_labels, config.seed, world)
    test_clip = views.test_clip(config, start.clip)
    readers = FrameReader(train.samples, start.clip, config.cache_mb), FrameReader(test.samples, test_clip)
    found = few_shot.run(config, model, train, test, readers, world)
    if world.is_first:
        seconds = round(time.perf_counter() - began, 2)
        result.write_few_shot(config, files, start, train, test, found, seconds, world)
    world.barrier()


def fit(
    config: TransferConfig,
    start: Start,
    own: FinalLayer | None,
    train: Split | None,
    reader: FrameReader | None,
    world: World,
    seed: int,
    unfinished: Unfinished,
) -> Fitted:
    """The network to test, by the config's protocol; `own` is the final layer of `evaluate`, which needs no training."""
    if own is not None:
        return Fitted(start.own_model(own.columns, world), None, [], {})

    def new_model(seed: int) -> VideoResNet:
        return start.new_model(train.samples.num_labels, seed, world)

    if config.protocol == "full_ft":
        return full_ft.fit(config, new_model, train, reader, world, seed, unfinished)
    return fc_only.fit(config, new_model(seed), train, reader, world)


def tested(
    config: TransferConfig, start: Start, model: VideoResNet, train: Split | None, test: Split, world: World
) -> tuple[Outputs, dict[str, Any] | None]:
    """Probabilities of the test videos, and what choosing their clips took, where they were chosen."""
    reader = FrameReader(test.samples, views.test_clip(config, start.clip))
    if fc_only.scores_from_features(config, start.clip):
        return fc_only.test_outputs(config, model, test, reader, world), None
    choose, salience = salient.choice(config, start.clip, model, train, test, world)
    how = {"multi_label": test.multi_label, "num_crops": config.num_crops, "choose": choose}
    everything = range(len(test.samples))
    scores = evaluate.video_scores(model, reader, everything, config.num_clips, world, config.precision, **how)
    return scores, salience


# ------------------------------------------------------------------------------------------------ before training


def is_finished(
    config: TransferConfig, files: TransferFiles, start: Start, train: Split | None, test: Split, world: World
) -> bool:
    """Begin or take up the result's folder, on the first rank; true on all when there is nothing left to do."""
    digests = {**start.digests, **({} if train is None else {"train": train.digest}), "test": test.digest}
    finished = torch.zeros(1, device=world.device)
    if world.is_first:
        found = artifacts.open_stage(files.folder, files.marker, config, digests, unused(config, start))
        finished += found is not None
    return bool(world.broadcast_(finished))


def announce(config: TransferConfig, start: Start, own: FinalLayer | None, train: Split | None, test: Split) -> None:
    """What is about to be done, for the person at the terminal."""
    progress.say(
        f"transfer: {start.description}, {start.model.name}, to '{config.target}' by {config.protocol}, "
        f"{test.samples.num_labels} labels"
    )
    for remark in (*start.remarks, *([own.remark] if own else [])):
        progress.say(f"transfer: {remark}")
    if train is not None:
        progress.say_counts("transfer: training videos", train.total, len(train.samples), train.undecodable)
    progress.say_counts("transfer: test videos", test.total, len(test.samples), test.undecodable)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line of the stage."""
    run_stage(TransferConfig, transfer, argv)


if __name__ == "__main__":
    main()
