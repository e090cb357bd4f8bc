"""What a transfer starts from: files, runs, inflated and random weights; and which of a file's outputs is which label."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune import evaluate, final_layer
from finetune.data import open_split
from finetune.settings import check_clips
from finetune.start import Start, open_start
from finetune.transfer import transfer
from pipeline import artifacts, storage
from pipeline.config import ClipConfig, ConfigError, ModelConfig
from pretrain import card, checkpoint
from pretrain.distributed import World
from pretrain.models import build_model, weights
from pretrain.reading import FrameReader

NAMES = ["yellow", "Green", "red", "blue"]


@pytest.fixture
def model():
    torch.manual_seed(3)
    return build_model("r2plus1d_10", 4, 0.125)


@pytest.fixture
def from_file(config, tmp_path):
    """`from_file(tensors, name, card)`: a transfer from a file of these weights."""

    def make(tensors, name="net_clip4.pth", about=None, **changes):
        path = str(tmp_path / name)
        if about is None:
            torch.save(tensors, path)
        else:
            weights.export(tensors, path, "safetensors", about)
        return dataclasses.replace(
            config, run="run", run_from=path, protocol="evaluate", model=ModelConfig(), **changes
        )

    return make


def about(clip: ClipConfig, labels=None) -> dict:
    return {"labels": labels, "preprocessing": card.preprocessing(clip)}


# ----------------------------------------------------------------------------------------------------- evaluate


def test_a_published_file_is_tested_on_a_target_that_has_no_training_split(from_file, model, capsys):
    config = from_file({"model": model.state_dict()})
    storage.remove(f"{config.root}/targets/colours/train")
    transfer(config)
    files = artifacts.transfer_files(config)
    assert files.folder.endswith("/runs/net_clip4/transfer/colours-evaluate")
    found = storage.read_json(files.marker)
    assert found["labels"] == ["red", "green", "blue", "yellow"]
    assert found["input_digests"].keys() == {"weights", "test"}
    assert (found["chosen"], found["search"]) == (None, [])
    assert "alphabetical order: 'blue', 'green', 'red', …" in capsys.readouterr().out
    test = open_split(config.root, config.target, "test")
    own = evaluate.video_scores(model, FrameReader(test.samples, config.clip), range(23), 3, World())
    rows = [row for row in storage.read_parquet(files.predictions).to_pylist() if row["reason"] is None]
    torch.testing.assert_close(
        np.array([row["scores"] for row in rows], np.float32), own.values[:, [2, 1, 0, 3]]
    )  # outputs are blue, green, red, yellow


def start_of(num_labels: int, labels=None) -> Start:
    tensors = {"fc.weight": torch.zeros(num_labels, 2)}
    return Start(ModelConfig(), ClipConfig(), "the weights", tensors, None if labels is None else tuple(labels))


@given(names=st.lists(st.text("abc _-'", min_size=1), min_size=2, max_size=9, unique=True), random=st.randoms())
def test_outputs_are_found_by_name_in_any_order(names, random):
    target = random.sample(names, random.randint(1, len(names)))
    found = final_layer.match(start_of(len(names), names), "t", target)
    assert [names[column] for column in found.columns] == list(found.labels)
    assert list(found.labels[: len(target)]) == target
    assert sorted(found.columns) == list(range(len(names)))


def test_names_may_be_written_in_another_way():
    found = final_layer.match(
        start_of(3, ["Playing_cards", "tying knot (not on a tie)", "x"]), "t", ["x", "playing cards"]
    )
    assert found.columns == [2, 0, 1]
    with pytest.raises(ConfigError, match=r"1 of the 1 labels.*'a b'"):  # two labels of the weights would do
        final_layer.match(start_of(2, ["A b", "a_b"]), "t", ["a b"])


@pytest.mark.parametrize(
    ("start", "labels", "message"),
    [
        (
            start_of(400),
            ["a", "b"],
            r"the weights has 400 labels without names, and target 't' has 2.*fc_only, full_ft",
        ),
        (
            start_of(2, ["a", "b"]),
            ["a", "c"],
            r"1 of the 2 labels of target 't' are not among the 2 of the weights: 'c'",
        ),
        (start_of(3, ["a", "b"]), ["a", "b"], r"names 2 labels, and its final layer has 3"),
        (Start(ModelConfig(), ClipConfig(), "random weights"), ["a", "b"], r"random weights bring none"),
    ],
)
def test_labels_that_do_not_fit_are_refused_with_what_would(start, labels, message):
    with pytest.raises(ConfigError, match=message):
        final_layer.match(start, "t", labels)


def test_a_label_that_the_target_lacks_keeps_competing(from_file, config, model):
    config = from_file(model.state_dict(), "net.safetensors", about(config.clip, [*NAMES[:3], "black"]))
    with pytest.raises(ConfigError, match="'blue'"):
        transfer(config)
    start = dataclasses.replace(open_start(config), labels=tuple(NAMES))
    own = start.own_model(final_layer.match(start, "t", ["blue", "green"]).columns, World())
    assert torch.equal(own.fc.weight, model.fc.weight[[3, 1, 0, 2]])


# -------------------------------------------------------------------------------------------------------- clips


def test_clips_are_those_that_the_file_states(from_file, model):
    stated = ClipConfig(length=16, stride=2, fps=15.0, size_hw=(36, 40), crop_px=32)
    config = from_file(model.state_dict(), "net.safetensors", about(stated))
    with pytest.raises(ConfigError, match=r"clip\.fps: 15\.0 → None; clip\.length: 16 → 4. .* --clip-from"):
        open_start(config)
    for clip in (ClipConfig(), stated):
        start = open_start(dataclasses.replace(config, clip=clip))
        assert (start.clip, start.has_own_clip, start.remarks) == (stated, True, ())
    start = open_start(dataclasses.replace(config, clip_from="config"))
    assert (start.clip, start.has_own_clip) == (config.clip, False)
    assert "clip.length: 16 → 4" in start.remarks[0]


def test_without_a_card_the_config_decides_and_the_name_may_object(from_file, model):
    assert len(open_start(from_file(model.state_dict())).remarks) == 1
    start = open_start(from_file(model.state_dict(), "r2plus1d_34_clip32_ig65m.pth"))
    assert start.clip.length == 4
    assert "by its name the file is of 32-frame clips" in start.remarks[1]


def test_clips_that_cannot_be_made_are_refused(from_file, model):
    other = about(ClipConfig())
    other["preprocessing"]["mean"] = [0.5, 0.5, 0.5]
    with pytest.raises(ConfigError, match=r"mean = \[0.5, 0.5, 0.5\] \(here: "):
        open_start(from_file(model.state_dict(), "other.safetensors", other))
    with pytest.raises(ConfigError, match="does not say how clips are made: no 'clip_length'"):
        open_start(from_file(model.state_dict(), "less.safetensors", {"preprocessing": {}}))


def test_a_network_of_single_frames_wants_single_frames():
    start = Start(ModelConfig("r2d_18"), ClipConfig(length=8), "")
    with pytest.raises(ConfigError, match=r"clip.length = 1 .*--inflate"):
        check_clips(start)
    check_clips(dataclasses.replace(start, clip=ClipConfig(length=1)))


# -------------------------------------------------------------------------------------------- files that do not fit


def test_files_that_do_not_fit_are_refused(from_file, model):
    config = from_file(model.state_dict())
    with pytest.raises(ConfigError, match=r"holds weights of r2plus1d_10, and model.name = 'r3d_18'"):
        open_start(dataclasses.replace(config, model=ModelConfig("r3d_18")))
    with pytest.raises(ConfigError, match="'scratch' means random weights, but run_from names a file"):
        open_start(dataclasses.replace(config, run="scratch"))
    with pytest.raises(ConfigError, match="no 2-D kernel to inflate: it is r2plus1d_10"):
        open_start(dataclasses.replace(config, inflate="center", model=ModelConfig("r2plus1d_10", 0.125)))
    with pytest.raises(ConfigError, match=r"no_net.pth' cannot be transferred: .*stem"):
        open_start(from_file({"weight": torch.zeros(2)}, "no_net.pth"))
    storage.write_json(f"{config.root}/runs/net_clip4/config.json", {})
    with pytest.raises(ConfigError, match=r"'net_clip4' is a pretraining run.*another name with --run"):
        open_start(config)


@pytest.mark.parametrize(
    ("run_from", "run", "folder"),
    [
        ("", "run", "run"),
        ("/data/r2plus1d_34.v2.pth", "run", "r2plus1d_34.v2"),
        ("s3://bucket/net.pkl", "run", "net"),
        ("net", "run", "net"),
        ("/data/net.pth", "mine", "mine"),
    ],
)
def test_results_are_named_after_the_run_or_the_file(config, run_from, run, folder):
    config = dataclasses.replace(config, run=run, run_from=run_from, result="3 crops")
    assert artifacts.transfer_files(config).folder == f"{config.root}/runs/{folder}/transfer/colours-fc_only-3 crops"


# ------------------------------------------------------------------------------------------------- other beginnings


@pytest.mark.parametrize("how", ["mean", "center"])
def test_a_2d_network_becomes_a_3d_one(from_file, how):
    torch.manual_seed(1)
    flat = build_model("r2d_10", 4, 0.125).eval()
    config = from_file(flat.state_dict(), "r2d.pth", inflate=how)
    config = dataclasses.replace(config, model=ModelConfig("r3d_10", 0.125))
    start = open_start(config)
    assert (start.model, start.clip) == (config.model, config.clip)
    own = start.own_model([0, 1, 2, 3], World()).eval()
    kernel, kernel_2d = own.stem[0].weight, flat.stem[0].weight
    torch.testing.assert_close(kernel.sum(dim=2, keepdim=True), kernel_2d)
    if how == "center":
        frame = torch.randn(2, 3, 1, 32, 32)
        torch.testing.assert_close(own(frame.expand(-1, -1, 4, -1, -1)), flat(frame), rtol=1e-4, atol=1e-5)
    assert start.new_model(7, 0, World()).fc.out_features == 7
    with pytest.raises(ConfigError, match=r"cannot be inflated into model.name = 'r2plus1d_10'.*footnote 8"):
        open_start(dataclasses.replace(config, model=ModelConfig("r2plus1d_10", 0.125)))
    with pytest.raises(ConfigError, match="no 2-D kernel to inflate: it is r2d_10"):
        open_start(dataclasses.replace(config, model=ModelConfig("r2d_10", 0.125)))
    with pytest.raises(ConfigError, match="inflate needs a 2-D network"):
        open_start(dataclasses.replace(config, run="scratch", run_from=""))


def test_from_scratch_may_begin_with_a_trunk_and_a_run_does_not_begin_with_it_again(config, model, tmp_path):
    path = str(tmp_path / "trunk.pth")
    torch.save(model.state_dict(), path)
    config = dataclasses.replace(config, model=ModelConfig("r2plus1d_10", 0.125, weights=path))
    start = open_start(config)
    assert torch.equal(start.new_model(7, 0, World()).stem[0].weight, model.stem[0].weight)
    assert len(start.digests["weights"]) == 64

    files = artifacts.run_files(config.root, "run")
    torch.manual_seed(9)
    trained = build_model("r2plus1d_10", 3, 0.125).state_dict()
    path = checkpoint.save(files.checkpoints, 64, trained, {})
    gone = {"name": "r2plus1d_10", "width": 0.125, "weights": "/no/longer/there.pth"}
    content = {"model": gone, "clip": json.loads(json.dumps(dataclasses.asdict(config.clip)))}
    counts = {"clips_seen": 64}
    marker = {"config": content, "digest": "abc", "counts": counts, "checkpoint": path.name, "labels": ["a", "b", "c"]}
    storage.write_json(files.marker, marker)
    start = open_start(dataclasses.replace(config, run="run"))
    assert torch.equal(start.new_model(7, 0, World()).stem[0].weight, trained["stem.0.weight"])
    assert start.labels == ("a", "b", "c")
