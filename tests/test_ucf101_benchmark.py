"""The check on real clips: groups stay whole, every class is in every fold, and intervals are those of groups."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import ucf101
from benchmarks.ucf101 import Arm, RealClip

SIZES = st.lists(st.lists(st.integers(1, 7), min_size=4, max_size=25), min_size=1, max_size=6)


def clips_of(sizes: list[list[int]]) -> list[RealClip]:
    return [
        RealClip(Path(f"v_C{label}_g{group:02d}_c{number:02d}.avi"), f"C{label}", f"C{label} g{group:02d}")
        for label, groups in enumerate(sizes)
        for group, size in enumerate(groups)
        for number in range(size)
    ]


@settings(max_examples=50)
@given(SIZES, st.integers(2, 4))
def test_every_fold_tests_every_class_and_folds_of_a_class_differ_by_a_group_at_most(sizes, num_folds):
    clips = clips_of(sizes)
    folds = ucf101.fold_of_groups(clips, num_folds)
    assert set(folds) == {clip.group for clip in clips}
    for label, groups in enumerate(sizes):
        counts = np.bincount([folds[c.group] for c in clips if c.label == f"C{label}"], minlength=num_folds)
        assert counts.min() > 0
        assert counts.max() - counts.min() <= max(groups)


def test_more_folds_than_groups_are_refused():
    with pytest.raises(SystemExit, match="'C0' has 4 groups"):
        ucf101.fold_of_groups(clips_of([[1, 1, 1, 1]]), 5)


def test_clips_are_told_by_their_names(tmp_path):
    for name in ("a/v_YoYo_g03_c01.avi", "b/v_YoYo_g03_c02.mp4", "readme.txt", "other.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert {(clip.label, clip.group) for clip in ucf101.find_clips(tmp_path)} == {("YoYo", "YoYo g03")}
    with pytest.raises(SystemExit, match="--clips"):
        ucf101.find_clips(tmp_path / "c")


def test_clips_of_a_group_that_agree_count_as_one():
    rng = np.random.default_rng(0)
    right = [(rng.random(40) < share).astype(float) for share in (0.6, 0.3)]
    arms = [Arm(name, values, []) for name, values in zip(("a", "b"), right, strict=True)]
    copied = [Arm(arm.name, np.repeat(arm.right, 5), []) for arm in arms]
    groups = [f"g{number:02d}" for number in range(40)]
    assert ucf101.intervals(arms, groups) == ucf101.intervals(copied, np.repeat(groups, 5))
    found = ucf101.intervals(arms, groups)
    assert found["difference"]["top1"] == pytest.approx(found["a"]["top1"] - found["b"]["top1"])
