"""What Encoder writes, read_clip reads back exactly; what Upload cannot read has a reason."""

import io

import av
import numpy as np
import pytest

from pipeline import video
from pipeline.upload import Upload
from pipeline.video import VideoError


def gray_frame(level: int, height: int = 48, width: int = 64) -> av.VideoFrame:
    """A yuv420p frame whose luma is `level`."""
    return av.VideoFrame.from_ndarray(np.full((height * 3 // 2, width), level, np.uint8), format="yuv420p")


def encoded(num_frames: int, fps: float = 15.0) -> bytes:
    """Frame i has luma 16 + 4 i and neutral colour."""
    encoder = video.Encoder(48, 64, fps)
    for i in range(num_frames):
        planes = np.full((72, 64), 128, np.uint8)
        planes[:48] = 16 + 4 * i
        encoder.write(av.VideoFrame.from_ndarray(planes, format="yuv420p"))
    return encoder.finish()


def luma(frames: np.ndarray) -> np.ndarray:
    return frames.mean(axis=(1, 2, 3)) * 219 / 255 + 16


@pytest.mark.parametrize("fps", [10.0, 12.5, 29.97, 30.0])
def test_random_access_equals_sequential_reading(fps):
    data = encoded(50, fps)
    everything = video.read_video(data)
    assert everything.shape == (50, 48, 64, 3)
    for indices in ([0], [49], [7, 3, 3, 40], list(range(17, 25)), list(range(0, 50, 7))):
        assert (video.read_clip(data, indices) == everything[indices]).all()


def test_frame_i_is_frame_i():
    frames = video.read_clip(encoded(50), range(50))
    assert np.abs(luma(frames) - (16 + 4 * np.arange(50))).max() < 2


def test_a_frame_beyond_the_end_is_an_error():
    with pytest.raises(VideoError, match="frames \\[50\\]"):
        video.read_clip(encoded(50), [3, 50])


def test_equal_input_gives_equal_bytes():
    assert encoded(20) == encoded(20)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b"<html>404 Not Found</html>" * 50, "not_a_video"), (b"#EXTM3U\nhttp://x/y.ts\n", "not_a_video")],
)
def test_a_file_that_is_no_video_has_a_reason(data, reason):
    with pytest.raises(VideoError) as caught:
        Upload(data)
    assert caught.value.reason == reason


def test_audio_alone_has_a_reason():
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError) as caught:
        Upload(buffer.getvalue())
    assert caught.value.reason == "no_video_stream"


def test_limits_have_reasons():
    data = encoded(50, 10.0)
    with pytest.raises(VideoError) as caught:
        list(Upload(data, max_duration_s=3.0).frames())
    assert caught.value.reason == "too_long"
    with pytest.raises(VideoError) as caught:
        Upload(data, max_pixels=1000)
    assert caught.value.reason == "too_large"


def test_a_damaged_file_gives_its_whole_frames():
    data = bytearray(encoded(48))
    data[len(data) // 3 : len(data) // 3 + 64] = bytes(64)
    upload = Upload(bytes(data))
    assert 0 < len(list(upload.frames())) <= 48


@pytest.mark.parametrize(("source_fps", "fps"), [(10, 16), (30, 16), (16, 16), (25, 16), (24, 30)])
def test_resampler_takes_the_frame_nearest_to_each_slot(source_fps, fps):
    num_frames = 60
    resampler = video.Resampler(fps)
    slots = [i for n in range(num_frames) for i in resampler.push(n / source_fps, n)] + list(resampler.finish())
    last_time = (num_frames - 1) / source_fps
    assert len(slots) == int(last_time * fps + 0.5) + 1
    if source_fps == fps:
        assert slots == list(range(num_frames))
    for slot, frame in enumerate(slots):
        # Never further than one interval of the coarser rate from the slot's own time.
        assert abs(frame / source_fps - slot / fps) <= 1 / min(source_fps, fps) + 1e-9


def test_rotation_is_applied_to_luma_and_picture(shared_data):
    folder = shared_data / "clips" / "misc" / "decord"
    sizes = {}
    for degrees in (90, 180, 270):
        upload = Upload((folder / f"video_{degrees}.mov").read_bytes())
        _, frame = next(upload.frames())
        height, width = video.upright_size(frame)
        upright = video.Scaler().upright(frame, height // 8 * 2, width // 8 * 2)
        sizes[degrees] = (upright.height, upright.width)
        assert video.Scaler().gray(frame, 20, 30).shape == (20, 30)
        assert video.quarter_turns(frame) == {90: 3, 180: 2, 270: 1}[degrees]
    assert (sizes[90][0] > sizes[90][1]) == (sizes[180][0] < sizes[180][1])


def test_short_side_size():
    assert video.short_side_size(1080, 1920, 128) == (128, 228)
    assert video.short_side_size(1920, 1080, 128) == (228, 128)
    assert video.short_side_size(100, 100, 40) == (40, 40)
