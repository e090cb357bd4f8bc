"""Few shots: which videos are drawn, what is chosen without the test, and heads that learn what can be learnt."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.linear_model import LogisticRegression

from finetune import evaluate, few_shot, mlp, result
from finetune.data import open_split
from finetune.explain import ExplainConfig, explain
from finetune.few_shot import FewShot
from finetune.transfer import transfer
from pipeline import artifacts, storage
from pipeline.config import ConfigError, TransferConfig
from pretrain.distributed import World
from pretrain.models import VideoResNet, build_model
from pretrain.reading import FrameReader

from .worlds import in_threads

CPU = torch.device("cpu")


def clusters(num_labels: int, per_label: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two rows a video around its label's centre, float32 [V, 2, 20], and labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_labels), per_label)
    centres = np.random.default_rng(1).normal(size=(num_labels, 20))
    features = centres[labels][:, None] + noise * rng.normal(size=(len(labels), 2, 20))
    return (100 + 5 * features).astype(np.float32), labels


# ---------------------------------------------------------------------------------------------------------- draws


def test_draws_are_nested_in_k_and_differ_from_one_another():
    keys, labels = [f"video{n}" for n in range(60)], np.arange(60) % 3
    draws = {(k, draw): few_shot.draw_videos(keys, labels, k, 7, draw) for k in (1, 5, 10) for draw in range(4)}
    for (k, draw), drawn in draws.items():
        assert np.bincount(labels[drawn]).tolist() == [k] * 3
        assert set(drawn) <= set(draws[10, draw])
    assert len({tuple(draws[5, draw]) for draw in range(4)}) == 4
    shuffled = np.random.default_rng(0).permutation(60)
    again = few_shot.draw_videos([keys[i] for i in shuffled], labels[shuffled], 5, 7, 2)
    assert sorted(shuffled[again]) == draws[5, 2].tolist()


def test_every_video_is_drawn_equally_often():
    keys, labels = [f"video{n}" for n in range(10)], np.zeros(10, int)
    counts = np.bincount(
        np.concatenate([few_shot.draw_videos(keys, labels, 3, 0, draw) for draw in range(2000)]), minlength=10
    )
    assert scipy.stats.chisquare(counts).pvalue > 1e-4


def test_a_label_with_fewer_videos_gives_what_it_has():
    drawn = few_shot.draw_videos(list("abcdefg"), np.array([0, 0, 0, 0, 1, 1, 2]), 3, 0, 0)
    assert np.bincount(np.array([0, 0, 0, 0, 1, 1, 2])[drawn]).tolist() == [3, 2, 1]


# ---------------------------------------------------------------------------------------------------------- heads


def test_the_penalty_is_chosen_among_the_shots_and_suits_the_noise():
    grid = (3e-2, 3e-1, 3.0)
    clean, noisy = (few_shot.choose_l2(*clusters(4, 3, noise), 4, grid, CPU) for noise in (0.3, 6.0))
    assert (clean, noisy) == (3e-2, 3.0)
    assert few_shot.choose_l2(*clusters(4, 1, 0.3), 4, grid, CPU) == 1 / 4


def test_one_shot_is_scikit_learn_with_videos_as_rows():
    features, labels = clusters(4, 1, 0.5)
    config = TransferConfig(l2=(1e-3, 1e-1))
    head, l2 = few_shot.fit_head("logistic", features, labels, 4, config, 0, CPU)
    rows = features.reshape(-1, 20).astype(np.float64)
    scaled = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    weight = np.full(len(rows), 0.5)  # two rows a video
    theirs = LogisticRegression(C=1.0, tol=1e-9, max_iter=1000).fit(scaled, np.repeat(labels, 2), weight)
    expected = theirs.predict_proba(scaled).reshape(4, 2, 4).mean(axis=1)
    assert l2 == 1 / 4
    np.testing.assert_allclose(few_shot.video_probabilities(head, features, CPU), expected, atol=1e-5)


def test_places_count_videos_of_the_same_label():
    assert few_shot.places_within_labels(np.array([2, 0, 2, 2, 1, 0])).tolist() == [0, 0, 1, 2, 0, 1]


def not_linear() -> tuple[np.ndarray, np.ndarray]:
    """Points of the plane, float32 [120, 1, 2], whose label says whether their coordinates have one sign."""
    points = np.random.default_rng(0).normal(size=(120, 1, 2)) * [30, 0.1]
    return points.astype(np.float32), (points[:, 0, 0] * points[:, 0, 1] > 0).astype(np.int64)


def test_the_perceptron_learns_what_no_plane_divides():
    points, labels = not_linear()
    fitted = mlp.fit(points[:80], labels[:80], 2, 1, CPU)
    right = few_shot.video_probabilities(fitted, points[80:], CPU).argmax(axis=1) == labels[80:]
    assert right.mean() > 0.8


def test_the_perceptron_is_a_function_of_its_seed(monkeypatch):
    monkeypatch.setattr(mlp, "MIN_STEPS", 1)
    first, again, other = (mlp.fit(*not_linear(), 2, seed, CPU).last.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_interval_is_students():
    found = few_shot.summary([0.5, 0.6, 0.7, 0.6])
    expected = scipy.stats.ttest_1samp(found["accuracies"], 0).confidence_interval(0.95)
    assert found["mean"] == pytest.approx(0.6)
    assert found["interval"] == pytest.approx([expected.low, expected.high])
    assert few_shot.summary([0.5])["interval"] is None


# --------------------------------------------------------------------------------------------------- the protocol


@pytest.fixture
def few(config, monkeypatch) -> TransferConfig:
    monkeypatch.setattr(mlp, "MIN_STEPS", 60)
    return dataclasses.replace(config, protocol="few_shot", shots=(1, 3), draws=2, l2=(0.1, 1.0))


def run(config: TransferConfig, model: VideoResNet, world: World) -> FewShot:
    train, test = (open_split(config.root, config.target, part) for part in ("train", "test"))
    readers = tuple(FrameReader(split.samples, config.clip) for split in (train, test))
    return few_shot.run(config, model, train, test, readers, world)


def test_colours_are_told_apart_and_processes_share_the_fits_without_decoding_again(few, monkeypatch):
    torch.manual_seed(1)
    model = build_model(few.model.name, 4, few.model.width)
    found = run(few, model, World())
    assert {head: list(by_k) for head, by_k in found.heads.items()} == {"logistic": ["1", "3"], "mlp": ["1", "3"]}
    for by_k in found.heads.values():
        assert [len(by_k[k]["accuracies"]) for k in "13"] == [2, 2]
        assert by_k["3"]["mean"] > 0.9  # a guess is right in a quarter
    assert found.heads["logistic"]["1"]["l2"] == [1 / 4] * 2
    assert set(found.heads["logistic"]["3"]["l2"]) <= set(few.l2)
    assert list(found.undecodable.values()) == ["decode_error"]
    read, clips = [], evaluate.video_clips
    monkeypatch.setattr(evaluate, "video_clips", lambda *a: read.append(a[1]) or clips(*a))
    for again in in_threads(2, lambda world: run(few, model, world)):
        assert again == found
    assert read == list(found.undecodable)


def test_the_result_of_a_transfer_has_every_fit_and_accounts_for_every_video(few, monkeypatch, capsys):
    sides, clips = set(), evaluate.video_clips
    monkeypatch.setattr(
        evaluate, "video_clips", lambda *a: sides.add((a[0].samples.name, a[0].clip.crop_px)) or clips(*a)
    )
    few = dataclasses.replace(few, test_crop_px=36)
    transfer(few)
    assert sides == {("colours-train", 32), ("colours-test", 36)}
    found = storage.read_json(artifacts.transfer_files(few).marker)
    heads, metrics = found["few_shot"]["heads"], found["metrics"]
    assert {(head, k): len(of["accuracies"]) for head, by_k in heads.items() for k, of in by_k.items()} == {
        (head, k): 2 for head in few_shot.HEADS for k in ("1", "3")
    }
    regression = heads["logistic"]["3"]
    assert metrics["headline"] == {"name": "top1", "value": regression["mean"], "interval": regression["interval"]}
    assert metrics["interval_of"] == result.OVER_DRAWS
    tested = found["counts"]["test_videos"]
    assert tested == {"attempted": 24, "scored": 22, "undecodable": {"not_a_video": 1, "decode_error": 1}}
    assert (metrics["num_videos"], metrics["num_undecodable"]) == (22, 2)
    assert found["few_shot"]["num_short"] == {"1": 0, "3": 0}
    capsys.readouterr()
    transfer(dataclasses.replace(few, passes=3, held_out=0.5))  # which few_shot does not read
    assert "finished; nothing to do" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="draws: 2 → 3"):
        transfer(dataclasses.replace(few, draws=3))
    with pytest.raises(ConfigError, match="few_shot keeps no predictions"):
        explain(ExplainConfig(artifacts.transfer_files(few).folder))


def test_what_cannot_be_drawn_is_refused_before_anything_is_written(few):
    for changes, message in (({"shots": (9,)}, "the most is 4"), ({"l2": ()}, "at least one value")):
        with pytest.raises(ConfigError, match=message):
            transfer(dataclasses.replace(few, **changes))
    assert not storage.exists(f"{few.root}/runs")


def test_labels_with_too_few_videos_are_said_and_impossible_shots_refused(few, capsys):
    train = open_split(few.root, few.target, "train")
    short = dataclasses.replace(train, labels=np.where(np.arange(16) < 1, 0, np.maximum(train.labels, 1)))
    few_shot.check(few, short)
    assert few_shot.num_short(few, short) == {"1": 0, "3": 1}
    assert "1 of 4 labels have fewer than 3" in capsys.readouterr().out
    several = dataclasses.replace(train, labels=np.eye(4, dtype=bool)[train.labels])
    for changes, split, message in (
        (
            {"shots": (1, 5)},
            train,
            "no label of 'colours-train' has 5 videos; the most is 4: give --shots of at most that",
        ),
        ({"shots": (0,)}, train, "at least 1"),
        ({"draws": 0}, train, "draws = 0"),
        ({}, several, "fc_only"),
        ({"num_crops": 3}, train, "leave out num_crops = 3"),
        ({"clip_choice": "salient"}, train, "clip_choice = salient"),
    ):
        with pytest.raises(ConfigError, match=message):
            few_shot.check(dataclasses.replace(few, **changes), split)
