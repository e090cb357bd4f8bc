import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pipeline import artifacts, storage
from pipeline.cli import EXIT_INTERRUPTED
from pipeline.config import ClipConfig, ConfigError, to_dict
from pipeline.progress import read_metrics
from pretrain import checkpoint, distributed, train, transforms
from pretrain.checks import check_clip
from pretrain.data import Share
from pretrain.engine import Engine, NonFiniteStepError
from pretrain.models.start import started
from pretrain.samples import open_samples
from pretrain.virtual_workers import VirtualWorkers
from tests.patience import PATIENCE_S


def weights(config, clips_seen: int) -> dict:
    folder = artifacts.run_files(config.root, config.run).checkpoints
    return safetensors.torch.load_file(f"{folder}/{clips_seen:012d}/model.safetensors")


def assert_equal(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def uninterrupted(root):
    """Weights after 32 clips, trained without a break; by run name, made once."""
    return {}


def trained(named, uninterrupted) -> dict:
    if not uninterrupted:
        train.train(named("whole"))
        uninterrupted.update(weights(named("whole"), 32))
    return uninterrupted


def test_a_run_leaves_the_artefact_that_the_map_promises(named, uninterrupted):
    trained(named, uninterrupted)
    files = artifacts.run_files(named("whole").root, "whole")
    marker = storage.read_json(files.marker)
    assert marker["counts"] == {
        "videos": 24,
        "kept": 23,
        "dropped": {"overlaps_a_target": 0, "quarantined": 1},
        "clips_seen": 32,
        "replaced": 0,
    }
    assert (marker["checkpoint"], marker["num_labels"]) == ("checkpoints/000000000032", 3)
    assert marker["input_digests"] == {"dataset": "d" * 16, "exclusions": ""}
    assert marker["schedule"].startswith("2 workers × 0.02 = 0.04, warm-up over 8 clips, 1 × 0.5 every 16, 32 clips")
    made = {"torch": torch.__version__, "world_size": 1, "cpu_threads": torch.get_num_threads()}
    assert marker["provenance"].items() >= made.items()
    assert marker["performance"].keys() == {"seconds", "clips_per_s", "memory_gb"}
    assert checkpoint.newest(files.checkpoints).clips_seen == 32
    lines = read_metrics(files.metrics)
    assert [line["clips_seen"] for line in lines] == [8, 16, 24, 32]
    assert [line["learning_rate"] for line in lines] == pytest.approx([0.02, 0.04, 0.02, 0.02])


def test_a_stopped_run_ends_with_the_weights_of_one_that_never_stopped(named, uninterrupted, monkeypatch):
    config = named("stopped")
    step, calls = Engine.step, []

    def step_until_killed(*arguments, **options):
        calls.append(0)
        if len(calls) == 4:  # after a checkpoint at 16 clips and one more step that is lost
            raise KeyboardInterrupt
        return step(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "step", step_until_killed)
        with pytest.raises(KeyboardInterrupt):
            train.train(config)
    assert checkpoint.newest(artifacts.run_files(config.root, config.run).checkpoints).clips_seen == 16
    train.train(config)
    assert_equal(weights(config, 32), trained(named, uninterrupted))
    lines = read_metrics(artifacts.run_files(config.root, config.run).metrics)
    assert [line["clips_seen"] for line in lines] == [8, 16, 24, 32]


def test_a_finished_run_is_left_alone_and_another_config_is_refused(named, uninterrupted, capsys):
    trained(named, uninterrupted)
    before = os.stat(artifacts.run_files(named("whole").root, "whole").marker)
    capsys.readouterr()
    train.train(dataclasses.replace(named("whole"), cache_mb=8, loader_workers=1))
    assert "nothing to do" in capsys.readouterr().out
    assert os.stat(artifacts.run_files(named("whole").root, "whole").marker) == before
    with pytest.raises(ConfigError, match=r"recipe.lr_per_gpu: 0.02 → 0.03"):
        train.train(named("whole", lr_per_gpu=0.03))


def test_memory_for_decoded_videos_and_loader_workers_do_not_change_the_weights(named, uninterrupted):
    config = dataclasses.replace(named("kept"), cache_mb=16, loader_workers=1)
    train.train(config)
    assert_equal(weights(config, 32), trained(named, uninterrupted))


def test_a_run_with_padded_channels_writes_weights_and_momenta_of_the_usual_shapes(named, uninterrupted):
    config = named("padded", total_clips=16)
    train.train(dataclasses.replace(config, pad_channels=True))
    folder = artifacts.run_files(config.root, "padded").checkpoints
    found = {name: checkpoint.newest(folder).optimizer_tensors()[name].shape for name in ("stem.0.weight", "fc.weight")}
    shapes = {name: tensor.shape for name, tensor in trained(named, uninterrupted).items()}
    assert {name: tensor.shape for name, tensor in weights(config, 16).items()} == shapes
    assert found == {name: shapes[name] for name in found}


def test_divergence_names_positions_and_videos_and_keeps_what_was_saved(named, monkeypatch):
    config = named("diverged", total_clips=48)
    normalise = transforms.normalise
    calls = []

    def poisoned(clips):
        calls.append(0)
        return normalise(clips) * (float("nan") if len(calls) == 6 else 1.0)  # second worker of the third step

    monkeypatch.setattr(transforms, "normalise", poisoned)
    with pytest.raises(
        ConfigError, match=r"diverged after 16 clips.*positions 20–23: v00\d\d, v00\d\d, v00\d\d, v00\d\d"
    ):
        train.train(config)
    assert checkpoint.newest(artifacts.run_files(config.root, config.run).checkpoints).clips_seen == 16


def test_where_all_microbatches_diverge_the_first_few_are_named(config):
    samples = open_samples(artifacts.dataset_files(config.root, config.dataset), "")
    share = Share(iter(()), 0, torch.device("cpu"))
    share.positions = [[2 * number, 2 * number + 1] for number in range(128)]
    share.samples = [[0, 1]] * 128
    said = str(train.diverged(NonFiniteStepError(math.nan, math.nan, list(range(128))), share, samples, 512))
    assert "positions 6–7: v0000, v0001; and in 124 more microbatches of this process" in said
    assert "positions 8–9" not in said


def test_processes_with_unequal_shares_are_told_so(named, capsys):
    config = named("uneven", virtual_workers=8)
    samples = open_samples(artifacts.dataset_files(config.root, config.dataset), "")
    model, origin = started(config.model, samples.num_labels)
    engine = Engine(model, distributed.World())
    for size in (2, 3):
        train.announce(config, samples, VirtualWorkers(8, 4, 0, size), engine, origin, 0)
    said = capsys.readouterr().out
    assert "3 processes share 8 virtual workers unevenly: 2, 3, 3; the slowest sets the pace" in said
    assert "2 processes share" not in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip": {"crop_px": 64}}, "crop_px = 64 does not fit"),
        ({"clip": {"length": 0}}, "clip.length = 0 must be at least 1"),
        ({"clip": {"stride": -1}}, "clip.stride = -1 must be at least 1"),
        ({"clip": {"fps": 0.0}}, "clip.fps = 0.0 must be above 0"),
        ({"clip": {"crop_px": 0}}, "clip.crop_px = 0 must be at least 1"),
        ({"model": {"width": 0.0}}, "model.width = 0.0 must be a number above 0"),
        ({"loader_workers": -1}, "loader_workers = -1 must be at least 0"),
        ({"max_replaced": -0.1}, "max_replaced = -0.1 must be at least 0"),
        ({"checkpoint_clips": 0}, "checkpoint_clips = 0 must be at least 1"),
        ({"peer_timeout_s": 0.0}, "peer_timeout_s = 0.0 must be above 0"),
        ({"model": {"name": "resnet50"}}, "unknown model.name = 'resnet50'; choices: r2plus1d_10"),
        ({"root": "s3://bucket/root"}, "local disks only"),
        ({"recipe": {"batch_per_gpu": 0}}, "batch_per_gpu must be at least 1"),
        ({"recipe": {"shuffle_shards": -1}}, "shuffle_shards must not be negative"),
    ],
)
def test_impossible_configs_are_refused_before_anything_is_written(config, change, message):
    for name, value in change.items():
        changed = dataclasses.replace(getattr(config, name), **value) if isinstance(value, dict) else value
        impossible = dataclasses.replace(config, **{name: changed}, run="impossible")
    with pytest.raises(ConfigError, match=message):
        train.train(impossible)
    assert not Path(artifacts.run_files(config.root, "impossible").folder).exists()


def test_with_short_edge_only_the_short_side_must_hold_the_crop():
    check_clip(ClipConfig(size_hw=(128, 100), short_edge=True, crop_px=112))
    for size_hw, short_edge in (((128, 100), False), ((100, 128), True)):
        with pytest.raises(ConfigError, match="crop_px = 112 does not fit"):
            check_clip(ClipConfig(size_hw=size_hw, short_edge=short_edge, crop_px=112))


def test_a_run_that_torchrun_restarts_is_not_discarded_each_time(named, uninterrupted, monkeypatch):
    trained(named, uninterrupted)
    forced = dataclasses.replace(named("whole"), force=True)
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(ConfigError, match="force would discard the run anew at each"):
        train.train(forced)
    assert_equal(weights(forced, 32), uninterrupted)


# ------------------------------------------------------------------------------------------- several processes


@pytest.mark.distributed
def test_two_processes_train_what_one_does(named, uninterrupted, forks):
    config = named("two")
    outcome = forks(f"status = run({to_dict(config)!r})", ranks=2)
    assert outcome.statuses == [0, 0], outcome.output
    assert outcome.output.count("finished") == 1
    ours, one = weights(config, 32), trained(named, uninterrupted)
    for name, tensor in one.items():
        torch.testing.assert_close(
            ours[name], tensor, rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.distributed
def test_sigterm_saves_and_exits_with_a_status_of_its_own(named, tmp_path):
    config = named("told", total_clips=8_000_000)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_dict(config)))
    command = [sys.executable, "-m", "pretrain.train", "--config", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    metrics = artifacts.run_files(config.root, config.run).metrics
    deadline = time.monotonic() + PATIENCE_S
    while not (os.path.exists(metrics) and os.path.getsize(metrics)) and time.monotonic() < deadline:
        if process.poll() is not None or checkpoint.newest(Path(metrics).with_name("checkpoints")):
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == EXIT_INTERRUPTED, output
    saved = checkpoint.newest(artifacts.run_files(config.root, config.run).checkpoints).clips_seen
    assert f"saved at {saved:,} clips" in output
