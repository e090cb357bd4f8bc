import pytest

from pretrain.clips import clip_frames, frame_step, random_start, span, uniform_starts


@pytest.mark.parametrize(
    ("frames", "length", "stride", "starts"),
    [
        (100, 8, 1, [0, 10, 20, 30, 40, 51, 61, 71, 81, 92]),  # floor(i · 92 / 9)
        (300, 32, 2, [0, 26, 52, 79, 105, 131, 158, 184, 210, 237]),  # r = 63, floor(i · 237 / 9)
        (8, 8, 1, [0] * 10),
        (5, 8, 1, [0] * 10),
    ],
)
def test_ten_clips_are_spread_over_the_video(frames, length, stride, starts):
    assert uniform_starts(frames, length, 10, stride) == starts


def test_one_clip_is_central():
    assert uniform_starts(100, 10, 1, 1) == [45]


def test_short_videos_are_looped():
    assert clip_frames(0, 8, 1, 3) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert clip_frames(0, 4, 2, 5) == [0, 2, 4, 1]


@pytest.mark.parametrize(("u", "start"), [(0.0, 0), (0.25, 1), (0.5, 2), (0.999999, 3)])
def test_jitter_reaches_every_start_that_fits_and_no_other(u, start):
    assert random_start(u, num_frames=18, clip_length=8, stride=2) == start  # r = 15: starts 0 … 3


def test_jitter_of_a_short_video_starts_at_its_beginning():
    assert random_start(0.99, num_frames=5, clip_length=8, stride=1) == 0


@pytest.mark.parametrize("num_frames", [9, 16, 31, 100])
@pytest.mark.parametrize("stride", [1, 2, 1.875])
def test_the_last_clip_ends_within_the_video(num_frames, stride):
    length = 4
    assert span(length, stride) == int(3 * stride) + 1
    for start in [*uniform_starts(num_frames, length, 10, stride), random_start(0.9999, num_frames, length, stride)]:
        frames = clip_frames(start, length, stride, num_frames)
        assert frames == sorted(frames)
        assert frames[-1] == start + int(3 * stride) < num_frames


@pytest.mark.parametrize(
    ("stride", "clip_fps", "video_fps", "step"), [(2, None, 30, 2), (1, 15, 30, 2), (2, 16, 30, 3.75)]
)
def test_frame_steps_follow_the_clips_frame_rate(stride, clip_fps, video_fps, step):
    assert frame_step(stride, clip_fps, video_fps) == step
