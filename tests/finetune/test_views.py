"""What the test sees: crops, sizes, clips; and the fully convolutional head's identities."""

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune import evaluate, views
from finetune.data import open_split
from pipeline.config import ClipConfig, ConfigError, TransferConfig
from pretrain.clips import span, uniform_starts
from pretrain.data import TrainingClips
from pretrain.distributed import World
from pretrain.models import build_model
from pretrain.reading import FrameReader

from .conftest import write_split

# ------------------------------------------------------------------------------------------------------ clips


@given(
    num_frames=st.integers(1, 400),
    length=st.integers(1, 32),
    stride=st.integers(1, 4),
    num_clips=st.integers(1, 40),
)
def test_clips_start_where_the_formula_says_for_any_number_of_them(num_frames, length, stride, num_clips):
    room = max(0, num_frames - span(length, stride))
    starts = uniform_starts(num_frames, length, num_clips, stride)
    if num_clips == 1:
        assert starts == [room // 2]
    else:
        assert starts == [int(Fraction(i * room, num_clips - 1) // 1) for i in range(num_clips)]
        assert (starts[0], starts[-1]) == (0, room)


def test_a_video_shorter_than_its_clip_is_looped(config):
    samples = open_split(config.root, config.target, "test").samples
    num_frames = int(samples.columns["num_frames"][0])
    clip = dataclasses.replace(config.clip, length=num_frames + 3, stride=1)
    clips = evaluate.video_clips(FrameReader(samples, clip), 0, 3)
    assert len(clips) == 3
    np.testing.assert_array_equal(clips[0, num_frames:], clips[0, :3])
    np.testing.assert_array_equal(clips[0], clips[2])


# ------------------------------------------------------------------------------------------------------ crops


def coordinates(height: int, width: int) -> np.ndarray:
    """One frame whose pixels name their own place: red down, green across."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([rows, columns, rows], axis=-1)[None]


def corners(height: int, width: int, crop_px: int, num_crops: int) -> list[list[int]]:
    return [crop[0, 0, 0, :2].tolist() for crop in views.crops(coordinates(height, width), crop_px, num_crops)]


def test_one_crop_is_central_and_three_lie_along_the_longer_side():
    assert corners(128, 171, 112, 1) == [[8, 29]]
    assert corners(112, 150, 112, 3) == [[0, 0], [0, 19], [0, 38]]
    assert corners(200, 112, 112, 3) == [[0, 0], [44, 0], [88, 0]]
    assert [crop.shape for crop in views.crops(coordinates(120, 160), 0, 1)] == [(1, 120, 160, 3)]
    with pytest.raises(ValueError, match="100×160"):
        views.crops(coordinates(100, 160), 112, 1)


@given(height=st.integers(32, 90), width=st.integers(32, 90))
def test_three_crops_of_the_shorter_side_hold_every_pixel_up_to_three_times_their_side(height, width):
    crop_px = min(height, width)
    seen = np.zeros((height, width), bool)
    for top, left in corners(height, width, crop_px, 3):
        seen[top : top + crop_px, left : left + crop_px] = True
    assert seen.all() == (max(height, width) <= 3 * crop_px)


def test_three_crops_scale_the_shorter_side_to_theirs():
    fixed, short = ClipConfig(), ClipConfig(short_edge=True)
    three = TransferConfig(num_crops=3)
    assert views.test_clip(three, fixed).size_hw == (112, 150)
    assert views.test_clip(three, short).size_hw[0] == 112
    assert views.test_clip(dataclasses.replace(three, test_crop_px=128), fixed).size_hw == (128, 171)
    one = views.test_clip(TransferConfig(test_crop_px=128), fixed)
    assert (one.size_hw, one.crop_px) == ((128, 171), 128)
    assert views.test_clip(TransferConfig(), fixed) == fixed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_crop_px": 136}, "test_crop_px = 136 does not fit .* 128 pixels"),
        ({"test_crop_px": -1}, "test_crop_px = -1"),
        ({"test_crop_px": 0, "num_crops": 3}, "choose one of them"),
    ],
)
def test_crops_that_cannot_be_had_are_refused_with_the_field(changes, message):
    with pytest.raises(ConfigError, match=message):
        views.check(TransferConfig(**changes), ClipConfig())


class Counting(torch.nn.Module):
    """Takes note of what it is shown; every clip scores alike."""

    shapes: list

    def forward_grid(self, clips: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(clips.shape))
        return torch.zeros(len(clips), 4, 1, 1)


def test_every_crop_of_every_clip_is_scored(config):
    samples = open_split(config.root, config.target, "test").samples
    clip = views.test_clip(dataclasses.replace(config, num_crops=3, test_crop_px=24), config.clip)
    network = Counting()
    network.shapes = []
    evaluate.video_scores(network, FrameReader(samples, clip), [0, 1], 5, World(), num_crops=3)
    assert network.shapes == [(15, 3, 4, 24, 24)] * 2


# ----------------------------------------------------------------------------------------------- short edge


def disc(_label: int, number: int) -> np.ndarray:
    """A white disc of 40 pixels in the middle of a black picture: 64×112 or, for odd numbers, 112×64."""
    height, width = (64, 112) if number % 2 == 0 else (112, 64)
    rows, columns = np.mgrid[:height, :width] + 0.5
    white = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < 20**2
    return np.repeat(np.repeat(white[None, ..., None] * np.uint8(255), 8, axis=0), 3, axis=3)


@pytest.fixture(scope="module")
def discs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("discs")
    write_split(folder, "train", 1, render=disc)
    return folder


def extent(pictures_THWC: np.ndarray) -> tuple[int, int]:
    """Height and width of what is white."""
    white = pictures_THWC[0, ..., 0] > 127
    return int(white.any(axis=1).sum()), int(white.any(axis=0).sum())


def test_short_edge_keeps_a_disc_round_in_test_and_training(discs):
    samples = open_split(str(discs), "colours", "train").samples
    short = ClipConfig(length=2, size_hw=(32, 43), crop_px=32, short_edge=True)
    fixed = dataclasses.replace(short, short_edge=False)
    for sample, size_hw in ((0, (32, 56)), (1, (56, 32))):
        assert FrameReader(samples, short).read(sample, [0]).shape[1:3] == size_hw
        for clip in (
            evaluate.video_clips(FrameReader(samples, short), sample, 1)[0],
            views.crops(FrameReader(samples, short).read(sample, [0]), 0, 1)[0],
        ):
            assert extent(clip) == pytest.approx((20, 20), abs=1)
        height, width = extent(FrameReader(samples, fixed).read(sample, [0]))
        assert abs(height - width) > 4  # 128×171 is another aspect than 64×112
    order = TrainingClips(samples, dataclasses.replace(short, crop_px=30), 0)
    for position in range(8):
        pixels, _ = order[position]
        assert pixels.shape == (2, 30, 30, 3)
        height, width = extent(pixels)
        assert max(height, width) == pytest.approx(20, abs=1)  # a random crop may cut one side of it, not stretch it


# -------------------------------------------------------------------------------------- fully convolutional


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model("r2plus1d_10", 5, 0.125).eval()


@torch.inference_mode()
def test_at_112_the_grid_is_the_plain_head(network):
    clips = torch.randn(2, 3, 8, 112, 112)
    grid = network.forward_grid(clips)
    assert grid.shape == (2, 5, 1, 1)
    torch.testing.assert_close(grid[:, :, 0, 0], network(clips), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("height", "width", "grid_hw"), [(128, 128, (2, 2)), (112, 160, (1, 4)), (128, 176, (2, 5))])
@torch.inference_mode()
def test_each_position_is_the_head_on_its_window(network, height, width, grid_hw):
    clips = torch.randn(1, 3, 4, height, width)
    grid, trunk = network.forward_grid(clips), network.forward_trunk(clips)
    assert grid.shape == (1, 5, *grid_hw)
    for row in range(grid_hw[0]):
        for column in range(grid_hw[1]):
            window = trunk[..., row : row + 7, column : column + 7].mean(dim=(2, 3, 4))
            torch.testing.assert_close(grid[..., row, column], network.fc(window), rtol=1e-5, atol=1e-5)
