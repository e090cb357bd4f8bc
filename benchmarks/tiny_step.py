"""Training steps of the network of the demo and of tiny sweeps on one core: what `tagreel sweep --dry-run` reckons with.

`python -m benchmarks.tiny_step` writes results/tiny_step.json. CPU time of whole steps (`Engine.step`), after two that are not
measured; small networks reach a smaller share of a core's arithmetic than the one of `cpu_step`.
"""

from __future__ import annotations

import time

import torch

from benchmarks.record import one_core, spread, write
from pipeline import presets
from pretrain.distributed import World, keep_freed_memory
from pretrain.engine import Engine
from pretrain.models import build_model, count

NUM_LABELS = 32
ROUNDS = 15


def main() -> None:
    one_core()
    torch.set_num_threads(1)
    keep_freed_memory()
    config = presets.demo("", "", "", 1, 1).pretrain
    batch, length, size = config.recipe.batch_per_gpu, config.clip.length, config.clip.crop_px
    model = build_model(config.model.name, NUM_LABELS, config.model.width)
    gmac = count(model, length, size)[1]
    engine = Engine(model, World(), config.recipe.momentum, config.recipe.weight_decay)
    torch.manual_seed(0)
    clips, labels = torch.randn(batch, 3, length, size, size), torch.randint(0, NUM_LABELS, (batch,))
    seconds = []
    for _ in range(ROUNDS + 2):
        began = time.process_time()
        engine.step([(clips, labels)], 1, 0.01)
        seconds.append(time.process_time() - began)
    results = {
        "settings": {"model": config.model.name, "width": config.model.width, "batch": batch, "length": length, "size": size},
        "gmac_per_clip": round(gmac, 5),
        "cpu_s_per_step": spread(seconds[2:]),
        "clips_per_s": round(batch / spread(seconds[2:])["median"], 1),
    }  # fmt: skip
    print(results)
    print(write("tiny_step", results, "torch"))


if __name__ == "__main__":
    main()
