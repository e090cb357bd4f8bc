"""Stored bytes are those that were written, or the reader says which sample is damaged."""

import dataclasses
import os
import shutil

import numpy as np
import pytest

from pipeline import artifacts, members, storage
from pipeline.config import ClipConfig, ConfigError, PretrainConfig
from pipeline.video import Window
from pretrain.reading import FrameReader, open_reader
from pretrain.samples import SampleError, Samples, open_samples

CLIP = ClipConfig(length=4, stride=2, size_hw=(36, 40), crop_px=32)
FLIPS, SWAPS = 1000, 100


@pytest.fixture
def samples(root, tmp_path) -> Samples:
    """Of a copy whose shards a test may damage."""
    shutil.copytree(root / "datasets" / "tiny", tmp_path / "datasets" / "tiny")
    return open_samples(artifacts.dataset_files(str(tmp_path), "tiny"), "build it")


def place(samples: Samples, sample: int) -> tuple[str, int, int]:
    """Tar, offset and size of a sample's bytes."""
    at = samples.columns
    return samples.shards[at["shard"][sample]], int(at["video_offset"][sample]), int(at["video_size"][sample])


def overwrite(path: str, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def assert_detected(samples: Samples, sample: int) -> None:
    named = rf"sample '{samples.key(sample)}' of shard '.*{os.path.basename(place(samples, sample)[0])}'.*CRC-32"
    with pytest.raises(SampleError, match=named):
        FrameReader(samples, CLIP).read(sample, [0])


def test_every_flipped_bit_is_detected(samples):
    rng = np.random.default_rng(0)
    for sample in rng.integers(0, len(samples), FLIPS).tolist():
        path, offset, size = place(samples, sample)
        bit = int(rng.integers(0, 8 * size))
        (byte,) = storage.read_range(path, offset + bit // 8, 1)
        overwrite(path, offset + bit // 8, bytes([byte ^ 1 << bit % 8]))
        assert_detected(samples, sample)
        overwrite(path, offset + bit // 8, bytes([byte]))
    for sample in range(len(samples)):
        FrameReader(samples, CLIP).read(sample, [0])


def test_every_swap_of_two_samples_is_detected_in_both(samples):
    rng = np.random.default_rng(1)
    originals = [samples.read(sample) for sample in range(len(samples))]
    for _ in range(SWAPS):
        pair = rng.choice(len(samples), 2, replace=False).tolist()
        for sample, other in (pair, pair[::-1]):
            path, offset, size = place(samples, sample)
            overwrite(path, offset, originals[other][:size].ljust(size, b"\0"))
        for sample in pair:
            assert_detected(samples, sample)
            path, offset, _ = place(samples, sample)
            overwrite(path, offset, originals[sample])


def test_the_share_of_checked_reads_is_drawn_by_position(samples, monkeypatch):
    checked = []
    monkeypatch.setattr(members, "check", lambda data, expected: checked.append(expected is not None))
    positions = range(1000)
    for _ in range(2):
        reader = FrameReader(samples, CLIP, verify_share=0.25)
        for position in positions:
            reader._bytes(position % 5, position)
    assert checked[:1000] == checked[1000:]
    assert abs(sum(checked[:1000]) - 250) < 4 * (1000 * 0.25 * 0.75) ** 0.5
    assert {position % 5 for position in positions if checked[position]} == set(range(5))
    checked.clear()
    reader._bytes(0, None)  # not of training: always
    assert checked == [True]


def test_an_index_without_checksums_is_read_unchecked_and_said_so_once(samples, capsys):
    for shard in samples.shards:
        path = shard.removesuffix(".tar") + ".parquet"
        storage.write_parquet(path, storage.read_parquet(path).drop_columns(["video_crc32"]))
    files = artifacts.DatasetFiles(os.path.dirname(os.path.dirname(samples.shards[0])), "tiny")
    old = open_samples(files, "build it")
    assert capsys.readouterr().out.count("23 of 23 videos have no checksum") == 1
    path, offset, _ = place(old, 3)
    overwrite(path, offset + 4, b"x")  # of the name of a box that no decoder needs
    assert FrameReader(old, CLIP).read(3, [0]).shape == (1, 36, 40, 3)
    assert_detected(samples, 3)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "wrong", [{"verify_share": 1.5}, {"shard_cache": "s3://b/c"}, {"shard_cache": "c", "shard_cache_gb": 0.0}]
)
def test_a_reader_that_cannot_be_is_refused(samples, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        open_reader(samples, PretrainConfig(**wrong))


def test_training_reads_a_remote_dataset_through_copies_of_its_shards(samples, tmp_path):
    """The same clips as from the local one, and not one byte of the remote tars once all are copied."""
    for path in (tmp_path / "datasets").rglob("*"):
        if path.is_file():
            storage.write_bytes(f"memory://far/{path.relative_to(tmp_path)}", path.read_bytes())
    config = PretrainConfig(clip=CLIP, shard_cache=str(tmp_path / "cache"))
    there = open_samples(artifacts.dataset_files("memory://far", "tiny"), "build it", config.shard_cache)
    local, remote = FrameReader(samples, CLIP), open_reader(there, config)
    for sample in range(len(samples)):
        assert np.array_equal(remote.read(sample, [0, 3]), local.read(sample, [0, 3]))
    storage.remove("memory://far")
    for sample in range(len(samples)):
        assert np.array_equal(remote.read(sample, [1, 2]), local.read(sample, [1, 2]))


@pytest.mark.parametrize(("size_hw", "cache_mb"), [((36, 40), 0), ((36, 40), 64), ((35, 41), 0)])
def test_a_window_is_a_part_of_the_whole_frames(samples, size_hw, cache_mb):
    reader = FrameReader(samples, dataclasses.replace(CLIP, size_hw=size_hw), cache_mb)
    whole = reader.read(2, [4, 1, 4])
    assert whole.shape == (3, *size_hw, 3)
    out = np.zeros((3, 20, 21, 3), np.uint8)
    assert reader.read(2, [4, 1, 4], Window(3, 5, 20, 21), out) is out
    assert np.array_equal(out, whole[:, 3:23, 5:26])
