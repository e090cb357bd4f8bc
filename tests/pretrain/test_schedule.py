import pytest

from pipeline.config import RecipeConfig
from pretrain.schedule import learning_rate, num_steps

PAPER = RecipeConfig()
STAGE = 35_000_000  # 490M clips / 14


def test_the_papers_peak_is_128_workers_rates():
    assert learning_rate(PAPER.warmup_clips, PAPER) == pytest.approx(0.192, rel=1e-12)


@pytest.mark.parametrize("stage", range(1, 14))
def test_the_papers_rate_halves_every_35_million_clips_exactly(stage):
    assert learning_rate(stage * STAGE, PAPER) == pytest.approx(0.192 * 0.5**stage, rel=1e-12)
    assert learning_rate(stage * STAGE - 1, PAPER) == pytest.approx(0.192 * 0.5 ** (stage - 1), rel=1e-12)


@pytest.mark.parametrize("clips", [13 * STAGE, 490_000_000 - 1, 490_000_000, 490_000_000 + 2048])
def test_the_papers_last_rate(clips):
    assert learning_rate(clips, PAPER) == pytest.approx(2.34375e-5, rel=1e-12)


@pytest.mark.parametrize(
    ("clips", "rate"), [(0, 0.0015), (1_000_000, 0.0396), (2_500_000, 0.09675), (4_000_000, 0.1539)]
)
def test_warm_up_is_linear_from_one_workers_rate(clips, rate):
    assert learning_rate(clips, PAPER) == pytest.approx(rate, rel=1e-12)


def test_no_warm_up_and_no_decay():
    recipe = RecipeConfig(total_clips=1000, virtual_workers=4, lr_per_gpu=0.1, warmup_clips=0, num_decays=0)
    assert {learning_rate(clips, recipe) for clips in (0, 500, 999, 1000)} == {0.4}


def test_decays_fall_on_whole_clips_when_stages_are_not_whole():
    recipe = RecipeConfig(total_clips=10, virtual_workers=1, lr_per_gpu=1.0, warmup_clips=0, num_decays=2)
    assert [learning_rate(clips, recipe) for clips in range(11)] == [1] * 4 + [0.5] * 3 + [0.25] * 4


@pytest.mark.parametrize(("total", "steps"), [(2048, 1), (2049, 2), (490_000_000, 239_258)])
def test_steps_cover_all_clips(total, steps):
    assert num_steps(RecipeConfig(total_clips=total)) == steps
