"""The synthetic sweep that several files read."""

from __future__ import annotations

import pytest

from tests.pipeline.synthetic_sweep import HOSTILE, make_sweep, report


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(sweep folder, page) of a whole sweep with hostile names everywhere and one missing point."""
    gone = ("n1000000-s2-hmdb-fc_only",)
    root = tmp_path_factory.mktemp("full")
    folder = make_sweep(root, missing=gone, title=f"Data size {HOSTILE}", notes=[f"planted: 5 of 5 caught {HOSTILE}"])
    return folder, report(folder)
