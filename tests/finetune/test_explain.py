"""Activation maps against what they must add up to; the stage from end to end on the coloured target."""

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from finetune import evaluate, overlay, tested_model
from finetune import explain as stage
from finetune.activation_maps import class_activation_maps, grad_cam, maps_of, pool_weights
from finetune.explain import ExplainConfig, explain
from finetune.predictions import Predictions
from finetune.transfer import transfer
from pipeline import artifacts, storage, video
from pipeline.config import ConfigError
from pretrain.distributed import World
from pretrain.models import VideoResNet, build_model


@pytest.fixture(scope="module")
def network() -> VideoResNet:
    torch.manual_seed(0)
    model = build_model("r2plus1d_10", 5, 0.125).eval()
    torch.nn.init.normal_(model.fc.bias)
    return model


# --------------------------------------------------------------------------------------------- activation maps


@pytest.mark.parametrize(("height", "width"), [(112, 112), (32, 48), (128, 160)])
@torch.inference_mode()
def test_maps_add_up_to_the_logits(network, height, width):
    clips = torch.randn(2, 3, 8, height, width)
    maps = class_activation_maps(network, clips)
    assert maps.shape == (2, 5, 1, -(-height // 16), -(-width // 16))
    torch.testing.assert_close(maps.sum(dim=(2, 3, 4)) + network.fc.bias, network(clips), rtol=1e-4, atol=1e-5)


def test_a_place_counts_as_often_as_windows_hold_it():
    weights = pool_weights(8, 7)  # two windows below each other
    expected = torch.full((8, 7), 2 / 98)
    expected[[0, 7]] = 1 / 98
    torch.testing.assert_close(weights, expected)


def test_grad_cam_is_the_same_thing_at_the_last_layer(network):
    clips = torch.randn(2, 3, 8, 112, 112)
    with torch.inference_mode():
        expected = class_activation_maps(network, clips)[:, [3, 1]]
    maps, logits = grad_cam(network, clips, [3, 1], "layer4")
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(logits, network(clips).detach())


def test_grad_cam_weights_an_inner_layers_features_by_measured_slopes():
    torch.manual_seed(0)
    model, clips = build_model("r2plus1d_10", 5, 0.0625).eval().double(), torch.randn(1, 3, 4, 32, 32).double()
    module, name, label, step = model.layer2[0].conv1, "layer2.0.conv1", 2, 1e-5
    features: list[torch.Tensor] = []
    with (
        torch.no_grad(),
        module.register_forward_hook(lambda _module, _inputs, output: features.append(output.clone())),
    ):
        model(clips)
    channels, places = features[0].shape[1], features[0][0, 0].numel()
    expected = torch.zeros(features[0].shape[2:], dtype=torch.float64)
    for channel in range(channels):
        shift = torch.zeros(channels, 1, 1, 1).double()
        shift[channel] = step
        logits = []
        for sign in (1, -1):
            hook = module.register_forward_hook(lambda _module, _inputs, output, by=sign * shift: output + by)
            with torch.no_grad(), hook:
                logits.append(model(clips)[0, label])
        expected += (logits[0] - logits[1]) / (2 * step) / places * features[0][0, channel]
    maps, _ = maps_of(model, clips, [label], name)
    torch.testing.assert_close(maps[0, 0], expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("layer", "message"), [("layer9", "no layer 'layer9'.* layer1"), ("", "no layer"), ("fc", "no places")]
)
def test_a_layer_without_a_map_is_refused(network, layer, message):
    with pytest.raises(ConfigError, match=message):
        maps_of(network, torch.randn(1, 3, 4, 32, 32), [0], layer)


# ------------------------------------------------------------------------------------------------ over a video


def test_frames_take_the_mean_of_the_clips_that_hold_them_or_the_nearest():
    maps = torch.tensor([[1.0, 1.0], [3.0, 3.0], [10.0, 20.0]]).view(3, 1, 2, 1, 1)
    found = overlay.over_frames(maps, [0, 2, 10], 4, 16)[0, :, 0, 0]
    expected = [1, 1, 2, 2, 3, 3, 3, 3, 10, 10, 10, 12.5, 17.5, 20, 20, 20]  # frames 6 to 9 and the last two: no clip
    assert found.tolist() == expected


def test_a_video_shorter_than_a_clip_has_maps_of_its_own_frames():
    maps = torch.arange(8.0).view(1, 1, 8, 1, 1)
    assert overlay.over_frames(maps, [0], 8, 5)[0, :, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_the_hottest_place_is_painted_most_and_bare_places_not_at_all():
    pixels = np.full((1, 2, 2, 3), 100.0)
    painted = overlay.painted(pixels, np.array([[[0.0, 0.5], [0.25, 1.0]]]))
    assert painted[0, 0, 0].tolist() == [100, 100, 100]
    hottest = (1 - overlay.OPACITY) * 100 + overlay.OPACITY * overlay.HEAT[-1]
    np.testing.assert_allclose(painted[0, 1, 1], hottest, atol=0.5)


def test_videos_are_named_by_their_keys_or_files():
    uris = {"k1": "s3://b/a/one.mp4", "k2": "/a/two.tar.mp4", "k3": "/b/one.mp4"}
    assert stage.keys_of(("k2", "one", "two.tar.mp4", "three"), uris) == ("k2", "k1", "k3", "k2", "three")


# --------------------------------------------------------------------------------------------------- the stage


@pytest.fixture
def finished(config) -> str:
    """The folder of a transfer that is right about most test videos and wrong about some."""
    config = dataclasses.replace(config, l2=(30.0,), num_clips=1, test_crop_px=16)
    transfer(config)
    return artifacts.run_files(config.root, config.run).transfer(config.target, config.protocol)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_the_network_that_was_tested_comes_back(finished):
    found = stage.open_finished(finished)
    model, reader = stage.network_of(found, "layer4", World())
    outputs = evaluate.video_scores(model, reader, range(len(reader.samples)), 1, World())
    np.testing.assert_array_equal(outputs.values, found.scored.scores)


def test_full_fine_tuning_keeps_all_weights(config):
    config = dataclasses.replace(config, protocol="full_ft", passes=1, learning_rates=(0.02,), num_clips=1)
    transfer(config)
    found = stage.open_finished(artifacts.run_files(config.root, config.run).transfer(config.target, config.protocol))
    model, reader = stage.network_of(found, "layer4", World())
    outputs = evaluate.video_scores(model, reader, range(len(reader.samples)), 1, World())
    np.testing.assert_allclose(outputs.values, found.scored.scores, rtol=1e-5)  # weights lie otherwise in memory


def test_an_explanation_is_whole_and_its_tables_agree_with_the_result(finished, config, capsys):
    other = dataclasses.replace(config, run="scratch runs", l2=(0.01,))
    transfer(other)
    against = artifacts.run_files(other.root, other.run).transfer(other.target, other.protocol)
    asked = ExplainConfig(finished, right=1, wrong=2, keys=("test007",), frames=3, against=against)
    explain(asked)
    folder, found = Path(finished) / "explain" / "all", stage.open_finished(finished)
    videos = rows_of(folder / "videos.csv")
    wrong = int((~found.scored.correct).sum())
    assert 2 < wrong < 20
    assert [row["chosen"].partition(",")[0] for row in videos] == ["named", "wrong", "wrong", "right"]
    for row in videos:
        place = found.scored.keys.index(row["key"])
        assert float(row["score"]) == pytest.approx(found.scored.scores[place].max())
        assert (row["label"] == row["predicted"]) == bool(found.scored.correct[place])
        pictures = 2 if row["label"] == row["predicted"] else 3  # the frame, the predicted label, the video's own
        film = video.read_video((folder / row["mp4"]).read_bytes())
        assert film.shape[1:] == (224, 224 * pictures, 3)
        with Image.open(folder / row["png"]) as strip:
            assert strip.height > 144 * pictures
    confusions = rows_of(folder / "confusions.csv")
    assert sum(int(row["count"]) for row in confusions) == wrong
    gains = rows_of(folder / "differences.csv")
    assert sum(int(row["videos"]) for row in gains) == 22
    assert all(float(row["top1_against"]) == 1.0 for row in gains)
    assert sum(int(row["right_there_only"]) for row in gains) == wrong
    for row in gains:
        assert float(row["low"]) <= float(row["top1_difference"]) <= float(row["high"]) <= 0
    assert "test007" in (folder / "index.html").read_text()
    assert storage.read_json(str(folder / "explain.json"))["counts"]["undecodable"] == {"decode_error": 1}
    capsys.readouterr()
    explain(dataclasses.replace(asked, result=f"{finished}/result.json"))
    assert "finished; nothing to do" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="right: 1 → 2"):
        explain(dataclasses.replace(asked, right=2))
    explain(dataclasses.replace(asked, name="tables", right=0, wrong=0, keys=(), against=""))
    assert rows_of(folder.parent / "tables" / "videos.csv") == []


def test_what_cannot_be_explained_is_refused_with_the_remedy(finished, tmp_path):
    for asked, message in (
        (ExplainConfig(str(tmp_path)), "is not the folder of a transfer"),
        (ExplainConfig(finished.replace("fc_only", "full_ft")), "finished transfer"),
        (ExplainConfig(finished, keys=("absent",)), "'absent' is no scored test video"),
        (ExplainConfig(finished, name="../x"), "name of a explanation"),
        (ExplainConfig(finished, frames=0), "frames must be at least 1"),
        (ExplainConfig(finished, layer="layer9"), "no layer 'layer9'"),
    ):
        with pytest.raises(ConfigError, match=message):
            explain(asked)
    Path(tested_model.path(finished, 1)).unlink()
    with pytest.raises(ConfigError, match="run the transfer again"):
        explain(ExplainConfig(finished))
    assert not (Path(finished) / "explain").exists()  # what was refused is not in the way of what is asked next


def test_the_surest_are_found_in_one_look_at_the_scores(monkeypatch):
    scores = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    scored = Predictions([f"{number:02d}" for number in range(50)], np.zeros(50, np.int64), scores, list("abc"), {})
    looks, correct = [], scored.correct
    monkeypatch.setattr(Predictions, "correct", property(lambda _: looks.append(1) or correct))
    chosen = stage.choose_videos(ExplainConfig(right=3, wrong=2, keys=("07",)), scored)
    assert len(looks) == 1
    by_score = np.argsort(-scores.max(axis=1))
    expected = {7, *by_score[correct[by_score]][:3], *by_score[~correct[by_score]][:2]}
    assert set(chosen) == expected


def test_names_of_files_are_safe():
    assert stage.safe_name("../a b/é?.mp4") == "_a_b_mp4"
