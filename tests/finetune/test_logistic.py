"""The solver against scikit-learn, and against what must hold at any minimum."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from finetune import logistic

NUM_ROWS, NUM_FEATURES, NUM_LABELS = 90, 12, 4


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, NUM_LABELS, NUM_ROWS)
    centres = rng.normal(size=(NUM_LABELS, NUM_FEATURES))
    features = (centres[labels] + rng.normal(size=(NUM_ROWS, NUM_FEATURES))) * rng.uniform(0.01, 50, NUM_FEATURES) + 7
    features[:, -1] = 3.0  # a feature that never changes, as a dead unit gives
    return features.astype(np.float32), labels


@pytest.mark.parametrize("l2", [1e-3, 0.1, 1.0])
def test_probabilities_equal_scikit_learn(data, l2):
    features, labels = data
    mine = logistic.fit(torch.from_numpy(features), torch.from_numpy(labels), NUM_LABELS, l2)
    scaler = StandardScaler().fit(features.astype(np.float64))
    theirs = LogisticRegression(C=1 / (l2 * NUM_ROWS), tol=1e-10, max_iter=10_000)
    theirs.fit(scaler.transform(features.astype(np.float64)), labels)
    assert mine.converged
    probabilities = mine.logits(torch.from_numpy(features)).softmax(dim=1).numpy()
    expected = theirs.predict_proba(scaler.transform(features.astype(np.float64)))
    np.testing.assert_allclose(probabilities, expected, atol=2e-5)


def test_any_other_weights_are_worse(data):
    features, labels = (torch.from_numpy(part) for part in data)
    fitted = logistic.fit(features, labels, NUM_LABELS, 0.01)
    mean, std = logistic.standardisation(features)
    scaled = (features.double() - mean) / std
    weight, bias = fitted.weight_KD * std, fitted.bias_K + fitted.weight_KD @ mean

    def value(weight_step: torch.Tensor, bias_step: torch.Tensor) -> float:
        moved = weight + weight_step
        cross_entropy = torch.nn.functional.cross_entropy(scaled @ moved.T + bias + bias_step, labels)
        return (cross_entropy + 0.005 * moved.square().sum()).item()

    rng = torch.Generator().manual_seed(0)
    for _ in range(5):
        steps = [1e-3 * torch.randn(part.shape, generator=rng, dtype=torch.float64) for part in (weight, bias)]
        there, back = value(*steps), value(-steps[0], -steps[1])
        assert there > value(0 * steps[0], 0 * steps[1]) < back


def test_penalty_shrinks_the_weights_and_leaves_the_bias(data):
    features, labels = (torch.from_numpy(part) for part in data)
    strong = logistic.fit(features, labels, NUM_LABELS, 1e4)
    shares = torch.bincount(labels, minlength=NUM_LABELS) / NUM_ROWS
    torch.testing.assert_close(strong.logits(features).softmax(1)[0], shares.double(), atol=1e-3, rtol=0)


def test_stopping_early_is_not_called_convergence(data, monkeypatch):
    features, labels = (torch.from_numpy(part) for part in data)
    monkeypatch.setattr(logistic, "MAX_ITERATIONS", 2)
    assert not logistic.fit(features, labels, NUM_LABELS, 1e-3).converged
