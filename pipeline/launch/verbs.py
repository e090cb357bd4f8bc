"""`tagreel pretrain` and `tagreel transfer`: one training, started under torchrun."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pipeline import artifacts, storage
from pipeline.cli import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_PEER_LOST, run_stage
from pipeline.config import PretrainConfig, TransferConfig
from pipeline.launch.step import Command, CommandFailed, command, run

SAID_ENOUGH = (EXIT_BAD_INPUT, EXIT_PEER_LOST, EXIT_INTERRUPTED, 130)  # the stage's last line says why


def run_alone(step: Command) -> None:
    """Run what the user asked for by name: it ends as the stage does."""
    try:
        run(step)
    except CommandFailed as failed:
        if failed.status in SAID_ENOUGH:
            sys.exit(failed.status)
        raise


def pretrain(config: PretrainConfig) -> None:
    run_alone(
        command(f"pretrain-{config.run}", "pretrain.train", config, _configs_folder(config), config.num_processes)
    )


def transfer(config: TransferConfig) -> None:
    run_folder, _, result = artifacts.transfer_files(config).folder.rpartition("/transfer/")
    name = f"transfer-{run_folder.rpartition('/')[2]}-{result}"
    run_alone(command(name, "finetune.transfer", config, _configs_folder(config), config.num_processes))


def _configs_folder(config: PretrainConfig | TransferConfig) -> str:
    return storage.join(config.root, "commands")


def pretrain_main(argv: Sequence[str] | None = None) -> None:
    run_stage(PretrainConfig, pretrain, argv)


def transfer_main(argv: Sequence[str] | None = None) -> None:
    run_stage(TransferConfig, transfer, argv)
