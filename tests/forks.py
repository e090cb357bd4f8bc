"""Training in forks of one process that has imported everything: a run costs its steps, not seconds of imports.

`forks("status = run(values)")` executes code in a child and reports how it ended. Signals and faults are part of the
code, so they strike at the same point every time; `kill_after_s` is kill -9 from outside.
"""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass

from tests.patience import PATIENCE_S


@dataclass(frozen=True)
class Outcome:
    """Of a child, or of several."""

    statuses: list[int]
    """Exit statuses by rank; -9 for a killed one."""
    outputs: list[str]
    """stdout and stderr by rank."""
    num_steps: int
    """Training steps finished, over all ranks."""
    seconds: float

    @property
    def status(self) -> int:
        return max(self.statuses, key=abs)

    @property
    def output(self) -> str:
        return "\n".join(self.outputs)


class Forks:
    """A process to fork from; call it with code. Close it at the end."""

    def __init__(self) -> None:
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **single},
        )

    def __call__(self, code: str, kill_after_s: float | None = None, ranks: int = 1) -> Outcome:
        self.process.stdin.write(json.dumps([code, kill_after_s, ranks]) + "\n")
        self.process.stdin.flush()
        return Outcome(**json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(PATIENCE_S)


# ------------------------------------------------------------------------------------- in the process that forks


def serve() -> None:
    """Answer one line of JSON with another until the input ends."""
    import pyarrow.dataset  # noqa: F401  (each run would import these anew)
    import torch

    from pipeline.cli import guarded
    from pipeline.config import PretrainConfig, from_dict
    from pretrain import checkpoint, distributed, train
    from pretrain.engine import Engine
    from tests import faulty

    torch.set_num_threads(1)
    distributed.available_cores = lambda: 1

    def run(values: dict) -> int:
        """Train; the exit status that the command line would have."""
        try:
            return guarded(lambda: train.train(from_dict(PretrainConfig, values)))
        except SystemExit as left:
            return left.code

    namespace = {"run": run, "checkpoint": checkpoint, "distributed": distributed, "faulty": faulty, "train": train}
    namespace |= {"Engine": Engine, "os": os, "signal": signal, "time": time}
    for line in sys.stdin:
        print(json.dumps(_fork(namespace, *json.loads(line))), flush=True)
    os._exit(0)  # nothing to tidy up, and torch takes seconds to do it


def _fork(namespace: dict, code: str, kill_after_s: float | None, ranks: int) -> dict:
    began = time.monotonic()
    steps, finished = os.pipe()
    logs = [tempfile.TemporaryFile() for _ in range(ranks)]  # noqa: SIM115  (read below)
    port = _free_port()
    children = []
    for rank in range(ranks):
        if (child := os.fork()) == 0:
            os.close(steps)
            _become(rank, ranks, port, logs[rank].fileno())
            _execute(code, namespace, finished)
        children.append(child)
    os.close(finished)
    if kill_after_s is not None:
        _kill_later(children, steps, kill_after_s)
    with open(steps, "rb") as file:
        num_steps = len(file.read())  # ends when the last child has
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    outputs = []
    for log in logs:
        log.seek(0)
        outputs.append(log.read().decode(errors="replace"))
        log.close()
    return {
        "statuses": statuses,
        "outputs": outputs,
        "num_steps": num_steps,
        "seconds": time.monotonic() - began,
    }


def _kill_later(children: list[int], steps: int, seconds: float) -> None:
    """kill -9 after so long, or not at all when all children ended before."""
    over = select.poll()
    over.register(steps, select.POLLHUP)
    if not over.poll(seconds * 1000):
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def _become(rank: int, ranks: int, port: int, log: int) -> None:
    """A process group of its own, output to the log, and torchrun's variables where there are several ranks."""
    os.setsid()
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    if ranks > 1:
        world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in {**world, **address}.items()})


def _execute(code: str, namespace: dict, finished: int) -> None:
    """Run code that sets `status`, and end the process with it."""
    engine = namespace["Engine"]
    step = engine.step

    def counted(*arguments, **options):
        result = step(*arguments, **options)
        os.write(finished, b".")
        return result

    engine.step = counted
    own = dict(namespace)
    try:
        exec(code, own)
        status = own["status"]
    except BaseException:
        traceback.print_exc()
        status = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    serve()
