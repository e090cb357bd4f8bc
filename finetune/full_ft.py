"""Protocol full_ft: a new final layer, then all weights train on the target (paper, Section 4 and A.4).

Training clips are pretraining's (temporal jitter, random crop, horizontal flip), functions of (seed, position); the step
is pretraining's too. A pass is once over the training videos; steps go on across the end of a pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate, islice
from typing import Any

import numpy as np

from finetune import evaluate
from finetune.data import Split, read_ahead, subset
from finetune.search import Fitted, held_out, search
from pipeline import progress
from pipeline.config import ConfigError, TransferConfig
from pretrain.data import FrameReader, MicrobatchSampler, Share, TrainingClips
from pretrain.distributed import World
from pretrain.engine import Engine, NonFiniteStepError, StepResult
from pretrain.models import VideoResNet
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
    if rest or num_workers % world.size:
        multiple = config.batch_per_gpu * world.size
        raise ConfigError(
            f"batch = {config.batch} does not divide into {config.batch_per_gpu} clips (batch_per_gpu) × a multiple of "
            f"{world.size} processes; batch = {multiple * max(1, round(config.batch / multiple))} would do"
        )
    return VirtualWorkers(num_workers, config.batch_per_gpu, world.rank, world.size)


def fit(
    config: TransferConfig,
    new_model: Callable[[], VideoResNet],
    train: Split,
    reader: FrameReader,
    world: World,
    metrics: progress.MetricsFile | None,
) -> Fitted:
    """Search the rate on held-out training videos, then train on all of them.

    Every training starts from `new_model()`, the same weights each time.
    """
    mask = held_out(train.samples.keys.to_pylist(), train.labels.tolist(), config.held_out, config.seed)
    left_out = np.flatnonzero(mask).tolist()

    def scores_with(rate: float) -> np.ndarray:
        try:
            model, _ = train_at(rate, config, new_model(), train, ~mask, reader, world, metrics)
        except NonFiniteStepError:
            return np.full((len(left_out), train.samples.num_labels), np.nan)
        return _scores(config, model, left_out, reader, world)

    chosen, trials = search("learning rate", config.learning_rates, train.labels[mask], scores_with)
    everything = np.ones(len(train.samples), dtype=bool)
    try:
        model, account = train_at(chosen, config, new_model(), train, everything, reader, world, metrics)
    except NonFiniteStepError as error:
        raise ConfigError(
            f"fine-tuning diverged at learning rate {chosen:g} ({error}); lower learning_rates"
        ) from error
    return Fitted(model, chosen, trials, account)


def train_at(
    rate: float,
    config: TransferConfig,
    model: VideoResNet,
    train: Split,
    mask: np.ndarray,
    reader: FrameReader,
    world: World,
    metrics: progress.MetricsFile | None,
) -> tuple[VideoResNet, dict[str, Any]]:
    """Train `model` on the videos where `mask`, bool [N]; raises NonFiniteStepError, on every process, if it diverges."""
    num_videos, workers = int(mask.sum()), share_batch(config, world)
    engine = Engine(model, world, weight_decay=config.weight_decay, precision=config.precision)
    clips = TrainingClips(subset(train.samples, mask), reader.clip, config.seed)
    clips.reader = reader  # shared, so that what it keeps in memory serves every training
    steps = num_steps(num_videos, config)
    batches = read_ahead(clips.__getitems__, MicrobatchSampler(workers, 0, steps))
    log = PassLog(metrics, rate, num_videos)
    for step in progress.bar(range(steps), desc=f"full_ft at {rate:g}", unit="step"):
        share = Share(islice(batches, len(workers.mine)), config.seed, world.device)
        now = learning_rate((step + 0.5) * config.batch / num_videos, rate, config)  # of the middle of the step
        log.step(engine.step(share, workers.num_workers, now), (step + 1) * config.batch / num_videos, now)
    return model, {"steps": steps, "videos": num_videos, "loss": log.loss, "accuracy": log.accuracy}


class PassLog:
    """Mean loss and accuracy of the clips of each pass; one line a pass in metrics.jsonl."""

    def __init__(self, metrics: progress.MetricsFile | None, peak: float, num_videos: int) -> None:
        self.metrics, self.peak, self.num_videos = metrics, peak, num_videos
        self.results: list[StepResult] = []
        self.passes_done = 0
        self.loss = self.accuracy = math.nan

    def step(self, result: StepResult, passes: float, rate: float) -> None:
        self.results.append(result)
        if math.floor(passes) == self.passes_done:
            return
        self.loss = float(np.mean([result.loss for result in self.results]))
        self.accuracy = float(np.mean([result.accuracy for result in self.results]))
        self.passes_done, self.results = math.floor(passes), []
        if self.metrics is not None:
            self.metrics.write(
                peak_rate=self.peak,
                videos=self.num_videos,
                passes=self.passes_done,
                learning_rate=rate,
                loss=self.loss,
                accuracy=self.accuracy,
            )


def _scores(
    config: TransferConfig, model: VideoResNet, left_out: list[int], reader: FrameReader, world: World
) -> np.ndarray:
    """Probabilities of held-out videos, float32 [N, K]; a stored video that cannot be read scores NaN: it is wrong."""
    outputs = evaluate.video_scores(model, reader, left_out, config.num_clips, world, config.precision)
    scores = np.full((len(left_out), model.fc.out_features), np.nan, np.float32)
    scores[np.isin(left_out, outputs.samples)] = outputs.values
    return scores
