import json
import os
import shutil

import pytest
import torch

from pretrain import checkpoint


def save(folder, clips_seen: int, **options):
    tensors = {"weight": torch.full((3,), float(clips_seen))}
    return checkpoint.save(folder, clips_seen, tensors, {"weight": torch.ones(3)}, **options)


def test_what_is_saved_is_found(tmp_path):
    save(tmp_path, 128, note="kept")
    found = checkpoint.newest(tmp_path)
    assert (found.path.name, found.clips_seen, found.state["note"]) == ("000000000128", 128, "kept")
    assert found.model_tensors()["weight"].tolist() == [128.0] * 3
    assert found.optimizer_tensors()["weight"].tolist() == [1.0] * 3


def test_nothing_saved_is_nothing_found(tmp_path):
    assert checkpoint.newest(tmp_path / "none") is None


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_newest_is_named_and_passed_over(tmp_path, capsys, file, damage):
    save(tmp_path, 128)
    path = save(tmp_path, 256) / file
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data if damage == "flip" else data[:-7])
    assert checkpoint.newest(tmp_path).clips_seen == 128
    assert "000000000256' is damaged" in capsys.readouterr().out


def test_the_newest_few_are_kept_and_never_fewer_than_two(tmp_path):
    for clips in range(1, 6):
        save(tmp_path, clips, keep_last=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{clips:012d}" for clips in (3, 4, 5)]
    save(tmp_path, 6, keep_last=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{clips:012d}" for clips in (5, 6)]


class Killed(BaseException):
    pass


def test_a_kill_at_any_system_call_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    """Every write-side call of a save is made the last one in turn; whatever is found afterwards is whole."""
    calls = 0
    for last in range(100):
        folder = tmp_path / str(last)
        save(folder, 100)
        calls = 0

        def counted(function, last=last):
            def call(*arguments, **options):
                nonlocal calls
                calls += 1
                if calls > last:
                    raise Killed
                return function(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for module, name in ((os, "fsync"), (os, "rename"), (os, "mkdir"), (shutil, "rmtree")):
                patch.setattr(module, name, counted(getattr(module, name)))
            try:
                save(folder, 200)
                break
            except Killed:
                pass
        found = checkpoint.newest(folder)
        assert found.clips_seen in (100, 200)
        assert found.model_tensors()["weight"].tolist() == [float(found.clips_seen)] * 3
        save(folder, 200)  # the next run is not in the way of what the killed one left
        assert checkpoint.newest(folder).clips_seen == 200
    assert calls == last > 5  # the loop ended because a save ran through


def test_state_is_plain_json_with_the_files_digests(tmp_path):
    state = json.loads((save(tmp_path, 7) / "state.json").read_text())
    assert state.keys() == {"clips_seen", "sha256"}
    assert set(state["sha256"]) == {"model.safetensors", "optimizer.safetensors"}
