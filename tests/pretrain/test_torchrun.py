"""A launched program's ending is the launcher's: status, message, signals."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.api import SignalException

from pipeline import artifacts, cli, launch
from pipeline.cli import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_PEER_LOST
from pipeline.config import PretrainConfig, to_dict
from pretrain import checkpoint, torchrun
from pretrain.torchrun import status_of
from tests.patience import PATIENCE_S


@pytest.mark.parametrize(
    ("exit_codes", "status"),
    [
        ([1], 1),
        ([EXIT_BAD_INPUT, EXIT_PEER_LOST], EXIT_BAD_INPUT),
        ([EXIT_PEER_LOST, 1], 1),
        ([EXIT_PEER_LOST, EXIT_PEER_LOST], EXIT_PEER_LOST),
        ([-signal.SIGTERM, EXIT_INTERRUPTED], EXIT_INTERRUPTED),
        ([EXIT_PEER_LOST, -signal.SIGSEGV], 139),
    ],
)
def test_the_status_of_several_is_the_one_that_tells_most(exit_codes, status):
    assert status_of(exit_codes) == status
    assert status_of(reversed(exit_codes)) == status


def tagreel(*words: str) -> subprocess.Popen:
    """`tagreel WORDS`, with its own group of processes."""
    command = [sys.executable, "-m", "pipeline.cli", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.distributed
def test_bad_input_is_said_once_and_last_with_its_status(tmp_path):
    process = tagreel("pretrain", "--root", str(tmp_path), "--dataset", "absent", "--num-processes", "2")
    errors = process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == EXIT_BAD_INPUT, errors
    assert errors.count("tagreel build --dataset absent") == 1
    assert errors.splitlines()[-1].startswith("tagreel: ")
    assert "Traceback" not in errors
    assert "FAILED" not in errors


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize(
    ("number", "send"),
    [
        pytest.param(signal.SIGTERM, os.kill, id="SIGTERM to tagreel"),
        pytest.param(signal.SIGINT, os.killpg, id="Ctrl-C"),
    ],
)
def test_a_signal_reaches_the_ranks_which_save(named, tmp_path, number, send):
    config: PretrainConfig = dataclasses.replace(named(f"told_{number}", total_clips=8_000_000), num_processes=2)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_dict(config)))
    files = artifacts.run_files(config.root, config.run)
    process = tagreel("pretrain", "--config", str(path))
    deadline = time.monotonic() + PATIENCE_S
    while not Path(files.metrics).is_file() or not Path(files.metrics).stat().st_size:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for _ in range(3):  # as a scheduler does that tells every process of a job
        send(process.pid, number)
        time.sleep(0.05)
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == EXIT_INTERRUPTED, errors
    saved = checkpoint.newest(files.checkpoints).clips_seen
    assert output.count(f"saved at {saved:,} clips") == 1
    assert "Traceback" not in errors
    assert "death signal" not in errors


RANKS = """
import os, sys, time
from pretrain.distributed import joined
from pipeline.cli import guarded
from pipeline.config import ConfigError
import torch

def work():
    with joined(device="cpu", timeout_s=30) as world:
        world.barrier()
        if world.rank == 1:
            {fault}
        world.barrier()

sys.exit(guarded(work))
"""


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize(
    ("fault", "status", "told"),
    [
        ("raise ConfigError('rank 1 knows why')", EXIT_BAD_INPUT, "rank 1 knows why"),
        ("os._exit(9)", 9, "process 0 lost its peers"),
    ],
)
def test_when_one_rank_fails_its_status_counts_and_the_other_tells_no_story(tmp_path, fault, status, told):
    script = tmp_path / "ranks.py"
    script.write_text(textwrap.dedent(RANKS).format(fault=fault))
    command = [sys.executable, "-m", "pretrain.torchrun", "--standalone", "--nproc-per-node=2", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, env=environment)
    assert ended.returncode == status, ended.stderr
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
@pytest.mark.distributed
def test_launchers_that_cannot_meet_say_where():
    there = ["--nnodes=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:1", "--rdzv-conf=is_host=0,read_timeout=1"]
    command = [sys.executable, "-m", "pretrain.torchrun", *there, "-m", "pretrain.train"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == EXIT_PEER_LOST, ended.stderr
    assert "tagreel: the launchers cannot meet at '127.0.0.1:1'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_of_ranks_that_say_the_same_one_is_heard_and_of_others_each(tmp_path, monkeypatch, capsys):
    def fail(message: str) -> None:
        raise cli.PeerLostError(message)

    for rank, message in enumerate(["the same", "the same", "another"]):
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "attempt_0" / str(rank) / "error.json"))
        assert cli.guarded(lambda message=message: fail(message)) == EXIT_PEER_LOST
    assert capsys.readouterr().err == "tagreel: the same\ntagreel: another\n"


@pytest.mark.parametrize(
    ("code", "status"), [("raise SystemExit(75)", 75), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_a_command_ends_with_the_status_of_its_stage(tmp_path, code, status):
    step = launch.Command("step", (sys.executable, "-c", code), PretrainConfig(), str(tmp_path / "step.json"))
    with pytest.raises(launch.CommandFailed) as failed:
        launch.run(step)
    assert failed.value.status == status
    assert cli.guarded(lambda: launch.run(step)) == status


PRESSED = """
import os, signal, sys, time
while not os.path.exists(sys.argv[1]): time.sleep(0.01)
for _ in range(3): os.kill(os.getppid(), signal.SIGINT); time.sleep(0.1)
os._exit(75)
"""


def test_a_command_waits_for_its_stage_however_often_ctrl_c_is_pressed(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)  # ignored where a shell started the tests in the background
    waits, wait = tmp_path / "waits", subprocess.Popen.wait
    monkeypatch.setattr(subprocess.Popen, "wait", lambda process: waits.touch() or wait(process))
    argv = (sys.executable, "-c", PRESSED, str(waits))
    step = launch.Command("step", argv, PretrainConfig(), str(tmp_path / "step.json"))
    assert cli.guarded(lambda: launch.run(step)) == EXIT_INTERRUPTED
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_lets_the_ranks_save_unless_another_comes_later(monkeypatch):
    stop = torchrun.StopOnce()
    with pytest.raises(SignalException):
        stop(signal.SIGINT, None)
    stop(signal.SIGINT, None)
    assert stop.let_save
    monkeypatch.setattr(torchrun, "REPEATED_S", 0.0)
    stop(signal.SIGTERM, None)
    assert stop.let_save
    stop(signal.SIGINT, None)
    assert not stop.let_save
