"""A sweep as Slurm jobs: one sbatch script a stage, and submit.sh, which hands them in with what each waits for.

Writing them submits nothing. Stages that are finished get no job; run the sweep again to write those that are left.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from pipeline import storage
from pipeline.config import SweepConfig
from pipeline.launch import scripts
from pipeline.launch.graph import stage_command, sweep_folder
from pipeline.sweeps import Stage

SCRIPT = """\
#!/bin/bash
# {name}
#SBATCH --job-name={name}
#SBATCH --output={log}
#SBATCH --open-mode=append
#SBATCH --nodes={hosts}
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task={cores}
#SBATCH --time={hours}:00:00
{options}set -uo pipefail
cd {folder}
{setup}
{body}
if [ "$status" -eq 75 ]; then # told to stop, and saved: goes on later
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""
TRAINING = """\
#SBATCH --gpus-per-node={gpus}
# Five minutes before the time is up the training is told to stop: it saves, and the job is queued again.
#SBATCH --signal=TERM@300
#SBATCH --requeue
"""
SUBMIT = """\
#!/bin/bash
# Submits {count} jobs; each waits until those before it that it needs have ended well. Once is enough.
set -euo pipefail
cd "$(dirname "$0")"

submit() { # script, then the jobs it waits for
  local script=$1 needs
  shift
  needs=$(IFS=:; echo "$*")
  sbatch --parsable ${needs:+--dependency=afterok:$needs --kill-on-invalid-dep=yes} "$script" | cut -d ';' -f 1
}

"""


def write(config: SweepConfig, stages: Sequence[Stage], folder: str) -> str:
    """Write scripts for `stages`, in order, into `folder`; returns what to do with them."""
    scripts.check(config)
    numbers = {stage.name: index for index, stage in enumerate(stages, start=1)}
    lines = []
    for stage in stages:
        file = f"{numbers[stage.name]:03d}-{stage.name}.sbatch"
        scripts.write_script(storage.join(folder, file), _script(stage, config))
        needs = "".join(f' "$job_{numbers[name]:03d}"' for name in stage.needs if name in numbers)
        lines.append(f"job_{numbers[stage.name]:03d}=$(submit {shlex.quote(file)}{needs})\n")
    submit = storage.join(folder, "submit.sh")
    scripts.write_script(submit, SUBMIT.replace("{count}", str(len(stages))) + "".join(lines))
    return f"{len(stages)} jobs written; look at them, then: bash {submit}"


def _script(stage: Stage, config: SweepConfig) -> str:
    gpus, cluster = stage.num_processes, config.cluster
    hosts = cluster.hosts if stage.kind == "pretrain" else 1
    options = "".join(f"#SBATCH {option}\n" for option in cluster.options)
    return SCRIPT.format(
        name=stage.name,
        log=shlex.quote(scripts.log(stage, config)),
        hosts=hosts,
        cores=max(1, gpus * cluster.cores_per_gpu) if gpus and cluster.cores_per_gpu else cluster.cores,
        hours=cluster.hours,
        options=options + (TRAINING.format(gpus=gpus) if gpus else ""),
        folder=shlex.quote(os.getcwd()),
        setup=cluster.setup,
        body=scripts.attempted(stage, _command(stage, config, hosts), config, "job", "$SLURM_JOB_ID"),
    )


def _command(stage: Stage, config: SweepConfig, hosts: int) -> str:
    words = scripts.words(stage, config)
    if hosts == 1:
        return "srun " + scripts.quoted(words)
    path = stage_command(stage, sweep_folder(config)).config_path
    return (
        f"srun --kill-on-bad-exit=0 python -m pretrain.torchrun --nnodes={hosts} --nproc-per-node={stage.num_processes} \\\n"
        '    --rdzv-backend=c10d --rdzv-endpoint="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):29500" \\\n'
        f'    --rdzv-id="$SLURM_JOB_ID" -m {stage.module} --config {shlex.quote(path)}'
    )
