"""copy_through and frames=one: uploads that are stored without encoding, and those of which one frame is stored."""

import io
import json
import random
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange
from PIL import Image

from dataset_builder.shard import write_shard
from dataset_builder.transcode import Request, transcode
from dedup import census
from pipeline import video
from pipeline.config import StorageConfig
from pipeline.stored_form import stored_form
from pipeline.upload import Upload
from pipeline.video import VideoError
from tests.dataset_builder.small_world import TINY_STORAGE, make_job, write_mp4

COPY = StorageConfig(short_side_px=48, copy_through=True)
ONE = replace(TINY_STORAGE, frames="one")


def encoded(
    num_frames=40,
    fps=Fraction(30000, 1001),
    size=(64, 48),
    pix_fmt="yuv420p",
    codec="libx264",
    container="mp4",
    audio=False,
    color_range=ColorRange.UNSPECIFIED,
    **options,
) -> bytes:
    """Noise that moves, encoded by somebody else: B frames, GOPs of 12."""
    buffer = io.BytesIO()
    picture = np.random.default_rng(7).integers(0, 256, (size[1], size[0], 3), np.uint8)
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.color_range = color_range
        x264 = {"preset": "medium", "g": "12", "bf": "3", "x264-params": "open-gop=0:scenecut=40"}
        stream.options = {**x264, **options} if codec == "libx264" else options
        sound = out.add_stream("aac", rate=44100) if audio else None
        for i in range(num_frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(picture, 3 * i, 1), format="rgb24")))
        out.mux(stream.encode(None))
        if sound is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 44100
            out.mux([*sound.encode(silence), *sound.encode(None)])
    return buffer.getvalue()


def run(data, config=COPY, video_id="id", **segment):
    return transcode(data, Request(video_id, config, **segment))


@pytest.mark.parametrize(
    "options",
    [{}, {"fps": Fraction(25)}, {"bf": "0"}, {"num_frames": 1}, {"x264-params": "open-gop=0:b-pyramid=strict:ref=4"}],
)
def test_a_file_in_the_stored_form_is_stored_byte_for_byte(options):
    data = encoded(**options)
    stored = run(data)
    assert stored.copied
    assert stored.mp4 == data
    assert (stored.height, stored.width) == (48, 64)
    assert stored.num_frames == options.get("num_frames", 40)
    again = run(data, replace(COPY, copy_through=False))
    assert not again.copied
    assert (again.num_frames, again.fps) == (stored.num_frames, pytest.approx(stored.fps))
    assert stored.signature.codes64.tolist() == again.signature.codes64.tolist()


def test_what_is_stored_is_in_the_stored_form(tmp_path):
    write_mp4(tmp_path / "x.mp4", num_frames=50, fps=12.5)
    stored = run((tmp_path / "x.mp4").read_bytes(), replace(COPY, copy_through=False))
    assert stored_form(stored.mp4, short_side_px=48, max_fps=30.0, gop=16) is not None
    assert run(stored.mp4).mp4 == stored.mp4


@pytest.mark.parametrize(
    "options",
    [{}, {"fps": Fraction(25)}, {"fps": Fraction(10), "bf": "0"}, {"x264-params": "open-gop=0:b-pyramid=normal:ref=4"}],
)
def test_random_clips_of_copied_files_equal_sequential_decoding(options):
    data = encoded(**options)
    assert run(data).copied
    whole, draw = video.read_video(data), random.Random(3)
    with av.open(io.BytesIO(data)) as container:
        plain = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(plain) == len(whole)
    for _ in range(40):
        start, step = draw.randrange(40), draw.choice((1, 2, 3))
        indices = list(range(start, 40, step))[:8]
        assert (video.read_clip(data, indices) == whole[indices]).all()


@pytest.mark.parametrize(
    "options",
    [
        {"size": (64, 50)},
        {"size": (66, 64)},
        {"fps": Fraction(60)},
        {"g": "250"},
        {"x264-params": "open-gop=1:scenecut=0:bframes=3:b-adapt=0"},
        {"x264-params": "intra-refresh=1:keyint=12"},
        {"color_range": ColorRange.JPEG},
        {"pix_fmt": "yuv444p"},
        {"codec": "mpeg4"},
        {"container": "matroska"},
        {"container": "mpegts"},
        {"audio": True},
    ],
)
def test_every_other_file_is_encoded(options):
    stored = run(encoded(**options))
    assert not stored.copied
    assert min(stored.height, stored.width) == 48


def test_a_damaged_or_irregular_file_is_encoded():
    data = encoded()
    damaged = bytearray(data)
    at = data.index(b"mdat") + 1500
    damaged[at : at + 200] = bytes(200)
    assert not run(bytes(damaged)).copied
    assert not run(data, start_s=0.2).copied
    assert not run(data, end_s=0.5).copied


def test_copies_are_counted(tmp_path):
    for i in range(2):
        (tmp_path / f"{i}.mp4").write_bytes(encoded(num_frames=20 + i))
    write_mp4(tmp_path / "2.mp4", height=60, width=80)
    job = make_job(tmp_path / "d", [str(tmp_path / f"{i}.mp4") for i in range(3)], COPY)
    sidecar = write_shard(0, job)
    assert (sidecar["written"], sidecar["copied"]) == (3, 2)
    tar = (tmp_path / "d/shards/d-000000.tar").read_bytes()
    assert all((tmp_path / f"{i}.mp4").read_bytes() in tar for i in range(2))


# -------------------------------------------------------------------------------------------------- one frame


def test_one_frame_is_one_of_the_frames_and_drawn_by_the_id(tmp_path):
    write_mp4(tmp_path / "x.mp4", num_frames=30, fps=15, width=240)
    data = (tmp_path / "x.mp4").read_bytes()
    whole = video.read_video(run(data, TINY_STORAGE).mp4).astype(float)
    drawn = []
    for i in range(40):
        stored = run(data, ONE, f"video {i}")
        assert (stored.num_frames, stored.fps, len(stored.signature.codes64)) == (1, 15.0, 1)
        frame = video.read_video(stored.mp4).astype(float)
        distances = np.abs(frame - whole).mean(axis=(1, 2, 3))
        assert np.sort(distances)[1] > 2 * distances.min()  # it is this frame and no other
        drawn.append(int(np.argmin(distances)))
    assert run(data, ONE, "video 3").mp4 == run(data, ONE, "video 3").mp4
    assert len(set(drawn)) > 15  # 40 draws of 30 frames leave about 22 different ones
    assert max(Counter(drawn).values()) < 8


def test_one_frame_of_a_segment_lies_in_it(tmp_path):
    write_mp4(tmp_path / "x.mp4", num_frames=30, fps=15, width=240)
    data = (tmp_path / "x.mp4").read_bytes()
    whole = video.read_video(run(data, TINY_STORAGE).mp4).astype(float)
    for i in range(20):
        frame = video.read_video(run(data, ONE, str(i), start_s=0.8, end_s=1.2).mp4).astype(float)
        assert 12 <= np.argmin(np.abs(frame - whole).mean(axis=(1, 2, 3))) < 18
    with pytest.raises(VideoError, match="no_frames"):
        run(data, ONE, start_s=9.0)


def test_one_frame_costs_at_most_one_gop_of_decoding(tmp_path, monkeypatch):
    write_mp4(tmp_path / "x.mp4", num_frames=128, fps=15)
    data = (tmp_path / "x.mp4").read_bytes()
    decoded, real = [], Upload._decoded

    def count(self, first_packet):
        for frame in real(self, first_packet):
            decoded[-1] += 1
            yield frame

    monkeypatch.setattr(Upload, "_decoded", count)
    for i in range(30):
        decoded.append(0)
        run(data, ONE, str(i))
    assert max(decoded) <= 16
    assert sum(decoded) / 30 < 13


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_images_are_stored_as_one_frame(kind, tmp_path):
    picture = Image.fromarray(
        np.kron(np.random.default_rng(0).integers(0, 256, (9, 12, 1), np.uint8), np.ones((10, 10, 3), np.uint8))
    )
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({} if kind == "PNG" else {"quality": 95}))
    stored = run(buffer.getvalue(), replace(ONE, short_side_px=80))
    assert (stored.num_frames, stored.height, stored.width) == (1, 80, 106)
    frame = video.read_clip(stored.mp4, [0])[0].astype(float)
    expected = np.asarray(picture.resize((106, 80), Image.Resampling.BOX), float)
    assert np.abs(frame - expected).mean() < 6
    assert census.informative(stored.signature.quality).all()
    with pytest.raises(VideoError, match="not_a_video"):
        run(buffer.getvalue(), TINY_STORAGE)


def test_a_shard_of_single_frames_is_like_any_other(tmp_path):
    write_mp4(tmp_path / "0.mp4")
    Image.new("RGB", (64, 48), (200, 30, 30)).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    job = make_job(tmp_path / "d", [str(tmp_path / name) for name in ("0.mp4", "1.png", "2.png")], ONE)
    sidecar = write_shard(0, job)
    assert (sidecar["written"], sum(sidecar["quarantined"].values())) == (2, 1)
    assert json.loads((tmp_path / "d/shards/d-000000.json").read_text()) == sidecar
