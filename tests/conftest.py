"""Shared fixtures. Tests make their own small world; real clips and label lists are used where they exist."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.forks import Forks

# A busy machine makes examples slow, not wrong.
settings.register_profile("tagreel", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tagreel")

os.environ.setdefault("WDS_SECURE", "1")
if worker := os.environ.get(
    "PYTEST_XDIST_WORKER"
):  # a core each: threads of several workers would wait for one another
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real label lists, annotations, hashtags and clips (its MANIFEST.json says what each is), or a skip."""
    folder = Path(os.environ.get("TAGREEL_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "MANIFEST.json").is_file():
        pytest.skip("no folder of real data (set TAGREEL_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """Where runs of several processes, and those that end badly, take place."""
    process = Forks()
    yield process
    process.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start the whole program take minutes: where processes share the files, they begin with these."""
    items.sort(key=lambda item: not {"ray", "test_main_job.py"} & set(item.path.parts))
