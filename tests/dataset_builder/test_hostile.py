"""Bombs, corrupted files and hostile names: one quarantine row each, and nothing else is touched."""

import io
import json
import random
import struct
import subprocess
import tarfile
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset

from dataset_builder.decoder import Decoder
from dataset_builder.shard import write_shard
from dataset_builder.transcode import Request
from pipeline import video
from pipeline.config import StorageConfig
from pipeline.upload import Upload
from pipeline.video import VideoError
from tests.dataset_builder.small_world import LABEL_NAMES, make_job, write_mp4

BOMB_MEMORY_MB, BOMB_TIME_S = 512, 60.0


# ------------------------------------------------------------------------------------------------------- bombs


def black(width: int, height: int, times: list[int], rate: Fraction, container: str = "mp4") -> bytes:
    """Black frames at the given times (in frames)."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream = out.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"preset": "ultrafast", "crf": "51", "g": "250"}
        frame = av.VideoFrame.from_ndarray(np.full((height * 3 // 2, width), 16, np.uint8), format="yuv420p")
        for time in times:
            frame.pts, frame.time_base = time, 1 / rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", len(body) + 8) + kind + body


def with_samples(data: bytes, count: int) -> bytes:
    """An MP4 whose first table of sample sizes claims `count` samples, all of one size (20 bytes, whatever the count)."""
    at = data.index(b"stsz") - 4
    (old,) = struct.unpack(">I", data[at : at + 4])
    table = box(b"stsz", struct.pack(">III", 0, 1, count))
    return data[:at] + table + box(b"free", bytes(old - len(table) - 8)) + data[at + old :]


def large_moov() -> bytes:
    """100 MB of index."""
    return box(b"ftyp", b"isom\0\0\2\0isom") + box(b"moov", box(b"udta", bytes(100 << 20)))


def many_streams() -> bytes:
    """An AVI whose header announces 1,000 streams."""
    stream_header = (
        b"strh" + struct.pack("<I", 56) + b"vidsMJPG" + struct.pack("<12I", *[0] * 4, 1, 25, 0, 100, *[0] * 4)
    )
    picture = b"strf" + struct.pack("<I", 40) + struct.pack("<IiiHH", 40, 64, 48, 1, 24) + b"MJPG" + bytes(20)
    stream = b"LIST" + struct.pack("<I", 4 + len(stream_header) + len(picture)) + b"strl" + stream_header + picture
    main = b"avih" + struct.pack("<I", 56) + struct.pack("<14I", 40000, 0, 0, 0, 100, 0, 1000, 0, 64, 48, 0, 0, 0, 0)
    header = b"LIST" + struct.pack("<I", 4 + len(main) + 1000 * len(stream)) + b"hdrl" + main + 1000 * stream
    body = b"AVI " + header + b"LIST" + struct.pack("<I", 4) + b"movi"
    return b"RIFF" + struct.pack("<I", len(body)) + body


BOMBS = {
    "8192x8192": (lambda: black(8192, 8192, [0], Fraction(10)), {"too_large"}),
    "ten hours of black": (lambda: black(64, 64, list(range(3600)), Fraction(1, 10)), {"too_long"}),
    "ten hours of black, matroska": (
        lambda: black(64, 64, list(range(360)), Fraction(1, 100), "matroska"),
        {"too_long"},
    ),
    "ten hours in two frames": (lambda: black(64, 64, [0, 36000 * 10], Fraction(10)), {"too_long"}),
    "30,000 frames a second": (lambda: black(16, 16, list(range(60_000)), Fraction(30_000)), {"too_many_frames"}),
    "two thousand million samples": (
        lambda: with_samples(black(64, 64, list(range(20)), Fraction(10)), 2_000_000_000),
        {"not_a_video", "too_many_frames", "decode_error", "no_frames", "out_of_memory"},
    ),
    "moov of 100 MB": (large_moov, {"not_a_video", "no_video_stream", "out_of_memory"}),
    "1,000 streams": (many_streams, {"too_many_streams", "out_of_memory"}),  # FFmpeg calls its limit a lack of memory
}


@pytest.fixture(scope="module")
def guarded():
    child = Decoder(timeout_s=BOMB_TIME_S, memory_mb=BOMB_MEMORY_MB)
    yield child
    child.close()


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_little_memory_and_time(name, guarded):
    make, reasons = BOMBS[name]
    with pytest.raises(VideoError) as error:
        guarded.decode(make(), Request("id", StorageConfig()))
    assert error.value.reason in reasons
    if guarded.process_id is not None:
        status = Path(f"/proc/{guarded.process_id}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        assert int(peak.split()[1]) < BOMB_MEMORY_MB << 10


# -------------------------------------------------------------------------------------------------------- fuzz


def corrupt(data: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """A copy of a file, broken in one of the ways that files break."""
    broken, size = bytearray(data), len(data)
    kind = draw.choice(("cut", "flip", "flips", "splice", "zero", "page", "empty", "swap", "header", "repeat"))
    at, end = sorted(draw.randrange(size) for _ in range(2))
    if kind == "cut":
        del broken[at:]
    elif kind in ("flip", "flips", "header"):
        for _ in range({"flip": 1, "flips": 200, "header": 20}[kind]):
            place = draw.randrange(min(size, 2000) if kind == "header" else size)
            broken[place] ^= 1 << draw.randrange(8)
    elif kind == "splice":
        broken[at:end] = draw.choice(others)[at:end]
    elif kind == "zero":
        broken[at:end] = bytes(end - at)
    elif kind == "page":
        broken = bytearray(b"<!DOCTYPE html><title>404</title>" * 30)
    elif kind == "empty":
        broken.clear()
    elif kind == "swap":
        broken[at : at + 500], broken[end : end + 500] = broken[end : end + 500], broken[at : at + 500]
    else:
        broken[at:at] = broken[at:end]
    return bytes(broken)


@pytest.mark.parametrize("count", [60, pytest.param(300, marks=pytest.mark.slow)])
def test_corrupted_copies_are_stored_or_quarantined_and_change_no_other(shared_data, tmp_path, count):
    """Files of every real container; after each ten broken ones stands a whole one, whose bytes must stay the same."""
    paths = [p for p in sorted((shared_data / "clips").rglob("*.*")) if 1000 < p.stat().st_size < 150_000]
    whole = [path.read_bytes() for path in paths]
    assert len(whole) >= 10
    draw = random.Random(count)
    uris = []
    for i in range(count):
        extension = draw.choice((".mp4", ".avi", ".webm", ".jpg", ""))  # the name says nothing
        uris.append(str(tmp_path / f"{i}{extension}"))
        Path(uris[-1]).write_bytes(corrupt(draw.choice(whole), whole, draw))
        if i % 10 == 9:
            write_mp4(tmp_path / f"whole{i}.mp4", seed=i)
            uris.append(str(tmp_path / f"whole{i}.mp4"))
    config = StorageConfig(short_side_px=32, max_fps=5)
    job = make_job(tmp_path / "d", uris, config)
    sidecar = write_shard(0, job)
    rows = pq.read_table(job.files.shard(0) + ".parquet").to_pylist()
    assert len(rows) == len(uris) == sidecar["written"] + sum(sidecar["quarantined"].values())
    assert all((row["reason"] is None) == (row["status"] == "ok") for row in rows)
    reasons = Counter(row["reason"] for row in rows)
    print(dict(reasons))
    assert sum(reasons.values()) - reasons[None] > count // 5
    calm = make_job(tmp_path / "calm", [uri for uri in uris if "whole" in uri], config)
    write_shard(0, calm)
    assert stored(calm).items() <= stored(job).items()


def stored(job) -> dict[str, bytes]:
    """mp4 by key."""
    tar = Path(job.files.shard(0) + ".tar").read_bytes()
    rows = pq.read_table(job.files.shard(0) + ".parquet").to_pylist()
    return {r["key"]: tar[r["video_offset"] : r["video_offset"] + r["video_size"]] for r in rows if r["status"] == "ok"}


def test_sound_without_pictures_is_no_video():
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        out.mux([*stream.encode(silence), *stream.encode(None)])
    with pytest.raises(VideoError, match="no_video_stream"):
        Upload(buffer.getvalue())


# ------------------------------------------------------------------------------------------------------- names

NAMES = [
    "with space.mp4",
    "line\nbreak.mp4",
    "return\r.mp4",
    "tab\t.mp4",
    'quote".mp4',
    "apostrophe'.mp4",
    "back\\slash.mp4",
    "bidi\u202egpj.mp4",
    "zero\u200bwidth.mp4",
    "emoji😀.mp4",
    "combining e\u0301.mp4",
    "composed \u00e9.mp4",
    "percent%2e%2e.mp4",
    "semi;colon && rm -rf.mp4",
    "$(touch pwned).mp4",
    "-rf.mp4",
    "..mp4",
    "dots.in.the.name.mp4",
    "=HYPERLINK().mp4",
    "<script>alert(1)</script>.mp4".replace("/", "\u2215"),
    "x" * 240 + ".mp4",
    "control\x1b[31m.mp4",
    "no extension",
    "UPPER.MP4",
    "null-like\u2400.mp4",
]
HOSTILE_LABELS = ["<script>alert('x')</script>", 'a "quoted"\nlabel\u202e </title>']


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A shard of videos with hostile names, and of URIs that lead out of every folder; returns (folder, job, URIs)."""
    folder = tmp_path_factory.mktemp("names")
    uris = []
    for i, name in enumerate(NAMES):
        write_mp4(folder / name, seed=i, num_frames=3)
        uris.append(str(folder / name))
    (folder / "sub").mkdir()
    uris.append(f"{folder}/sub/../{NAMES[0]}")
    job = make_job(folder / "d", [*uris, "../../../../etc/passwd", "/" + "deep/" * 2000, "nul\0.mp4"])
    job.label_names[:] = HOSTILE_LABELS
    write_shard(0, job)
    job.label_names[:] = LABEL_NAMES
    return folder, job, uris


def test_hostile_names_are_data_and_never_paths(named):
    folder, job, uris = named
    rows = pq.read_table(job.files.shard(0) + ".parquet").to_pylist()
    assert sum(row["status"] == "ok" for row in rows) == len(uris)
    assert len({row["key"] for row in rows}) == len(rows) == len(uris) + 3
    assert all(row["key"].isalnum() and row["key"].isascii() for row in rows)
    assert not list(folder.rglob("pwned"))


def test_every_reader_finds_the_same_members(named, tmp_path):
    _, job, uris = named
    path = job.files.shard(0) + ".tar"
    with tarfile.open(path) as tar:
        names = tar.getnames()
    assert subprocess.run(["tar", "-tf", path], capture_output=True, text=True, check=True).stdout.split() == names
    assert all("/" not in name and ".." not in name for name in names)
    samples = list(webdataset.WebDataset(path, shardshuffle=False))
    assert len(samples) == len(uris) == len(names) // 2
    for sample in samples:
        described = json.loads(sample["json"])
        assert described["id"] == sample["__key__"]
        assert set(described["labels"]) <= set(HOSTILE_LABELS)
        assert described["labels"] == [HOSTILE_LABELS[i] for i in described["label_ids"]]
        assert len(video.read_video(sample["mp4"])) == described["num_frames"]
