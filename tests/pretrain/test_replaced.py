"""Unreadable samples in a run: it stops in plain words, or goes on with others and counts them."""

import dataclasses
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pipeline import artifacts, storage
from pipeline.cli import EXIT_BAD_INPUT, guarded
from pipeline.progress import read_metrics
from pretrain import train
from pretrain.data import UNREADABLE, TrainingClips
from pretrain.distributed import World
from pretrain.engine import Engine
from pretrain.replaced import ReplacedClips
from pretrain.samples import SampleError, open_samples

DAMAGED = ("v0003", "v0008", "v0014", "v0021")


@pytest.fixture
def damaged(config, tmp_path, make_dataset):
    """A run on a dataset of which four samples have lost their bytes since it was built."""
    make_dataset(tmp_path, "tiny")
    files = artifacts.dataset_files(str(tmp_path), "tiny")
    samples = open_samples(files, "")
    for sample, key in enumerate(samples.keys.to_pylist()):
        if key in DAMAGED:
            at = samples.columns
            with open(samples.shards[at["shard"][sample]], "r+b") as tar:
                tar.seek(int(at["video_offset"][sample]))
                tar.write(bytes(int(at["video_size"][sample])))
    return dataclasses.replace(config, root=str(tmp_path), on_unreadable="replace", max_replaced=1.0)


def result(config) -> tuple[dict, dict, list[dict]]:
    """run.json, the weights and the lines of metrics.jsonl."""
    files = artifacts.run_files(config.root, config.run)
    marker = storage.read_json(files.marker)
    weights = safetensors.torch.load_file(Path(files.folder) / marker["checkpoint"] / "model.safetensors")
    return marker, weights, read_metrics(files.metrics)


def num_replaced(config, clips_seen: int) -> int:
    """By the definition: positions whose sample is one of the damaged."""
    samples = open_samples(artifacts.dataset_files(config.root, "tiny"), "")
    order = TrainingClips(samples, config.clip, config.recipe.seed).order
    return sum(samples.key(order(position)) in DAMAGED for position in range(clips_seen))


@pytest.mark.parametrize("loader_workers", [0, 1])
def test_a_run_stops_at_an_unreadable_sample_in_plain_words_and_with_status_2(damaged, loader_workers, capsys):
    config = dataclasses.replace(damaged, on_unreadable="stop", loader_workers=loader_workers)
    assert guarded(lambda: train.train(config)) == EXIT_BAD_INPUT
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 2
    assert said[0].startswith("tagreel: cannot read sample 'v00")
    assert f"shard '{config.root}/datasets/tiny/shards/tiny-00000" in said[0]
    assert said[1] == UNREADABLE


def test_replaced_clips_are_counted_once_over_a_restart_that_does_not_change_the_weights(damaged, monkeypatch, capsys):
    whole, broken = (dataclasses.replace(damaged, run=run) for run in ("whole", "broken"))
    train.train(whole)
    step, calls = Engine.step, []

    def step_until_killed(*arguments, **options):
        calls.append(0)
        if len(calls) == 4:  # a checkpoint at 16 clips and one more step, that is lost
            raise KeyboardInterrupt
        return step(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "step", step_until_killed)
        with pytest.raises(KeyboardInterrupt):
            train.train(broken)
    train.train(dataclasses.replace(broken, loader_workers=2))
    (marker, weights, lines), (marker_after, weights_after, lines_after) = result(whole), result(broken)
    assert marker["counts"]["replaced"] == marker_after["counts"]["replaced"] == num_replaced(damaged, 32) > 2
    expected = [num_replaced(damaged, clips_seen) for clips_seen in (8, 16, 24, 32)]
    assert [line["replaced"] for line in lines] == [line["replaced"] for line in lines_after] == expected
    assert all(torch.equal(weights[name], weights_after[name]) for name in weights)
    named = [line for line in capsys.readouterr().out.splitlines() if "another sample is taken instead" in line]
    assert named
    assert all(any(f"'{key}'" in line for key in DAMAGED) for line in named)


def test_a_run_that_stopped_at_a_sample_goes_on_without_it(damaged, capsys):
    assert guarded(lambda: train.train(dataclasses.replace(damaged, on_unreadable="stop"))) == EXIT_BAD_INPUT
    train.train(damaged)
    assert result(damaged)[0]["counts"]["replaced"] == num_replaced(damaged, 32)


def test_more_than_the_allowed_share_ends_the_run(damaged):
    with pytest.raises(SampleError, match=r"[1-9] of (8|16|24|32) clips had to be replaced.*max_replaced = 0.02"):
        train.train(dataclasses.replace(damaged, max_replaced=0.02))


class Pair(World):
    """Two processes, of which the other one has replaced three clips."""

    def sum_(self, tensor):
        return tensor + 3


def test_the_limit_is_on_all_processes_and_spares_the_beginning_of_a_run():
    replaced = ReplacedClips(Pair(), before=10, limit=0.01, total_clips=1_000_000)
    replaced.add(["a"] * 87)
    assert replaced.total(clips_seen=500) == 100  # 1 % of the 10,000 clips that are watched as one
    replaced.add(["a"])
    with pytest.raises(SampleError, match="101 of 500 clips"):
        replaced.total(clips_seen=500)
    assert replaced.total(clips_seen=10_100) == 101
