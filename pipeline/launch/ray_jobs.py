"""A sweep as Ray jobs: submit.sh, which submits each stage when those it needs have ended well.

Ray starts a job when the resources of its entrypoint are free; a stage that trains asks for its GPUs on one node, a data
stage for none, for its parts are Ray tasks of their own. Writing the script submits nothing.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from pipeline import storage
from pipeline.config import SweepConfig
from pipeline.launch import scripts
from pipeline.sweeps import Stage

SUBMIT = """\
#!/bin/bash
# Runs {count} stages as jobs of the Ray cluster at the address below; leave it running until they are done.
# Started again, it goes on: stages that are done are passed over by themselves.
set -uo pipefail
export RAY_ADDRESS={address}
cd {folder} # what each job gets a copy of
{setup}
states=$(mktemp -d)
trap 'rm -rf "$states"' EXIT

stage() { # name, log, names of the stages it needs, then the options of its job and the command
  local name=$1 log=$2 needs=$3 need status attempt id
  shift 3
  for need in $needs; do
    until [ -e "$states/$need" ]; do sleep {poll}; done
    if [ "$(cat "$states/$need")" != 0 ]; then
      echo "$name: skipped, for $need failed"
      end "$name" 1
      return
    fi
  done
  for attempt in $(seq {attempts}); do
    id=$name-$(date +%s)-$attempt
    echo "==> $name begins on $(hostname), ray ${RAY_ADDRESS%/}/api/jobs/$id" >> "$log" # where to ask for its state
    status=0
    ray job submit --submission-id "$id" --working-dir . "$@" >> "$log" 2>&1 || status=$?
    echo "==> $name ended with status $status" >> "$log"
    [ "$status" -eq 0 ] && break
  done
  echo "$name: ended with status $status"
  end "$name" "$status"
}

end() { # its name, its status: whole when it is there
  echo "$2" > "$states/$1.tmp" && mv "$states/$1.tmp" "$states/$1"
}

"""
STAGE = """\
stage {name} {log} {needs} \\
  ray job submit --working-dir . {resources}-- \\
  {command} &
"""
END = """\

wait
! grep -qvx 0 "$states"/*
"""
POLL_S = 5


def write(config: SweepConfig, stages: Sequence[Stage], folder: str, poll_s: float = POLL_S) -> str:
    """Write submit.sh for `stages`, in order, into `folder`; returns what to do with it. `poll_s`: between looks."""
    scripts.check(config)
    names = {stage.name for stage in stages}
    values = {
        "count": str(len(stages)),
        "address": shlex.quote(config.cluster.address),
        "folder": shlex.quote(os.getcwd()),
        "setup": config.cluster.setup,
        "attempts": str(config.retries + 1),
        "poll": f"{poll_s:g}",
    }
    text = SUBMIT
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", value)
    path = storage.join(folder, "submit.sh")
    scripts.write_script(path, text + "\n".join(_stage(stage, names, config) for stage in stages) + END)
    return f"{len(stages)} stages written; look at them, then: bash {path}"


def _stage(stage: Stage, names: set[str], config: SweepConfig) -> str:
    gpus = stage.num_processes
    cores = gpus * config.cluster.cores_per_gpu
    resources = f"--entrypoint-num-gpus {gpus} --entrypoint-num-cpus {cores} " if gpus else ""
    return STAGE.format(
        name=shlex.quote(stage.name),
        log=shlex.quote(scripts.log(stage, config)),
        needs=shlex.quote(" ".join(name for name in stage.needs if name in names)),
        resources=resources,
        command=shlex.join(scripts.words(stage, config)),
    )
