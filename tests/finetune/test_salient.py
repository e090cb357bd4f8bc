"""Salient clips: on videos of which only the second half shows the label, and the first half mostly another one."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from finetune import evaluate, salient, views
from finetune.data import open_split
from finetune.metrics import top_k_correct
from finetune.salient import Salient, ScorerConfig
from finetune.transfer import transfer
from pipeline import artifacts, storage
from pipeline.config import ConfigError, ModelConfig, TransferConfig
from pretrain.distributed import World
from pretrain.models import build_model
from pretrain.reading import FrameReader
from pretrain.transforms import MEAN_RGB, STD_RGB

from .conftest import COLOURS, write_split

NUM_FRAMES = 40


def half_informative(label: int, number: int) -> np.ndarray:
    """Blocks of all colours, with one that is not the label's in the lead; then the label's colour alone."""
    rng = np.random.default_rng((label, number))
    colours = np.array(list(COLOURS.values()))
    decoy = (label + 1 + number % 3) % len(COLOURS)
    blocks = rng.choice([decoy, decoy, decoy, *range(len(COLOURS))], (NUM_FRAMES, 5, 6))
    blocks[NUM_FRAMES // 2 :] = label
    pixels = colours[blocks] + rng.integers(-20, 20, (NUM_FRAMES, 5, 6, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)


class NearestColour(nn.Module):
    """A network that is as sure of a decoy as of what is meant: it goes by the distance of labels to the mean colour."""

    def forward_grid(self, clips_BCTHW: Tensor) -> Tensor:
        colour_BC = (clips_BCTHW.mean(dim=(2, 3, 4)) * torch.tensor(STD_RGB) + torch.tensor(MEAN_RGB)) * 255
        colours_KC = torch.tensor(list(COLOURS.values()), dtype=torch.float32)
        return -torch.cdist(colour_BC, colours_KC)[:, :, None, None] / 2


@pytest.fixture(scope="module")
def half_root(tmp_path_factory) -> Path:
    """16 training and 24 test videos of `half_informative`; the scorer, once trained, stays."""
    folder = tmp_path_factory.mktemp("half")
    write_split(folder, "train", 4, render=half_informative)
    write_split(folder, "test", 6, render=half_informative)
    return folder


@pytest.fixture
def half(config, half_root, monkeypatch) -> TransferConfig:
    monkeypatch.setattr(salient, "DEFAULT", ScorerConfig(min_clips=2_560, batch=32))
    return dataclasses.replace(config, root=str(half_root), num_clips=4, clip_choice="salient", salient_of=16)


def test_the_scorer_finds_the_half_that_shows_the_label_and_the_average_gains(half):
    train, test = (open_split(half.root, half.target, part) for part in ("train", "test"))
    choose, account = salient.choice(half, half.clip, build_model("r2plus1d_10", 4), train, test, World())
    reader, everything = FrameReader(test.samples, half.clip), range(len(test.samples))
    middles = np.array([choose(reader, sample, 4) for sample in everything]) + 3  # of the 7 frames of a clip
    assert (middles >= NUM_FRAMES // 2).mean() > 0.95  # of the candidates, half do
    assert account["share_of_network_gmac"] < 0.1

    def top1(how: views.Choose) -> float:
        outputs = evaluate.video_scores(NearestColour(), reader, everything, 4, World(), choose=how)
        return float(top_k_correct(outputs.values, test.labels, 1).mean())

    assert top1(choose) > top1(views.uniform) + 0.2


def test_a_transfer_says_what_the_choice_took_and_the_scorer_serves_the_next_one(half, monkeypatch):
    transfer(half)
    salience = storage.read_json(
        f"{artifacts.run_files(half.root, 'scratch').transfer('colours', 'fc_only')}/result.json"
    )["salience"]
    assert salience["salient_of"] == 16
    assert salience["training"]["videos"] == 16
    assert salience["training"]["clips"] == 2_560

    def never(*_: object) -> None:
        raise AssertionError("the scorer is there")

    monkeypatch.setattr(salient, "train_scorer", never)
    transfer(dataclasses.replace(half, run="scratch again", num_clips=3))


@pytest.fixture
def quick(config, tmp_path, monkeypatch) -> TransferConfig:
    """Salient clips of a scorer that has hardly learnt, from a file of weights."""
    monkeypatch.setattr(salient, "DEFAULT", ScorerConfig(min_clips=64, passes=1))
    path = str(tmp_path / "net.pth")
    torch.save(build_model("r2plus1d_10", 4, 0.125).state_dict(), path)
    about = {"run": "run", "run_from": path, "model": ModelConfig(), "clip_choice": "salient", "salient_of": 5}
    return dataclasses.replace(config, **about, num_clips=2, num_crops=3, test_crop_px=36)


@pytest.mark.parametrize(
    ("several", "changes"),
    [
        (False, {"protocol": "evaluate"}),
        (True, {"protocol": "fc_only", "l2": (0.1,)}),
        (True, {"protocol": "full_ft", "repeats": 2, "passes": 1, "learning_rates": (0.02,), "loader_workers": 1}),
    ],
)
def test_every_protocol_scores_three_crops_of_chosen_clips(quick, monkeypatch, several, changes):
    for part in ("train", "test"):
        marker = artifacts.target_files(quick.root, quick.target, part).marker
        storage.write_json(marker, storage.read_json(marker) | {"multi_label": several})
    config, shapes, clips = dataclasses.replace(quick, **changes), set(), evaluate.video_clips

    def video_clips(reader: FrameReader, *arguments) -> np.ndarray:
        found = clips(reader, *arguments)
        shapes.add((reader.samples.name, found.shape))
        return found

    monkeypatch.setattr(evaluate, "video_clips", video_clips)
    transfer(config)
    found = storage.read_json(artifacts.transfer_files(config).marker)
    assert found["metrics"]["headline"]["name"] == ("map" if several else "top1")
    assert found["salience"]["training"]["clips"] == 64
    assert found["seeds"] == list(range(1, 1 + config.repeats))
    assert found["num_train_videos"] == 16
    small, tested = (5, 4, 16, 16, 3), (6, 4, 36, 36, 3)
    assert {shape for name, shape in shapes if name == "colours-test"} == {small, tested}


def test_another_seed_is_another_scorer(quick):
    config = dataclasses.replace(quick, protocol="evaluate")
    transfer(config)
    with pytest.raises(ConfigError, match="seed: 1 → 2"):
        transfer(dataclasses.replace(config, seed=2))


def test_the_most_salient_clips_in_their_order_and_the_earlier_of_equal_ones(half):
    reader = FrameReader(open_split(half.root, half.target, "test").samples, half.clip)
    candidates = views.uniform(reader, 0, 6)
    choose = Salient({0: np.array([0.3, 0.9, 0.3, 0.3, 0.1, 0.8], np.float32)})
    assert choose(reader, 0, 3) == [candidates[0], candidates[1], candidates[5]]
    assert choose(reader, 1, 3) == views.uniform(reader, 1, 3)  # has no scores: it could not be read


def test_a_video_with_fewer_clips_than_wanted_is_not_chosen_from(config):
    reader = FrameReader(open_split(config.root, config.target, "test").samples, config.clip)
    assert reader.samples.columns["num_frames"][0] < 12  # 7 frames a clip: at most five places
    choose = Salient({0: np.linspace(0, 1, 40, dtype=np.float32)})
    assert choose(reader, 0, 10) == views.uniform(reader, 0, 10)


def test_the_rate_rises_over_a_tenth_and_falls_to_nothing():
    rates = [salient.learning_rate(done, 0.2) for done in (0.0, 0.05, 0.1, 0.55, 1.0)]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.1, 0.0])


def test_steps_stay_within_the_limits():
    scorer = ScorerConfig(passes=20, min_clips=6_400, max_clips=1_000_000, batch=64)
    assert [scorer.steps(num_videos) for num_videos in (5, 1_000, 246_000)] == [100, 313, 15_625]


def test_nothing_to_choose_from_is_refused(half):
    with pytest.raises(ConfigError, match="salient_of = 16 leaves nothing to choose for num_clips = 16"):
        transfer(dataclasses.replace(half, num_clips=16))
