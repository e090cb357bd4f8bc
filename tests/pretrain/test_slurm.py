"""infra/slurm/pretrain.sbatch with Slurm's commands played by two lines of shell."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from torch.distributed.run import parse_args

from pipeline.cli import EXIT_INTERRUPTED

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def submit(tmp_path):
    """Runs the script on four hosts of eight GPUs; `srun` ends with the given status. Returns status and calls made."""
    calls = tmp_path / "calls"
    calls.write_text("")

    def run(status: int, *words: str, **environment: str) -> tuple[int, list[list[str]]]:
        quote = f'printf "%s " "$(basename "$0")" "$@" >> {calls}; echo >> {calls}'
        stubs = {"srun": f"{quote}; exit {status}", "scontrol": f"{quote}; printf 'gpu-07\\ngpu-08\\n'"}
        for name, text in stubs.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)
        slurm = {
            "SLURM_JOB_NODELIST": "gpu-[07-10]",
            "SLURM_NNODES": "4",
            "SLURM_GPUS_PER_NODE": "8",
            "SLURM_JOB_ID": "123",
        }
        path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
        ended = subprocess.run(
            ["bash", str(REPOSITORY / "infra/slurm/pretrain.sbatch"), *words],
            env={**os.environ, **slurm, **path, **environment},
            capture_output=True,
            check=False,
        )
        return ended.returncode, [shlex.split(line) for line in calls.read_text().splitlines()]

    return run


def test_every_host_starts_a_launcher_that_meets_at_the_first(submit):
    status, calls = submit(0, "run.json")
    assert status == 0
    assert [call[0] for call in calls] == ["scontrol", "srun"]
    words = calls[1]
    options = parse_args(words[words.index("pretrain.torchrun") + 1 :])
    assert (options.nnodes, options.nproc_per_node, options.max_restarts) == ("4:4", "8", 10)
    assert (options.rdzv_backend, options.rdzv_endpoint, options.rdzv_id) == ("c10d", "gpu-07:29500", "123")
    assert (options.module, options.training_script) == (True, "pretrain.train")
    assert options.training_script_args == ["--config", "run.json"]


def test_fewer_hosts_may_do(submit):
    assert "--nnodes=2:4" in submit(0, "run.json", MIN_NODES="2")[1][1]


@pytest.mark.parametrize("status", [0, 2, EXIT_INTERRUPTED])
def test_only_an_interrupted_job_is_queued_again(submit, status):
    ended, calls = submit(status, "run.json")
    assert ended == status
    assert (["scontrol", "requeue", "123"] in calls) == (status == EXIT_INTERRUPTED)


def test_without_a_config_nothing_is_started(submit):
    status, calls = submit(0)
    assert status != 0
    assert calls == []
