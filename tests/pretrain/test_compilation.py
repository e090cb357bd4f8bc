import subprocess
import sys

import pytest
import torch

from pipeline.config import ConfigError
from pretrain import compilation
from pretrain.distributed import World
from pretrain.engine import Engine
from pretrain.models import build_model


def test_without_compile_a_step_does_not_import_the_compiler():
    code = """
import sys, torch
from pretrain.distributed import World
from pretrain.engine import Engine
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
Engine(model, World()).step([(torch.randn(2, 3, 1, 2, 2), torch.tensor([0, 1]))], 1, 0.1)
assert not {"torch._dynamo", "torch._inductor"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_machine_that_cannot_compile_is_told_so_with_the_remedy(monkeypatch):
    from torch._dynamo.exc import TorchRuntimeError

    def no_compiler(*_: object) -> None:
        raise TorchRuntimeError("No working C++ compiler found\nand a long trace")

    monkeypatch.setattr(torch, "compile", lambda model, **_: no_compiler)
    function = compilation.compiled(build_model("r2plus1d_10", 3, width=0.05))
    with pytest.raises(ConfigError, match=r"No working C\+\+ compiler found\); install a C\+\+ compiler"):
        function(torch.zeros(1, 3, 4, 16, 16))


@pytest.mark.slow
def test_a_compiled_network_trains_like_the_plain_one_in_one_graph():
    from torch._dynamo.utils import counters

    torch.manual_seed(0)
    batches = [(torch.randn(2, 3, 4, 24, 24, dtype=torch.float64), torch.tensor([0, 2])) for _ in range(2)]
    torch.set_default_dtype(torch.float64)
    try:
        engines = []
        for compile in (False, True):
            torch.manual_seed(1)
            engines.append(Engine(build_model("r2plus1d_10", 3, width=0.1), World(), compile=compile))
    finally:
        torch.set_default_dtype(torch.float32)
    counters.clear()
    for rate in (0.05, 0.02, 0.1):
        expected, found = (engine.step(batches, 2, rate) for engine in engines)
        assert found.loss == pytest.approx(expected.loss, rel=1e-9)
    plain, compiled = (engine.model.state_dict() for engine in engines)
    for name in plain:
        torch.testing.assert_close(compiled[name], plain[name], rtol=1e-8, atol=1e-9, msg=name)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.slow
def test_a_missing_compiler_is_a_config_error(tmp_path):
    code = """
import torch
from pipeline.config import ConfigError
from pretrain.compilation import compiled
from pretrain.models import build_model
try:
    compiled(build_model("r2plus1d_10", 3, width=0.05))(torch.zeros(1, 3, 4, 16, 16))
except ConfigError as error:
    print(error)
"""
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "torch.compile does not work here" in said.stdout
    assert "leave `compile` out" in said.stdout
