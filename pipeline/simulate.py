"""`python -m pipeline.simulate`: a simulated platform as a stage of its own, for sweeps at the tiny size.

Beside what `pipeline.world` writes there are the seed labels of every kind of label space, in `labels/{kind}.txt`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields

from pipeline import config as configs
from pipeline import progress, storage
from pipeline.cli import run_stage
from pipeline.config import ConfigError, PlatformConfig
from pipeline.world import WorldConfig, write_world
from pipeline.world.vocabulary import VERBS, label_name


def simulate(config: PlatformConfig) -> None:
    """Write what is missing of the platform; its marker, `platform.json`, last.

    Raises: ConfigError where another platform stands at the same root.
    """
    folder = storage.join(config.root, "world")
    known = {field.name for field in fields(WorldConfig)} & {field.name for field in fields(config)}
    world = WorldConfig(**{name: getattr(config, name) for name in known})
    try:
        summary = write_world(world, folder, config.execution.num_workers or os.cpu_count() or 1)
    except ValueError as error:
        raise ConfigError(f"{error} (--root)") from error
    for kind, labels in seed_labels(world).items():
        storage.write_bytes(storage.join(folder, "labels", f"{kind}.txt"), "".join(f"{n}\n" for n in labels).encode())
    storage.write_json(storage.join(folder, "platform.json"), {"config": configs.determining(config)})
    progress.say(f"platform: {summary.counts}")


def seed_labels(world: WorldConfig) -> dict[str, list[str]]:
    """{kind: labels} of a platform's posts: actions, objects, motions, and pairs of motion and object."""
    pairs = world.source_labels
    nouns, verbs = (list(dict.fromkeys(words)) for words in zip(*((noun, verb) for verb, noun in pairs), strict=True))
    return {
        "kinetics": [label_name(verb, noun) for verb, noun in pairs],
        "noun": nouns,
        "verb": [VERBS[verb] for verb in verbs],
        "verb_noun": [f"{verb} {noun}" for verb, noun in pairs],
    }


def main(argv: Sequence[str] | None = None) -> None:
    run_stage(PlatformConfig, simulate, argv)


if __name__ == "__main__":
    main()
