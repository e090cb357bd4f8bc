import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pretrain.distributed import World
from pretrain.engine import Engine, NonFiniteStepError
from pretrain.models import build_model
from pretrain.sgd import FlatSgd


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))


def microbatches(num: int, size: int = 4) -> list:
    torch.manual_seed(1)
    return [(torch.randn(size, 3, 1, 2, 2), torch.randint(0, 3, (size,))) for _ in range(num)]


def test_a_step_is_nesterov_sgd_on_the_mean_over_workers():
    batches = microbatches(3)
    model, reference = tiny(), tiny()
    engine = Engine(model, World(), momentum=0.9, weight_decay=0.01)
    momentum = {name: torch.zeros_like(p) for name, p in reference.named_parameters()}
    for rate in (0.1, 0.05):
        result = engine.step(batches, 3, rate)
        loss = sum(F.cross_entropy(reference(clips), labels) for clips, labels in batches) / 3
        gradients = torch.autograd.grad(loss, list(reference.parameters()))
        assert result.loss == pytest.approx(loss.item(), rel=1e-5)
        assert result.gradient_norm == pytest.approx(math.sqrt(sum(g.pow(2).sum() for g in gradients)), rel=1e-4)
        with torch.no_grad():
            for (name, parameter), gradient in zip(reference.named_parameters(), gradients, strict=True):
                decayed = gradient + (0 if name.endswith("bias") else 0.01) * parameter
                momentum[name] = 0.9 * momentum[name] + decayed
                parameter -= rate * (decayed + 0.9 * momentum[name])
    for parameter, expected in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-6)


def test_only_biases_do_not_decay():
    model = build_model("r2plus1d_10", 5, width=0.125)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    sgd = FlatSgd(model, momentum=0.0, weight_decay=0.25)
    sgd.step(torch.zeros_like(sgd.values), rate=1.0)
    values = {name: parameter.unique().tolist() for name, parameter in model.named_parameters()}
    assert {"stem.0.weight", "stem.1.weight", "stem.1.bias", "fc.weight", "fc.bias"} <= values.keys()
    assert values == {name: [1.0 if name.endswith("bias") else 0.75] for name in values}


def test_a_step_that_is_not_finite_stops_before_updating_and_names_its_microbatches():
    model = tiny()
    before = [tensor.clone() for tensor in model.state_dict().values()]
    batches = microbatches(3)
    batches[1][0][0] = float("nan")
    with pytest.raises(NonFiniteStepError) as caught:
        Engine(model, World()).step(batches, 3, 0.1)
    assert caught.value.microbatches == [1]
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before, strict=True))


def test_state_in_state_out_continues_as_if_never_stopped():
    whole = Engine(tiny(), World())
    for _ in range(4):
        whole.step(microbatches(2), 2, 0.1)
    first = Engine(tiny(), World())
    for _ in range(2):
        first.step(microbatches(2), 2, 0.1)
    second = Engine(nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)), World())
    second.load(first.model.state_dict(), first.optimizer_tensors())
    for _ in range(2):
        second.step(microbatches(2), 2, 0.1)
    for (name, a), b in zip(whole.model.state_dict().items(), second.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_multi_label_losses_have_no_accuracy():
    clips = microbatches(1)[0][0]
    result = Engine(tiny(), World(), loss=F.binary_cross_entropy_with_logits).step([(clips, torch.ones(4, 3))], 1, 0.1)
    assert math.isnan(result.accuracy)
    assert result.loss > 0


def test_bf16_steps_keep_fp32_weights_and_are_close_to_fp32_ones():
    torch.manual_seed(0)
    clips, labels = torch.randn(8, 3, 8, 32, 32), torch.arange(8) % 5
    losses = []
    for precision in ("fp32", "bf16"):
        torch.manual_seed(2)
        engine = Engine(build_model("r2plus1d_10", 5, width=0.125), World(), precision=precision)
        losses.append(engine.step([(clips, labels)], 1, 0.01).loss)
        assert {tensor.dtype for tensor in engine.optimizer_tensors().values()} == {torch.float32}
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]
