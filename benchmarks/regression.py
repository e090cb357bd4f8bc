"""The logistic regression of fc-only at full size: time and memory of an evaluation, a whole fit, and scikit-learn beside it.

    python -m benchmarks.regression                     # one core, or the GPU where there is one
    python -m benchmarks.regression --fit 25000 2048 400

Features are made up: rectified mixtures of a few hundred directions, some strong, as a network's are; labels are drawn
from a linear model of them. They lie in a file that is mapped, as cached features are.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import record

record.one_core()  # before torch counts cores

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402

from finetune.logistic import Problem  # noqa: E402
from finetune.rows import Block, Rows  # noqa: E402

Shape = tuple[int, int, int]  # rows, features, labels
STEP = 5000


def simulate(path: Path, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 [N, D], written and mapped, and labels int64 [N]."""
    num_rows, num_features, num_labels = shape
    rng = np.random.default_rng(0)
    directions = max(1, num_features // 8)
    mixing = rng.normal(size=(directions, num_features), scale=np.logspace(0.5, -1, directions)[:, None])
    teacher = rng.normal(size=(num_features, num_labels)) * 2 / num_features**0.5
    features = np.lib.format.open_memmap(path, "w+", np.float32, (num_rows, num_features))
    labels = np.empty(num_rows, np.int64)
    for begin in range(0, num_rows, STEP):
        size = min(STEP, num_rows - begin)
        mixed = rng.normal(size=(size, directions)) @ mixing + 0.3 * rng.normal(size=(size, num_features))
        features[begin : begin + size] = np.maximum(mixed, 0) / num_features**0.25
        noisy = mixed @ teacher + rng.gumbel(size=(size, num_labels))
        labels[begin : begin + size] = noisy.argmax(axis=1)
    features.flush()
    return np.load(path, mmap_mode="r"), labels


def mapped_rows(features: np.ndarray, labels: np.ndarray, device: torch.device) -> Rows:
    """As `Features.rows` gives them, nothing held in memory on a CPU."""
    block = Block(features[:, None], np.arange(len(features)), labels)
    return Rows([block], features.shape[1], device, 0 if device.type == "cpu" else None)


class PeakMemory:
    """Greatest memory of this process, of its own and not of mapped files, beyond what it had before; MiB."""

    def __enter__(self) -> PeakMemory:
        self.before = self.peak = self._now()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()
        self.mib = round((self.peak - self.before) / 1024)

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.peak = max(self.peak, self._now())

    @staticmethod
    def _now() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def timed(action: Callable[[], object]) -> dict[str, float]:
    """Wall and CPU seconds."""
    began, cpu = time.perf_counter(), record.cpu_seconds()
    action()
    return {"wall_s": round(time.perf_counter() - began, 2), "cpu_s": round(record.cpu_seconds() - cpu, 2)}


def measure_evaluation(folder: Path, shape: Shape, device: torch.device) -> dict[str, Any]:
    """One evaluation of the objective and its gradient, and the memory that the whole problem takes."""
    features, labels = simulate(folder / "evaluation.npy", shape)
    with PeakMemory() as memory:
        problem: list[Problem] = []
        start = timed(lambda: problem.append(Problem(mapped_rows(features, labels, device), shape[2])))
        flat = torch.zeros(shape[2] * (shape[1] + 1), dtype=torch.float64, device=device)
        problem[0].evaluate(flat, 0.01).cpu()  # the device's rows, where it holds them
        evaluation = timed(lambda: problem[0].evaluate(flat, 0.01).cpu())
    seconds = evaluation["cpu_s" if device.type == "cpu" else "wall_s"]
    per_s = {"gflop_per_s": round(4 * math.prod(shape) / 1e9 / seconds, 1)}
    return {"shape": shape, "file_mib": features.nbytes >> 20, "peak_mib": memory.mib, "start": start} | {
        "evaluation": evaluation | per_s
    }


def measure_fit(folder: Path, shape: Shape, device: torch.device, grid: tuple[float, ...]) -> dict[str, Any]:
    """A path of penalties, each from the answer before, and its last one from zero."""
    problem = Problem(mapped_rows(*simulate(folder / "fit.npy", shape), device), shape[2])
    found, solved = {}, None
    with PeakMemory() as memory:
        for l2 in grid:
            answers = []
            seconds = timed(lambda start=solved, l2=l2, answers=answers: answers.append(problem.solve(l2, start)))
            solved = answers[0]
            found[f"{l2:g}"] = {"iterations": solved.iterations, "converged": solved.converged, **seconds}
    cold = []
    seconds = timed(lambda: cold.append(problem.solve(grid[-1])))
    from_zero = {"iterations": cold[0].iterations, **seconds}
    return {"shape": shape, "peak_mib": memory.mib, "path": found, "last_from_zero": from_zero}


def measure_peer(folder: Path, shape: Shape, l2: float, rounds: int) -> dict[str, Any]:
    """scikit-learn's lbfgs on the same rows, standardised beforehand, to the same gradient; one core each."""
    mapped, labels = simulate(folder / "peer.npy", shape)
    features = np.array(mapped)
    scaled = (features - features.mean(axis=0, dtype=np.float64)) / features.std(axis=0, dtype=np.float64)
    theirs = LogisticRegression(C=1 / (l2 * len(features)), tol=1e-7, max_iter=5000)
    mine: list[Any] = []

    def solve() -> None:
        mine[:] = [Problem(mapped_rows(mapped, labels, torch.device("cpu")), shape[2]).solve(l2)]

    seconds = record.interleave({"ours": solve, "sklearn": lambda: theirs.fit(scaled, labels)}, rounds)
    probabilities = mine[0].probabilities(torch.from_numpy(features[:STEP])).numpy()
    apart = np.abs(probabilities - theirs.predict_proba(scaled[:STEP])).max()
    assert apart < 1e-4, apart
    return {
        "shape": shape,
        "seconds": {name: record.spread(values, 2) for name, values in seconds.items()},
        "sklearn_to_ours": record.ratio(seconds, "sklearn", "ours"),
        "iterations": {"ours": mine[0].iterations, "sklearn": int(theirs.n_iter_[0])},
        "probabilities_apart": float(apart),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, shape in (("full", (250_000, 2048, 400)), ("fit", (8000, 512, 100)), ("peer", (2000, 256, 20))):
        parser.add_argument(f"--{name}", type=int, nargs=3, default=shape, metavar=("ROWS", "FEATURES", "LABELS"))
    parser.add_argument("--l2", type=float, nargs="+", default=[1.0, 1e-1, 1e-2], help="strongest first")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = {
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu, one core",
            "peer": measure_peer(folder, tuple(options.peer), 0.01, options.rounds),
            "fit": measure_fit(folder, tuple(options.fit), device, tuple(options.l2)),
            "full": measure_evaluation(folder, tuple(options.full), device),
        }
    print(results)
    print(record.write("regression", results, "torch", "scipy", "numpy", "scikit-learn"))


if __name__ == "__main__":
    main()
