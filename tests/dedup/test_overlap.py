"""Overlap of videos against its definition, frame by frame."""

from dataclasses import replace

import numpy as np
import pytest

from dedup import census, overlap
from dedup.census import Signature
from dedup.lsh import CodeIndex
from dedup.overlap import FLIPPED, MIRRORED, PLAIN
from tests.dedup.small_world import coded

A, B, C, D = 0x0123456789ABCDEF, 0xF0F0F0F00F0F0F0F, 0x13579BDF02468ACE, 0xFFFF0000FF00FF00  # far from one another


def compare(source, target, radius=7, view=PLAIN, fine=None, crops=False) -> overlap.Pairs:
    s, t = overlap.gather(source), overlap.gather(target, crops=crops)
    return overlap.compare(s, t, CodeIndex(t.codes, radius, "numpy"), view, fine)


def by_definition(source: Signature, target: Signature, radius: int, fine: int | None) -> dict | None:
    """The numbers of one pair of videos by comparing all frames with all frames."""
    near = np.bitwise_count(source.codes64[:, None] ^ target.codes64[None]).astype(int)
    match = near <= radius
    if fine is not None:
        match &= np.bitwise_count(source.codes256[:, None] ^ target.codes256[None]).sum(2) <= fine
    match &= census.informative(source.quality)[:, None] & census.informative(target.quality)[None]
    if not match.any():
        return None
    rows, columns = np.flatnonzero(match.any(1)), np.flatnonzero(match.any(0))
    return {
        "matched": len(rows),
        "span": [rows[0] / 16, (rows[-1] + 1) / 16],
        "target_matched": len(columns),
        "target_span": [columns[0] / 16, (columns[-1] + 1) / 16],
        "min_distance": near[match].min(),
    }


def test_an_overlap_that_can_be_counted_by_hand():
    # Frames 1 to 4 of the source are the target's; A ^ 1 is one bit off; the last two are black.
    source, target = coded([C, A, A ^ 1, B, B, C], invalid=2), coded([D, A, B, D])
    pairs = compare([source], [target])
    assert (pairs.source.tolist(), pairs.target.tolist()) == ([0], [0])
    assert pairs.matched.tolist() == [4]
    assert pairs.target_matched.tolist() == [2]
    assert pairs.span.tolist() == [[1 / 16, 5 / 16]]
    assert pairs.target_span.tolist() == [[1 / 16, 3 / 16]]
    assert pairs.min_distance.tolist() == [0]
    assert pairs.best_s.tolist() == [[1 / 16, 1 / 16]]
    frames = overlap.gather([source])
    assert (frames.num_frames.tolist(), frames.num_valid.tolist()) == ([8], [6])


def with_crops(whole: list[int], *crops: list[int]) -> Signature:
    return replace(coded(whole), crops=tuple(map(coded, crops)))


def test_an_overlap_with_a_part_of_the_target_counted_by_hand():
    # 20 frames, of which a part is coded at frames 0, 8 and 16: those stand for 8, 8 and 4 frames.
    target = with_crops([D] * 20, [A, B, C])
    source = coded([B, B, D, C], invalid=1)
    pairs = compare([source], [target], crops=True)
    assert pairs.matched.tolist() == [4]
    assert pairs.target_matched.tolist() == [20]  # the whole picture's code D; parts are frames of the same video
    assert pairs.target_span.tolist() == [[0, 20 / 16]]
    assert pairs.best_s.tolist() == [[0, 8 / 16]]
    only_parts = compare([coded([B, C, C])], [target], crops=True)
    assert only_parts.matched.tolist() == [3]
    assert only_parts.target_matched.tolist() == [12]
    assert only_parts.target_span.tolist() == [[8 / 16, 20 / 16]]
    assert compare([coded([B, C, C])], [target]).matched.tolist() == []
    assert overlap.gather([target], crops=True).num_frames.tolist() == [20]


def test_frames_that_occur_in_several_parts_are_counted_once():
    target = with_crops([A] * 8 + [D] * 8, [A, B], [A, A], [C, C])
    pairs = compare([coded([A] * 3), coded([A, B]), coded([C])], [target, with_crops([B] * 16, [C, C])], crops=True)
    found = dict(zip(zip(pairs.source.tolist(), pairs.target.tolist(), strict=True), pairs.target_matched, strict=True))
    assert found == {(0, 0): 16, (1, 0): 16, (1, 1): 16, (2, 0): 16, (2, 1): 16}
    assert overlap.gather([target], crops=True).num_valid.tolist() == [16]


def test_a_target_of_which_only_a_part_is_informative_is_no_blind_one():
    target = replace(coded([], invalid=10), crops=(coded([A, B]),))
    assert overlap.gather([target]).num_valid.tolist() == [0]
    frames = overlap.gather([target], crops=True)
    assert frames.num_valid.tolist() == [10]
    assert compare([coded([A])], [target], crops=True).target_matched.tolist() == [8]


@pytest.mark.parametrize("fine", [None, 20])
@pytest.mark.parametrize("chunk", [1, 50, overlap.CHUNK_PAIRS])
def test_any_videos_as_defined(monkeypatch, fine, chunk):
    monkeypatch.setattr(overlap, "CHUNK_PAIRS", chunk)
    rng = np.random.default_rng(chunk)

    def some_video() -> Signature:
        """Few scenes, so that frames repeat within and between videos; bits change a little; some frames are black."""
        length = int(rng.integers(1, 9))
        codes = np.array([A, B, C, D], np.uint64)[rng.integers(0, 4, length)] ^ rng.integers(0, 64, length).astype(
            np.uint64
        )
        fine = np.repeat(codes[:, None], 4, 1) ^ rng.integers(0, 256, (length, 4)).astype(np.uint64)
        return Signature(codes, rng.choice([0, 64], length, p=[0.2, 0.8]).astype(np.uint8), fine, (0, 0, 0, 0))

    source, target = [some_video() for _ in range(12)], [some_video() for _ in range(9)]
    pairs = compare(source, target, 3, fine=fine)
    found = {
        (int(s), int(t)): {
            "matched": pairs.matched[i],
            "span": pairs.span[i].tolist(),
            "target_matched": pairs.target_matched[i],
            "target_span": pairs.target_span[i].tolist(),
            "min_distance": pairs.min_distance[i],
        }
        for i, (s, t) in enumerate(zip(pairs.source, pairs.target, strict=True))
    }
    wanted = {(s, t): by_definition(source[s], target[t], 3, fine) for s in range(12) for t in range(9)}
    assert found == {pair: numbers for pair, numbers in wanted.items() if numbers}
    assert 20 < len(found) < 108  # neither everything nor nothing overlaps


def test_the_second_look_allows_exactly_its_distance():
    def with_fine(bits: int) -> Signature:
        words = [(1 << 32) - 1 if i < bits // 32 else (1 << bits % 32) - 1 if i == bits // 32 else 0 for i in range(4)]
        return Signature(np.array([A], np.uint64), np.array([64], np.uint8), np.array([words], np.uint64), (0, 0, 0, 0))

    assert len(compare([with_fine(64)], [with_fine(0)], fine=64).matched) == 1
    assert len(compare([with_fine(65)], [with_fine(0)], fine=64).matched) == 0
    assert len(compare([with_fine(65)], [with_fine(0)], fine=None).matched) == 1


@pytest.mark.parametrize(("view", "turn"), [(MIRRORED, np.s_[:, :, ::-1]), (FLIPPED, np.s_[:, ::-1])])
def test_turned_copies_match_in_their_view_only(view, turn):
    frames = np.random.default_rng(0).integers(0, 256, (6, 14, 14), np.uint8).repeat(8, 1).repeat(8, 2)
    source, target = census.signature(frames[turn]), census.signature(frames)
    assert compare([source], [target], 7, view, 64).matched.tolist() == [6]
    assert compare([source], [target], 7, PLAIN, 64).matched.tolist() == []


def test_videos_that_match_a_code_are_counted_once():
    target = coded([A, B])
    pairs = compare([coded([A, A, A ^ 3]), coded([A, B]), coded([C])], [target, coded([A])])
    codes = overlap.gather([target]).codes[pairs.code]
    assert dict(zip(codes.tolist(), pairs.code_videos.tolist(), strict=True)) == {A: 2, B: 1}


def test_nothing_to_compare():
    nothing = compare([], [coded([A])])
    assert len(nothing.matched) == len(nothing.code) == 0
    assert len(compare([coded([A])], []).matched) == 0
    assert len(compare([coded([], invalid=3)], [coded([A])]).matched) == 0


@pytest.mark.parametrize(
    ("matched", "valid", "is_overlap"),
    [(8, 80, True), (7, 70, False), (8, 81, False), (16, 160, True), (15, 160, False), (5, 5, True), (4, 5, False)],
)
def test_rule(matched, valid, is_overlap):
    """A tenth of the valid frames, and 8 of them or all."""
    assert overlap.is_overlap(np.array([matched]), np.array([valid]), 0.1, 8).tolist() == [is_overlap]
