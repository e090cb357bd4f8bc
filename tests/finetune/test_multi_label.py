"""Videos with several labels: how they are told, read, trained on and scored."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F

from finetune import losses
from finetune.data import Split, open_split
from finetune.explain import ExplainConfig, explain
from finetune.transfer import transfer
from pipeline import artifacts, storage
from pipeline.config import ConfigError
from pretrain.data import Batch, TrainingClips


def relabel(root, part: str, change) -> None:
    """Rewrite the labels of a split: `change` of (row number, label ids)."""
    path = f"{artifacts.target_files(str(root), 'colours', part).manifest}/part-00000.parquet"
    rows = storage.read_parquet(path).to_pylist()
    for number, row in enumerate(rows):
        row["label_ids"] = change(number, row["label_ids"])
    storage.write_parquet(path, pa.Table.from_pylist(rows, artifacts.MANIFEST))


def mark(root, multi_label: bool) -> None:
    for part in ("train", "test"):
        path = artifacts.target_files(str(root), "colours", part).marker
        storage.write_json(path, storage.read_json(path) | {"multi_label": multi_label})


def is_light(label_ids: list[int]) -> list[int]:
    """Colours as they are, and green or yellow (1, 3) also as red (0)."""
    return sorted({*label_ids, 0}) if set(label_ids) & {1, 3} else label_ids


def test_one_label_a_video_stays_numbers(root):
    split = open_split(str(root), "colours", "train")
    assert not split.multi_label
    assert split.labels.dtype == np.int64
    assert split.labels.shape == (16,)


@pytest.mark.parametrize("part", ["train", "test"])
def test_one_video_with_two_labels_in_either_part_makes_the_target_multi_label(root, part):
    relabel(root, part, lambda number, ids: [0, 2] if number == 0 else ids)
    splits = {name: open_split(str(root), "colours", name) for name in ("train", "test")}
    for split in splits.values():
        assert split.multi_label
        assert split.labels.dtype == bool
        assert split.labels.shape == (len(split.samples), 4)
        for sample, row in enumerate(split.labels):
            assert np.flatnonzero(row).tolist() == split.samples.labels_of(sample).tolist()
    assert splits[part].labels[0].tolist() == [True, False, True, False]


def test_the_marker_decides_where_it_says_so(root):
    mark(root, True)
    assert open_split(str(root), "colours", "train").multi_label
    mark(root, False)
    relabel(root, "train", lambda number, ids: [0, 2] if number == 3 else ids)
    with pytest.raises(
        ConfigError, match=r"video 'train003' of target 'colours' \(train\) has 2 labels; it needs exactly"
    ):
        open_split(str(root), "colours", "train")


def test_a_test_video_may_have_no_label_and_a_training_video_may_not(root):
    mark(root, True)
    relabel(root, "test", lambda number, ids: [] if number == 2 else ids)
    assert not open_split(str(root), "colours", "test").labels[2].any()
    relabel(root, "train", lambda number, ids: [] if number == 2 else ids)
    with pytest.raises(ConfigError, match=r"'train002' .* has 0 labels; it needs at least one"):
        open_split(str(root), "colours", "train")


def test_a_video_counts_under_the_rarest_of_its_labels():
    labels = np.array([[1, 1, 0], [1, 0, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]], dtype=bool)
    assert Split(None, labels, {}).strata == [1, 2, 0, 3, 1]
    assert Split(None, np.array([2, 0]), {}).strata == [2, 0]


def test_each_clip_has_all_labels_of_its_video(root, config):
    relabel(root, "train", lambda number, ids: is_light(ids))
    train = open_split(str(root), "colours", "train")
    clips = TrainingClips(train.samples, config.clip, seed=0)
    batches = [clips.__getitems__([0, 1, 2]), clips.__getitems__([3, 4])]
    for given, found in zip(batches, losses.with_all_labels(batches, train.labels), strict=True):
        assert torch.equal(found.clips_BTHWC, given.clips_BTHWC)
        assert found.labels.dtype == torch.float32
        assert found.labels.bool().tolist() == train.labels[given.samples].tolist()
    single = Batch(*batches[0])
    assert next(losses.with_all_labels([single], np.zeros(16, np.int64))) is single


def test_the_loss_is_the_log_likelihood_of_all_labels_and_its_gradient_what_is_missing():
    logits = torch.randn(5, 7, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    labels = (torch.arange(35).reshape(5, 7) % 3 == 0).double()
    loss = losses.training_loss(multi_label=True)(logits, labels)
    likelihood = torch.where(labels > 0, logits.sigmoid(), 1 - logits.sigmoid()).prod(dim=1)
    torch.testing.assert_close(loss, -likelihood.log().mean())
    loss.backward()
    torch.testing.assert_close(logits.grad, (logits.detach().sigmoid() - labels) / 5)
    assert losses.training_loss(multi_label=False) is F.cross_entropy


def test_with_two_labels_sigmoids_and_softmax_are_the_same_model():
    """softmax of (z, 0) is (sigmoid(z), 1 - sigmoid(z))."""
    z = torch.linspace(-4, 4, 9)[:, None]
    softmax = losses.probabilities(torch.cat([z, torch.zeros_like(z)], dim=1), multi_label=False)
    torch.testing.assert_close(softmax[:, :1], losses.probabilities(z, multi_label=True))
    labels = np.arange(9) % 2
    log_loss = losses.log_loss(softmax.numpy(), labels)
    assert losses.log_loss(softmax[:, :1].numpy(), labels[:, None] == 0) == pytest.approx(log_loss, rel=1e-6)


def test_a_number_that_is_missing_is_an_infinite_loss():
    scores = np.array([[0.5, np.nan]])
    assert losses.log_loss(scores, np.array([0])) == np.inf
    assert losses.log_loss(scores, np.array([[True, False]])) == np.inf


def test_fine_tuning_learns_overlapping_labels(root, config):
    for part in ("train", "test"):
        relabel(root, part, lambda number, ids: is_light(ids))
    config = dataclasses.replace(config, protocol="full_ft", learning_rates=(0.01,), passes=20, num_clips=1)
    transfer(config)
    files = artifacts.transfer_files(config)
    found = storage.read_json(files.marker)
    assert found["metrics"]["headline"]["name"] == "map"
    assert found["metrics"]["map"] > 0.9  # of random scores about 0.4
    assert found["training"]["accuracy"] is None
    rows = storage.read_parquet(files.predictions).to_pylist()
    assert {tuple(row["labels"]) for row in rows} == {(0,), (0, 1), (2,), (0, 3)}
    sums = [sum(row["scores"]) for row in rows if row["scores"]]
    assert max(sums) > 1.5  # two labels, each likely
    low, high = found["metrics"]["headline"]["interval"]
    assert low <= found["metrics"]["map"] <= high
    with pytest.raises(ConfigError, match="several labels each"):
        explain(ExplainConfig(files.folder))
