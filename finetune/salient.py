"""Salient clips: of many clips of a test video, the ones that a light network is surest about (paper, Table 5).

The paper takes ten clips by SC-Sampler ("sampling salient clips", Korbar et al. 2019). In its spirit, a small network on
small pictures learns the target's labels from its training split alone; a clip's saliency is the highest probability it
gives to any label. It sees every candidate clip, the large network only those chosen. (SC-Sampler reads compressed
video and sound, and also learns to rank clips; neither is done here.)

Shape letters: B clips, T frames, N videos, C candidates.
"""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from finetune import evaluate
from finetune.data import Split, read_ahead
from finetune.views import Choose, uniform
from pipeline import artifacts, progress, storage
from pipeline import config as configs
from pipeline.config import ClipConfig, ConfigError, ModelConfig, TransferConfig
from pretrain.data import MicrobatchSampler, Share, TrainingClips
from pretrain.distributed import World
from pretrain.engine import Engine, NonFiniteStepError
from pretrain.models import VideoResNet, build_model, count
from pretrain.reading import FrameReader
from pretrain.virtual_workers import VirtualWorkers

POLL_S = 0.2


@dataclass(frozen=True)
class ScorerConfig:
    """The light network and its training; all of it our choice."""

    model: ModelConfig = field(default_factory=lambda: ModelConfig("r2plus1d_10", 0.25))
    shrink: int = 2
    """Its pictures have sides so many times shorter than the large network's."""
    passes: int = 20
    """Over the training split, within the two limits that follow."""
    min_clips: int = 6_400
    max_clips: int = 1_000_000
    batch: int = 64
    learning_rate: float = 0.1
    """At the end of the warm-up, a tenth of the training; it then falls to 0 by a cosine."""

    def clip(self, clip: ClipConfig) -> ClipConfig:
        """Its clips: the same frames as the large network's `clip`, smaller."""
        height, width = (max(2, round(side / self.shrink)) for side in clip.size_hw)
        return dataclasses.replace(clip, size_hw=(height, width), crop_px=max(1, round(clip.crop_px / self.shrink)))

    def steps(self, num_videos: int) -> int:
        return -(-min(max(self.passes * num_videos, self.min_clips), self.max_clips) // self.batch)


DEFAULT = ScorerConfig()


@dataclass(frozen=True)
class Salient:
    """Chooses clips by their saliency; `finetune.views.Choose`."""

    saliency: dict[int, np.ndarray]
    """Sample → float32 [C], of clips spread evenly; a video that cannot be read has none."""

    def __call__(self, reader: FrameReader, sample: int, num_clips: int) -> list[int]:
        """First frames of the most salient clips, in their order in the video; of equal ones the earlier.

        A video with no more different clips than are asked for has no choice: its clips are spread evenly.
        """
        if sample not in self.saliency:
            return uniform(reader, sample, num_clips)
        scores = self.saliency[sample]
        starts, first = np.unique(uniform(reader, sample, len(scores)), return_index=True)
        if len(starts) <= num_clips:
            return uniform(reader, sample, num_clips)
        order = np.argsort(-scores[first], kind="stable")[:num_clips]
        return starts[np.sort(order)].tolist()


def choice(
    config: TransferConfig,
    clip: ClipConfig,
    network: VideoResNet,
    train: Split,
    test: Split,
    world: World,
    scorer_config: ScorerConfig | None = None,
) -> tuple[Choose, dict[str, Any] | None]:
    """How `config` wants the clips of test videos chosen, and the account of what that took, for the result.

    Args:
        scorer_config: None takes `DEFAULT`.
        clip: of the training of `network`, the large one, with whose cost the account compares the scorer's.
    """
    if config.clip_choice == "uniform":
        return uniform, None
    scorer_config = scorer_config or DEFAULT
    scorer, training = trained(config, scorer_config, clip, train, world)
    small, began = scorer_config.clip(clip), time.perf_counter()
    choose = Salient(saliency(scorer, FrameReader(test.samples, small), config.salient_of, world))
    _, gmac = count(scorer, clip.length, small.crop_px)
    _, network_gmac = count(network, clip.length, config.test_crop_px or clip.crop_px)
    account = {
        "salient_of": config.salient_of,
        "training": training,
        "gmac_per_clip": gmac,
        "share_of_network_gmac": config.salient_of * gmac / (config.num_clips * config.num_crops * network_gmac),
        "seconds": round(time.perf_counter() - began, 2),
    }
    progress.say(
        f"transfer: {config.num_clips} of {config.salient_of} clips a test video chosen by a scorer, at "
        f"{account['share_of_network_gmac']:.1%} of the multiply-adds that the network takes for the chosen ones"
    )
    return choose, account


def saliency(scorer: VideoResNet, reader: FrameReader, num_clips: int, world: World) -> dict[int, np.ndarray]:
    """Sample → the highest probability of any label for each of its clips, float32 [num_clips]."""

    def surest(clips_BCTHW: Tensor) -> Tensor:
        return scorer(clips_BCTHW).float().softmax(dim=1).amax(dim=1)

    everything = range(len(reader.samples))
    outputs = evaluate.for_each_video(surest, scorer, reader, everything, num_clips, world, "fp32")
    return dict(zip(outputs.samples.tolist(), outputs.values, strict=True))


# ------------------------------------------------------------------------------------------------- the scorer


def trained(
    config: TransferConfig, scorer_config: ScorerConfig, clip: ClipConfig, train: Split, world: World
) -> tuple[VideoResNet, dict[str, Any]]:
    """The scorer of a training split and the account of its training; kept with the target, for every transfer to it.

    It depends on no run and no protocol. The first process trains it and the others wait for the file: a training on
    one process is the same however many there are.
    """
    small = scorer_config.clip(clip)
    of = {
        "scorer": configs.to_dict(scorer_config),
        "clip": configs.to_dict(small),
        "seed": config.seed,
        "train": train.samples.digests,
    }
    folder = artifacts.scorer_folder(config.root, config.target, configs.digest(of))
    weights, marker = storage.join(folder, "model.safetensors"), storage.join(folder, "scorer.json")
    if world.is_first and not storage.exists(marker):
        model, account = train_scorer(scorer_config, small, train, config.seed, world.device, config.cache_mb)
        tensors = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
        storage.write_bytes(weights, safetensors.torch.save(tensors))
        storage.write_json(marker, {**of, "account": account})
    while not storage.exists(marker):  # no collective operation: on a large target it would take this for a lost peer
        time.sleep(POLL_S)
    model = new_scorer(scorer_config, train.samples.num_labels, config.seed)
    model.load_state_dict(safetensors.torch.load(storage.read_bytes(weights)))
    return model.to(world.device), storage.read_json(marker)["account"]


def new_scorer(scorer_config: ScorerConfig, num_labels: int, seed: int) -> VideoResNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(scorer_config.model.name, num_labels, scorer_config.model.width)


def train_scorer(
    scorer_config: ScorerConfig, clip: ClipConfig, train: Split, seed: int, device: torch.device, cache_mb: int
) -> tuple[VideoResNet, dict[str, Any]]:
    """Train on random clips of the split, each with its video's label, as in full fine-tuning; on this process alone."""
    began, steps = time.perf_counter(), scorer_config.steps(len(train.samples))
    model = new_scorer(scorer_config, train.samples.num_labels, seed).to(device)
    engine = Engine(model, World(device=device))
    clips = TrainingClips(train.samples, clip, seed, reader=FrameReader(train.samples, clip, cache_mb))
    batches = read_ahead(clips.__getitems__, MicrobatchSampler(VirtualWorkers(1, scorer_config.batch), 0, steps))
    results = []
    for step in progress.bar(range(steps), desc="scorer of salient clips", unit="step"):
        share = Share(islice(batches, 1), seed, device)
        rate = learning_rate((step + 0.5) / steps, scorer_config.learning_rate)
        try:
            results.append(engine.step(share, 1, rate))
        except NonFiniteStepError as error:
            raise ConfigError(
                f"the scorer of salient clips diverged ({error}): take another seed, or clip_choice = uniform"
            ) from error
    last = results[-max(1, steps // 10) :]
    return model, {
        "videos": len(train.samples),
        "clips": steps * scorer_config.batch,
        "loss": float(np.mean([result.loss for result in last])),
        "accuracy": float(np.mean([result.accuracy for result in last])),
        "seconds": round(time.perf_counter() - began, 2),
    }


def learning_rate(done: float, peak: float) -> float:
    """Rate when a share `done` of the training is done: linear from 0 over the first tenth, then half a cosine to 0."""
    return peak * min(done / 0.1, 0.5 + 0.5 * math.cos(math.pi * max(0.0, done - 0.1) / 0.9))
