"""Protocol full_ft: a new final layer, then all weights train on the target (paper, Section 4 and A.4).

Training clips are pretraining's (temporal jitter, random crop, horizontal flip), functions of (seed, position); the step
is pretraining's too. A pass is once over the training videos; steps go on across the end of a pass. A training that was
interrupted goes on from its last checkpoint, to the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate, islice
from typing import Any

import numpy as np

from finetune import evaluate, losses
from finetune.data import Split, read_ahead, subset
from finetune.pass_log import PassLog
from finetune.search import Fitted, held_out, search
from finetune.unfinished import StopTraining, Training, Unfinished
from pipeline import progress
from pipeline.config import ConfigError, TransferConfig
from pipeline.storage import StorageError
from pretrain.data import Batch, MicrobatchSampler, Share, TrainingClips, microbatches
from pretrain.distributed import World
from pretrain.engine import Engine, NonFiniteStepError
from pretrain.models import VideoResNet
from pretrain.reading import FrameReader
from pretrain.samples import SampleError
from pretrain.train import EXIT_INTERRUPTED
from pretrain.virtual_workers import VirtualWorkers


def learning_rate(passes: float, peak: float, config: TransferConfig) -> float:
    """Rate after `passes` passes: linear from 0 to `peak` over the warm-up, then `decay_factor` at each reduction.

    `decay_passes` count from the end of the warm-up and add up: Table 8 (warm-up 16, [16, 16]) decays at 32 and 48.
    """
    if passes < config.warmup_passes:
        return peak * passes / config.warmup_passes
    reductions = list(accumulate(config.decay_passes, initial=config.warmup_passes))[1:]
    return peak * config.decay_factor ** sum(passes >= reduction for reduction in reductions)


def num_steps(num_videos: int, config: TransferConfig) -> int:
    """Steps that cover all passes; the last one may go past them."""
    return -(-config.passes * num_videos // config.batch)


def share_batch(config: TransferConfig, world: World) -> VirtualWorkers:
    """The batch as virtual workers of `batch_per_gpu` clips, whatever the number of processes."""
    num_workers, rest = divmod(config.batch, config.batch_per_gpu)
    if rest:
        fitting = config.batch_per_gpu * max(1, round(config.batch / config.batch_per_gpu))
        raise ConfigError(
            f"batch = {config.batch} does not divide into workers of {config.batch_per_gpu} clips (batch_per_gpu); "
            f"batch = {fitting} would do"
        )
    if world.size > num_workers:
        raise ConfigError(
            f"batch = {config.batch} is {num_workers} workers of {config.batch_per_gpu} clips (batch_per_gpu), too few "
            f"for {world.size} processes; start {num_workers}, or batch = {config.batch_per_gpu * world.size} would do"
        )
    return VirtualWorkers(num_workers, config.batch_per_gpu, world.rank, world.size)


def fit(
    config: TransferConfig,
    new_model: Callable[[int], VideoResNet],
    train: Split,
    reader: FrameReader,
    world: World,
    seed: int,
    unfinished: Unfinished,
) -> Fitted:
    """Search the rate on held-out training videos, then train on all of them with `seed`.

    Every trial starts from `new_model(config.seed)`, the same weights each time; those that are finished are remembered.
    """
    mask = held_out(train.samples.keys.to_pylist(), train.strata, config.held_out, config.seed, train.groups)
    left_out = np.flatnonzero(mask).tolist()

    def scores_with(rate: float) -> np.ndarray:
        try:
            model, _ = train_at(rate, config, new_model, train, ~mask, reader, world, config.seed, unfinished)
        except NonFiniteStepError:
            return np.full((len(left_out), train.samples.num_labels), np.nan)
        return _scores(config, model, left_out, reader, world, train.multi_label)

    chosen, trials = search("learning rate", config.learning_rates, train.labels[mask], scores_with, unfinished)
    everything = np.ones(len(train.samples), dtype=bool)
    try:
        model, account = train_at(chosen, config, new_model, train, everything, reader, world, seed, unfinished)
    except NonFiniteStepError as error:
        raise ConfigError(
            f"fine-tuning diverged at learning rate {chosen:g} ({error}); lower learning_rates"
        ) from error
    return Fitted(model, chosen, trials, account)


def train_at(
    rate: float,
    config: TransferConfig,
    new_model: Callable[[int], VideoResNet],
    train: Split,
    mask: np.ndarray,
    reader: FrameReader,
    world: World,
    seed: int,
    unfinished: Unfinished,
) -> tuple[VideoResNet, dict[str, Any]]:
    """Train a new model on the videos where `mask`, bool [N], from its last checkpoint if there is one.

    Raises:
        NonFiniteStepError: on every process, if it diverges.
        SystemExit: told to stop; a checkpoint was written.
    """
    num_videos, workers = int(mask.sum()), share_batch(config, world)
    loss = losses.training_loss(train.multi_label)
    engine = Engine(new_model(seed), world, weight_decay=config.weight_decay, precision=config.precision, loss=loss)
    training = unfinished.training(f"{rate:g} on {num_videos} videos, seed {seed}", engine, config.batch)
    # The reader is shared, so that what it keeps in memory serves every training.
    clips = TrainingClips(subset(train.samples, mask), reader.clip, seed, reader=reader)
    steps = num_steps(num_videos, config)
    batches = _batches(clips, MicrobatchSampler(workers, training.steps, steps), config.loader_workers, world)
    batches = losses.with_all_labels(batches, train.labels)
    path = unfinished.files.metrics if world.is_first else None
    about = {"peak_rate": rate, "videos": num_videos, "seed": seed}
    with PassLog(path, about, training.state) as log, StopTraining() as stop:
        for step in progress.bar(range(training.steps, steps), desc=f"full_ft at {rate:g}", unit="step"):
            share = Share(islice(batches, len(workers.mine)), seed, world.device)
            now = learning_rate((step + 0.5) * config.batch / num_videos, rate, config)  # of the middle of the step
            result = engine.step(share, workers.num_workers, now, stop.asked)
            log.step(result, (step + 1) * config.batch / num_videos, now)
            if result.stop_asked:
                raise _interrupted(training, step + 1, log)
            training.save_if_due(step + 1, log.state)
        if training.steps < steps:
            training.save(steps, log.state)  # what follows is a test, which may be interrupted too
    if stop.asked:  # during the last step
        raise SystemExit(EXIT_INTERRUPTED)
    accuracy = None if train.multi_label else log.accuracy
    return engine.model, {"steps": steps, "videos": num_videos, "loss": log.loss, "accuracy": accuracy}


def _batches(clips: TrainingClips, sampler: MicrobatchSampler, loader_workers: int, world: World) -> Iterator[Batch]:
    """Microbatches in the sampler's order, from loader processes, or from threads of this one."""
    if not loader_workers:
        yield from read_ahead(clips.__getitems__, sampler)
        return
    try:
        yield from microbatches(clips, sampler, loader_workers, pin=world.device.type == "cuda")
    except SampleError as error:
        raise StorageError(str(error)) from error


def _interrupted(training: Training, steps: int, log: PassLog) -> SystemExit:
    training.save(steps, log.state)
    progress.say(f"transfer: told to stop; saved after {steps:,} steps, the same command goes on from there")
    return SystemExit(EXIT_INTERRUPTED)


def _scores(
    config: TransferConfig,
    model: VideoResNet,
    left_out: list[int],
    reader: FrameReader,
    world: World,
    multi_label: bool,
) -> np.ndarray:
    """Probabilities of held-out videos, float32 [N, K]; a stored video that cannot be read scores NaN: it is wrong."""
    outputs = evaluate.video_scores(model, reader, left_out, config.num_clips, world, config.precision, multi_label)
    scores = np.full((len(left_out), model.fc.out_features), np.nan, np.float32)
    scores[np.isin(left_out, outputs.samples)] = outputs.values
    return scores
