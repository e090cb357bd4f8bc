"""A stored video's own tables lead to the frames that a demuxer finds; whatever is not the stored form has none."""

import io
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import numpy as np
import pytest

from pipeline import video
from pipeline.mp4_table import read_table
from pipeline.video import Encoder, VideoError

OPEN = {"x264-params": "keyint=8:min-keyint=8:scenecut=0:open-gop=1:bframes=3:b-adapt=0"}
CLOSED = {"x264-params": "keyint=8:min-keyint=8:scenecut=0:open-gop=0:bframes=3"}


def noise(number: int) -> av.VideoFrame:
    pixels = np.random.default_rng(number).integers(0, 256, (5, 6, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    return av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")


def encoded(num_frames: int, fps: float = 16.0, gop: int = 16) -> bytes:
    encoder = Encoder(40, 48, fps, gop=gop)
    for number in range(num_frames):
        encoder.write(noise(number))
    return encoder.finish()


def muxed(codec: str = "libx264", times=range(24), options: dict | None = None, container: dict | None = None) -> bytes:
    """A file of 24 frames that another program might have written, frame i at times[i] / 16 seconds."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options=container or {}) as output:
        stream = output.add_stream(codec, rate=16)
        stream.height, stream.width, stream.pix_fmt = 40, 48, "yuv420p"
        stream.options = options or {}
        for number, time in enumerate(times):
            frame = noise(number)
            frame.pts, frame.time_base = time, Fraction(1, 16)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("num_frames", "fps", "gop"), [(1, 16, 16), (16, 12.5, 16), (50, 29.97, 16), (43, 30, 7), (9, 25, 1)]
)
def test_frames_are_those_that_a_demuxer_finds(monkeypatch, num_frames, fps, gop):
    data = encoded(num_frames, fps, gop)
    table = read_table(data)
    assert sorted(table.numbers) == list(range(num_frames))
    assert table.gop_starts.tolist() == list(range(0, num_frames, gop))
    draw = np.random.default_rng(0)
    wanted = [[0], [num_frames - 1], list(range(num_frames)), *draw.integers(0, num_frames, (6, 5)).tolist()]
    found = [video.read_clip(data, indices) for indices in wanted]
    monkeypatch.setattr(video, "read_table", lambda data: None)
    for indices, frames in zip(wanted, found, strict=True):
        assert np.array_equal(frames, video.read_clip(data, indices))


@pytest.mark.parametrize("options", [CLOSED, {"g": "250"}, {"bf": "0", "g": "5"}])
def test_another_program_s_file_gives_the_frames_of_reading_it_in_order(options):
    data = muxed(options=options)
    whole = video.read_video(data)
    for indices in ([0], [23], [7, 8], [15, 9, 16], range(24)):
        assert np.array_equal(video.read_clip(data, indices), whole[list(indices)])


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda: muxed(options=OPEN), id="open GOPs"),
        pytest.param(lambda: muxed(options=CLOSED, times=[*range(12), *range(13, 25)]), id="variable rate"),
        pytest.param(lambda: muxed(options=CLOSED, times=range(5, 29)), id="begins later"),
        pytest.param(lambda: muxed("mpeg4"), id="another codec"),
        pytest.param(lambda: muxed(options=CLOSED, container={"movflags": "frag_keyframe+empty_moov"}), id="fragmented"),
        pytest.param(lambda: b"", id="empty"),
        pytest.param(lambda: b"<html>" * 99, id="no MP4"),
        pytest.param(lambda: encoded(20)[:-600], id="cut"),
    ],
)  # fmt: skip
def test_whatever_is_not_the_stored_form_has_no_table(other):
    assert read_table(other()) is None


def test_damaged_tables_lead_nowhere_outside_the_file():
    data, draw = encoded(20), np.random.default_rng(0)
    begin = data.rindex(b"moov") - 4
    for _ in range(2000):
        damaged = bytearray(data)
        for place in draw.integers(begin, len(data), draw.integers(1, 4)):
            damaged[place] = draw.integers(0, 256)
        if (table := read_table(bytes(damaged))) is not None:
            assert table.offsets.min() >= 0
            assert (table.offsets + table.sizes).max() <= len(data)
            assert sorted(table.numbers) == list(range(len(table.sizes)))


def test_a_damaged_video_leaves_nothing_in_the_decoder_for_the_next():
    data = encoded(40)
    table, expected = read_table(data), video.read_clip(data, [3, 20, 39])
    damaged = bytearray(data)
    for offset, size in zip(table.offsets.tolist(), table.sizes.tolist(), strict=True):
        damaged[offset + 4 : offset + size] = np.random.default_rng(size).bytes(size - 4)
    for _ in range(3):
        with pytest.raises(VideoError):
            video.read_clip(bytes(damaged), [3, 20, 39])
        assert np.array_equal(video.read_clip(data, [3, 20, 39]), expected)


def test_threads_read_what_one_reads():
    files = [encoded(20 + number) for number in range(3)]
    expected = [video.read_clip(data, [1, 17]) for data in files]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: video.read_clip(files[number % 3], [1, 17]), range(60)))
    assert all(np.array_equal(frames, expected[number % 3]) for number, frames in enumerate(found))
