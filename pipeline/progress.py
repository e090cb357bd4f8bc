"""Progress bars, log lines and metrics files."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from pipeline import storage
from pipeline.storage import StorageError


def bar(items: Iterable | None = None, *, desc: str, total: int | None = None, unit: str = "it") -> tqdm:
    """A tqdm bar on stderr; silent when stderr is not a terminal."""
    return tqdm(items, desc=desc, total=total, unit=unit, disable=None, dynamic_ncols=True, leave=False)


def say(line: str) -> None:
    """One line for the person at the terminal, above any progress bar; only from the first process of a group."""
    if os.environ.get("RANK", "0") == "0":
        with tqdm.external_write_mode(file=sys.stdout):
            print(line, flush=True)


def say_counts(stage: str, total: int, kept: int, dropped: dict[str, int]) -> None:
    """`stage: in = kept + dropped by reason`; raises when they do not add up."""
    if total != kept + sum(dropped.values()):
        raise AssertionError(f"{stage}: {total} in, but {kept} kept and {dropped} dropped")
    reasons = "".join(f" + {count:,} {reason}" for reason, count in sorted(dropped.items()) if count)
    say(f"{stage}: {total:,} = {kept:,} kept{reasons}")


class MetricsFile:
    """Appends JSON lines; a line cut short by a crash is dropped when the file is opened again.

    What cannot be written raises StorageError, when the file is opened or later.
    """

    def __init__(self, path: str, resume_at: tuple[str, float] | None = None) -> None:
        """`resume_at` (key, value) forgets lines whose key is beyond value: they will be written again."""
        self.path = path
        kept = [line for line in read_metrics(path) if resume_at is None or line.get(resume_at[0], 0) <= resume_at[1]]
        lines = "".join(json.dumps(line) + "\n" for line in kept)
        storage.write_bytes(path, lines.encode())
        self.last: dict[str, Any] = kept[-1] if kept else {}
        with _named(path):
            self._file = open(path, "a", buffering=1)  # noqa: SIM115  (lives as long as the object)

    def write(self, **values: Any) -> None:
        """One line; what is not finite is written as null, for JSON has no word for it."""
        finite = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}
        with _named(self.path):
            self._file.write(json.dumps(finite) + "\n")

    def close(self) -> None:
        self._file.close()


class EventFile:
    """Numbers for TensorBoard. torch's writer takes seconds to import, so it is only where one is made."""

    def __init__(self, folder: str, resume_at: int) -> None:
        """Steps beyond `resume_at`, of a run that was cut short, are marked as void: they will be written again."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(folder, purge_step=resume_at + 1, flush_secs=30)

    def write(self, step: int, **values: float | None) -> None:
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


@contextmanager
def _named(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write '{path}': {error.strerror}") from error


def read_metrics(path: str) -> list[dict[str, Any]]:
    """Lines of a metrics.jsonl; a last line that a crash cut short is left out."""
    if not os.path.exists(path):
        return []
    lines = []
    with open(path) as file:
        for line in file:
            try:
                lines.append(json.loads(line))
            except ValueError:
                break
    return lines
