"""Every write, flush, rename, removal and new folder of a build fails once: nothing half has a final name, a rerun completes."""

import builtins
import contextlib
import errno
import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dataset_builder.shard import write_shard
from pipeline import artifacts, storage
from pipeline.storage import StorageError
from tests.dataset_builder.small_world import files_in, make_job, write_mp4
from tests.faulty import Fault
from tests.patience import PATIENCE_S

CALLS = ("replace", "fsync", "unlink", "makedirs")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Two videos and a file that is none; `whole` is the shard that they make."""
    folder = tmp_path_factory.mktemp("faults")
    for i in range(2):
        write_mp4(folder / f"{i}.mp4", seed=i, num_frames=4)
    (folder / "2.mp4").write_bytes(b"<html>")
    build(folder, "whole")
    return folder


def build(world: Path, name: str) -> None:
    """A shard and its dataset's marker."""
    job = make_job(world / name, [str(world / f"{i}.mp4") for i in range(3)])
    sidecar = write_shard(0, job)
    storage.write_json(
        storage.join(job.files.folder, "config.json"), {"config": {}, "config_digest": "", "input_digests": {}}
    )
    artifacts.seal(job.files.folder, job.files.marker, {}, shards=[sidecar])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_the_nth_failure_leaves_nothing_half(world, tmp_path, monkeypatch, code):
    whole = files_in(world / "whole")
    folder = world / f"code-{code}"
    for number in range(1000):
        with monkeypatch.context() as patch:
            fault = Fault(number, code, CALLS).install(patch.setattr)
            with contextlib.suppress(StorageError):
                build(world, folder.name)
        found = files_in(folder)
        assert {name: data for name, data in found.items() if whole.get(name) != data} == {}, number
        if not fault.struck:
            break
        if number % 9 == 0:  # a rerun on top of what the failure left
            build(world, folder.name)
            assert files_in(folder) == whole
            for path in folder.rglob("*.*"):
                path.unlink()
    assert 30 < number < 1000
    assert files_in(folder) == whole


@pytest.mark.parametrize("point", ["write", *(pytest.param(p, marks=pytest.mark.slow) for p in ("fsync", "replace"))])
def test_a_kill_at_any_point_leaves_nothing_half_and_its_litter_is_cleared(world, point):
    whole = files_in(world / "whole")
    status = _killed_build(world, point, 3 if point == "write" else 2)
    assert status == -signal.SIGKILL
    found = files_in(world / point)
    finished = {path: data for path, data in found.items() if not path.endswith(storage.UNFINISHED)}
    assert {path for path, data in finished.items() if whole[path] != data} == set()
    assert finished != found or point == "replace"
    assert not [path for path in storage.listing(str(world / point / "**")) if path.endswith(".tmp")]
    build(world, point)
    assert files_in(world / point) == whole


def _killed_build(world: Path, point: str, number: int) -> int:
    script = f"""
        import os
        from pathlib import Path
        from tests.dataset_builder import test_faults
        fault = test_faults.Fault({number}, None)
        import builtins
        if {point!r} == "write":
            builtins.open = fault.open(builtins.open)
        else:
            os.{"fsync" if point == "write" else point} = fault.before(os.{"fsync" if point == "write" else point})
        test_faults.build(Path({str(world)!r}), {point!r})
    """
    return subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, timeout=PATIENCE_S).returncode


def test_a_full_disk_says_what_is_missing(tmp_path, monkeypatch):
    fault = Fault(0, errno.ENOSPC)
    monkeypatch.setattr(builtins, "open", fault.open(builtins.open))
    with pytest.raises(
        StorageError, match=r"cannot write '.*x.bin': No space left on device: 5,000 bytes or more are needed"
    ):
        storage.write_bytes(str(tmp_path / "x.bin"), bytes(5000))
    assert list(tmp_path.iterdir()) == []


def test_a_limit_of_the_kernel_is_told_like_any_other_error(tmp_path):
    """The real thing: the kernel refuses a write in the middle of a tar."""
    script = f"""
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        from dataset_builder.tar import TarWriter
        with TarWriter({str(tmp_path / "x.tar")!r}) as tar:
            for i in range(100):
                tar.add(f"{{i}}.mp4", bytes(1000))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert "cannot write '" in done.stderr
    assert "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_a_shard_says_of_itself_is_true(world):
    folder = world / "whole/shards"
    sidecar = json.loads((folder / "d-000000.json").read_text())
    rows = pq.read_table(folder / "d-000000.parquet").to_pylist()
    assert sidecar["attempted"] == len(rows) == sidecar["written"] + sum(sidecar["quarantined"].values())
