"""The schedule against the paper's tables, and what one training of full_ft is made of."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from finetune import full_ft
from finetune.data import open_split, subset
from pipeline.config import ConfigError, TransferConfig
from pretrain.data import TrainingClips
from pretrain.distributed import World

TABLE_8 = TransferConfig(passes=58, warmup_passes=16, decay_passes=(16, 16))
TABLE_12 = TransferConfig(passes=96, warmup_passes=20, decay_passes=(20, 20, 20))
TABLE_17 = TransferConfig(passes=16, warmup_passes=0, decay_passes=(6, 6))


@pytest.mark.parametrize(
    ("config", "stages"),
    [
        (TABLE_8, [(16, 32, 1.0), (32, 48, 0.1), (48, 58, 0.01)]),
        (TABLE_12, [(20, 40, 1.0), (40, 60, 0.1), (60, 80, 0.01), (80, 96, 0.001)]),
        (TABLE_17, [(0, 6, 1.0), (6, 12, 0.1), (12, 16, 0.01)]),
    ],
)
def test_rate_follows_the_tables(config, stages):
    peak = 0.0003 * 64
    for begin, end, factor in stages:
        for passes in (begin, (begin + end) / 2, end - 1e-9):
            assert full_ft.learning_rate(passes, peak, config) == pytest.approx(peak * factor)
    for passes in np.linspace(0, config.warmup_passes, 9)[:-1] if config.warmup_passes else []:
        assert full_ft.learning_rate(passes, peak, config) == pytest.approx(peak * passes / config.warmup_passes)


@pytest.mark.parametrize(("num_videos", "batch"), [(54, 32), (1, 32), (64, 32), (33, 32)])
def test_steps_cover_the_passes_and_no_step_is_idle(num_videos, batch):
    steps = full_ft.num_steps(num_videos, dataclasses.replace(TABLE_8, batch=batch))
    assert (steps - 1) * batch < 58 * num_videos <= steps * batch


@pytest.mark.parametrize(("batch", "size"), [(1024, 16), (32, 16), (768, 6), (7, 7)])
def test_batch_norm_batch_does_not_depend_on_the_processes(batch, size):
    config = TransferConfig(batch=batch, batch_per_gpu=size)
    for processes in (1, 2, 4):
        if batch // size % processes == 0:
            workers = full_ft.share_batch(config, World(0, processes))
            assert workers.batch == size
            assert workers.global_batch == batch


@pytest.mark.parametrize(("batch", "fitting"), [(24, 32), (8, 16), (100, 96)])
def test_a_batch_of_broken_workers_is_refused_with_one_that_would_do(batch, fitting):
    with pytest.raises(ConfigError, match=f"batch = {batch} does not divide .* batch = {fitting} would do"):
        full_ft.share_batch(TransferConfig(batch=batch), World(0, 1))


def test_more_processes_than_workers_are_refused_with_what_would_do():
    with pytest.raises(ConfigError, match="start 2, or batch = 48 would do"):
        full_ft.share_batch(TransferConfig(batch=32), World(0, 3))


def test_each_pass_takes_every_kept_video_once_and_no_held_out_one(config):
    train = open_split(config.root, config.target, "train")
    mask = np.arange(len(train.samples)) % 4 != 0
    clips = TrainingClips(subset(train.samples, mask), config.clip, config.seed)
    kept = np.flatnonzero(mask).tolist()
    for number in range(3):
        seen = [clips.order(position) for position in range(number * len(kept), (number + 1) * len(kept))]
        assert Counter(seen) == Counter(kept)
