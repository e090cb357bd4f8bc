"""docs/your-own-data.md, followed literally: its files, its commands in order, and what they print."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.own_data import write_own_data

REPOSITORY = Path(__file__).parents[1]
BLOCK = re.compile(r"^(?:`(?P<file>[\w.]+)`:\n\n)?```(?P<kind>console|toml|python)\n(?P<text>.*?)^```", re.M | re.S)
MEASURED = re.compile(r"\d+\.\d+|\d+%|\d\d:\d\d")
"""Numbers with decimals, percentages and times: what training gives depends on the machine; counts do not."""


@pytest.mark.slow
def test_every_command_runs_and_prints_what_is_shown(shared_data, tmp_path):
    write_own_data(shared_data, tmp_path)
    for block in BLOCK.finditer((REPOSITORY / "docs" / "your-own-data.md").read_text()):
        if block["kind"] == "toml":
            (tmp_path / block["file"]).write_text(block["text"])
        elif block["kind"] == "python":
            run([sys.executable, "-c", block["text"]], tmp_path, 0)
        else:
            for step in re.split(r"^\$ ", block["text"], flags=re.M)[1:]:
                follow(step, tmp_path)


def follow(step: str, folder: Path) -> None:
    """One command with its continuation lines, and the lines that must be among those it prints, in this order."""
    command, _, shown = re.sub(r" *\\\n *", " ", step).partition("\n")
    printed = normal(run(["bash", "-c", command], folder, 2 if re.search(r"^tagreel: ", shown, re.M) else 0))
    for piece in filter(None, map(normal, shown.split("…"))):
        assert piece in printed, f"{command}\nshows: {piece}\nprinted: {printed}"
        printed = printed[printed.index(piece) + len(piece) :]


def run(command: list[str], folder: Path, status: int) -> str:
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": search, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "300"}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def normal(text: str) -> str:
    """On one line, however it is wrapped, with a # for each number that is measured."""
    return MEASURED.sub("#", " ".join(text.split()))
