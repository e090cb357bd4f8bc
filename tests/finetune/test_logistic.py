"""The solver against scikit-learn, and against what must hold at any minimum."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler

from finetune import logistic, rows
from finetune.logistic import Problem
from finetune.rows import Block, Rows
from pretrain.distributed import World

from .worlds import in_threads

NUM_ROWS, NUM_FEATURES, NUM_LABELS = 90, 12, 4


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, NUM_LABELS, NUM_ROWS)
    centres = rng.normal(size=(NUM_LABELS, NUM_FEATURES))
    features = (centres[labels] + rng.normal(size=(NUM_ROWS, NUM_FEATURES))) * rng.uniform(0.01, 50, NUM_FEATURES) + 7
    features[:, -1] = 3.0  # a feature that never changes, as a dead unit gives
    return features.astype(np.float32), labels


@pytest.fixture(scope="module")
def hard() -> tuple[np.ndarray, np.ndarray]:
    """Features of which one is almost another, on a mean a thousand times their deviation, at scales 1e-3 to 1e3."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, NUM_LABELS, 200)
    features = rng.normal(size=(NUM_LABELS, 8))[labels] + rng.normal(size=(200, 8))
    features = np.concatenate([features, features + 1e-3 * rng.normal(size=(200, 8))], axis=1)
    return ((features + 1000) * np.logspace(-3, 3, 16)).astype(np.float32), labels


def scikit(features: np.ndarray, l2: float) -> tuple[np.ndarray, LogisticRegression]:
    """The standardised features, and their solver with our penalty."""
    scaled = StandardScaler().fit_transform(features.astype(np.float64))
    return scaled, LogisticRegression(C=1 / (l2 * len(features)), tol=1e-9, max_iter=20_000)


def scaled_weight(mine: logistic.LogisticRegression, features: np.ndarray) -> np.ndarray:
    """Weights for standardised features."""
    deviation = features.astype(np.float64).std(axis=0)
    return mine.weight_KD.numpy() * np.where(deviation > 1e-12, deviation, 1.0)


@pytest.mark.parametrize(("which", "l2"), [("data", 1e-2), ("data", 1.0), ("hard", 1e-2)])
def test_weights_and_probabilities_equal_scikit_learn(which, l2, request):
    features, labels = request.getfixturevalue(which)
    mine = Problem(Rows.of(features, labels), NUM_LABELS).solve(l2, tolerance=1e-9)
    scaled, theirs = scikit(features, l2)
    theirs.fit(scaled, labels)
    assert mine.converged
    probabilities = mine.probabilities(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(probabilities, theirs.predict_proba(scaled), atol=1e-5)
    np.testing.assert_allclose(scaled_weight(mine, features), theirs.coef_, atol=1e-5)


@pytest.mark.parametrize(("which", "l2"), [("data", 1.0), ("hard", 1e-1)])
def test_several_labels_equal_one_regression_for_each(which, l2, request):
    features, first = request.getfixturevalue(which)
    second = np.random.default_rng(0).integers(0, NUM_LABELS, len(first))
    labels = logistic.indicator(list(zip(first, second, strict=True)), NUM_LABELS)
    assert labels.sum() == len(first) + (first != second).sum()
    mine = Problem(Rows.of(features, labels), NUM_LABELS, "sigmoid").solve(l2, tolerance=1e-9)
    scaled, theirs = scikit(features, l2)
    theirs = OneVsRestClassifier(theirs).fit(scaled, labels)
    assert mine.converged
    probabilities = mine.probabilities(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(probabilities, theirs.predict_proba(scaled), atol=1e-5)
    expected = np.concatenate([one.coef_ for one in theirs.estimators_])
    np.testing.assert_allclose(scaled_weight(mine, features), expected, atol=1e-5)


def test_any_other_weights_are_worse(data):
    features, labels = data
    fitted = logistic.fit(Rows.of(features, labels), NUM_LABELS, 0.01)
    mean, std = features.astype(np.float64).mean(axis=0), features.astype(np.float64).std(axis=0)
    scaled = torch.from_numpy((features - mean) / np.where(std > 1e-12, std, 1.0))
    weight = torch.from_numpy(scaled_weight(fitted, features))
    bias = fitted.bias_K + fitted.weight_KD @ torch.from_numpy(mean)

    def value(weight_step: torch.Tensor, bias_step: torch.Tensor) -> float:
        moved = weight + weight_step
        cross_entropy = torch.nn.functional.cross_entropy(scaled @ moved.T + bias + bias_step, torch.from_numpy(labels))
        return (cross_entropy + 0.005 * moved.square().sum()).item()

    rng = torch.Generator().manual_seed(0)
    for _ in range(5):
        steps = [1e-3 * torch.randn(part.shape, generator=rng, dtype=torch.float64) for part in (weight, bias)]
        there, back = value(*steps), value(-steps[0], -steps[1])
        assert there > value(0 * steps[0], 0 * steps[1]) < back


def test_penalty_shrinks_the_weights_and_leaves_the_bias(data):
    features, labels = data
    strong = logistic.fit(Rows.of(features, labels), NUM_LABELS, 1e4)
    shares = np.bincount(labels, minlength=NUM_LABELS) / NUM_ROWS
    np.testing.assert_allclose(strong.probabilities(torch.from_numpy(features))[0], shares, atol=1e-3)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_a_label_without_rows_gets_no_probability(data, loss):
    features, labels = data
    given = labels if loss == "softmax" else logistic.indicator(labels[:, None], NUM_LABELS + 1)
    fitted = logistic.fit(Rows.of(features, given), NUM_LABELS + 1, 0.1, loss)
    assert fitted.converged
    assert fitted.probabilities(torch.from_numpy(features))[:, -1].max() < 1e-4


def test_rare_labels_do_not_hold_up_the_search():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [900, 95, 5])
    features = rng.normal(size=(1000, 30)) + rng.normal(size=(3, 30))[labels]
    assert logistic.fit(Rows.of(features.astype(np.float32), labels), 3, 1.0).iterations < 12


def test_stopping_early_is_not_called_convergence(data, monkeypatch):
    monkeypatch.setattr(logistic, "MAX_ITERATIONS", 2)
    assert not logistic.fit(Rows.of(*data), NUM_LABELS, 1e-3).converged


def test_a_start_nearby_leads_to_the_same_answer_in_fewer_steps(data):
    problem = Problem(Rows.of(*data), NUM_LABELS)
    near, cold = problem.solve(0.02), problem.solve(0.01)
    warm = problem.solve(0.01, near)
    torch.testing.assert_close(warm.weight_KD, cold.weight_KD, atol=1e-5, rtol=1e-5)
    assert warm.iterations < cold.iterations


# -------------------------------------------------------------------------------------------------------- the rows


def in_parts(features: np.ndarray, labels: np.ndarray, folder: Path, resident_bytes: int) -> Rows:
    """Every other video of two files, mapped: three rows a video."""
    videos = features.reshape(-1, 3, features.shape[1])
    blocks = []
    for number, part in enumerate((slice(0, 20), slice(20, 30))):
        np.save(folder / f"{number}.npy", videos[part])
        mapped = np.load(folder / f"{number}.npy", mmap_mode="r")
        blocks.append(Block(mapped, np.arange(0, len(mapped), 2), labels[part][::2]))
    return Rows(blocks, features.shape[1], resident_bytes=resident_bytes)


@pytest.mark.parametrize("resident_bytes", [0, 1 << 20])
def test_rows_in_mapped_parts_give_what_they_give_in_memory(data, tmp_path, monkeypatch, resident_bytes):
    monkeypatch.setattr(rows, "CHUNK_VALUES", 4 * 3 * NUM_FEATURES)  # four videos
    features, labels = data[0], data[1][:30]
    mapped = in_parts(features, labels, tmp_path, resident_bytes)
    taken = features.reshape(-1, 3, NUM_FEATURES)[::2]
    sizes = [len(chunk) for chunk, _ in mapped]
    assert (sum(sizes), max(sizes)) == (45, 12)
    np.testing.assert_array_equal(torch.cat([chunk for chunk, _ in mapped]), taken.reshape(-1, NUM_FEATURES))
    assert torch.cat([of_rows for _, of_rows in mapped]).tolist() == np.repeat(labels[::2], 3).tolist()
    expected = logistic.fit(Rows.of(taken, labels[::2]), NUM_LABELS, 0.1)
    found = logistic.fit(mapped, NUM_LABELS, 0.1)
    torch.testing.assert_close(found.weight_KD, expected.weight_KD, atol=1e-6, rtol=1e-6)


def test_rows_spread_over_processes_give_the_same_regression(data):
    held = [slice(0, 30), slice(30, None), slice(0, 0)]  # the last one has no row

    def solve(world: World) -> logistic.LogisticRegression:
        rows_of_rank = Rows.of(data[0][held[world.rank]], data[1][held[world.rank]])
        problem = Problem(rows_of_rank, NUM_LABELS, world=world)
        return problem.solve(0.01, problem.solve(0.1))

    first, *others = in_threads(3, solve)
    for other in others:
        torch.testing.assert_close(other.weight_KD, first.weight_KD, rtol=0, atol=0)
        assert (other.iterations, other.gradient_norm) == (first.iterations, first.gradient_norm)
    alone = logistic.fit(Rows.of(*data), NUM_LABELS, 0.01)
    torch.testing.assert_close(first.weight_KD, alone.weight_KD, atol=1e-5, rtol=1e-5)
