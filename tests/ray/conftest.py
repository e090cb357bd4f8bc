import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.patience import PATIENCE_S
from tests.ray.sandbox import REPOSITORY, Sandbox, sandboxed


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandboxed() as sandbox:
        yield sandbox


@pytest.fixture
def two_nodes(sandbox: Sandbox) -> Iterator[dict]:
    """address and raylets of a cluster of two nodes on this machine; the head's raylet is the first."""
    command = [sys.executable, "-m", "tests.ray.nodes", "2"]
    cluster = sandbox.start(*command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sandbox.log)
    yield json.loads(cluster.stdout.readline())
    cluster.stdin.close()
    cluster.wait(PATIENCE_S)
