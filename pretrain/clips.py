"""Which frames make a clip. Pure arithmetic on frame numbers; a video shorter than its clip is looped, not dropped."""

import math


def frame_step(stride: int, clip_fps: float | None, video_fps: float) -> float:
    """Stored frames between two clip frames: `stride` frames at `clip_fps`, or of the video where that is None."""
    return float(stride) if clip_fps is None else stride * video_fps / clip_fps


def span(clip_length: int, stride: float) -> int:
    """Frames r from the first to the last of a clip, both included: (length − 1)·stride + 1."""
    return math.floor((clip_length - 1) * stride) + 1


def uniform_starts(num_frames: int, clip_length: int, num_clips: int, stride: float = 1) -> list[int]:
    """First frames of clips spread over a video: floor(i·(F − r) / (n − 1)) (paper, Section 4); one clip is central."""
    room = max(0, num_frames - span(clip_length, stride))
    if num_clips == 1:
        return [room // 2]
    return [index * room // (num_clips - 1) for index in range(num_clips)]


def random_start(u: float, num_frames: int, clip_length: int, stride: float = 1) -> int:
    """First frame for temporal jitter: u in [0, 1) spread evenly over 0 … F − r."""
    return math.floor(u * (max(0, num_frames - span(clip_length, stride)) + 1))


def clip_frames(start: int, clip_length: int, stride: float, num_frames: int) -> list[int]:
    """Frame numbers of a clip, modulo the number of frames of the video."""
    return [math.floor(start + index * stride) % num_frames for index in range(clip_length)]
