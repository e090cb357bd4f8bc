import json

import pytest
import torch

from benchmarks import gpu_train, networks
from pretrain.models import build_model, count


def test_the_gpu_benchmark_runs_from_end_to_end_without_a_gpu(tmp_path, capsys):
    out = tmp_path / "out.json"
    found = gpu_train.main(["--device", "cpu", "--tiny", "--out", str(out)])
    results = found["results"]
    assert [row["way"] for row in results["cells"]] == list(gpu_train.WAYS)
    assert all(row["clips_per_s"] > 0 and row["mfu"] >= 0 for row in results["cells"]), results["cells"]
    assert results["exact"]["usual"]["clips_per_s"] > 0
    assert results["exact"]["exact"]["clips_per_s"] > 0
    assert results["loader"]["clips_per_s"] > 0
    json.dumps(found)
    assert not out.exists()  # a dry run measures nothing worth keeping
    assert "folded_padded_compiled" in capsys.readouterr().out


def test_a_machine_without_a_gpu_is_told_how_to_try_the_benchmark(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="--device cpu --tiny"):
        gpu_train.main([])


def test_costs_are_the_convolutions_of_a_network_and_the_roofline_adds_them_up():
    model = build_model("r2plus1d_10", 5, width=0.25)
    costs = networks.conv_costs(model, 8, 32)
    macs = sum(cost.macs for cost in costs)
    assert (macs + model.fc.weight.numel()) / 1e9 == pytest.approx(count(model, 8, 32)[1])
    assert costs[0] == networks.ConvCost(11 * 3 * 49 * 8 * 16 * 16, 3 * 8 * 32 * 32, 11 * 8 * 16 * 16)
    assert networks.training_flops(costs) == 6 * macs - 2 * costs[0].macs
    outputs, touched = (sum(cost.outputs for cost in costs), sum(cost.inputs + cost.outputs for cost in costs))
    memory_only = networks.roofline_s(costs, 13, flops_per_s=float("inf"), bytes_per_s=1.0)
    assert memory_only == pytest.approx(6 * touched + 26 * outputs)
    assert networks.roofline_s(costs, 0, flops_per_s=1.0, bytes_per_s=float("inf")) == pytest.approx(6 * macs)
