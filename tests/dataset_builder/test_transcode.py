"""One pass over an upload: the stored form, the signature, and a reason for what cannot be stored."""

from dataclasses import replace

import numpy as np
import pytest

from dataset_builder.transcode import Request, transcode
from dedup import census
from pipeline import video
from pipeline.config import StorageConfig
from pipeline.video import VideoError
from tests.dataset_builder.small_world import TINY_STORAGE, write_mp4


@pytest.fixture
def clip(tmp_path):
    write_mp4(tmp_path / "clip.mp4", num_frames=30, fps=15)
    return (tmp_path / "clip.mp4").read_bytes()


def run(data, config, video_id="id", **segment):
    return transcode(data, Request(video_id, config, **segment))


def test_stored_form_has_the_asked_for_side_and_rate(clip):
    stored = run(clip, replace(TINY_STORAGE, max_fps=10))
    assert (stored.height, stored.width, stored.fps) == (32, 42, 10)
    assert stored.num_frames == pytest.approx(20, abs=1)
    whole = run(clip, StorageConfig(short_side_px=48))
    frames, source = (video.read_video(data).astype(float) for data in (whole.mp4, clip))
    assert frames.shape == source.shape
    assert np.abs(frames - source).mean() < 10


def test_a_segment_is_cut_out(tmp_path):
    write_mp4(tmp_path / "wide.mp4", num_frames=30, fps=15, width=240)  # one turn of the picture in 30 frames
    clip = (tmp_path / "wide.mp4").read_bytes()
    whole = video.read_video(run(clip, TINY_STORAGE).mp4).astype(float)
    stored = run(clip, TINY_STORAGE, start_s=0.8, end_s=1.6)
    part = video.read_video(stored.mp4).astype(float)
    assert len(part) == 12
    assert np.argmin([np.abs(part - whole[k : k + 12]).mean() for k in range(19)]) == 12
    assert len(stored.signature.codes64) == pytest.approx(0.8 * census.SIGNATURE_FPS, abs=1)


@pytest.mark.parametrize(
    ("change", "segment", "reason"),
    [
        ({"max_duration_s": 1.0}, {}, "too_long"),
        ({"max_pixels": 1000}, {}, "too_large"),
        ({}, {"start_s": 5.0}, "no_frames"),
        ({}, {"start_s": 1.0, "end_s": 1.0}, "no_frames"),
    ],
)
def test_limits_are_reasons(clip, change, segment, reason):
    with pytest.raises(VideoError) as error:
        run(clip, replace(TINY_STORAGE, **change), **segment)
    assert error.value.reason == reason


def test_every_real_clip_is_stored_or_has_a_known_reason(shared_data):
    paths = sorted((shared_data / "clips" / "misc").rglob("*.*"))
    assert len(paths) > 10
    reasons = {}
    for path in paths:
        try:
            stored = run(path.read_bytes(), StorageConfig(short_side_px=32, max_fps=5))
        except VideoError as error:
            reasons[path.name] = error.reason
        else:
            assert min(stored.height, stored.width) == 32
            assert stored.num_frames > 0
    assert set(reasons.values()) <= {"empty", "not_a_video", "decode_error", "no_frames", "no_video_stream", "too_long"}
    assert len(reasons) <= len(paths) // 10, reasons


def test_what_an_upload_breaks_beyond_known_reasons_is_a_reason_too(clip, monkeypatch):
    def burst(*_, **__):
        raise RuntimeError("swscale")

    monkeypatch.setattr(video.Scaler, "upright", burst)
    with pytest.raises(VideoError, match="RuntimeError: swscale") as error:
        run(clip, TINY_STORAGE)
    assert error.value.reason == "failed"
