"""An interrupted transfer goes on to the same result; final trainings are repeated with other seeds."""

import contextlib
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finetune import full_ft, result
from finetune.pass_log import PassLog
from finetune.transfer import transfer
from finetune.unfinished import StopTraining, ends_when_told
from pipeline import artifacts, progress, storage
from pipeline import config as configs
from pipeline.report.estimates import t_975
from pretrain.engine import Engine, StepResult
from tests.patience import PATIENCE_S

TRIAL, FINAL = 5, 6  # steps of three passes over 12 and over 16 videos in batches of 8


@pytest.fixture
def config(config):
    """Two trials and a final training of a few steps each."""
    return dataclasses.replace(config, protocol="full_ft", passes=3, warmup_passes=1, decay_passes=(1,), num_clips=1)


def outcome(config) -> tuple:
    files = artifacts.transfer_files(config)
    found = storage.read_json(files.marker)
    lines = [tuple(line.items()) for line in progress.read_metrics(files.metrics)]
    parts = (found["search"], found["training"], found["metrics"], storage.read_parquet(files.predictions).to_pylist())
    return (*parts, sorted(lines))


class Interruptions:
    """Counts the steps of a process, and sends it SIGTERM in the n-th."""

    def __init__(self, monkeypatch) -> None:
        self.steps, self.at = 0, math.inf
        step = Engine.step

        def counted(engine, *arguments):
            self.steps += 1
            if self.steps == self.at:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(engine, *arguments)

        monkeypatch.setattr(Engine, "step", counted)


def test_a_transfer_that_is_told_to_stop_goes_on_to_the_same_result(config, monkeypatch):
    counter = Interruptions(monkeypatch)
    transfer(config)
    whole, steps = outcome(config), counter.steps
    assert steps == TRIAL + TRIAL + FINAL
    cut = dataclasses.replace(config, run="scratch cut", checkpoint_minutes=0.0)
    done = 0
    for at in (2, 7, 12):  # in the first trial, in the second, in the final training
        counter.steps, counter.at = 0, at - done
        with pytest.raises(SystemExit) as stopped:
            transfer(cut)
        assert stopped.value.code == 75
        done += counter.steps
    counter.steps, counter.at = 0, math.inf
    transfer(cut)
    assert outcome(cut) == whole
    # The signal comes in a step, which is the next one's to hear of: no step is done twice.
    assert done + counter.steps == steps


def test_a_killed_transfer_loses_what_follows_the_last_checkpoint_and_nothing_else(config, monkeypatch):
    transfer(config)
    cut = dataclasses.replace(config, run="scratch cut", checkpoint_minutes=1e-9)

    class Killed(BaseException):
        """Nothing can be done about it."""

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(full_ft.evaluate, "video_scores", killed)  # after the first trial's last step
        with pytest.raises(Killed):
            transfer(cut)
    (training,) = Path(artifacts.transfer_files(cut).unfinished, "trainings").iterdir()
    last = max(path.name for path in training.iterdir())
    (training / last / "model.safetensors").write_bytes(b"damage")
    counter = Interruptions(monkeypatch)
    transfer(dataclasses.replace(cut, checkpoint_minutes=0.0))
    assert outcome(cut) == outcome(config)
    assert counter.steps == 1 + TRIAL + FINAL  # the step of the damaged checkpoint again


def test_to_be_told_again_while_leaving_changes_nothing():
    before, times_left = [signal.getsignal(number) for number in StopTraining.SIGNALS], []

    @contextlib.contextmanager
    def told_while_left():
        try:
            yield
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            times_left.append(1)

    def told() -> None:
        with ends_when_told(), told_while_left():
            os.kill(os.getpid(), signal.SIGTERM)

    def told_in_training() -> None:
        with ends_when_told(), told_while_left(), StopTraining() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            sys.exit(75 if stop.asked else 0)

    for program in (told, told_in_training):
        with pytest.raises(SystemExit) as stopped:
            program()
        assert stopped.value.code == 75
    assert len(times_left) == 2
    assert [signal.getsignal(number) for number in StopTraining.SIGNALS] == before


def test_a_test_that_is_interrupted_is_all_that_is_repeated(config, monkeypatch):
    config = dataclasses.replace(config, learning_rates=(0.02,), repeats=3)
    video_scores, tests = full_ft.evaluate.video_scores, []

    def stopped_in_the_second(*arguments, **options):
        tests.append(0)
        if len(tests) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return video_scores(*arguments, **options)

    monkeypatch.setattr(full_ft.evaluate, "video_scores", stopped_in_the_second)
    counter = Interruptions(monkeypatch)
    with pytest.raises(SystemExit) as stopped:
        transfer(config)
    assert (stopped.value.code, counter.steps) == (75, 2 * FINAL)
    transfer(config)
    assert (len(tests), counter.steps) == (4, 3 * FINAL)

    found = storage.read_json(artifacts.transfer_files(config).marker)
    assert found["seeds"] == [1, 2, 3]
    assert len({repeat["training"]["loss"] for repeat in found["repeats"]}) == 3
    values = [repeat["metrics"]["top1"] for repeat in found["repeats"]]
    mean = sum(values) / 3
    sd = math.sqrt(sum((value - mean) ** 2 for value in values) / 2)
    assert found["metrics"]["top1"] == pytest.approx(mean)
    half = t_975(2) * sd / math.sqrt(3)
    assert found["metrics"]["top1_interval"] == pytest.approx([max(0, mean - half), min(1, mean + half)])
    assert found["metrics"]["interval_of"] == result.OVER_TRAININGS
    assert found["metrics"]["num_videos"] == 22
    table = storage.read_parquet(artifacts.transfer_files(config).predictions)
    assert table["seed"].value_counts().to_pylist() == [{"values": seed, "counts": 23} for seed in (1, 2, 3)]


def test_a_repeat_is_the_training_of_its_seed(config):
    config = dataclasses.replace(config, learning_rates=(0.02,), passes=1)
    transfer(dataclasses.replace(config, repeats=2))
    both = storage.read_json(artifacts.transfer_files(config).marker)
    second = dataclasses.replace(config, seed=config.seed + 1, result="second")
    transfer(second)
    alone = storage.read_json(artifacts.transfer_files(second).marker)
    assert both["repeats"][1]["training"] == alone["training"]
    assert both["repeats"][1]["metrics"] == alone["repeats"][0]["metrics"]
    assert both["metrics"]["interval_of"] == result.OVER_VIDEOS_MEAN


def test_loader_processes_change_nothing(config):
    config = dataclasses.replace(config, learning_rates=(0.02,), passes=1)
    transfer(config)
    loaded = dataclasses.replace(config, run="scratch loaded", loader_workers=1)
    transfer(loaded)
    assert outcome(loaded) == outcome(config)


def test_lines_beyond_the_checkpoint_are_written_again_and_others_stay(tmp_path):
    path = str(tmp_path / "metrics.jsonl")
    ours, others = {"seed": 1}, {"seed": 2}
    one_pass = StepResult(loss=2.0, accuracy=0.5, gradient_norm=1.0, stop_asked=False)
    states = []
    for about in (others, ours):
        with PassLog(path, about, {}) as log:
            for passes in (1.0, 2.0, 3.0):
                log.step(one_pass, passes, 0.1)
                states.append(json.loads(json.dumps(log.state)))
    with PassLog(path, ours, states[-2]) as log:
        log.step(dataclasses.replace(one_pass, loss=4.0), 3.0, 0.1)
    lines = progress.read_metrics(path)
    assert [(line["seed"], line["passes"], line["loss"]) for line in lines] == [
        *((2, passes, 2.0) for passes in (1, 2, 3)),
        *((1, 1, 2.0), (1, 2, 2.0), (1, 3, 4.0)),
    ]


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_stop_together_and_go_on_to_the_same_result(config, tmp_path):
    config = dataclasses.replace(config, learning_rates=(0.02,), batch=16, passes=60, checkpoint_minutes=0.0)
    (tmp_path / "config.json").write_text(json.dumps(configs.to_dict(config)))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "finetune.transfer")
    command = [sys.executable, *launcher, "--config", str(tmp_path / "config.json")]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    files = artifacts.transfer_files(config)
    process = subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE)
    while len(progress.read_metrics(files.metrics)) < 3 and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0
    (training,) = Path(files.unfinished, "trainings").iterdir()
    assert [path.name for path in training.iterdir() if path.name.isdigit()]
    subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL)
    together = storage.read_json(files.marker)["training"]
    alone = dataclasses.replace(config, run="scratch alone")
    transfer(alone)
    assert together["steps"] == 60
    assert together["loss"] == pytest.approx(
        storage.read_json(artifacts.transfer_files(alone).marker)["training"]["loss"], rel=0.02
    )
