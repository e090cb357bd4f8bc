"""The order of training samples at full size: start, resumption, time per sample, and from how many shards a batch draws.

python -m benchmarks.sample_order --samples 65000000

Beside it: a permutation of all slots held in memory (torch.randperm), what a sampler without a function needs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from benchmarks import record

record.one_core()  # before torch counts cores

import numpy as np  # noqa: E402
import torch  # noqa: E402

from pretrain.order import SampleOrder  # noqa: E402

PER_SHARD = 1000
BATCH = 2048
BLOCKS = (0, 1024, 256, 64, 16)
NUM_WINDOWS = 40
FAR = 490_000_000  # clips of the paper's training


def simulated(num_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights float32 [N] between 1 and 4, and the shards int32 [N] of a thousand samples each."""
    weights = np.random.default_rng(0).random(num_samples, dtype=np.float32) * 3 + 1
    return weights, np.arange(num_samples, dtype=np.int32) // PER_SHARD


def size_mib(order: SampleOrder) -> float:
    """Arrays that an order holds beyond the column of weights."""
    parts = (order.slots, order._latest)
    held = [value for part in parts for value in vars(part).values() if isinstance(value, np.ndarray)]
    return sum(array.nbytes for array in held if array is not order.slots.weights) / 2**20


def measure_time(weights: np.ndarray, shards: np.ndarray, block: int, rounds: int) -> dict[str, Any]:
    orders: list[SampleOrder] = []

    def thousands() -> None:
        for position in range(FAR + 1, FAR + 5001):
            orders[-1](position)

    actions: dict[str, Callable[[], object]] = {
        "start": lambda: orders.append(SampleOrder(weights, 0, shards, block)),
        "resume": lambda: orders[-1](FAR),
        "calls": thousands,
    }
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():  # each needs the one before
            began = record.cpu_seconds()
            action()
            seconds[name].append(record.cpu_seconds() - began)
    return {
        "start_s": record.spread(seconds["start"], 3),
        "resume_ms": record.spread([1e3 * value for value in seconds["resume"]], 2),
        "us_per_sample": record.spread([1e6 * value / 5000 for value in seconds["calls"]], 2),
        "mib": round(size_mib(orders[-1]), 2),
    }


def measure_table(num_slots: int, rounds: int) -> dict[str, Any]:
    """The same as a table, which a restart makes again (and a new pass too)."""
    seconds = record.interleave({"randperm": lambda: torch.randperm(num_slots)}, rounds)["randperm"]
    return {"start_s": record.spread(seconds, 3), "mib": round(8 * num_slots / 2**20)}


def distinct_shards(num_shards: int, block: int) -> dict[str, float]:
    """Of batches spread over a pass of samples with one slot each."""
    num_samples = num_shards * PER_SHARD
    order = SampleOrder(np.ones(num_samples, np.float32), 0, np.arange(num_samples) // PER_SHARD, block)
    starts = np.linspace(0, num_samples - BATCH, NUM_WINDOWS).astype(int).tolist()
    found = [len({order(place) // PER_SHARD for place in range(start, start + BATCH)}) for start in starts]
    return {**record.spread(found, 0), "mean": round(float(np.mean(found)), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=65_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    weights, shards = simulated(options.samples)
    results: dict[str, Any] = {"samples": options.samples, "slots": SampleOrder(weights, 0).num_slots}
    for block in (0, 256):
        results[f"block_{block}"] = measure_time(weights, shards, block, options.rounds)
    results["table"] = measure_table(options.samples, 2)
    results["distinct_shards"] = {
        f"of_{num_shards}": {f"block_{block}": distinct_shards(num_shards, block) for block in BLOCKS}
        for num_shards in (1000, 10_000)
    }
    print(results)
    print(record.write("sample_order", results, "numpy", "torch"))


if __name__ == "__main__":
    main()
