"""How the work is cut up and put together."""

from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup import overlap, search
from dedup.census import CROP_EVERY, Signature
from pipeline.artifacts import DatasetFiles


def some_video(rng: np.random.Generator) -> Signature:
    """Few codes, so that they repeat within and between videos; some frames are not informative."""
    length = int(rng.integers(0, 12))
    return replace(_codes(rng, length), crops=tuple(_codes(rng, -(-length // CROP_EVERY)) for _ in range(2)))


def _codes(rng: np.random.Generator, length: int) -> Signature:
    codes, fine = (rng.integers(0, 5, shape).astype(np.uint64) for shape in (length, (length, 4)))
    return Signature(codes, rng.choice([0, 64], length).astype(np.uint8), fine // 2, (0, 0, 0, 0))


@given(st.integers(0, 2**32), st.lists(st.integers(0, 20), max_size=3))
def test_frames_gathered_apart_and_merged_are_those_gathered_together(seed, cuts):
    rng = np.random.default_rng(seed)
    videos = [some_video(rng) for _ in range(20)]
    edges = [0, *sorted(cuts), 20]
    apart = [overlap.gather(videos[a:b], crops=True) for a, b in pairwise(edges)]
    merged, together = search.merge(apart), overlap.gather(videos, crops=True)
    for field in fields(overlap.Frames):
        assert getattr(merged, field.name).tolist() == getattr(together, field.name).tolist(), field.name
    stacked = search.stack(apart)
    assert stacked.codes.tolist() == [code for part in apart for code in part.codes.tolist()]
    assert np.repeat(stacked.codes, np.diff(stacked.offsets)).tolist() == [
        code for part in apart for code in np.repeat(part.codes, np.diff(part.offsets)).tolist()
    ]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 30))
def test_groups_are_whole_in_order_and_no_larger_than_wanted_and_a_thing(sizes, wanted):
    groups = search.group_by_size(list(range(len(sizes))), np.array(sizes), wanted)
    assert [thing for group in groups for thing in group] == list(range(len(sizes)))
    assert all(sum(sizes[thing] for thing in group) < wanted + 9 for group in groups)


def dataset(num_shards: int, videos_per_shard: int, seconds: float) -> dict:
    shards = [{"path": f"shards/d-{i:06d}", "num_videos": videos_per_shard} for i in range(num_shards)]
    num_videos = num_shards * videos_per_shard
    return {"shards": shards, "num_videos": num_videos, "minutes": num_videos * seconds / 60}


@pytest.mark.parametrize(
    ("num_shards", "videos", "seconds", "num_parts"),
    [
        (8, 10, 1.0, 1),  # 1,280 frames: one part
        (100, 1000, 10.0, 64),  # 16 M frames: 64 parts of one or two shards
        (65_000, 1000, 10.0, 5200),  # 1e10 frames by 2 M, of 12.5 shards
    ],
)
def test_parts_have_frames_enough_to_be_worth_it_and_few_enough_for_memory(num_shards, videos, seconds, num_parts):
    parts = search.make_parts(DatasetFiles("d", "d"), dataset(num_shards, videos, seconds))
    assert len(parts) == num_parts
    assert sum(len(part.shards) for part in parts) == num_shards
    decoys = sum(part.decoy for part in parts)
    assert decoys == len(parts) if len(parts) < 200 else 100 <= decoys < 200
