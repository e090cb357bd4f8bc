"""`tagreel inspect`: what stands in a shard's files, whether they agree, and the picture."""

import hashlib
import io
import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dataset_builder.build import build
from dataset_builder.inspect_shard import InspectConfig, evenly, inspect, main
from dataset_builder.shard_contents import read_shard
from pipeline import contact_sheet, storage, video
from pipeline.config import ConfigError, StorageConfig
from pipeline.storage import StorageError
from tests.dataset_builder.small_world import build_config, files_in, make_world, write_mp4

NUM_VIDEOS, BROKEN = 9, {"2.mp4": b"", "5.mp4": b"<html>", "6.mp4": b""}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder of a finished dataset with one shard."""
    world, root = make_world(tmp_path_factory.mktemp("world"), NUM_VIDEOS), tmp_path_factory.mktemp("root")
    write_mp4(world / "8.mp4", seed=8, num_frames=90, fps=30, height=64, width=48)
    for name, content in BROKEN.items():
        (world / name).write_bytes(content)
    build(build_config(world, root, storage=StorageConfig(samples_per_shard=100, short_side_px=32)))
    return root / "datasets/d/shards"


@pytest.fixture
def shard(built, tmp_path, monkeypatch):
    """Path, without suffix, of a copy of the shard that a test may damage; the current folder is an empty one."""
    (tmp_path / "shards").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name, content in files_in(built).items():
        (tmp_path / "shards" / name).write_bytes(content)
    return str(tmp_path / "shards/d-000000")


def config(shard, **changes):
    return replace(InspectConfig(shard), **changes)


# ----------------------------------------------------------------------------------------------------- contents


def test_contents_are_those_of_the_index_and_of_the_tar(shard):
    contents = read_shard(shard + ".tar")
    index = {row["key"]: row for row in storage.read_parquet(shard + ".parquet").to_pylist()}
    assert len(contents.samples) == NUM_VIDEOS - len(BROKEN)
    with tarfile.open(shard + ".tar") as tar:
        for sample in contents.samples:
            row = index[sample.key]
            assert (sample.offset, sample.size) == (row["video_offset"], row["video_size"])
            assert (sample.num_frames, sample.width, sample.height) == (row["num_frames"], row["width"], row["height"])
            assert contents.video(sample) == tar.extractfile(f"{sample.key}.mp4").read()
    quarantined = {reason: len(keys) for reason, keys in contents.quarantined.items()}
    assert quarantined == contents.sidecar["quarantined"] == {"empty": 2, "not_a_video": 1}
    assert len(index) == len(contents.samples) + sum(quarantined.values())


def test_the_tar_alone_is_enough(shard, tmp_path, capsys):
    whole = read_shard(shard)
    (tmp_path / "alone.tar").write_bytes(storage.read_bytes(shard + ".tar"))
    alone = inspect(config(str(tmp_path / "alone.tar")))
    assert (alone.samples, alone.sha256, alone.num_bytes) == (whole.samples, whole.sha256, whole.num_bytes)
    assert (alone.sidecar, alone.quarantined) == (None, None)
    text = capsys.readouterr().out
    assert "no index beside it: read through the tar itself" in text
    assert "no sidecar to compare with" in text


def test_a_shard_behind_a_url(shard):
    for name in (".tar", ".json", ".parquet"):
        storage.write_bytes(f"memory://shards/d{name}", storage.read_bytes(shard + name))
    there, here = read_shard("memory://shards/d.tar"), read_shard(shard)
    assert (there.samples, there.sha256, there.quarantined) == (here.samples, here.sha256, here.quarantined)
    assert there.video(there.samples[-1]) == here.video(here.samples[-1])


def test_another_checksum_than_the_sidecars_is_an_error_naming_both(shard):
    data = bytearray(storage.read_bytes(shard + ".tar"))
    stated = read_shard(shard).sha256
    data[600] ^= 1  # inside the first video
    storage.write_bytes(shard + ".tar", bytes(data))
    with pytest.raises(StorageError) as error:
        read_shard(shard)
    found = hashlib.sha256(data).hexdigest()
    assert found in str(error.value)
    assert stated in str(error.value)


def test_an_index_that_leads_elsewhere_is_an_error(shard):
    table = storage.read_parquet(shard + ".parquet")
    offsets = [None if offset is None else offset + 512 for offset in table["video_offset"].to_pylist()]
    storage.write_parquet(shard + ".parquet", table.set_column(1, "video_offset", [offsets]), table.schema)
    with pytest.raises(StorageError, match=r"d-000000\.parquet' and .*d-000000\.tar' disagree"):
        read_shard(shard)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot read '.*x\.tar'"),
        (b"", "not a whole tar"),
        (b"no tar " * 200, "not a whole tar"),
        ("cut", "not a whole tar"),
        ({"notes.txt": b"x"}, "holds 'notes.txt'"),
        ({"a.mp4": b"x"}, "'a' lacks its .mp4 or its .json"),
        ({"a.mp4": b"x", "a.json": b"{}"}, r"a\.json' does not describe a video"),
        ({"a.mp4": b"x", "a.json": b'{"num_frames": 0}'}, r"a\.json' does not describe a video: .* it has no frames"),
        ({"a.mp4": b"x", "a.json": b"\xff"}, r"a\.json' does not describe a video"),
    ],
)
def test_what_is_no_shard_is_named(shard, tmp_path, content, message):
    if content == "cut":
        content = storage.read_bytes(shard + ".tar")[:2000]
    if isinstance(content, dict):
        content = tar_of(content)
    if content is not None:
        (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(StorageError, match=message):
        read_shard(str(tmp_path / "x.tar"))


def tar_of(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------------- the picture


def test_text_and_picture(shard, tmp_path, capsys):
    before = files_in(tmp_path / "shards")
    inspect(config(shard))
    text = capsys.readouterr().out
    assert "attempted: 9 = 6 written + 2 empty + 1 not_a_video" in text
    assert "as its sidecar says" in text
    assert "duration (s): 1 to 3, median 1" in text
    assert "frames per second: 12 to 30, median 12" in text
    assert "labels: 3: burning candle 3, catching a fish 2, surfing 1" in text
    assert files_in(tmp_path / "shards") == before
    assert list(files_in(tmp_path / "here")) == ["d-000000-contact.png"]
    first = storage.read_bytes("d-000000-contact.png")
    inspect(config(shard))
    assert storage.read_bytes("d-000000-contact.png") == first


def test_the_picture_shows_the_frames_of_the_videos(shard):
    contents = inspect(config(shard, output="all.png"))
    sheet = Image.open("all.png").convert("RGB")
    for number, sample in enumerate(contents.samples):
        expected = video.read_clip(contents.video(sample), evenly(4, sample.num_frames)).astype(int)
        width, height = (126, 96) if sample.width > sample.height else (73, 96)  # 42 × 32 or 32 × 42 in 128 × 96
        for i in range(len(expected)):
            x = contact_sheet.MARGIN_PX + number % 3 * (518 + contact_sheet.MARGIN_PX) + i * 130 + (128 - width) // 2
            y = contact_sheet.MARGIN_PX + number // 3 * (96 + 2 * contact_sheet.LINE_PX + 2 + contact_sheet.MARGIN_PX)
            place = sheet.crop((x, y, x + width, y + height)).resize(
                (sample.width, sample.height), Image.Resampling.BOX
            )
            errors = [np.abs(np.asarray(place, int) - other).mean() for other in expected]
            assert np.argmin(errors) == i
            assert errors[i] < 5


def test_one_video_by_key(shard, capsys):
    contents = read_shard(shard)
    longest = max(contents.samples, key=lambda sample: sample.num_frames)
    inspect(config(shard, key=longest.key))
    assert longest.num_frames == 90
    assert Image.open(f"d-000000-{longest.key}.png").size[0] > 8 * 64  # 45 frames, eight a row
    with pytest.raises(ConfigError, match="was quarantined \\(not_a_video\\)"):
        inspect(config(shard, key=contents.quarantined["not_a_video"][0]))
    with pytest.raises(ConfigError, match="is not in it"):
        inspect(config(shard, key="nobody"))


def test_a_video_that_cannot_be_decoded_leaves_its_place_blank(tmp_path, capsys):
    described = {"labels": ["x"], "fps": 5.0, "num_frames": 5, "width": 4, "height": 4, "duration_s": 1.0}
    (tmp_path / "x.tar").write_bytes(tar_of({"a.mp4": b"no video", "a.json": json.dumps(described).encode()}))
    inspect(config(str(tmp_path / "x"), output=str(tmp_path / "x.png")))
    assert "a: decode_error" in capsys.readouterr().out
    assert Image.open(tmp_path / "x.png").size
    with pytest.raises(StorageError, match=r"'a' of .* cannot be decoded: decode_error"):
        inspect(config(str(tmp_path / "x"), key="a"))


def test_a_shard_without_a_stored_video_has_no_picture(tmp_path, capsys):
    (tmp_path / "x.tar").write_bytes(tar_of({}))
    assert inspect(config(str(tmp_path / "x"), output=str(tmp_path / "x.png"))).samples == []
    assert "nothing to show" in capsys.readouterr().out
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("plain x", "plain x"),
        ("燃えるfire", "???fire"),
        ("Ｗｉｄｅ", "Wide"),
        ("a\nb\tc", "a b c"),
        ("\x00\u202e", "??"),
    ],
)
def test_text_is_reduced_to_what_the_font_has(text, drawn):
    assert contact_sheet.drawable(text) == drawn


@pytest.mark.parametrize("text", ["", "燃えるろうそく" * 40, "رقص", "🕯️🔥", "w" * 500, "\ud800"])
def test_any_label_can_be_drawn(text):
    strips = [contact_sheet.Strip(None, (text, text))]
    assert contact_sheet.contact_sheet(strips, columns=3, frames_per_strip=4, frame_px=(32, 24)).startswith(b"\x89PNG")


@pytest.mark.parametrize(("count", "total"), [(4, 1), (4, 4), (4, 5), (4, 90), (24, 1000), (1, 9)])
def test_positions_are_spread_evenly(count, total):
    found = evenly(count, total)
    assert len(set(found)) == len(found) == min(count, total)
    assert found == sorted(found)
    assert [total - 1 - i for i in reversed(found)] == pytest.approx(
        found, abs=1
    )  # as far from one end as from the other


def test_command_line(shard, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([shard, "--num-videos", "2", "--output", "two.png"])
    assert capsys.readouterr().out.endswith("two.png\n")
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "no shard to look into" in capsys.readouterr().err
