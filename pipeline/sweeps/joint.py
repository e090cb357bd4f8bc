"""Targets that are made of two others: actions of EPIC-Kitchens, from a verb and a noun model (paper, A.4)."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline import artifacts
from pipeline.config import ConfigError, JointConfig, JointTargetConfig, SweepConfig
from pipeline.sweeps.plan import Stage


def joint_target(config: SweepConfig, name: str) -> JointTargetConfig | None:
    """What a target is made of; None for one that is built."""
    return next((target for target in config.joint if target.name == name), None)


def built_targets(config: SweepConfig, names: Iterable[str]) -> tuple[str, ...]:
    """The targets of these names that are built: two in place of one that is made of them. Each once, in order."""
    found: list[str] = []
    for name in names:
        target = joint_target(config, name)
        found += [name] if target is None else [target.verb, target.noun]
    return tuple(dict.fromkeys(found))


def check(config: SweepConfig) -> None:
    """ConfigError for a joint target that cannot be measured."""
    names = {target.name for target in config.joint}
    for target in config.joint:
        if not target.name or {target.verb, target.noun} & {"", *names}:
            raise ConfigError(
                f"joint target '{target.name}' needs a name and two targets that are built, not '{target.verb}' and "
                f"'{target.noun}'"
            )
    if joined := names.intersection(config.targets) if config.transfer.repeats > 1 else ():
        raise ConfigError(
            f"target '{min(joined)}' is made of two single trainings: transfer.repeats must be 1, not "
            f"{config.transfer.repeats}; --seeds repeats the whole"
        )


def joint_stage(name: str, verb: Stage, noun: Stage) -> Stage:
    """From transfers of one start to both targets: their result as actions, where a transfer to target `name` would be."""
    transfer = verb.config
    run = artifacts.run_files(transfer.root, transfer.run)
    config = JointConfig(
        root=transfer.root,
        verb=artifacts.transfer_files(verb.config).folder,
        noun=artifacts.transfer_files(noun.config).folder,
        target=name,
        to=artifacts.TransferFiles(run.transfer(name, transfer.protocol, transfer.result)).marker,
    )
    words = filter(None, ("joint", transfer.run, name, transfer.protocol, transfer.result))
    return Stage("-".join(words), "joint", "finetune.joint", config, (verb.name, noun.name))
