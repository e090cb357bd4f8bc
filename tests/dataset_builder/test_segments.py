"""Segments of one video: exact to the frame, in one pass, each for itself; from memory and from a file of any size."""

import hashlib
import itertools
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from dataset_builder import transcode as transcoding
from dataset_builder.annotations.samples import segment_id
from dataset_builder.decoder import Decoder
from dataset_builder.match import video_id
from dataset_builder.transcode import Request, transcode, transcode_segments
from dataset_builder.uploads import source_of_segments
from pipeline import video
from pipeline.config import StorageConfig
from pipeline.upload import Upload
from pipeline.video import VideoError
from tests.patience import PATIENCE_S

FPS, NUM_FRAMES = 25, 50
STORAGE = StorageConfig(short_side_px=32, crf=1)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Frame i is uniformly gray, 4 levels brighter than frame i - 1."""
    encoder = video.Encoder(32, 32, FPS, crf=1)
    for i in range(NUM_FRAMES):
        gray = np.full((32, 32, 3), 20 + 4 * i, np.uint8)
        encoder.write(av.VideoFrame.from_ndarray(gray, format="rgb24").reformat(format="yuv420p"))
    path = tmp_path_factory.mktemp("segments") / "video.mp4"
    path.write_bytes(encoder.finish())
    return path


def request(start_s, end_s, **changes):
    return Request(segment_id("v", start_s, end_s), replace(STORAGE, **changes), start_s, end_s, of_target=True)


def frames_in(stored):
    levels = video.read_video(stored.mp4).mean((1, 2, 3))
    return [round((level - 18) / 4) for level in levels]  # RGB to YUV and back loses two levels


def expected(start_s, end_s):
    start, end = (Fraction(str(bound)) for bound in (start_s, end_s))
    return [i for i in range(NUM_FRAMES) if start <= Fraction(i, FPS) < end]


SPANS = [
    (0.28, 0.56),
    (0.0, 0.04),
    (0.29, 0.57),
    (1.9, 2.0),
    (0.56, 1.12),
    (0.281, 0.282),
    (0.2799, 1.1201),
    (1.12, 1.96),
]


def test_a_cut_holds_the_frames_with_start_not_after_and_end_after_their_time(path):
    results = transcode_segments(str(path), [request(*span) for span in SPANS])
    for span, result in zip(SPANS, results, strict=True):
        if expected(*span):
            assert frames_in(result) == expected(*span), span
        else:
            assert result.reason == "no_frames", span


def test_many_at_once_from_a_file_equal_one_at_a_time_from_memory(path):
    requests = [request(*span) for span in SPANS if expected(*span)]
    data = path.read_bytes()
    for together in (transcode_segments(str(path), requests), transcode_segments(data, requests[::-1])[::-1]):
        for stored, wanted in zip(together, requests, strict=True):
            alone = transcode(data, wanted)
            assert (stored.mp4, stored.num_frames, stored.fps) == (alone.mp4, alone.num_frames, alone.fps)
            assert np.array_equal(stored.signature.codes256, alone.signature.codes256)
            assert len(stored.signature.crops) == len(alone.signature.crops) > 0


def test_the_video_is_decoded_once_and_not_beyond_the_last_segment(path, monkeypatch):
    decoded = []

    class Counting(Upload):
        def frames(self, **options):
            for time_s, frame in super().frames(**options):
                decoded.append(time_s)
                yield time_s, frame

    monkeypatch.setattr(transcoding, "Upload", Counting)
    transcode_segments(str(path), [request(0.4, 0.8), request(0.2, 0.6), request(0.0, 0.2)])
    assert decoded == [i / FPS for i in range(21)]  # the frame at 0.8 s ends the last one


def test_limits_are_of_the_segment_and_one_bad_segment_leaves_the_others(path):
    results = transcode_segments(
        str(path),
        [
            request(*span, max_duration_s=0.5)
            for span in ((0.0, 1.5), (0.4, 0.8), (90.0, 91.0), (1.0, None), (1.6, 1.96))
        ],
    )
    reasons = [result.reason if isinstance(result, VideoError) else frames_in(result) for result in results]
    assert reasons == ["too_long", [*range(10, 20)], "no_frames", "too_long", [*range(40, 49)]]
    with pytest.raises(VideoError, match="too_long"):
        transcode(path.read_bytes(), Request("id", replace(STORAGE, max_duration_s=0.5)))


def test_one_frame_of_each_segment(path):
    results = transcode_segments(str(path), [request(0.4, 0.8, frames="one"), request(9.0, 10.0, frames="one")])
    (number,) = frames_in(results[0])
    assert 10 <= number < 20
    assert results[1].reason == "no_frames"


def test_the_child_gives_the_same_and_names_what_it_cannot_read(path, tmp_path):
    requests = [request(*span) for span in SPANS]
    child = Decoder(timeout_s=PATIENCE_S, memory_mb=1024)
    try:
        there, here = child.decode_segments(str(path), requests), transcode_segments(str(path), requests)
        assert [getattr(r, "mp4", None) or r.reason for r in there] == [
            getattr(r, "mp4", None) or r.reason for r in here
        ]
        assert [r.mp4 for r in child.decode_segments(path.read_bytes(), requests[:1])] == [here[0].mp4]
        (tmp_path / "text.mp4").write_bytes(b"<html>" * 1000)
        for source, reason in ((tmp_path / "gone.mp4", "unreadable"), (tmp_path / "text.mp4", "not_a_video")):
            assert [r.reason for r in child.decode_segments(str(source), requests[:2])] == [reason] * 2
    finally:
        child.close()


def test_what_ends_the_child_is_the_answer_for_every_segment(path, monkeypatch):
    child, asked = Decoder(timeout_s=7.0, memory_mb=1024), []

    def ask(header, blobs, timeout_s):
        asked.append(timeout_s)
        raise VideoError("timeout")

    monkeypatch.setattr(child, "_ask", ask)
    assert [r.reason for r in child.decode_segments(str(path), [request(0, 1), request(1, 2)])] == ["timeout"] * 2
    assert asked == [14.0]  # the time for one upload, for each segment


def test_a_local_source_is_a_path_with_its_hash_and_must_be_a_regular_file(path, tmp_path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert source_of_segments(str(path)) == (str(path), digest)
    assert source_of_segments(f"file://{path}") == (str(path), digest)
    for uri, reason in ((tmp_path / "none.mp4", "missing"), (tmp_path, "unreadable"), ("ftp://x/y.mp4", "refused_uri")):
        with pytest.raises(VideoError) as error:
            source_of_segments(str(uri))
        assert error.value.reason == reason


def test_ids_of_segments_are_unique_and_keep_a_video_together():
    spans = [(None, None), *itertools.product((None, 0.0, 1.5), (2.0, 2.5))]
    ids = [segment_id(uri, *span) for uri in ("a", "b") for span in spans]
    assert len({*ids}) == len(ids)
    assert {len(one) for one in ids} == {20}
    assert segment_id("a", None, None) == video_id("a")
    assert len({one[:10] for one in ids}) == 2
    assert segment_id("a", 1.0, 2.0, "x") != segment_id("a", 1.0, 2.0, "y")
