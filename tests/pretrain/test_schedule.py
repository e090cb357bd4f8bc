import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import ConfigError, RecipeConfig
from pretrain.schedule import check, describe, learning_rate, num_steps, peak_rate

PAPER = RecipeConfig()
STAGE = 35_000_000  # 490M clips / 14
BATCH = 2048  # 128 workers × 16 clips


def test_the_papers_peak_is_128_workers_rates():
    assert peak_rate(PAPER) == pytest.approx(0.192, rel=1e-12)
    assert learning_rate(PAPER.warmup_clips, PAPER) == pytest.approx(0.192, rel=1e-12)


@pytest.mark.parametrize("stage", range(1, 14))
def test_the_papers_rate_halves_every_35_million_clips_exactly(stage):
    assert learning_rate(stage * STAGE, PAPER) == pytest.approx(0.192 * 0.5**stage, rel=1e-12)
    assert learning_rate(stage * STAGE - 1, PAPER) == pytest.approx(0.192 * 0.5 ** (stage - 1), rel=1e-12)


@pytest.mark.parametrize("clips", [13 * STAGE, 490_000_000 - 1, 490_000_000, 490_000_000 + BATCH, 10**12])
def test_the_papers_last_rate(clips):
    assert learning_rate(clips, PAPER) == pytest.approx(2.34375e-5, rel=1e-12)


@pytest.mark.parametrize(
    ("clips", "rate"), [(0, 0.0015), (1_000_000, 0.0396), (2_500_000, 0.09675), (4_000_000, 0.1539)]
)
def test_warm_up_is_linear_from_one_workers_rate(clips, rate):
    assert learning_rate(clips, PAPER) == pytest.approx(rate, rel=1e-12)


def test_the_first_step_has_one_workers_rate_and_the_last_of_warm_up_not_yet_the_full_one():
    last_step_of_warm_up = (PAPER.warmup_clips - 1) // BATCH * BATCH
    slope = (0.192 - 0.0015) / 5_000_000
    assert learning_rate(0, PAPER) == 0.0015
    assert learning_rate(last_step_of_warm_up, PAPER) == pytest.approx(0.0015 + slope * last_step_of_warm_up, rel=1e-12)
    assert learning_rate(last_step_of_warm_up, PAPER) < 0.192
    assert learning_rate(last_step_of_warm_up + BATCH, PAPER) == pytest.approx(0.192, rel=1e-12)


def test_no_warm_up_and_no_decay():
    recipe = RecipeConfig(total_clips=1000, virtual_workers=4, lr_per_gpu=0.1, warmup_clips=0, num_decays=0)
    assert {learning_rate(clips, recipe) for clips in (0, 500, 999, 1000)} == {0.4}


def test_decays_fall_on_whole_clips_when_stages_are_not_whole():
    recipe = RecipeConfig(total_clips=10, virtual_workers=1, lr_per_gpu=1.0, warmup_clips=0, num_decays=2)
    assert [learning_rate(clips, recipe) for clips in range(11)] == [1] * 4 + [0.5] * 3 + [0.25] * 4


def test_a_warm_up_as_long_as_the_first_stage_ends_where_it_would_have_peaked():
    recipe = RecipeConfig(total_clips=200, virtual_workers=2, lr_per_gpu=1.0, warmup_clips=100, num_decays=1)
    check(recipe)
    assert [learning_rate(clips, recipe) for clips in (0, 50, 100)] == [1.0, 1.5, 1.0]


@given(
    total=st.integers(1, 10**9),
    decays=st.integers(0, 30),
    workers=st.integers(1, 256),
    share=st.floats(0, 1),
    data=st.data(),
)
def test_a_checked_schedule_rises_then_falls_and_ends_at_its_last_rate(total, decays, workers, share, data):
    warmup = int(share * (total // (decays + 1)))
    recipe = dataclasses.replace(
        PAPER, total_clips=total, num_decays=decays, virtual_workers=workers, warmup_clips=warmup
    )
    check(recipe)
    early, late = sorted(data.draw(st.lists(st.integers(0, 2 * total), min_size=2, max_size=2)))
    if late < warmup:
        assert learning_rate(early, recipe) <= learning_rate(late, recipe)
    elif early >= warmup:
        assert learning_rate(early, recipe) >= learning_rate(late, recipe)
    assert math.isclose(learning_rate(total, recipe), workers * 0.0015 * 0.5**decays, rel_tol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"total_clips": 0}, "total_clips must be at least 1"),
        ({"batch_per_gpu": 0}, "batch_per_gpu must be at least 1"),
        ({"virtual_workers": 0}, "virtual_workers must be at least 1"),
        ({"warmup_clips": -1}, "warmup_clips must not be negative"),
        ({"num_decays": -1}, "num_decays must not be negative"),
        ({"lr_per_gpu": -0.1}, "lr_per_gpu must not be negative"),
        ({"lr_per_gpu": math.nan}, "lr_per_gpu must not be negative"),
        ({"decay_factor": 0.0}, "decay_factor must be above 0"),
        ({"decay_factor": 2.0}, "decay_factor must be above 0"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1"),
        ({"total_clips": 4_000_000}, r"warmup_clips = 5,000,000 is longer than recipe.total_clips = 4,000,000"),
    ],
)
def test_what_is_no_schedule_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        check(dataclasses.replace(PAPER, **change))


def test_a_warm_up_that_outlasts_its_stage_is_halved_like_any_rate_and_said():
    recipe = RecipeConfig(total_clips=300, virtual_workers=3, lr_per_gpu=1.0, warmup_clips=200, num_decays=2)
    check(recipe)
    assert [learning_rate(clips, recipe) for clips in (0, 50, 100, 150, 200, 300)] == [1, 1.5, 1.0, 1.25, 0.75, 0.75]
    assert "the full rate is not reached" in describe(recipe)
    assert "not reached" not in describe(dataclasses.replace(recipe, warmup_clips=100))


def test_the_paper_in_one_line():
    assert describe(PAPER) == (
        "128 workers × 0.0015 = 0.192, warm-up over 5,000,000 clips, 13 × 0.5 every 35,000,000, "
        "490,000,000 clips in 239,258 steps of 2,048"
    )
    assert "no warm-up, no decay, 100 clips" in describe(RecipeConfig(total_clips=100, warmup_clips=0, num_decays=0))
    assert "2 × 0.5 about every 33," in describe(RecipeConfig(total_clips=100, warmup_clips=10, num_decays=2))


@pytest.mark.parametrize(("total", "steps"), [(2048, 1), (2049, 2), (490_000_000, 239_258)])
def test_steps_cover_all_clips(total, steps):
    assert num_steps(RecipeConfig(total_clips=total)) == steps
