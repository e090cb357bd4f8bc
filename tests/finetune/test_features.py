"""Features on disk: the right numbers, computed once, going on after a kill, on any number of processes."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from finetune import evaluate, fc_only, features
from finetune.data import open_split
from finetune.features import Features, View
from pipeline import artifacts, storage
from pipeline.config import TransferConfig
from pretrain.distributed import World
from pretrain.models import VideoResNet, build_model
from pretrain.reading import FrameReader
from pretrain.samples import Samples
from pretrain.transforms import normalise

from .conftest import GARBAGE, write_split
from .worlds import in_threads


@pytest.fixture
def extraction(config) -> Callable[..., Features]:
    """Features of a part of the target, with what may be changed about them."""

    own = network(config)

    def extract(world: World | None = None, part: str = "test", model: VideoResNet = own, **view) -> Features:
        samples = open_split(config.root, config.target, part).samples
        settings = View(**{"clip": config.clip, "num_clips": 3, "positions": "mean", "precision": "fp32", **view})
        reader, files = FrameReader(samples, settings.clip), artifacts.run_files(config.root, config.run)
        return features.extract(files, model, reader, settings, world or World())

    return extract


def network(config: TransferConfig, seed: int = 0) -> VideoResNet:
    torch.manual_seed(seed)
    return build_model(config.model.name, 4, config.model.width).eval()


@pytest.fixture
def forwards(monkeypatch) -> list[int]:
    """The sample numbers of the clips that the network was given."""
    seen = []
    clips = evaluate.video_clips
    monkeypatch.setattr(evaluate, "video_clips", lambda *a: seen.append(a[1]) or clips(*a))
    return seen


def files_in(found: Features) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(found.folder).iterdir()}


def test_features_are_those_of_the_network_before_its_final_layer(config, extraction):
    found, model = extraction(), network(config)
    reader = FrameReader(open_split(config.root, config.target, "test").samples, config.clip)
    assert sum(len(part.samples) for part in found.parts) == 22
    for sample in (0, 7):
        clips = normalise(torch.from_numpy(evaluate.video_clips(reader, sample, 3)))
        with torch.inference_mode():
            expected, logits = model.forward_features(clips), model(clips)
        mapped = torch.from_numpy(found.of(np.array([sample]))[0])
        torch.testing.assert_close(mapped, expected, rtol=0, atol=0)
        torch.testing.assert_close(model.fc(mapped), logits)


def test_each_position_of_a_large_crop_is_a_row_whose_mean_is_the_clip(config, extraction):
    clip = dataclasses.replace(config.clip, length=1, size_hw=(128, 128), crop_px=128)
    each, mean = (
        extraction(part="train", clip=clip, num_clips=2, positions=positions).of(np.array([0, 1]))
        for positions in ("each", "mean")
    )
    assert each.shape[1] == 2 * 4  # the head's 7×7 at 2×2 places of 8×8
    np.testing.assert_allclose(each.reshape(2, 2, 4, -1).mean(axis=2), mean, atol=1e-5)


def test_what_cannot_be_decoded_is_listed_by_reason_and_tried_again(config, extraction, forwards):
    found = extraction()
    assert list(found.undecodable.values()) == ["decode_error"]
    marker = storage.read_json(f"{found.folder}/features.json")
    assert marker["counts"] == {"attempted": 23, "kept": 22, "undecodable": {"decode_error": 1}}
    before, bad = files_in(found), next(iter(found.undecodable))
    forwards.clear()
    extraction()
    assert forwards == [bad]
    assert files_in(found) == before


def test_a_video_that_has_been_restored_gets_its_features(config, extraction, monkeypatch):
    found = extraction()
    bad = next(iter(found.undecodable))
    read = Samples.read
    monkeypatch.setattr(Samples, "read", lambda self, sample: read(self, 0 if sample == bad else sample))
    monkeypatch.setattr(FrameReader, "read", lambda self, sample, frames: np.zeros((len(frames), 36, 40, 3), np.uint8))
    again = extraction()
    assert not again.undecodable
    assert storage.read_json(f"{found.folder}/features.json")["counts"]["kept"] == 23


def test_a_cache_is_of_one_network_one_view_and_one_split(config, extraction):
    clip = dataclasses.replace(config.clip, stride=1)
    changes = [{"num_clips": 2}, {"clip": clip}, {"model": network(config, 1)}, {"precision": "bf16"}, {"part": "test"}]
    found = [extraction(**{"part": "train", **change}) for change in ({}, *changes)]
    assert len({each.folder for each in found}) == 1 + len(changes)


def test_the_final_layer_has_no_part_in_the_digest_but_statistics_have(config):
    model = network(config)
    before = features.trunk_digest(model)
    torch.nn.init.normal_(model.fc.weight)
    assert features.trunk_digest(model) == before
    model.layer4[0].conv1[1].running_var += 1e-3
    assert features.trunk_digest(model) != before


class KilledError(Exception):
    pass


@pytest.mark.parametrize("size", [1, 3])
def test_an_interrupted_extraction_goes_on_where_it_stopped(config, extraction, forwards, monkeypatch, size):
    whole = extraction(part="train")
    expected = whole.of(np.arange(16))
    for path in Path(whole.folder).iterdir():
        path.unlink()
    write, written = features._write, []

    def killed_after_five(path: str, *rest) -> None:
        if len(written) == 5:
            raise KilledError
        written.append(path)
        write(path, *rest)

    monkeypatch.setattr(features, "_write", killed_after_five)
    with pytest.raises(KilledError):
        extraction(part="train")
    monkeypatch.setattr(features, "_write", write)
    assert not storage.exists(f"{whole.folder}/features.json")
    forwards.clear()
    for found in in_threads(size, lambda world: extraction(world, part="train")):
        np.testing.assert_array_equal(found.of(np.arange(16)), expected)
    assert sorted(forwards) == list(range(5, 16))
    forwards.clear()
    extraction(part="train")
    assert forwards == []


@pytest.mark.parametrize("damage", ["value", "cut short", "nothing in it"])
def test_a_damaged_part_is_named_and_computed_again(extraction, forwards, capsys, damage):
    found = extraction(part="train")
    before, path = files_in(found), Path(found.folder) / "part-00007.arrow"
    content = bytearray(path.read_bytes())
    place = content.index(found.parts[7].values_NRD.tobytes())
    content[place + 2] ^= 4
    path.write_bytes({"value": content, "cut short": content[: len(content) // 2], "nothing in it": b""}[damage])
    forwards.clear()
    extraction(part="train")
    assert forwards == [7]
    assert "part-00007.arrow' is damaged" in capsys.readouterr().out
    assert files_in(found) == before


def test_parts_cover_a_split_and_bound_what_is_held_in_memory():
    for num_videos in (1, 300, 5_000, 250_000, 3_000_000):
        cut = features.part_ranges(num_videos, 10, 2048)
        assert [part.start for part in cut[1:]] == [part.stop for part in cut[:-1]]
        assert (cut[0].start, cut[-1].stop) == (0, num_videos)
        assert max(map(len, cut)) * 10 * 2048 * 4 <= features.PART_BYTES
        assert len(cut) >= min(num_videos, features.MIN_PARTS)


# ------------------------------------------------------------------------------------------------------ fc_only


def fitted_in(world: World, config: TransferConfig, model: VideoResNet) -> tuple[fc_only.Fitted, evaluate.Outputs]:
    train, test = (open_split(config.root, config.target, part) for part in ("train", "test"))
    fitted = fc_only.fit(config, model, train, FrameReader(train.samples, config.clip), world)
    return fitted, fc_only.test_outputs(config, fitted.model, test, FrameReader(test.samples, config.clip), world)


def test_scores_from_features_are_those_of_the_network(config):
    fitted, outputs = fitted_in(World(), config, network(config))
    reader = FrameReader(open_split(config.root, config.target, "test").samples, config.clip)
    expected = evaluate.video_scores(fitted.model, reader, range(23), config.num_clips, World())
    np.testing.assert_array_equal(outputs.samples, expected.samples)
    assert outputs.undecodable == expected.undecodable
    np.testing.assert_allclose(outputs.values, expected.values, atol=1e-5)


def test_another_grid_decodes_nothing_again(config, forwards):
    first, before = fitted_in(World(), config, network(config))
    forwards.clear()
    again, after = fitted_in(World(), dataclasses.replace(config, l2=(first.chosen,)), network(config))
    assert set(forwards) <= set(before.undecodable)
    np.testing.assert_allclose(after.values, before.values, atol=1e-4)
    assert again.account["features"] == first.account["features"]


def test_processes_share_the_fit(config):
    alone, expected = fitted_in(World(), config, network(config))
    models = [network(config) for _ in range(3)]
    for fitted, outputs in in_threads(3, lambda world: fitted_in(world, config, models[world.rank])):
        assert fitted.chosen == alone.chosen
        np.testing.assert_array_equal(outputs.samples, expected.samples)
        np.testing.assert_allclose(outputs.values, expected.values, atol=1e-4)


def test_videos_with_several_labels_get_a_probability_for_each(config):
    train = open_split(config.root, config.target, "train")
    colour = train.labels
    labels = np.stack([colour == 0, colour < 2, colour % 2 == 1, colour == 3], axis=1)
    several = dataclasses.replace(train, labels=labels)
    reader = FrameReader(train.samples, config.clip)
    config = dataclasses.replace(config, l2=(0.01,))
    fitted = fc_only.fit(config, network(config), several, reader, World())
    outputs = fc_only.test_outputs(config, fitted.model, several, reader, World())
    np.testing.assert_array_equal(outputs.values > 0.5, labels)
    assert not np.allclose(outputs.values.sum(axis=1), 1, atol=0.2)


def test_an_unreadable_training_video_can_be_restored(config, tmp_path):
    bad = dataclasses.replace(config, root=str(tmp_path / "bad"))
    for faults in ({5: GARBAGE}, None):
        write_split(tmp_path / "bad" / str(bool(faults)), "train", 2, faults)
    (tmp_path / "bad" / "True" / "targets").rename(tmp_path / "bad" / "targets")
    train = open_split(bad.root, bad.target, "train")
    with pytest.raises(storage.StorageError, match="train005"):
        fc_only.fit(bad, network(bad), train, FrameReader(train.samples, bad.clip), World())
    restored = dataclasses.replace(bad, l2=(0.1,))
    whole = open_split(str(tmp_path / "bad" / "False"), bad.target, "train")
    assert fc_only.fit(restored, network(bad), whole, FrameReader(whole.samples, bad.clip), World()).account[
        "converged"
    ]
