"""Checkpoint × target × protocol → result, from end to end on a target that colour alone decides."""

import dataclasses
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from finetune import evaluate, fc_only, full_ft, metrics
from finetune import result as result_module
from finetune.features import Features
from finetune.start import open_start
from finetune.transfer import transfer
from pipeline import artifacts, storage
from pipeline import config as configs
from pipeline.cli import parse
from pipeline.config import ClipConfig, ConfigError, ModelConfig, TransferConfig
from pipeline.storage import StorageError
from pretrain import checkpoint
from pretrain.distributed import World
from pretrain.models import build_model
from pretrain.samples import Samples

from .conftest import GARBAGE, QUARANTINED, write_split


def result(config: TransferConfig) -> dict:
    return storage.read_json(artifacts.transfer_files(config).marker)


def with_protocol(config: TransferConfig, protocol: str, **changes) -> TransferConfig:
    return dataclasses.replace(config, protocol=protocol, **changes)


@pytest.mark.parametrize("protocol", ["fc_only", "full_ft"])
def test_colours_are_learnt_and_every_video_is_accounted_for(config, protocol):
    config = with_protocol(config, protocol)
    transfer(config)
    found = result(config)
    assert found["metrics"]["top1"] == 1.0
    assert found["metrics"]["top1_interval"] == [1.0, 1.0]
    assert found["metrics"]["mean_class_accuracy"] == 1.0
    assert found["metrics"]["num_undecodable"] == 2
    assert found["counts"]["test_videos"] == {
        "attempted": 24,
        "scored": 22,
        "undecodable": {"not_a_video": 1, "decode_error": 1},
    }
    assert found["counts"]["train_videos"] == {"attempted": 16, "used": 16, "undecodable": {}}
    grid = config.l2 if protocol == "fc_only" else config.learning_rates
    assert [trial["value"] for trial in found["search"]] == list(grid)
    assert found["chosen"] in grid
    assert found["model"] == {"name": "r2plus1d_10", "width": 0.125}
    assert found["metrics"]["interval_of"] == result_module.OVER_VIDEOS
    assert not storage.exists(artifacts.transfer_files(config).unfinished)
    verb, *options = shlex.split(found["command"])[1:]
    assert verb == "transfer"
    assert configs.determining(parse(TransferConfig, options)) == configs.determining(config)


def test_metrics_can_be_computed_again_from_the_predictions(config):
    transfer(config)
    table = storage.read_parquet(artifacts.transfer_files(config).predictions).to_pylist()
    assert [row["reason"] for row in table if row["scores"] is None] == ["decode_error"]
    scored = [row for row in table if row["scores"] is not None]
    scores, labels = np.array([row["scores"] for row in scored]), np.array([row["labels"][0] for row in scored])
    stored = result(config)
    again = metrics.summarise(scores, labels, stored["labels"])
    assert again == {name: value for name, value in stored["metrics"].items() if name in again}


def test_the_test_split_is_read_after_the_last_training_step(config, monkeypatch):
    events = []
    read, train_at = Samples.read, full_ft.train_at
    monkeypatch.setattr(Samples, "read", lambda self, sample, **options: events.append(self.name) or read(self, sample))

    def train(*arguments):
        trained = train_at(*arguments)
        events.append("trained")
        return trained

    monkeypatch.setattr(full_ft, "train_at", train)
    transfer(with_protocol(config, "full_ft", passes=2))
    last = len(events) - 1 - events[::-1].index("trained")
    assert events.count("trained") == len(config.learning_rates) + 1
    assert set(events[:last]) == {"colours-train", "trained"}
    assert events[last + 1 :].count("colours-test") == 23


def test_full_ft_searches_on_videos_it_did_not_train_on_and_ends_with_all(config, monkeypatch):
    trained, tested = [], []
    train_at, video_scores = full_ft.train_at, evaluate.video_scores
    monkeypatch.setattr(full_ft, "train_at", lambda *a: trained.append(np.flatnonzero(a[4]).tolist()) or train_at(*a))
    monkeypatch.setattr(
        evaluate, "video_scores", lambda *a, **how: tested.append(list(a[2])) or video_scores(*a, **how)
    )
    transfer(with_protocol(config, "full_ft", passes=1))
    assert len(tested[0]) == 4  # 0.25 of 16
    for search_train, search_test in zip(trained[:-1], tested[:-1], strict=True):
        assert sorted(search_train + search_test) == list(range(16))
    assert trained[-1] == list(range(16))


def test_fc_only_searches_on_videos_it_did_not_fit_and_ends_with_all(config, monkeypatch):
    fitted, tested = [], []
    rows, probabilities = Features.rows, fc_only.video_probabilities
    monkeypatch.setattr(Features, "rows", lambda *a: fitted.append(np.flatnonzero(a[2]).tolist()) or rows(*a))
    monkeypatch.setattr(
        fc_only, "video_probabilities", lambda *a: tested.append(np.flatnonzero(a[2]).tolist()) or probabilities(*a)
    )
    transfer(config)
    search_fit, final_fit = fitted
    assert [len(videos) for videos in (search_fit, final_fit)] == [12, 16]
    for search_test in tested[: len(config.l2)]:
        assert sorted(search_fit + search_test) == list(range(16))
    assert len(tested[-1]) == 22  # the test split, after all fits


@pytest.mark.parametrize("protocol", ["fc_only", "full_ft"])
def test_the_choice_does_not_depend_on_the_test_split(config, protocol, tmp_path):
    config = with_protocol(config, protocol, passes=2)
    other = dataclasses.replace(config, root=str(tmp_path / "other"))
    write_split(Path(other.root), "train", 4)
    write_split(Path(other.root), "test", 1, dict.fromkeys((1, 2, 3), GARBAGE))
    for each in (config, other):
        transfer(each)
    assert result(config)["search"] == result(other)["search"]
    assert result(other)["metrics"]["num_videos"] == 1


def test_a_cache_changes_nothing_but_the_time(config):
    config = with_protocol(config, "full_ft", passes=2, learning_rates=(0.02,))
    transfer(config)
    without = dataclasses.replace(config, run="scratch without cache", cache_mb=0)
    transfer(without)
    assert result(config)["training"] == result(without)["training"]


def test_finished_work_is_skipped_and_another_configuration_refused(config, capsys):
    transfer(config)
    before = result(config)
    capsys.readouterr()
    transfer(dataclasses.replace(config, cache_mb=0))  # where and how, not what
    assert "finished; nothing to do" in capsys.readouterr().out
    assert result(config) == before
    with pytest.raises(ConfigError, match="num_clips: 3 → 5"):
        transfer(dataclasses.replace(config, num_clips=5))
    transfer(dataclasses.replace(config, num_clips=5, force=True))
    assert result(config)["config"]["num_clips"] == 5


# ------------------------------------------------------------------------------------------ what it starts from


@pytest.fixture
def pretrained(config):
    """Run `run`: a finished run of another width and clip length, with seven labels."""
    files = artifacts.run_files(config.root, "run")
    torch.manual_seed(9)
    tensors = build_model("r2plus1d_10", 7, 0.25).state_dict()
    path = checkpoint.save(files.checkpoints, 640, tensors, {})
    clip = dataclasses.asdict(ClipConfig(length=8, size_hw=(36, 40), crop_px=32))
    content = {"model": {"name": "r2plus1d_10", "width": 0.25}, "clip": json.loads(json.dumps(clip))}
    marker = {
        "config": content,
        "digest": "abc",
        "counts": {"clips_seen": 640},
        "checkpoint": f"checkpoints/{path.name}",
    }
    storage.write_json(files.marker, marker)
    return dataclasses.replace(config, run="run"), tensors, path


def test_a_pretrained_run_brings_weights_network_and_clips(pretrained):
    config, tensors, _ = pretrained
    start = open_start(config)
    assert (start.model, start.clip.length) == (ModelConfig("r2plus1d_10", 0.25), 8)
    new = start.new_model(4, config.seed, World()).state_dict()
    assert new.keys() == tensors.keys()
    assert new["fc.weight"].shape[0] == 4
    for name in tensors.keys() - {"fc.weight", "fc.bias"}:
        torch.testing.assert_close(new[name], tensors[name], rtol=0, atol=0)
    transfer(config)
    assert result(config)["input_digests"] == {"run": "abc", "train": "train" * 3, "test": "test" * 3}
    assert result(config)["clip"]["length"] == 8
    assert result(config)["preprocessing"]["clip_length"] == 8


def test_a_change_in_what_is_not_used_refuses_nothing(pretrained, capsys):
    config, _, _ = pretrained
    transfer(config)
    unused = {
        "passes": 7,
        "shots": (3,),
        "salient_of": 5,
        "model": ModelConfig("r3d_18"),
        "clip": ClipConfig(length=32),
    }
    for name, value in unused.items():
        capsys.readouterr()
        transfer(dataclasses.replace(config, **{name: value}))
        assert "finished; nothing to do" in capsys.readouterr().out, name
    with pytest.raises(ConfigError, match=r"clip: None → .*\n"):
        transfer(dataclasses.replace(config, clip_from="config"))
    other = dataclasses.replace(config, clip_from="config", num_clips=1, result="4 frames")
    transfer(other)
    assert result(other)["clip"]["length"] == 4
    assert result(config)["clip"]["length"] == 8
    assert "clip.length: 8 → 4" in result(other)["remarks"][0]


def test_a_damaged_final_checkpoint_is_not_replaced_by_an_older_one(pretrained):
    config, tensors, path = pretrained
    checkpoint.save(path.parent, 320, tensors, {})
    with open(path / "model.safetensors", "r+b") as file:
        file.seek(2000)
        file.write(b"damage")
    with pytest.raises(ConfigError, match="000000000640"):
        transfer(config)


def test_random_weights_are_a_function_of_the_seed(config):
    start = open_start(config)
    weights = [start.new_model(4, seed, World()).stem[0].weight for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


# --------------------------------------------------------------------------------------------- what goes wrong


def test_missing_inputs_are_named_with_the_remedy(config):
    with pytest.raises(ConfigError, match="tagreel pretrain --run absent"):
        transfer(dataclasses.replace(config, run="absent"))
    with pytest.raises(ConfigError, match="tagreel target --target absent"):
        transfer(dataclasses.replace(config, target="absent"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": "evaluate"}, "random weights bring none"),
        ({"repeats": 2}, "repeats = 2 are final trainings of full_ft; fc_only"),
        ({"model": ModelConfig("r4d_18")}, "unknown model.name = 'r4d_18'"),
        ({"model": ModelConfig("r2d_10", 0.125)}, "clip.length = 1"),
        ({"protocol": "full_ft", "decay_passes": (0, 6)}, "decay_passes"),
        ({"protocol": "full_ft", "batch": 12}, "batch = 12 does not divide"),
        ({"held_out": 1.0}, "held_out = 1.0"),
        ({"l2": (0.1, -1.0)}, r"l2 = \[0.1, -1.0\]: give at least one value, all above 0"),
        ({"result": "a/b"}, "the name of a result"),
        ({"target": "../colours"}, "the name of a target"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        transfer(dataclasses.replace(config, **changes))
    assert not storage.exists(f"{config.root}/runs")


def test_a_label_that_lost_all_its_training_videos_is_refused_and_named(config, tmp_path, capsys):
    root = tmp_path / "empty"
    write_split(root, "train", 2, {3: QUARANTINED, 7: QUARANTINED})
    write_split(root, "test", 1)
    config = dataclasses.replace(config, root=str(root), l2=(0.1,))
    with pytest.raises(ConfigError, match=r"label 'yellow' of target 'colours' .*--retry-failed"):
        transfer(config)
    files = artifacts.target_files(str(root), "colours", "train")
    space = storage.read_json(files.label_space)  # now of a target that never had one
    space["labels"][3]["num_videos"] = 0
    storage.write_json(files.label_space, space)
    transfer(config)
    assert "label 'yellow' of 'colours' has no training video: its 1 test videos" in capsys.readouterr().out
    assert result(config)["metrics"]["per_class"]["yellow"]["accuracy"] == 0.0


def test_an_unreadable_training_video_stops_the_training_and_is_named(config, tmp_path):
    write_split(tmp_path / "bad", "train", 2, {5: GARBAGE})
    write_split(tmp_path / "bad", "test", 1)
    for protocol in ("fc_only", "full_ft"):
        with pytest.raises(StorageError, match="train005"):
            transfer(with_protocol(config, protocol, root=str(tmp_path / "bad")))


def test_a_rate_that_diverges_loses_the_search(config):
    config = with_protocol(config, "full_ft", learning_rates=(1e30, 0.02), passes=3)
    transfer(config)
    assert result(config)["chosen"] == 0.02
    assert result(config)["search"][0]["score"] == 0.0
    with pytest.raises(ConfigError, match="learning_rates"):
        transfer(dataclasses.replace(config, run="scratch 2", learning_rates=(1e30,)))


# ------------------------------------------------------------------------------------------- several processes


@pytest.mark.distributed
def test_two_processes_train_to_the_same_result(config, forks):
    config = with_protocol(config, "full_ft", batch=32, passes=6, learning_rates=(0.02,), cache_mb=64)
    transfer(config)
    together = dataclasses.replace(config, run="scratch on two")
    code = f"""
os.environ["CUDA_VISIBLE_DEVICES"] = ""
from finetune.transfer import transfer
from pipeline.config import TransferConfig, from_dict
transfer(from_dict(TransferConfig, {configs.to_dict(together)!r}))
status = 0
"""
    outcome = forks(code, ranks=2)
    assert outcome.statuses == [0, 0], outcome.output
    assert result(together)["training"]["loss"] == pytest.approx(result(config)["training"]["loss"], rel=1e-3)
    assert result(together)["counts"] == result(config)["counts"]
