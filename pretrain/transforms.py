"""From decoded frames to network input: crop where the frames are read, flip and normalise where the network is.

Shape letters: B clips, T frames, H W pixels. Clips travel as cropped uint8, the fewest bytes; the network's input is
logically [B, 3, T, h, w] and lies in `channels_last_3d` memory without a copy. Crops and flips are functions of
(seed, position in the sample order), so no process or restart changes them.
"""

import functools

import numpy as np
import torch
from torch import Tensor

from pipeline.video import Window
from pretrain import draws

MEAN_RGB = (0.43216, 0.394666, 0.37645)
STD_RGB = (0.22803, 0.22145, 0.216989)


def random_window(size_hw: tuple[int, int], crop_px: int, seed: int, position: int) -> Window:
    """One square for all frames of a clip of `size_hw`, uniform over the places where it fits."""
    room_y, room_x = _room(size_hw, crop_px)
    top = draws.below_at(room_y + 1, seed, "crop top", position)
    return Window(top, draws.below_at(room_x + 1, seed, "crop left", position), crop_px, crop_px)


def centre_crop(frames_THWC: np.ndarray, crop_px: int) -> np.ndarray:
    """The central window: a view, uint8 [T, crop, crop, 3]."""
    room_y, room_x = _room(frames_THWC.shape[1:3], crop_px)
    return frames_THWC[:, room_y // 2 : room_y // 2 + crop_px, room_x // 2 : room_x // 2 + crop_px]


def random_flip(clips_BTHWC: Tensor, seed: int, positions: np.ndarray) -> Tensor:
    """Mirror half of the clips left to right, decided by their positions int64 [B]."""
    flips = _moved(torch.from_numpy(draws.uniform(seed, "flip", positions) < 0.5), clips_BTHWC.device)
    return torch.where(flips[:, None, None, None, None], clips_BTHWC.flip(3), clips_BTHWC)


def normalise(clips_BTHWC: Tensor) -> Tensor:
    """uint8 [B, T, H, W, 3] → float32 [B, 3, T, H, W], (x / 255 − mean) / std per colour."""
    scale, shift = _scale_and_shift(clips_BTHWC.device)
    return torch.addcmul(shift, clips_BTHWC.float(), scale).permute(0, 4, 1, 2, 3)


@functools.cache
def _scale_and_shift(device: torch.device) -> tuple[Tensor, Tensor]:
    """Of normalisation, float32 [3] each; kept, because each copy to a GPU would wait for all that is under way there."""
    mean, std = torch.tensor(MEAN_RGB, dtype=torch.float64), torch.tensor(STD_RGB, dtype=torch.float64)
    return (1 / (255 * std)).float().to(device), (-mean / std).float().to(device)


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A small tensor on the device, without waiting for what is under way there."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _room(size_hw: tuple[int, int], crop_px: int) -> tuple[int, int]:
    """Pixels of freedom of a window, down and across."""
    height, width = size_hw
    if min(height, width) < crop_px:
        raise ValueError(f"frames of {height}×{width} pixels are smaller than a crop of {crop_px}")
    return height - crop_px, width - crop_px
