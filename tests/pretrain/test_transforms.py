import numpy as np
import pytest
import torch

from pretrain.transforms import centre_crop, normalise, random_crop, random_flip

FRAMES = np.arange(2 * 6 * 9 * 3, dtype=np.uint8).reshape(2, 6, 9, 3)


def test_normalise_is_the_published_mean_and_std():
    clip = torch.tensor([0, 128, 255], dtype=torch.uint8).reshape(1, 1, 1, 1, 3)
    expected = [(0 - 0.43216) / 0.22803, (128 / 255 - 0.394666) / 0.22145, (1 - 0.37645) / 0.216989]
    assert normalise(clip).flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_normalise_gives_channels_first_in_channels_last_memory():
    clips = torch.randint(0, 256, (2, 4, 6, 5, 3), dtype=torch.uint8)
    x = normalise(clips)
    assert x.shape == (2, 3, 4, 6, 5)
    assert x.is_contiguous(memory_format=torch.channels_last_3d)


def test_a_random_crop_is_one_window_for_all_frames():
    crop = random_crop(FRAMES, 4, seed=1, position=17)
    places = [(y, x) for y in range(3) for x in range(6) if np.array_equal(FRAMES[:, y : y + 4, x : x + 4], crop)]
    assert len(places) == 1


def test_random_crops_reach_every_place_evenly_and_depend_on_position_alone():
    corners = [int(random_crop(FRAMES, 4, 1, position)[0, 0, 0, 0]) for position in range(3600)]
    counts = np.unique(corners, return_counts=True)[1]
    assert len(counts) == 3 * 6
    assert ((counts - 200) ** 2 / 200).sum() < 40.8  # 99.9 % point of chi-square with 17 degrees of freedom
    assert np.array_equal(random_crop(FRAMES, 4, 1, 5), random_crop(FRAMES, 4, 1, 5))


def test_half_of_the_clips_are_mirrored():
    clips = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 1, 4, 1).repeat(4000, 1, 1, 1, 3)
    firsts = random_flip(clips, 0, np.arange(4000))[:, 0, 0, :, 0].tolist()
    mirrored = firsts.count([3, 2, 1, 0])
    assert mirrored + firsts.count([0, 1, 2, 3]) == 4000
    assert abs(mirrored - 2000) < 130  # 4 standard deviations


def test_the_centre_crop_is_central():
    assert np.array_equal(centre_crop(FRAMES, 4), FRAMES[:, 1:5, 2:6])


def test_too_small_frames_are_refused():
    with pytest.raises(ValueError, match="6×9 pixels are smaller than a crop of 7"):
        centre_crop(FRAMES, 7)
