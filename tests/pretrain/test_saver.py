"""When a run saves, that training goes on meanwhile, and what becomes of a write that fails."""

import dataclasses
import errno
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch

from pipeline import artifacts
from pipeline.config import ConfigError
from pipeline.storage import StorageError
from pretrain import checkpoint, saver, tensor_file, train
from pretrain.distributed import World
from pretrain.engine import Engine
from tests.patience import PATIENCE_S


def checkpoints(config) -> Path:
    return Path(artifacts.run_files(config.root, config.run).checkpoints)


def saved(config) -> list[int]:
    return sorted(int(path.name) for path in checkpoints(config).iterdir())


def test_a_checkpoint_is_of_its_moment_though_training_goes_on_while_it_is_written(named, monkeypatch):
    calm, slow = named("calm"), named("slow")
    train.train(calm)
    step, write, steps, last_step = Engine.step, tensor_file.write_durably, [], threading.Event()

    def counted(*arguments, **options):
        result = step(*arguments, **options)
        steps.append(result)
        if len(steps) == 4:
            last_step.set()
        return result

    def held(*arguments):
        assert last_step.wait(PATIENCE_S)  # a step that waited for the write would never come
        return write(*arguments)

    monkeypatch.setattr(Engine, "step", counted)
    monkeypatch.setattr(tensor_file, "write_durably", held)
    train.train(slow)
    for clips in ("000000000016", "000000000032"):
        for file in (checkpoint.MODEL, checkpoint.OPTIMIZER):
            assert (checkpoints(slow) / clips / file).read_bytes() == (checkpoints(calm) / clips / file).read_bytes()


def test_a_write_that_failed_ends_the_run_with_its_message(named, monkeypatch):
    config = named("failed", total_clips=80)
    write, steps = tensor_file.write_durably, []

    def full(path, data):
        if "000000000048" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    def announced(self, *arguments, step=Engine.step, **options):
        steps.append(0)
        return step(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(tensor_file, "write_durably", full)
        patch.setattr(Engine, "step", announced)
        message = r"cannot write a checkpoint to '.*checkpoints': No space left on device: [\d,]+ bytes are needed"
        with pytest.raises(StorageError, match=message):
            train.train(config)
    assert 6 <= len(steps) <= 8  # at the latest when the next checkpoint is due
    assert saved(config) == [16, 32]
    train.train(config)
    assert saved(config) == [64, 80]


def test_no_room_for_a_checkpoint_is_said_before_the_first_step(named, monkeypatch):
    class Usage:
        free = 1234

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage)
    monkeypatch.setattr(Engine, "step", None)
    with pytest.raises(StorageError, match=r"[\d,]+ bytes are needed and 1,234 are free; make room"):
        train.train(named("full"))


def test_an_error_of_training_waits_for_the_write_and_names_what_failed_besides(named, monkeypatch):
    diverged = threading.Event()

    def full(*_, **__):
        assert diverged.wait(30)
        raise StorageError("the disk is full")

    def diverge(self, *arguments, step=Engine.step, **options):
        if saves:
            diverged.set()
            raise ArithmeticError("diverged")
        return step(self, *arguments, **options)

    saves, begin = [], saver.Saver._begin
    monkeypatch.setattr(checkpoint, "save", full)
    monkeypatch.setattr(saver.Saver, "_begin", lambda *arguments: (begin(*arguments), saves.append(0)))
    monkeypatch.setattr(Engine, "step", diverge)
    with pytest.raises(ArithmeticError, match="diverged") as caught:
        train.train(named("both"))
    assert caught.value.__notes__ == ["Besides: the disk is full"]


def test_the_clock_is_asked_a_few_dozen_times_in_a_period_however_fast_training_is(monkeypatch):
    now, asked = [0.0], []
    monkeypatch.setattr(saver.time, "monotonic", lambda: now[0])

    class Peers(World):
        def broadcast_(self, tensor):
            asked.append(now[0])
            return tensor

    timer, over = saver.Timer(300.0, Peers(), 0), []
    for step in range(1, 12_001):  # 1,200 s at ten steps a second
        now[0] = step / 10
        if timer.is_over(step * 8):
            over.append(now[0])
            timer.restart()
    assert len(asked) == pytest.approx(4 * saver.Timer.ASKED, rel=0.1)
    assert len(over) == 3
    assert all(300 <= after - before <= 320 for before, after in zip([0.0, *over], over, strict=False))


def test_time_alone_also_makes_a_checkpoint_due(named):
    config = dataclasses.replace(named("timed"), checkpoint_clips=10**9, checkpoint_minutes=1e-9, keep_last=9)
    train.train(config)
    assert saved(config) == [8, 16, 24, 32]


def test_without_a_mark_or_a_time_only_the_end_is_saved(named):
    config = dataclasses.replace(named("end"), checkpoint_clips=10**9, checkpoint_minutes=0)
    train.train(config)
    assert saved(config) == [32]


def test_every_so_many_clips_one_is_kept_for_good(named):
    config = dataclasses.replace(named("every", total_clips=64), checkpoint_clips=8, keep_every=24)
    train.train(config)
    assert saved(config) == [24, 48, 56, 64]


def test_a_checkpoint_says_what_it_is_of_and_other_runs_do_not_take_it_up(named, capsys):
    one, other = named("one"), named("other", lr_per_gpu=0.01)
    train.train(one)
    assert "2 checkpoint(s) held it up for" in capsys.readouterr().out
    state = checkpoint.newest(checkpoints(one)).state
    assert state["input_digests"] == {"dataset": "d" * 16, "exclusions": ""}
    assert (state["provenance"]["world_size"], state["provenance"]["torch"]) == (1, str(torch.__version__))
    shutil.copytree(checkpoints(one), checkpoints(other))
    with pytest.raises(ConfigError, match=r"of another configuration or of other data: config_digest: '\w+' → '\w+'"):
        train.train(other)


def test_copies_on_the_host_are_contiguous_and_made_once():
    tensors = {"weight": torch.arange(6.0).view(2, 3).t(), "count": torch.tensor(3)}
    copies: dict[str, torch.Tensor] = {}
    saver.copy_to_host(tensors, copies)
    before = {name: tensor.data_ptr() for name, tensor in copies.items()}
    tensors["weight"].mul_(2)
    assert copies["weight"].tolist() == [[0, 3], [1, 4], [2, 5]]
    saver.copy_to_host(tensors, copies)
    assert copies["weight"].tolist() == [[0, 6], [2, 8], [4, 10]]
    assert {name: tensor.data_ptr() for name, tensor in copies.items()} == before
    assert all(tensor.is_contiguous() for tensor in copies.values())


@pytest.mark.gpu
def test_a_gpu_is_copied_to_pinned_memory_in_full():
    tensors = {"weight": torch.randn(1 << 22, device="cuda"), "count": torch.tensor(3, device="cuda")}
    copies: dict[str, torch.Tensor] = {}
    saver.copy_to_host(tensors, copies)
    assert copies["weight"].is_pinned()
    assert torch.equal(copies["weight"], tensors["weight"].cpu())
