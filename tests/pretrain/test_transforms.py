from collections import Counter

import numpy as np
import pytest
import torch

from pretrain.transforms import centre_crop, normalise, random_flip, random_window

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


def test_random_windows_reach_every_place_evenly_and_depend_on_position_alone():
    windows = [random_window((6, 9), 4, 1, position) for position in range(3600)]
    assert {(window.height, window.width) for window in windows} == {(4, 4)}
    counts = Counter((window.top, window.left) for window in windows)
    assert counts.keys() == {(top, left) for top in range(3) for left in range(6)}
    chi2 = sum((count - 200) ** 2 / 200 for count in counts.values())
    assert chi2 < 40.8  # 99.9 % point of chi-square with 17 degrees of freedom
    assert random_window((6, 9), 4, 1, 5) == windows[5]


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
