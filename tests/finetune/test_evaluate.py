"""Ten-clip averaging in closed form with networks that can be computed by hand, and equality over processes."""

import dataclasses
import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from finetune import evaluate, salient, views
from finetune.data import open_split, read_ahead
from finetune.evaluate import Outputs
from finetune.salient import ScorerConfig
from pipeline import config as configs
from pipeline import storage, video
from pipeline.config import TransferConfig
from pretrain.distributed import World
from pretrain.models import build_model
from pretrain.reading import FrameReader
from pretrain.transforms import MEAN_RGB, STD_RGB
from tests.patience import PATIENCE_S


class MeanRed(nn.Module):
    """Logits: (1000 × a clip's mean red, 0) left, the same at half the strength right of a grid of 1×2 positions."""

    def forward_grid(self, clips_BCTHW: Tensor) -> Tensor:
        red = 1000 * (clips_BCTHW[:, 0].mean(dim=(1, 2, 3)) * STD_RGB[0] + MEAN_RGB[0] - 0.85)
        logits = torch.stack([red, torch.zeros_like(red)], dim=1)
        return torch.stack([logits, logits / 2], dim=2)[:, :, None, :]


def by_hand(data: bytes, config: TransferConfig) -> float:
    """First probability: every clip cut out of the whole decoded video by the formula of the paper's ten clips."""
    frames = video.read_video(data, config.clip.size_hw)
    length, stride, side = config.clip.length, config.clip.stride, config.clip.crop_px
    room = max(0, len(frames) - ((length - 1) * stride + 1))
    probabilities = []
    for number in range(10):
        start = math.floor(number * room / 9)
        clip = frames[[(start + i * stride) % len(frames) for i in range(length)], 2 : 2 + side, 4 : 4 + side]
        red = 1000 * (clip[..., 0].mean() / 255 - 0.85)
        probabilities += [1 / (1 + math.exp(-red)), 1 / (1 + math.exp(-red / 2))]
    return float(np.mean(probabilities))


def test_score_is_the_mean_of_the_softmax_over_clips_and_positions(config):
    test = open_split(config.root, config.target, "test")
    outputs = evaluate.video_scores(MeanRed(), FrameReader(test.samples, config.clip), [0, 4, 7], 10, World())
    expected = [by_hand(test.samples.read(sample), config) for sample in (0, 4, 7)]
    assert 0.01 < expected[0] < 0.99  # where a softmax of the mean would be another number
    np.testing.assert_allclose(outputs.values[:, 0], expected, atol=1e-3)
    np.testing.assert_allclose(outputs.values.sum(axis=1), 1, atol=1e-6)


def test_convolutions_of_a_gpu_are_rounded_only_where_that_is_asked_for(config, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # torch's default
    reader, rounded = FrameReader(open_split(config.root, config.target, "test").samples, config.clip), []
    model = MeanRed()
    model.forward_grid = lambda clips: (
        rounded.append(torch.backends.cudnn.allow_tf32) or MeanRed.forward_grid(model, clips)
    )
    for precision in ("fp32", "tf32", "bf16"):
        evaluate.video_scores(model, reader, [0], 1, World(), precision)
    assert rounded == [False, True, False]


def test_each_video_is_decoded_once(config, monkeypatch):
    reads = []

    def read_clip(data: bytes, frames: list[int], size_hw: tuple[int, int], *_: None) -> np.ndarray:
        reads.append(frames)
        return np.zeros((len(frames), *size_hw, 3), np.uint8)

    test = open_split(config.root, config.target, "test")
    monkeypatch.setattr(video, "read_clip", read_clip)
    evaluate.video_scores(MeanRed(), FrameReader(test.samples, config.clip), [0, 1, 2], 10, World())
    assert len(reads) == 3
    assert all(frames == sorted(set(frames)) for frames in reads)


def test_undecodable_videos_are_named_with_their_reason(config):
    test = open_split(config.root, config.target, "test")
    assert test.undecodable == {"not_a_video": 1}
    everything = range(len(test.samples))
    outputs = evaluate.video_scores(MeanRed(), FrameReader(test.samples, config.clip), everything, 2, World())
    garbage = test.samples.keys.to_pylist().index("test003")
    assert outputs.undecodable == {garbage: "decode_error"}
    assert sorted([*outputs.samples.tolist(), garbage]) == list(everything)


def test_read_ahead_keeps_the_order_and_passes_errors_on():
    assert list(read_ahead(lambda i: i * i, range(50))) == [i * i for i in range(50)]
    with pytest.raises(ZeroDivisionError):
        list(read_ahead(lambda i: 1 // (5 - i), range(50)))


# ----------------------------------------------------------------------------------------- several processes


def scored(config: TransferConfig, world: World) -> dict[str, np.ndarray]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build_model(config.model.name, 4, config.model.width)
    train, test = (open_split(config.root, config.target, part) for part in ("train", "test"))
    reader = FrameReader(test.samples, config.clip)
    scores = evaluate.video_scores(model, reader, range(len(test.samples)), 3, world)
    few = evaluate.video_scores(model, reader, [5], 3, world)  # a process without any video
    choose, _ = salient.choice(config, config.clip, model, train, test, world, ScorerConfig(min_clips=128, passes=1))
    chosen = evaluate.video_scores(model, reader, range(len(test.samples)), 3, world, num_crops=3, choose=choose)
    return {
        "samples": scores.samples,
        "scores": scores.values,
        "bad": np.array(list(scores.undecodable)),
        "few": few.values,
        "saliency": np.stack(list(choose.saliency.values())),
        "chosen": chosen.values,
    }


def score_in_group(rank: int, size: int, config: TransferConfig, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    np.savez(f"{folder}/{rank}.npz", **scored(config, World(rank, size)))
    dist.destroy_process_group()


@pytest.mark.parametrize("size", [3, 30])
def test_every_video_is_scored_once_whatever_the_number_of_processes(config, monkeypatch, size):
    """Threads play the processes; 23 videos are no multiple of 3, and of 30 processes some have none."""
    test = open_split(config.root, config.target, "test")
    everything, scored_by, gathered = range(len(test.samples)), [], [[] for _ in range(size)]
    rank, met = threading.local(), threading.Barrier(size, timeout=PATIENCE_S)

    def all_gather_object(parts: list, mine: list) -> None:
        gathered[rank.number] = mine
        met.wait()
        parts[:] = gathered

    def choose(reader: FrameReader, sample: int, num_clips: int) -> list[int]:
        scored_by.append(sample)
        return views.uniform(reader, sample, num_clips)

    def play(number: int) -> Outputs:
        rank.number = number
        reader = FrameReader(test.samples, config.clip)
        return evaluate.video_scores(MeanRed(), reader, everything, 2, World(number, size), choose=choose)

    monkeypatch.setattr(dist, "all_gather_object", all_gather_object)
    with ThreadPoolExecutor(size) as pool:
        found = list(pool.map(play, range(size)))
    assert sorted(scored_by) == list(everything)
    alone = evaluate.video_scores(MeanRed(), FrameReader(test.samples, config.clip), everything, 2, World())
    for outputs in found:
        np.testing.assert_array_equal(outputs.samples, alone.samples)
        np.testing.assert_array_equal(outputs.values, alone.values)
        assert outputs.undecodable == alone.undecodable


@pytest.mark.distributed
def test_two_processes_give_the_same_bits_as_one(config, tmp_path, forks):
    os.makedirs(tmp_path / "ranks")
    config = dataclasses.replace(config, clip_choice="salient", salient_of=6)
    alone = scored(config, World())
    storage.remove(
        f"{config.root}/targets/{config.target}/scorers"
    )  # one process trains another, the second waits for it
    assert len(alone["scores"]) % 2 == 0
    assert len(alone["scores"]) + len(alone["bad"]) == 23  # an odd number: one process has one video more
    values, ranks = configs.to_dict(config), str(tmp_path / "ranks")
    code = f"""
from pipeline.config import TransferConfig, from_dict
from tests.finetune.test_evaluate import score_in_group
score_in_group(int(os.environ["RANK"]), 2, from_dict(TransferConfig, {values!r}), {ranks!r})
status = 0
"""
    outcome = forks(code, ranks=2)
    assert outcome.statuses == [0, 0], outcome.output
    for rank in range(2):
        with np.load(tmp_path / "ranks" / f"{rank}.npz") as found:
            for name, expected in alone.items():
                np.testing.assert_array_equal(found[name], expected)
