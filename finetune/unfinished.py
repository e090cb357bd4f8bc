"""What an interrupted transfer goes on from: finished trials and final trainings, and the training at hand.

    {folder of the transfer}/unfinished/trials.jsonl       one line per finished trial of the search
                                        trainings/{name}/  checkpoints of one training (see pretrain.checkpoint)
                                        {seed}.parquet     predictions of a final training
                                        {seed}.json        its account, written last

The first process writes; all must see the same disk. The folder is removed when result.json is written.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import torch

from finetune.search import Trial
from pipeline import artifacts, progress, storage
from pipeline.artifacts import TransferFiles
from pipeline.config import ConfigError
from pretrain import checkpoint
from pretrain.distributed import World
from pretrain.engine import Engine
from pretrain.train import EXIT_INTERRUPTED, StopRequest


class Unfinished:
    """The memory of one transfer, on one process."""

    def __init__(self, files: TransferFiles, world: World, checkpoint_minutes: float) -> None:
        self.files, self.world, self.checkpoint_s = files, world, 60 * checkpoint_minutes
        self.trials: dict[float, Trial] = {}
        for line in progress.read_metrics(self._trials):
            loss = math.inf if line["loss"] is None else line["loss"]
            self.trials[line["value"]] = Trial(line["value"], line["score"], loss)
        world.barrier()  # before any process writes

    # ------------------------------------------------------------------------------------------- of the search

    def get(self, value: float) -> Trial | None:
        """A finished trial."""
        return self.trials.get(value)

    def add(self, trial: Trial) -> None:
        """A trial is finished."""
        self.trials[trial.value] = trial
        if self.world.is_first:
            with contextlib.closing(progress.MetricsFile(self._trials)) as file:
                file.write(value=trial.value, score=trial.score, loss=trial.loss if math.isfinite(trial.loss) else None)
            storage.remove(self._trainings)

    @property
    def _trials(self) -> str:
        return storage.join(self.files.unfinished, "trials.jsonl")

    # ------------------------------------------------------------------------------------ of the final trainings

    def is_done(self, seed: int) -> bool:
        """Whether the final training of this seed is trained and tested; the first process's answer on all."""
        done = torch.tensor(float(storage.exists(self._path(seed, "json"))), device=self.world.device)
        return bool(self.world.broadcast_(done))

    def put(self, seed: int, predictions: pa.Table, account: dict[str, Any]) -> None:
        """On the first process: a final training is trained and tested."""
        storage.write_parquet(self._path(seed, "parquet"), predictions, artifacts.PREDICTIONS)
        storage.write_json(self._path(seed, "json"), account)
        storage.remove(self._trainings)

    def read(self, seed: int) -> tuple[pa.Table, dict[str, Any]]:
        return storage.read_parquet(self._path(seed, "parquet")), storage.read_json(self._path(seed, "json"))

    def remove(self) -> None:
        """Nothing is unfinished any more."""
        storage.remove(self.files.unfinished)

    def _path(self, seed: int, ending: str) -> str:
        return storage.join(self.files.unfinished, f"{seed}.{ending}")

    # --------------------------------------------------------------------------------------- of one training

    def training(self, name: str, engine: Engine, batch: int) -> Training:
        """A training that may have begun before; `engine` takes up where it was."""
        return Training(storage.join(self._trainings, name), engine, batch, self.checkpoint_s)

    @property
    def _trainings(self) -> str:
        """Only the one at hand is there."""
        return storage.join(self.files.unfinished, "trainings")


class Training:
    """Checkpoints of one training. `steps` are done; `state` is what else was saved with them.

    Args:
        folder: of its checkpoints.
        engine: of this process.
        batch: clips per step.
        checkpoint_s: seconds between checkpoints; 0 saves only when told to.
    """

    def __init__(self, folder: str, engine: Engine, batch: int, checkpoint_s: float) -> None:
        self.folder, self.engine, self.batch, self.checkpoint_s = folder, engine, batch, checkpoint_s
        self.saved_at = time.monotonic()
        found = checkpoint.newest(folder)
        self.steps = 0 if found is None else found.clips_seen // batch
        world = engine.world
        if self.steps != int(world.broadcast_(torch.tensor(self.steps, device=world.device))):
            raise ConfigError(
                f"process {world.rank} sees other checkpoints in '{folder}' than the first one does: all processes of a "
                "transfer must share one disk"
            )
        self.state: dict[str, Any] = {} if found is None else found.state["training"]
        if found is not None:
            engine.load(found.model_tensors(), found.optimizer_tensors())
            progress.say(f"  resuming '{os.path.basename(folder)}' after {self.steps:,} steps")

    def save_if_due(self, steps: int, state: dict[str, Any]) -> None:
        """Save on the first process when it is time; the others wait for it in the next step."""
        if self.engine.world.is_first and 0 < self.checkpoint_s < time.monotonic() - self.saved_at:
            self._save(steps, state)

    def save(self, steps: int, state: dict[str, Any]) -> None:
        """Save now. All processes call it, and leave together: a launcher ends all soon after the first."""
        if self.engine.world.is_first:
            self._save(steps, state)
        self.engine.world.barrier()

    def _save(self, steps: int, state: dict[str, Any]) -> None:
        tensors = [
            {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}
            for named in (self.engine.model.state_dict(), self.engine.optimizer_tensors())
        ]
        checkpoint.save(self.folder, steps * self.batch, *tensors, training=state)
        self.saved_at = time.monotonic()


class StopTraining(StopRequest):
    """A wish to stop that outlives the training: signals that come while it is being left change nothing any more."""

    def __exit__(self, *error: object) -> None:
        if not self.asked:
            super().__exit__(*error)


@contextlib.contextmanager
def ends_when_told() -> Iterator[None]:
    """SIGTERM ends the process as in pretraining: however often it comes, once. A `StopTraining` inside saves first."""
    told = False

    def end(*_: object) -> None:
        nonlocal told
        if told:
            return
        told = True
        progress.say("transfer: told to stop; the same command goes on from what is finished")
        raise SystemExit(EXIT_INTERRUPTED)

    before = {number: signal.getsignal(number) for number in StopTraining.SIGNALS}
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
