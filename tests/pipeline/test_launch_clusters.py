"""Scripts for Slurm and Ray: they are shell, they depend on the right jobs, and they run (Slurm's and Ray's commands played)."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pipeline import launch, presets, sweeps
from pipeline.config import BuildConfig, ClusterConfig, ConfigError
from pipeline.launch import graph, ray_jobs, slurm
from pipeline.launch.graph import sweep_folder
from pipeline.launch.logged import BEGINS, ENDS, attempts, log_path
from pipeline.launch.states import StageState, states, table
from tests.pipeline.sweep_stages import ORDER, Played, make

JOBS = {name: f"{1000 + number}" for number, name in enumerate(ORDER, start=1)}
SBATCH = """\
#!/bin/bash
cd {folder}
number=$(($(cat jobs 2>/dev/null || echo 1000) + 1))
echo $number > jobs
echo "$number $*" >> submitted
script="${{@: -1}}"
log=$(sed -n 's/^#SBATCH --output=//p' "$OLDPWD/$script")
(cd "$OLDPWD" && SLURM_JOB_ID=$number bash "$script") >> "$log" 2>&1 || echo $number >> failed
echo "$number;cluster"
"""
STUBS = {
    "srun": 'echo "srun $*" >> {folder}/calls; while [[ $1 == -* ]]; do shift; done; exec "$@"',
    "scontrol": 'echo "scontrol $*" >> {folder}/calls; echo gpu-07',
    "ray": 'echo "ray $*" >> {folder}/calls; while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
    "python": """\
name=$(basename "${{@: -1}}" .json)
echo "python $*" >> {folder}/calls
left=$(cat {folder}/fails/$name 2>/dev/null || echo 0)
[ "$left" -gt 0 ] && {{ echo $((left - 1)) > {folder}/fails/$name; exit $(cat {folder}/status/$name); }}
exit 0""",
}


@pytest.fixture
def cluster(tmp_path):
    """A sweep and a shell in which Slurm, Ray and Python are played; what was called is in `calls`."""
    played = make(tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {**STUBS, "sbatch": SBATCH}.items():
        text = text.format(folder=tmp_path)
        (programs / name).write_text(text if text.startswith("#!") else f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)

    def shell(script: Path) -> subprocess.CompletedProcess:
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "gpu-[07-10]"}
        return subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=False)

    return played, shell


def write(played: Played, backend: str, **cluster: object) -> Path:
    config = replace(played.config, backend=backend, cluster=ClusterConfig(**cluster))
    folder = played.folder / backend
    stages = sweeps.plan(config).stages
    if backend == "slurm":
        slurm.write(config, stages, str(folder))
    else:
        ray_jobs.write(config, stages, str(folder), poll_s=0.05)
    for script in folder.iterdir():
        assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    return folder


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def directives(script: Path) -> dict[str, str]:
    return dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", script.read_text(), re.MULTILINE))


def script_of(folder: Path, name: str) -> Path:
    (found,) = folder.glob(f"*-{name}.sbatch")
    return found


# -------------------------------------------------------------------------------------------------------- slurm


def test_jobs_are_submitted_in_order_and_wait_for_what_they_need(cluster):
    played, shell = cluster
    ended = shell(write(played, "slurm") / "submit.sh")
    assert ended.returncode == 0, ended.stderr
    waits = {}
    for line in lines(played.folder / "submitted"):
        number, *words = line.split()
        option = next((word for word in words if word.startswith("--dependency=")), "--dependency=afterok:")
        waits[number] = [n for n in option.removeprefix("--dependency=afterok:").split(":") if n]
    assert waits == {JOBS[stage.name]: [JOBS[name] for name in stage.needs] for stage in played.plan.stages}
    ran = [shlex.split(line)[-1] for line in lines(played.folder / "calls") if line.startswith("python ")]
    assert [Path(path).stem for path in ran] == ORDER
    assert all(Path(path).exists() for path in ran)
    assert not (played.folder / "failed").exists()


def test_training_asks_for_its_gpus_and_data_stages_for_cores(cluster):
    played, _ = cluster
    folder = write(played, "slurm", cores=12, cores_per_gpu=9, hours=7, options=("--partition=video",))
    build, train = (script_of(folder, name) for name in ("build-platform", ORDER[5]))
    assert directives(build)["cpus-per-task"] == "12"
    assert "gpus-per-node" not in directives(build)
    found = directives(train)
    assert (found["gpus-per-node"], found["cpus-per-task"], found["time"]) == ("2", "18", "7:00:00")
    assert (found["partition"], found["signal"]) == ("video", "TERM@300")
    assert "requeue" in found


def test_a_job_tries_again_and_its_log_says_so(cluster):
    played, shell = cluster
    played.fail(ORDER[4], times=1)
    shell(write(played, "slurm") / "submit.sh")
    found = attempts(log_path(sweep_folder(played.config), ORDER[4]))
    assert (found.begun, found.ended, found.status) == (2, 2, 0)


@pytest.mark.parametrize(("status", "calls", "requeued"), [(2, 1, 0), (3, 2, 0), (75, 1, 1)])
def test_a_job_that_fails_ends_so_and_one_that_was_stopped_is_queued_again(cluster, status, calls, requeued):
    played, shell = cluster
    played.fail(ORDER[5], times=9, status=status)
    assert shell(script_of(write(played, "slurm"), ORDER[5])).returncode == status
    called = lines(played.folder / "calls")
    assert sum(line.startswith("python ") for line in called) == calls
    assert sum(line.startswith("scontrol requeue") for line in called) == requeued


def test_several_hosts_meet_at_the_first(cluster):
    played, shell = cluster
    shell(script_of(write(played, "slurm", hosts=4), ORDER[5]))
    (call,) = [line for line in lines(played.folder / "calls") if line.startswith("python ")]
    assert "--nnodes=4 --nproc-per-node=2" in call
    assert "--rdzv-endpoint=gpu-07:29500" in call


def test_finished_stages_get_no_job_and_no_dependency(tmp_path, monkeypatch):
    played = make(tmp_path)
    monkeypatch.setattr("pipeline.launch.local.stage_command", played.command)
    played.fail(ORDER[5], times=9)
    with pytest.raises(launch.SweepFailed):
        launch.realise(played.config)
    launch.sweep(replace(played.config, backend="slurm", to=str(tmp_path / "jobs")))
    assert {path.name for path in (tmp_path / "jobs").iterdir()} == {
        *(f"{number:03d}-{name}.sbatch" for number, name in enumerate(ORDER[5:], start=1)),
        "submit.sh",
    }
    assert "job_001=$(submit 001-pretrain" in (tmp_path / "jobs" / "submit.sh").read_text()


# ---------------------------------------------------------------------------------------------------------- ray


def test_ray_jobs_run_after_what_they_need_with_their_resources(cluster):
    played, shell = cluster
    ended = shell(write(played, "ray", cores_per_gpu=9) / "submit.sh")
    assert ended.returncode == 0, ended.stderr
    called = lines(played.folder / "calls")
    ran = [Path(line.split()[-1]).stem for line in called if line.startswith("python ")]
    assert sorted(ran) == sorted(ORDER)
    for stage in played.plan.stages:
        assert all(ran.index(name) < ran.index(stage.name) for name in stage.needs)
    asked = {Path(line.split()[-1]).stem: line for line in called if line.startswith("ray ")}
    assert "--entrypoint-num-gpus 2 --entrypoint-num-cpus 18" in asked[ORDER[5]]
    assert "--entrypoint-num" not in asked["build-platform"]


def test_ray_jobs_that_need_a_failed_one_are_skipped(cluster):
    played, shell = cluster
    played.fail(ORDER[4], times=9)
    ended = shell(write(played, "ray") / "submit.sh")
    assert ended.returncode == 1
    ran = [Path(line.split()[-1]).stem for line in lines(played.folder / "calls") if line.startswith("python ")]
    assert sorted(ran) == sorted([*ORDER[:4], ORDER[4], ORDER[4]])
    assert f"{ORDER[5]}: skipped, for {ORDER[4]} failed" in ended.stdout
    found = {row.stage.name: row.state for row in states(played.plan, sweep_folder(played.config))}
    assert found[ORDER[4]] == "failed"


def test_the_log_says_where_to_ask_for_a_ray_job(cluster):
    played, shell = cluster
    shell(write(played, "ray", address="http://head:8265/") / "submit.sh")
    (asked,) = [line for line in lines(played.folder / "calls") if "subset" in line and line.startswith("ray ")]
    submitted = re.search(r"--submission-id (\S+)", asked)[1]
    begins = Path(log_path(sweep_folder(played.config), ORDER[4])).read_text().splitlines()[0]
    assert begins.endswith(f", ray http://head:8265/api/jobs/{submitted}")


# -------------------------------------------------------------------------------------------------------- both


def begin(played: Played, name: str, what: str, number: str) -> None:
    path = Path(log_path(sweep_folder(played.config), name))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(BEGINS.format(name=name, host="node-7", what=what, number=number) + "\n")


def row_of(played: Played, name: str) -> StageState:
    return next(row for row in states(played.plan, sweep_folder(played.config)) if row.stage.name == name)


@pytest.mark.parametrize(
    ("squeue", "state", "is_sure"),
    [
        ("echo RUNNING", "running", True),
        ("echo PENDING", "running", True),  # queued again after its node was lost
        ("exit 0", "failed", True),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", "failed", True),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", "running", False),
        (None, "running", False),
    ],
)
def test_a_job_that_slurm_has_lost_is_not_running(tmp_path, monkeypatch, squeue, state, is_sure):
    played = make(tmp_path)
    begin(played, "build-platform", "job", "1001")
    monkeypatch.setenv("PATH", str(tmp_path))
    if squeue:
        (tmp_path / "squeue").write_text(f'#!/bin/bash\n[[ "$*" == *--jobs=1001* ]] || exit 3\n{squeue}\n')
        (tmp_path / "squeue").chmod(0o755)
    row = row_of(played, "build-platform")
    assert (row.state, row.attempts.is_sure) == (state, is_sure)
    hint = "job 1001 on node-7, if it is still there; its log has been quiet for 00:"
    assert (hint in table([row], "")) == (not is_sure)


def test_an_attempt_that_was_lost_is_over_once_another_has_ended(tmp_path, monkeypatch):
    """Also where nobody can be asked for the lost one's job."""
    played = make(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    for status, state in ((75, "ready"), (3, "failed")):
        begin(played, "build-platform", "job", "1001")
        begin(played, "build-platform", "job", "1002")
        with open(log_path(sweep_folder(played.config), "build-platform"), "a") as file:
            file.write(ENDS.format(name="build-platform", status=status) + "\n")
        assert row_of(played, "build-platform").state == state


def test_what_is_whole_is_done_though_its_log_was_cut_short(tmp_path, monkeypatch):
    played = make(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    begin(played, "build-platform", "job", "1001")
    marker = Path(graph.marker(played.plan.stage("build-platform")))
    marker.parent.mkdir(parents=True)
    marker.write_text((tmp_path / "made" / "build-platform").read_text())
    assert row_of(played, "build-platform").state == "done"


@pytest.mark.parametrize(
    ("status", "content", "state", "is_sure"),
    [
        (200, {"status": "RUNNING"}, "running", True),
        (200, {"status": "FAILED"}, "failed", True),
        (404, {}, "failed", True),
        (500, {}, "running", False),
        (200, ["another service"], "running", False),
    ],
)
def test_a_job_that_ray_has_lost_is_not_running(tmp_path, status, content, state, is_sure):
    played = make(tmp_path)
    with dashboard(status, content) as address:
        begin(played, "build-platform", "ray", f"{address}/api/jobs/build-platform-1-1")
        row = row_of(played, "build-platform")
        assert (row.state, row.attempts.is_sure) == (state, is_sure)


@contextmanager
def dashboard(status: int, content: object) -> Iterator[str]:
    """A server that gives one answer; its address."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/api/jobs/build-platform-1-1" else 418)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("root", ["relative", "s3://bucket/root"])
@pytest.mark.parametrize("writer", [slurm.write, ray_jobs.write])
def test_a_root_that_other_machines_do_not_see_is_refused(tmp_path, writer, root):
    config = replace(presets.demo(root, "p", "l", 1, 1), build=BuildConfig(root=root), backend="slurm")
    with pytest.raises(ConfigError, match="root"):
        writer(config, [], str(tmp_path))
