"""What of a test video the network sees: which clips, which parts of the picture, at which size.

Shape letters: U frames of a video, h w pixels of a crop. Training looks at random crops of random clips (`pretrain.data`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from pipeline.config import ClipConfig, ConfigError, TransferConfig
from pretrain.clips import uniform_starts
from pretrain.reading import FrameReader

WHOLE_FRAME = 0  # as a crop's side

Choose = Callable[[FrameReader, int, int], list[int]]  # reader, sample, number of clips → their first frames


def uniform(reader: FrameReader, sample: int, num_clips: int) -> list[int]:
    """First frames of clips spread evenly over a video (paper, Section 4)."""
    num_frames = int(reader.samples.columns["num_frames"][sample])
    return uniform_starts(num_frames, reader.clip.length, num_clips, reader.frame_step(sample))


def test_clip(config: TransferConfig, clip: ClipConfig) -> ClipConfig:
    """The clips of the test, for those of the training: another crop and, for three crops, another size.

    Three crops cover a picture whose shorter side is theirs, so frames are scaled to that; one crop is cut out of frames
    of the training's size.
    """
    crop_px = clip.crop_px if config.test_crop_px is None else config.test_crop_px
    if config.num_crops == 1:
        return dataclasses.replace(clip, crop_px=crop_px)
    height, width = clip.size_hw
    short_px = crop_px + crop_px % 2  # short edge scaling gives even sides
    if clip.short_edge:
        size_hw = (short_px, round(width * short_px / height))
    else:
        size_hw = (round(height * short_px / min(height, width)), round(width * short_px / min(height, width)))
    return dataclasses.replace(clip, crop_px=crop_px, size_hw=size_hw)


test_clip.__test__ = False  # its name is no pytest's business


def check(config: TransferConfig, clip: ClipConfig) -> None:
    """Refuse test views that cannot be had of clips like `clip`; ConfigError names the field."""
    crop_px, short_px = config.test_crop_px, min(clip.size_hw)
    if clip.short_edge:
        short_px = clip.size_hw[0] - clip.size_hw[0] % 2  # it gives even sides
    if crop_px is not None and crop_px < 0:
        raise ConfigError(f"test_crop_px = {crop_px}: give pixels, or {WHOLE_FRAME} for the whole frame")
    if config.num_crops == 3 and crop_px == WHOLE_FRAME:
        raise ConfigError(
            "num_crops = 3 are parts of the picture, and test_crop_px = 0 is all of it: choose one of them"
        )
    if config.num_crops == 1 and (crop_px or 0) > short_px:
        raise ConfigError(
            f"test_crop_px = {crop_px} does not fit into frames whose shorter side is {short_px} pixels (clip.size_hw): "
            f"give at most {short_px}, or num_crops = 3, which scales the frames to the crop"
        )
    if config.clip_choice == "salient" and config.salient_of <= config.num_clips:
        raise ConfigError(
            f"salient_of = {config.salient_of} leaves nothing to choose for num_clips = {config.num_clips}: give more"
        )


def crops(frames_UHWC: np.ndarray, crop_px: int, num_crops: int) -> list[np.ndarray]:
    """Square windows, the same for all frames: the central one; or three, at both ends and in the middle of the longer
    side. Views, uint8 [U, crop_px, crop_px, 3]; a `crop_px` of 0 gives the whole frame.

    Raises: ValueError for frames that are smaller.
    """
    if crop_px == WHOLE_FRAME:
        return [frames_UHWC]
    height, width = frames_UHWC.shape[1:3]
    room_y, room_x = height - crop_px, width - crop_px
    if min(room_y, room_x) < 0:
        raise ValueError(f"frames of {height}×{width} pixels are smaller than a crop of {crop_px}")
    corners = [(room_y // 2, room_x // 2)]
    if num_crops == 3:
        ends = (
            [(0, room_x // 2), (room_y, room_x // 2)] if room_y > room_x else [(room_y // 2, 0), (room_y // 2, room_x)]
        )
        corners = [ends[0], corners[0], ends[1]]
    return [frames_UHWC[:, top : top + crop_px, left : left + crop_px] for top, left in corners]
