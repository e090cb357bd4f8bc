import dataclasses
import sys

import pytest
import torch

from pipeline import artifacts, progress
from pipeline.artifacts import RunFiles
from pipeline.config import ConfigError, PretrainConfig, RecipeConfig
from pretrain import reporter
from pretrain.distributed import World
from pretrain.engine import StepResult
from pretrain.replaced import ReplacedClips
from pretrain.reporter import Reporter

RECIPE = RecipeConfig(total_clips=40_000, virtual_workers=2, batch_per_gpu=4, warmup_clips=0)  # 5,000 steps of 8


class Clock:
    """time.perf_counter, moved on by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(reporter, "time", clock)
    return clock


@pytest.fixture
def files(tmp_path) -> RunFiles:
    return artifacts.run_files(str(tmp_path), "run")


def config(**changes) -> PretrainConfig:
    return dataclasses.replace(PretrainConfig(recipe=RECIPE, tensorboard=False), **changes)


def reporter_of(config: PretrainConfig, files: RunFiles, world: World, clips_seen: int) -> Reporter:
    replaced = ReplacedClips(world, 0, config.max_replaced, config.recipe.total_clips)
    return Reporter(config, files, world, clips_seen, replaced)


def result(loss: float, stop: bool = False) -> StepResult:
    return StepResult(loss=loss, accuracy=0.25, gradient_norm=2.0, stop_asked=stop)


def take(steps: int, report: Reporter, clock: Clock, first: int = 0, seconds: float = 1.0) -> None:
    for step in range(first, first + steps):
        clock.now += seconds
        report.step(8 * (step + 1), result(loss=float(step)), rate=0.1, waited_s=seconds / 4)


def clips_of_lines(files: RunFiles) -> list[int]:
    return [line["clips_seen"] for line in progress.read_metrics(files.metrics)]


def test_a_fast_run_has_a_thousand_lines_and_the_first_after_one_step(files, clock):
    report = reporter_of(config(), files, World(), 0)
    take(5_000, report, clock, seconds=0.01)
    report.close()
    lines = clips_of_lines(files)
    assert lines[:3] == [8, 8 + 5 * 8, 8 + 10 * 8]
    assert 1_000 <= len(lines) <= 1_001
    assert lines[-1] == 40_000


def test_a_slow_run_has_a_line_a_minute(files, clock):
    report = reporter_of(config(recipe=dataclasses.replace(RECIPE, total_clips=8_000_000)), files, World(), 0)
    take(41, report, clock, seconds=6.0)
    assert clips_of_lines(files) == [8, 88, 168, 248, 328]  # every ten steps of six seconds


def test_a_line_covers_its_interval(files, clock):
    report = reporter_of(config(), files, World(), 0)
    take(6, report, clock, seconds=0.5)
    first, second = progress.read_metrics(files.metrics)
    assert (first["loss"], second["loss"]) == (0.0, pytest.approx((1 + 2 + 3 + 4 + 5) / 5))
    assert second["clips_per_s"] == pytest.approx(8 / 0.5)
    assert second["waiting_share"] == pytest.approx(0.25)
    assert second["elapsed_s"] == pytest.approx(3.0)
    assert (second["learning_rate"], second["accuracy"], second["gradient_norm"]) == (0.1, 0.25, 2.0)
    assert 0.01 < second["memory_gb"] < 100


def test_waiting_and_memory_are_the_worst_processs(files, clock, monkeypatch):
    worst = torch.tensor([0.0, 0.9, 77.0])  # of another process, which has no say in the next interval
    monkeypatch.setattr(World, "max_", lambda self, mine: torch.maximum(mine, worst))
    report = reporter_of(config(), files, World(), 0)
    take(1, report, clock)
    (line,) = progress.read_metrics(files.metrics)
    assert line["waiting_share"] == pytest.approx(0.9)
    assert line["memory_gb"] == pytest.approx(77.0)


def test_a_stop_ends_the_interval(files, clock):
    report = reporter_of(config(), files, World(), 0)
    take(2, report, clock)
    clock.now += 1
    report.step(24, result(1.0, stop=True), 0.1, 0.0)
    assert clips_of_lines(files) == [8, 24]


def test_elapsed_time_goes_on_after_a_restart_and_lines_are_not_doubled(files, clock):
    before = reporter_of(config(), files, World(), 0)
    take(6, before, clock)
    before.close()
    after = reporter_of(config(), files, World(), 8)  # the checkpoint: before the second line
    take(1, after, clock, first=1)
    lines = progress.read_metrics(files.metrics)
    assert [line["clips_seen"] for line in lines] == [8, 16]
    assert [line["elapsed_s"] for line in lines] == [1.0, 2.0]


def test_tensorboard_shows_each_step_once_after_a_restart(files, clock):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    before = reporter_of(config(tensorboard=True), files, World(), 0)
    take(11, before, clock)  # lines at 8, 48, 88
    before.close()
    after = reporter_of(config(tensorboard=True), files, World(), 48)
    take(11, after, clock, first=6)  # lines at 56, 96, 136
    after.close()
    events = EventAccumulator(files.tensorboard).Reload()
    lines = progress.read_metrics(files.metrics)
    for name in ("loss", "accuracy", "learning_rate", "gradient_norm", "clips_per_s", "waiting_share", "memory_gb"):
        scalars = events.Scalars(f"pretrain/{name}")
        assert [event.step for event in scalars] == [8, 48, 56, 96, 136]
        assert [event.value for event in scalars] == pytest.approx([line[name] for line in lines], rel=1e-6)


def test_tensorboard_is_imported_only_where_it_is_used(files, clock, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # an import of it fails
    take(1, reporter_of(config(), files, World(), 0), clock)
    take(1, reporter_of(config(tensorboard=True), files, World(rank=1), 0), clock)
    with pytest.raises(ImportError):
        reporter_of(config(tensorboard=True), files, World(), 0)


def test_a_missing_tensorboard_is_said_before_anything_is_done(monkeypatch):
    monkeypatch.setattr(reporter.importlib.util, "find_spec", lambda name: None)
    reporter.check(config())
    with pytest.raises(ConfigError, match=r"tagreel\[train\], or pass --no-tensorboard"):
        reporter.check(config(tensorboard=True))


def test_only_a_log_without_a_bar_gets_lines_and_one_a_minute(files, clock, capsys):
    report = reporter_of(config(), files, World(), 0)
    take(130, report, clock)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3
    assert said[0].startswith("pretrain: 8 of 40,000 clips: loss 0.000, accuracy 25.0%, waiting 25%, 8.0 clips/s")


def test_what_is_not_finite_is_null_in_json(tmp_path):
    file = progress.MetricsFile(str(tmp_path / "m" / "metrics.jsonl"))
    file.write(loss=1.0, accuracy=float("nan"))
    file.close()
    assert (tmp_path / "m" / "metrics.jsonl").read_text() == '{"loss": 1.0, "accuracy": null}\n'
