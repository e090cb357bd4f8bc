"""The doctor asks the right questions of the right network, and says loudly when an answer is wrong."""

import dataclasses
import json
import subprocess

import pytest

from pipeline import artifacts, doctor, storage
from pipeline import config as configs
from pipeline.config import ClipConfig, ConfigError, ModelConfig, PretrainConfig, RecipeConfig
from pipeline.doctor import DoctorConfig

TRAINING = PretrainConfig(
    model=ModelConfig("r3d_18", 0.5), clip=ClipConfig(length=16, crop_px=96), recipe=RecipeConfig(batch_per_gpu=6)
)
OF_TRAINING = DoctorConfig(model="r3d_18", width=0.5, clip_length=16, crop_px=96, batch=6)


def test_it_tries_the_network_of_a_training(tmp_path):
    path = tmp_path / "training.json"
    path.write_text(json.dumps(configs.to_dict(TRAINING)))
    assert doctor.parse(["--config", str(path)]) == OF_TRAINING
    assert doctor.parse(["--config", str(path), "--batch", "2"]) == dataclasses.replace(OF_TRAINING, batch=2)
    assert doctor.parse(["--model", "r2plus1d_18"]) == DoctorConfig(model="r2plus1d_18")


def test_it_tries_the_network_of_a_run(tmp_path):
    files = artifacts.run_files(str(tmp_path), "first")
    artifacts.open_stage(files.folder, files.marker, TRAINING, {})
    artifacts.seal(files.folder, files.marker, {})
    assert doctor.parse(["--config", files.marker]) == OF_TRAINING


def test_a_file_that_is_no_training_is_refused(tmp_path):
    storage.write_json(str(tmp_path / "run.json"), {"posts": "x"})
    with pytest.raises(ConfigError, match="unknown key 'posts'"):
        doctor.parse(["--config", str(tmp_path / "run.json")])


def answering(monkeypatch, status: int, out: str):
    asked = []

    def run(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, status, out, "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(doctor, "CHECKS", {})
    monkeypatch.setattr(doctor, "versions", dict)
    return asked


def test_a_right_machine_is_well(monkeypatch, capsys):
    asked = answering(monkeypatch, 0, "a table\ncpu: none of 11 convolution shapes of r3d_18 wrong\n")
    with pytest.raises(SystemExit) as ended:
        doctor.diagnose(OF_TRAINING)
    assert ended.value.code == 0
    assert "gradients: ok: cpu: none of 11 convolution shapes of r3d_18 wrong\n" in capsys.readouterr().out
    assert {"--model=r3d_18", "--clip-length=16", "--crop-px=96", "--batch=6", "--width=0.5"} <= set(asked[-1])


def test_a_wrong_gradient_is_said_in_full_with_status_1(monkeypatch, capsys):
    answering(monkeypatch, 1, "576→256 kernel 3×1×1  WRONG: weight gradient\n")
    with pytest.raises(SystemExit) as ended:
        doctor.diagnose(DoctorConfig())
    assert ended.value.code == 1
    out = capsys.readouterr().out
    assert "gradients: FAILED" in out
    assert "576→256 kernel 3×1×1  WRONG: weight gradient" in out


def test_the_self_test_it_starts_is_there_and_understands_it():
    config = DoctorConfig(model="r2plus1d_10", width=0.05, crop_px=16, clip_length=4, device="cpu")
    assert "none of" in doctor.check_gradients(config)
    assert "cuDNN" in doctor.check_torch()
