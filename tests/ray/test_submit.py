"""`ray job submit`: with the token the build runs on the cluster from the uploaded checkout; without it nothing runs."""

import subprocess
from collections.abc import Iterator
from zipfile import ZipFile

import pytest
from ray._private.runtime_env.packaging import create_package

from tests.patience import PATIENCE_S
from tests.ray.builds import artefacts, build_command, make_platform
from tests.ray.sandbox import RAY, REPOSITORY, Sandbox, free_port, sandboxed, wait_until

pytestmark = pytest.mark.ray

MB = 1 << 20


@pytest.fixture(scope="module")
def head() -> Iterator[tuple[Sandbox, str]]:
    """(sandbox, dashboard URL) of a head node with token authentication, on which tagreel's packages are broken."""
    with sandboxed() as sandbox:
        broken = sandbox.folder / "broken"
        for package in ("pipeline", "dataset_builder", "dedup"):
            (broken / package).mkdir(parents=True)
            (broken / package / "__init__.py").write_text("raise ImportError('the cluster has its own, wrong copy')")
        ports = {name: free_port() for name in ("port", "dashboard-port", "ray-client-server-port")}
        options = [f"--{name}={port}" for name, port in ports.items()]
        agents = [f"--{name}={free_port()}" for name in ("dashboard-agent-listen-port", "dashboard-agent-grpc-port")]
        sandbox.start(
            *(RAY, "start", "--head", "--block", "--num-cpus=2", "--dashboard-host=127.0.0.1"),
            *(f"--temp-dir={sandbox.folder}", *options, *agents),
            env=sandbox.environment(PYTHONPATH=str(broken)),
            cwd=sandbox.folder,
        )
        url = f"http://127.0.0.1:{ports['dashboard-port']}"
        wait_until(lambda: submit(sandbox, url, "list").returncode == 0, "the head to answer")
        yield sandbox, url


def submit(sandbox: Sandbox, url: str, *command: str, **environment: str) -> subprocess.CompletedProcess:
    verb, *rest = command
    return subprocess.run(
        [RAY, "job", verb, "--address", url, *rest],
        env=sandbox.environment(**environment),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def test_a_job_builds_the_dataset_from_the_uploaded_checkout(head, tmp_path):
    sandbox, url = head
    platform = make_platform(tmp_path / "platform", 30)
    here, there = tmp_path / "here", tmp_path / "there"
    subprocess.run(
        build_command(platform, here, "--execution.backend", "process"),
        env=sandbox.environment(),
        cwd=REPOSITORY,
        check=True,
    )
    _, *stage = build_command(platform, there)
    job = submit(sandbox, url, "submit", "--working-dir", ".", "--", "python", *stage)
    assert job.returncode == 0, job.stdout + job.stderr
    assert artefacts(there) == artefacts(here)


def test_a_job_that_fails_says_so_and_fails_the_submit(head, tmp_path):
    sandbox, url = head
    _, *stage = build_command(tmp_path / "nothing", tmp_path / "root")
    job = submit(sandbox, url, "submit", "--working-dir", ".", "--", "python", *stage)
    assert job.returncode != 0
    assert "tagreel: " in job.stdout + job.stderr
    assert "nothing" in job.stdout + job.stderr


@pytest.mark.parametrize(
    "environment", [{"RAY_AUTH_TOKEN": "0" * 64}, {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": ""}]
)
def test_without_the_token_nothing_runs(head, tmp_path, environment):
    sandbox, url = head
    proof = tmp_path / "ran"
    job = submit(sandbox, url, "submit", "--", "touch", str(proof), **environment)
    assert job.returncode != 0
    assert "auth" in (job.stdout + job.stderr).lower()
    assert not proof.exists()


def test_an_upload_holds_the_code_and_no_data(tmp_path):
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    subprocess.run(["git", "archive", "--format=tar", "-o", tmp_path / "a.tar", "HEAD"], cwd=REPOSITORY, check=True)
    subprocess.run(["tar", "-xf", tmp_path / "a.tar", "-C", checkout], check=True)
    (checkout / ".rayignore").write_bytes((REPOSITORY / ".rayignore").read_bytes())
    big = [
        "tagreel-data/datasets/d/shards/d-000000.tar",
        "demo/world/0.mp4",
        ".venv/lib/x.so",
        ".hypothesis/x",
        "runs/a.mp4",
    ]
    for name in big:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        with (checkout / name).open("wb") as file:
            file.truncate(120 * MB)
    (checkout / "mine.toml").touch()
    package = tmp_path / "upload.zip"
    create_package(str(checkout), package, include_gitignore=True)
    uploaded = {name for name in ZipFile(package).namelist() if not name.endswith("/")}
    assert package.stat().st_size < 5 * MB
    assert not uploaded & set(big)
    packages = ("pipeline", "dataset_builder", "dedup")
    code = {str(p.relative_to(checkout)) for name in packages for p in (checkout / name).rglob("*") if p.is_file()}
    assert uploaded == code | {"pyproject.toml", "constraints.txt", "mine.toml"}
