"""Configs → the commands that realise them; print or run them, here or on a cluster. Every stage is its own process."""

from pipeline.launch.entry import sweep, sweep_main
from pipeline.launch.graph import commands, stage_command, sweep_folder, write_plan
from pipeline.launch.local import SweepFailed, realise
from pipeline.launch.step import Command, CommandFailed, command, run, torchrun
from pipeline.launch.verbs import pretrain_main, transfer_main

__all__ = [
    "Command",
    "CommandFailed",
    "SweepFailed",
    "command",
    "commands",
    "pretrain_main",
    "realise",
    "run",
    "stage_command",
    "sweep",
    "sweep_folder",
    "sweep_main",
    "torchrun",
    "transfer_main",
    "write_plan",
]
