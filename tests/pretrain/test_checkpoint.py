import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage import StorageError
from pretrain import checkpoint, tensor_file
from tests.faulty import Fault, SmallDisk


def save(folder, clips_seen: int, size: int = 3, **options):
    tensors = {"weight": torch.full((size,), float(clips_seen)), "count": torch.tensor(clips_seen)}
    return checkpoint.save(folder, clips_seen, tensors, {"weight": torch.ones(3)}, **options)


def names(folder) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_what_is_saved_is_found(tmp_path):
    save(tmp_path, 128, note="kept")
    found = checkpoint.newest(tmp_path)
    assert (found.path.name, found.clips_seen, found.state["note"]) == ("000000000128", 128, "kept")
    assert found.model_tensors()["weight"].tolist() == [128.0] * 3
    assert found.optimizer_tensors()["weight"].tolist() == [1.0] * 3


def test_nothing_saved_is_nothing_found(tmp_path):
    assert checkpoint.newest(tmp_path / "none") is None
    assert checkpoint.recover(tmp_path / "none") is None


def test_state_is_plain_json_with_the_files_digests(tmp_path):
    path = save(tmp_path, 7)
    state = json.loads((path / "state.json").read_text())
    assert state.keys() == {"clips_seen", "sha256"}
    files = ("model.safetensors", "optimizer.safetensors")
    assert state["sha256"] == {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in files}


# ------------------------------------------------------------------------------------------------- tensor files


def test_tensor_files_are_those_of_the_library_and_are_written_from_the_tensors_own_memory():
    torch.manual_seed(0)
    tensors = {"ü": torch.randn(2, 3), "scalar": torch.tensor(5), "empty": torch.zeros(0, 4), "b": torch.randn(5)}
    tensors |= {
        "half": torch.randn(3).bfloat16(),
        "byte": torch.arange(3, dtype=torch.uint8),
        "flag": torch.ones(1) > 0,
    }
    data = list(tensor_file.parts(tensors))
    found = safetensors.torch.load(b"".join(data))
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name
    assert sum(map(len, data)) == tensor_file.size(tensors)
    assert any(np.shares_memory(np.asarray(part), tensors["b"].numpy()) for part in data[2:] if len(part))


def test_tensors_lie_at_multiples_of_their_size():
    data = b"".join(tensor_file.parts({"a": torch.ones(1, dtype=torch.uint8), "z": torch.ones(3, dtype=torch.int64)}))
    header = 8 + int.from_bytes(data[:8], "little")
    begins = {name: header + entry["data_offsets"][0] for name, entry in json.loads(data[8:header]).items()}
    assert begins["z"] % 8 == 0


# ------------------------------------------------------------------------------------------------------- damage


def garbage(text: bytes):
    return lambda path: path.write_bytes(text)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "flip": flip,
    "cut": lambda path: os.truncate(path, path.stat().st_size - 7),
    "empty": lambda path: os.truncate(path, 0),
    "gone": Path.unlink,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "noise": garbage(bytes(range(256))),
    "list": garbage(b"[]"),
    "number": garbage(b"7"),
    "deep": garbage(b"[" * 200_000),
    "other": garbage(b'{"clips_seen": 256, "sha256": {"model.safetensors": 1}}'),
}


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_is_named_and_passed_over(tmp_path, capsys, file, damage):
    save(tmp_path, 128)
    DAMAGES[damage](save(tmp_path, 256) / file)
    assert checkpoint.newest(tmp_path).clips_seen == 128
    assert "000000000256' is damaged" in capsys.readouterr().out


def test_every_flipped_bit_is_found(tmp_path):
    path = save(tmp_path, 128)
    for file in ("model.safetensors", "optimizer.safetensors"):
        whole = (path / file).read_bytes()
        for bit in range(0, 8 * len(whole), 11):
            data = bytearray(whole)
            data[bit // 8] ^= 1 << bit % 8
            (path / file).write_bytes(data)
            with pytest.raises(StorageError, match="SHA-256"):
                checkpoint.read(path)
        (path / file).write_bytes(whole)
    assert checkpoint.read(path).clips_seen == 128


def test_a_checkpoint_under_another_name_is_damaged(tmp_path):
    save(tmp_path, 128)
    shutil.copytree(tmp_path / "000000000128", tmp_path / "000000000256")
    assert checkpoint.newest(tmp_path).clips_seen == 128


def test_nothing_whole_is_an_error_and_not_a_new_beginning(tmp_path):
    flip(save(tmp_path, 128) / "model.safetensors")
    flip(save(tmp_path, 256) / "state.json")
    with pytest.raises(StorageError, match=r"none of the 2 checkpoints in .* is whole; put a copy of one in its place"):
        checkpoint.recover(tmp_path)


def test_before_a_run_writes_litter_is_removed_and_damage_set_aside(tmp_path):
    save(tmp_path, 100)
    save(tmp_path, 200)
    flip(save(tmp_path, 300, keep_last=3) / "model.safetensors")
    shutil.copytree(tmp_path / "000000000200", tmp_path / "000000000400.written-host-1.tmp")
    assert checkpoint.recover(tmp_path).clips_seen == 200
    assert names(tmp_path) == ["000000000100", "000000000200", "000000000300.damaged"]
    save(tmp_path, 250)  # the damaged one does not count among those kept
    assert names(tmp_path) == ["000000000200", "000000000250", "000000000300.damaged"]


# --------------------------------------------------------------------------------------------------------- kept


def test_the_newest_few_are_kept_and_never_fewer_than_two(tmp_path):
    for clips in range(1, 6):
        save(tmp_path, clips, keep_last=3)
    assert names(tmp_path) == [f"{clips:012d}" for clips in (3, 4, 5)]
    save(tmp_path, 6, keep_last=0)
    assert names(tmp_path) == [f"{clips:012d}" for clips in (5, 6)]


def test_the_first_of_every_so_many_clips_is_kept_for_good(tmp_path):
    for clips in range(30, 400, 30):
        save(tmp_path, clips, keep_every=100)
    assert names(tmp_path) == [f"{clips:012d}" for clips in (120, 210, 300, 360, 390)]


@given(st.sets(st.integers(1, 10_000), min_size=1), st.integers(0, 5), st.integers(0, 300))
def test_what_is_dropped_does_not_depend_on_when(clips, keep_last, keep_every):
    """Dropping after each save leaves what dropping once at the end would."""
    kept: set[int] = set()
    for one in sorted(clips):
        kept.add(one)
        kept -= set(checkpoint.to_drop(list(kept), keep_last, keep_every))
    assert kept == clips - set(checkpoint.to_drop(list(clips), keep_last, keep_every))
    assert set(sorted(clips)[-2:]) <= kept


# ------------------------------------------------------------------------------------------------ failing disks


@pytest.fixture
def begun(tmp_path) -> Path:
    """A folder with two checkpoints, for each fault to have a copy of."""
    save(tmp_path / "begun", 100)
    save(tmp_path / "begun", 150)
    return tmp_path / "begun"


def assert_goes_on(folder: Path) -> None:
    """Every final name is whole, one of the two newest is found, and saving again ends in what no fault disturbed."""
    assert all(checkpoint.read(path) for path in folder.iterdir() if path.name.isdigit())
    assert checkpoint.newest(folder).clips_seen in (150, 200)
    checkpoint.recover(folder)
    save(folder, 200)
    assert names(folder) == ["000000000150", "000000000200"]
    assert checkpoint.newest(folder).model_tensors()["weight"].tolist() == [200.0] * 3


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_whichever_disk_call_fails_what_was_there_stays(begun, monkeypatch, code):
    for number in range(1000):
        folder = begun.with_name(str(number))
        shutil.copytree(begun, folder)
        with monkeypatch.context() as patch:
            fault = Fault(number, code).install(patch.setattr)
            with contextlib.suppress(StorageError):
                save(folder, 200)
        if not fault.struck:
            break
        assert_goes_on(folder)
    assert 15 < number < 1000


def test_killed_at_any_disk_call_what_was_there_stays(begun):
    for number in range(1000):
        folder = begun.with_name(str(number))
        shutil.copytree(begun, folder)
        if _in_child(lambda number=number, folder=folder: (Fault(number, None).install(), save(folder, 200))) == 0:
            break
        assert_goes_on(folder)
    assert 15 < number < 1000


def _in_child(work) -> int:
    """Exit status of a fork that does some work: no more than disk calls, which a fork of a process with threads may do."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except PermissionError as error:
            status = NOT_ALLOWED if error.errno == errno.EPERM else 1
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL, NOT_ALLOWED)
    return status


NOT_ALLOWED = 77
LARGE = 30_000  # floats of 4 bytes; few enough to be filled by one thread, as a fork must


@pytest.mark.parametrize("is_checked", [True, False])
def test_on_a_disk_of_any_size_a_save_is_whole_or_says_what_it_needs(tmp_path, monkeypatch, is_checked):
    """20 sizes from nothing free to 1.2 × what is needed; the early look at the free space is also left out."""
    room = 4 * LARGE + checkpoint.STATE_ROOM + 4096
    if not is_checked:
        monkeypatch.setattr(checkpoint, "check_room", lambda *_: None)

    def fill() -> None:
        disk, run = SmallDisk(tmp_path, 0), tmp_path / "run"
        refusals = []
        for step in range(20):
            disk.renew(1 << 20)
            save(run, 1, LARGE)
            used = shutil.disk_usage(tmp_path).used
            disk.resize(used + step * room * 12 // 190)
            refusals.append(_refusal(run))
            if refusals[-1]:
                assert re.search("[0-9,]+ bytes are needed and [0-9,]+ are free; make room and run", refusals[-1])
                assert names(run) == ["000000000001"]
                assert checkpoint.read(run / "000000000001")
                assert shutil.disk_usage(tmp_path).used <= used
                disk.resize(1 << 20)
                assert not _refusal(run)
            assert checkpoint.newest(run).clips_seen == 2
        assert [*map(bool, refusals)] == sorted(map(bool, refusals), reverse=True)
        assert refusals[0]
        assert not refusals[-1]

    if _in_child(fill) == NOT_ALLOWED:
        pytest.skip("small file systems cannot be mounted here")


def _refusal(run: Path) -> str:
    """What a save says that fails; empty when it does not."""
    try:
        save(run, 2, LARGE)
    except StorageError as error:
        return str(error)
    return ""


def test_a_limit_of_the_kernel_is_told_like_any_other_error(tmp_path):
    """RLIMIT_FSIZE: a write past it fails half-way."""

    def limited() -> None:
        import resource

        save(tmp_path, 1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        with pytest.raises(StorageError, match="File too large; older ones are kept"):
            save(tmp_path, 2, LARGE)

    assert _in_child(limited) == 0
    assert names(tmp_path) == ["000000000001"]
