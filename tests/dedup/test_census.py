"""Codes by closed form: exact rational area averages, symmetry, and frames whose bits can be told by looking."""

from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest

from dedup import census
from dedup.census import Signature
from pipeline import artifacts


def rational_cells(frame: np.ndarray, cells: int) -> list[list[Fraction]]:
    """Mean grey level of each cell of an n×n grid, exactly: the picture enlarged n times has whole pixels in each cell."""
    height, width = frame.shape
    enlarged = np.repeat(np.repeat(frame.astype(np.int64), cells, 0), cells, 1)
    sums = enlarged.reshape(cells, height, cells, width).sum((1, 3))
    return [[Fraction(int(s), height * width) for s in row] for row in sums]


def expected(frame: np.ndarray, cells: int) -> tuple[int, int]:
    """(code as one integer, reliable bits) of a frame by the definition, in rational numbers."""
    means, code, quality = rational_cells(frame, cells), 0, 0
    for y in range(cells - 2):
        for x in range(cells - 2):
            window = sum(means[y + i][x + j] for i in range(3) for j in range(3)) / 9
            code |= int(means[y + 1][x + 1] > window) << ((cells - 2) * y + x)
            quality += abs(means[y + 1][x + 1] - window) > census.RELIABLE_LEVELS
    return code, quality


def random_frames(num_frames: int, height: int = 112, width: int = 112, seed: int = 0) -> np.ndarray:
    """Blocks of a few px with noise: some cells are far from their window's mean and some are near."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 200, (num_frames, -(-height // 7), -(-width // 7)))
    return (
        blocks.repeat(7, 1).repeat(7, 2)[:, :height, :width] + rng.integers(0, 56, (num_frames, height, width))
    ).astype(np.uint8)


def as_integer(words: np.ndarray) -> int:
    return sum(int(word) << 64 * i for i, word in enumerate(words))


def test_codes_and_quality_are_the_rational_definition():
    frames = random_frames(4)
    found = census.signature(frames)
    for t, frame in enumerate(frames):
        code, quality = expected(frame, 10)
        assert (int(found.codes64[t]), int(found.quality[t])) == (code, quality)
        assert as_integer(found.codes256[t]) == expected(frame, 18)[0]


@pytest.mark.parametrize("size", [(97, 112), (31, 53), (360, 480)])
def test_frames_of_any_size_are_coded_exactly(size):
    frames = random_frames(2, *size)
    assert [int(code) for code in census.frame_codes(frames)] == [expected(frame, 10)[0] for frame in frames]


def test_a_difference_of_one_level_in_one_pixel_is_seen():
    frame = np.full((1, 112, 112), 100, np.uint8)
    frame[0, 62, 62] = 101  # inside cell row 5, column 5 of ten: bit 8 * 4 + 4
    assert census.frame_codes(frame)[0] == 1 << 36


@pytest.mark.parametrize(("y", "x"), [(0, 0), (0, 7), (3, 5), (7, 0), (7, 7)])
def test_bit_8y_plus_x_is_the_cell_in_row_y_column_x(y, x):
    frame = np.zeros((1, 100, 100), np.uint8)
    frame[0, 10 * (y + 1) : 10 * (y + 2), 10 * (x + 1) : 10 * (x + 2)] = 200
    assert census.frame_codes(frame)[0] == np.uint64(1) << np.uint64(8 * y + x)


def test_grey_rgb_has_the_codes_of_its_luma():
    frames = random_frames(3)
    assert (census.frame_codes(np.repeat(frames[..., None], 3, 3)) == census.frame_codes(frames)).all()


def test_mirror_and_flip_of_codes_are_those_of_frames():
    frames = random_frames(5)
    plain, mirror, flip = (census.signature(f) for f in (frames, frames[:, :, ::-1], frames[:, ::-1]))
    assert (census.mirrored(plain.codes64) == mirror.codes64).all()
    assert (census.flipped(plain.codes64) == flip.codes64).all()
    assert (census.mirrored256(plain.codes256) == mirror.codes256).all()
    assert (census.flipped256(plain.codes256) == flip.codes256).all()
    assert (mirror.codes64 != plain.codes64).any()


def test_frames_without_content_have_no_reliable_bit():
    noise = np.random.default_rng(0).normal(0, 3, (112, 112))
    frames = {
        "black": np.zeros((112, 112)),
        "white": np.full((112, 112), 255),
        "grey": np.full((112, 112), 77),
        "noisy black": np.clip(noise, 0, 255),
        "ramp": np.linspace(0, 255, 112)[None].repeat(112, 0),
    }
    for name, frame in frames.items():
        assert census.signature(frame.astype(np.uint8)[None]).quality[0] == 0, name
    assert census.informative(census.signature(random_frames(1)).quality).all()


def test_a_long_video_is_the_sum_of_its_frames():
    frames = random_frames(census.CHUNK_FRAMES + 3)
    one_by_one = np.concatenate([census.frame_codes(frame[None]) for frame in frames])
    assert (census.signature(frames).codes64 == one_by_one).all()
    assert len(census.frame_codes(frames[:0])) == 0


@pytest.mark.parametrize("bars", [(13, 13, 0, 0), (0, 0, 20, 20), (3, 3, 5, 5), (12, 12, 20, 20)])
@pytest.mark.parametrize("level", [16, 140])
def test_static_bars_are_trimmed_before_coding(bars, level):
    top, bottom, left, right = bars
    picture = random_frames(4, 112 - top - bottom, 112 - left - right)
    padded = np.pad(picture, ((0, 0), (top, bottom), (left, right)), constant_values=level)
    noisy = np.clip(
        padded.astype(int) + np.random.default_rng(1).integers(-2, 3, padded.shape) * (padded == level), 0, 255
    )
    for frames in (padded, noisy.astype(np.uint8)):
        found = census.signature(frames)
        assert found.bars == bars
        assert (found.codes64 == census.frame_codes(picture)).all()


def test_a_logo_in_one_bar_hides_no_bar():
    frames = np.pad(random_frames(3, 84, 112), ((0, 0), (14, 14), (0, 0)))
    frames[:, 5:10, 80:100] = 255
    assert census.find_bars(frames) == (14, 14, 0, 0)


def test_bars_of_a_crop_differ_in_length():
    assert census.find_bars(framed(4, 13)) == (4, 13, 0, 0)
    assert census.find_bars(framed(13, 4)) == (13, 4, 0, 0)
    assert census.find_bars(framed(11, 13)) == (13, 13, 0, 0)  # rather one bar cut short


@pytest.mark.parametrize("level", [16, 250])
def test_text_in_both_bars_hides_neither(level):
    frames = np.pad(random_frames(3, 72, 112), ((0, 0), (20, 20), (0, 0)), constant_values=level)
    frames[:, 4:10, 30:80] = frames[:, 102:108, 30:80] = 128
    assert census.find_bars(frames) == (20, 20, 0, 0)
    assert (census.signature(frames).codes64 == census.frame_codes(frames[:, 20:92])).all()
    frames[:, 4:17, 30:80] = 128  # higher than text is: the bar ends where it begins
    frames[:, 95:108, 30:80] = 128
    assert census.find_bars(frames) == (4, 4, 0, 0)


def framed(top: int, bottom: int, num_frames: int = 3) -> np.ndarray:
    return np.pad(random_frames(num_frames, 112 - top - bottom, 112), ((0, 0), (top, bottom), (0, 0)))


def test_what_is_no_bar_stays():
    assert census.find_bars(framed(3, 3)) == (3, 3, 0, 0)
    assert census.find_bars(framed(2, 2)) == (0, 0, 0, 0)
    assert census.find_bars(framed(0, 20)) == (0, 0, 0, 0)
    flat = np.full((3, 112, 112), 90, np.uint8)
    flat[:, 30:80, 20:50] = random_frames(3, 50, 30)  # something on a flat background
    assert census.find_bars(flat) == (0, 0, 0, 0)
    near = framed(3, 3)
    near[:, 2, ::4] = 13  # one grey level more than a bar may have, in more pixels than may be odd
    assert census.find_bars(near) == (0, 0, 0, 0)
    now_and_then = framed(13, 13)
    now_and_then[1] = random_frames(1)[0]
    assert census.find_bars(now_and_then) == (0, 0, 0, 0)
    assert census.find_bars(np.zeros((3, 112, 112), np.uint8)) == (0, 0, 0, 0)


def test_parts_of_a_target_are_coded_as_copies_that_show_only_these():
    frames = random_frames(census.CROP_EVERY + 1)
    found = census.target_signature(frames)
    assert (found.codes64 == census.signature(frames).codes64).all()
    assert len(found.crops) == 9
    for crop in found.crops:
        top, bottom, left, right = crop.bars
        shown = frames[:: census.CROP_EVERY, top : 112 - bottom, left : 112 - right]
        assert shown.shape == (2, 100, 100)
        assert (crop.codes64 == census.frame_codes(shown)).all()
        assert [as_integer(code) for code in crop.codes256] == [expected(frame, 18)[0] for frame in shown]


def test_parts_of_a_target_lie_alike_on_all_sides():
    """So that a crop is found from whichever side it is taken, and mirrored."""
    parts = {crop.bars for crop in census.target_signature(random_frames(1)).crops}
    assert parts == {(top, bottom, right, left) for top, bottom, left, right in parts}
    assert parts == {(bottom, top, left, right) for top, bottom, left, right in parts}
    assert parts == {(left, right, top, bottom) for top, bottom, left, right in parts}


def test_parts_of_a_target_with_bars_are_without_them_and_copies_may_keep_some():
    found = census.target_signature(framed(8, 8))
    assert found.bars == (8, 8, 0, 0)
    rows = {(max(8, top), max(8, bottom)) for top, bottom in ((1, 11), (6, 6), (11, 1))}
    columns = {(1, 11), (6, 6), (11, 1)}
    assert [crop.bars for crop in found.crops[:2]] == [(0, 0, 0, 0), (5, 5, 0, 0)]
    wanted = {(*r, *c) for r in rows | columns for c in columns}
    assert sorted(crop.bars for crop in found.crops[2:]) == sorted(wanted)
    narrow = census.target_signature(np.pad(random_frames(2, 72, 72), ((0, 0), (20, 20), (20, 20))))
    assert [crop.bars for crop in narrow.crops[:2]] == [(0, 0, 0, 0), (17, 17, 17, 17)]
    assert len(narrow.crops) == 2 + 9  # parts within the bars would be the picture itself


def test_signatures_survive_the_table():
    signatures = {"a": census.signature(random_frames(5)), "ß/b": census.target_signature(random_frames(9, seed=1))}
    rows = [census.signature_row(video_id, signature) for video_id, signature in signatures.items()]
    found = census.read_signatures(pa.Table.from_pylist(rows, artifacts.SIGNATURES))
    assert list(found) == list(signatures)
    for video_id, signature in signatures.items():
        assert (found[video_id].codes64 == signature.codes64).all()
        assert (found[video_id].codes256 == signature.codes256).all()
        assert (found[video_id].quality == signature.quality).all()
        assert found[video_id].bars == signature.bars
        assert len(found[video_id].crops) == len(signature.crops)
        for crop, wanted in zip(found[video_id].crops, signature.crops, strict=True):
            assert (crop.codes64 == wanted.codes64).all()
            assert (crop.codes256 == wanted.codes256).all()
            assert (crop.quality == wanted.quality).all()
            assert crop.bars == wanted.bars


def test_only_targets_have_a_column_of_crops_and_tables_without_it_are_read():
    rows = [census.signature_row(name, census.signature(random_frames(3))) for name in "ab"]
    table = pa.Table.from_pylist(rows, artifacts.SIGNATURES)
    assert table["crops"].null_count == 2
    found = census.read_signatures(table.drop_columns("crops"))
    assert [signature.crops for signature in found.values()] == [(), ()]


def test_tables_are_little_endian():
    one = Signature(
        np.array([1], np.uint64), np.array([9], np.uint8), np.array([[2, 0, 0, 0]], np.uint64), (0, 0, 0, 0)
    )
    row = census.signature_row("a", one)
    assert (row["codes64"], row["codes256"]) == (b"\1" + bytes(7), b"\2" + bytes(31))


def test_a_damaged_row_is_named():
    row = census.signature_row("video-7", census.target_signature(random_frames(3)))
    crops = [row["crops"][0] | {"codes64": b""}, *row["crops"][1:]]
    for damaged in (row | {"quality": b"\0"}, row | {"crops": crops}):
        with pytest.raises(ValueError, match="video-7"):
            census.read_signatures(pa.Table.from_pylist([damaged], artifacts.SIGNATURES))
