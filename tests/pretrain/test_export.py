"""`tagreel export`: the file, and the card that says what it is."""

import dataclasses
import hashlib
import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from pipeline import artifacts, cli, storage
from pipeline.config import ConfigError
from pretrain import checkpoint, export, train
from pretrain.card import markdown, preprocessing
from pretrain.export import ExportConfig
from pretrain.models import weights
from pretrain.transforms import normalise

DEDUP = {
    "input_digests": {"dataset": "d" * 16},
    "config": {"targets": ["ucf", "hmdb"], "mode": "paper"},
    "counts": {"videos": 24, "kept": 23, "dropped": {"ucf": 1}},
    "digest": "e" * 16,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, make_dataset) -> Path:
    """A root with a deduplicated dataset, `tiny`, and no run yet."""
    root = tmp_path_factory.mktemp("trained")
    make_dataset(root, "tiny")
    files = artifacts.dataset_files(str(root), "tiny")
    row = {"video_id": "v0003", "target": "ucf"}
    storage.write_parquet(files.exclusions, pa.Table.from_pylist([row], artifacts.EXCLUSIONS), artifacts.EXCLUSIONS)
    storage.write_json(files.dedup_marker, DEDUP)
    return root


@pytest.fixture
def finished(trained, config) -> str:
    """The same with the run `first`, trained to its end by the first test that asks for it."""
    train.train(dataclasses.replace(config, root=str(trained), run="first"))
    return str(trained)


@pytest.fixture
def half_way(finished, tmp_path) -> str:
    """A root where the run was stopped before its end: metrics go further than the newest whole checkpoint."""
    shutil.copytree(finished, tmp_path / "half")
    files = artifacts.run_files(str(tmp_path / "half"), "first")
    storage.remove(files.marker)
    newest = Path(files.checkpoints, f"{32:012d}", "model.safetensors")
    newest.write_bytes(newest.read_bytes()[:-1])
    return str(tmp_path / "half")


def tagreel(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 0


def run_tensors(root: str, clips_seen: int) -> dict[str, torch.Tensor]:
    found = Path(artifacts.run_files(root, "first").checkpoints, f"{clips_seen:012d}")
    return checkpoint.Checkpoint(found, {}).model_tensors()


def assert_same(found: dict, expected: dict, but: str = "nothing") -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected if not name.endswith(but))


@pytest.mark.parametrize("format", ["safetensors", "ig65m", "caffe2"])
def test_a_runs_newest_checkpoint_is_exported_with_its_card(finished, tmp_path, format):
    path = tmp_path / "first.weights"
    tagreel("export", "--root", finished, "--run", "first", "--format", format, "--to", str(path))
    assert_same(
        weights.load(path), run_tensors(finished, 32), "num_batches_tracked" if format == "caffe2" else "nothing"
    )
    card = json.loads(Path(f"{path}.json").read_text())
    assert card["file"] == {
        "name": "first.weights",
        "format": format,
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    assert (card["network"]["name"], card["network"]["width"], card["network"]["num_labels"]) == (
        "r2plus1d_10",
        0.125,
        3,
    )
    assert card["network"]["parameters"] == sum(
        tensor.numel() for name, tensor in run_tensors(finished, 32).items() if not re.search("running|tracked", name)
    )
    assert weights.preprocessing(path) == card["preprocessing"]
    assert weights.card(path)["training"] == card["training"]
    assert {path.name for path in tmp_path.iterdir()} == {f"first.weights{end}" for end in ("", ".json", ".md")}


def test_the_card_says_what_the_run_was(finished, config, tmp_path):
    card = export.export(ExportConfig(root=finished, run="first", to=str(tmp_path / "w"), licence="CC0-1.0"))
    assert card["labels"] == ["label 0", "label 1", "label 2"]
    assert card["licence"] == "CC0-1.0"
    training, data = card["training"], card["data"]
    assert (training["run"], training["finished"], training["clips_seen"]) == ("first", True, 32)
    assert training["recipe"]["lr_per_gpu"] == config.recipe.lr_per_gpu
    assert training["last_metrics"]["clips_seen"] == 32
    assert data["digests"] == {"dataset": "d" * 16, "exclusions": "e" * 16}
    counts = data["counts"]
    assert counts["dropped"] == {"overlaps_a_target": 1, "quarantined": 1}
    assert counts["videos"] == counts["kept"] + sum(counts["dropped"].values()) == 24
    asked = {"targets": ["ucf", "hmdb"], "mode": "paper", "digest": "e" * 16, "counts": DEDUP["counts"]}
    assert data["exclusions"] == [{"dataset": "tiny", **asked}]
    assert card["versions"]["torch"] == torch.__version__


def test_the_card_for_people_holds_what_the_other_does(finished, tmp_path):
    card = export.export(ExportConfig(root=finished, run="first", to=str(tmp_path / "w"), format="ig65m"))
    page = (tmp_path / "w.md").read_text()
    assert page == markdown(card)
    for text in ("ucf", "hmdb", "e" * 16, "0  label 0\n1  label 1\n2  label 2", "0.43216", "licence | not stated"):
        assert text in page
    code = re.search(r"~~~python\n(.*?)\n~~~", page, re.DOTALL)[1].partition("# or")[0]
    loaded: dict = {}
    exec(code.replace("'w'", repr(str(tmp_path / "w"))), loaded)  # what it says of loading is so
    assert_same(loaded["model"].state_dict(), run_tensors(finished, 32))


def test_names_of_labels_cannot_break_the_page(finished, tmp_path):
    card = export.export(ExportConfig(root=finished, run="first", to=str(tmp_path / "w")))
    page = markdown(card | {"labels": ["~~~\n# a heading", "~~~~", "<script>", "a\u202eb", "| x |"]})
    fence = re.search(r"\n(~+)\n0  ~~~ # a heading\n1  ~~~~\n2  <script>\n3  a\ufffdb\n4  \| x \|\n(~+)\n$", page)
    assert fence[1] == fence[2] == "~~~~~"


def test_preprocessing_is_what_training_does(config):
    says = preprocessing(config.clip)
    clips = torch.randint(0, 256, (1, 4, 8, 8, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(says[name], dtype=torch.float64) for name in ("mean", "std"))
    by_hand = ((clips.double() / 255 - mean) / std).permute(0, 4, 1, 2, 3).float()
    torch.testing.assert_close(normalise(clips), by_hand)
    assert (says["size_hw"], says["crop_px"], says["clip_length"], says["stride"]) == ([36, 40], 32, 4, 2)


def test_a_run_that_is_not_finished_gives_its_newest_whole_checkpoint(half_way, tmp_path):
    card = export.export(ExportConfig(root=half_way, run="first", to=str(tmp_path / "w")))
    assert_same(weights.load(tmp_path / "w"), run_tensors(half_way, 16))
    training = card["training"]
    assert (training["clips_seen"], training["finished"], training["last_metrics"]["clips_seen"]) == (16, False, 16)
    assert card["labels"] == ["label 0", "label 1", "label 2"]  # the dataset's
    assert card["data"]["counts"] is None
    shutil.rmtree(Path(half_way, "datasets"))
    without = export.export(ExportConfig(root=half_way, run="first", to=str(tmp_path / "again")))
    assert (without["labels"], without["data"]["exclusions"]) == (None, None)
    assert "## Labels\n\nNot known." in (tmp_path / "again.md").read_text()


def test_a_file_is_converted_and_what_was_known_of_it_goes_along(finished, tmp_path):
    files = [str(tmp_path / name) for name in ("a", "b", "c")]
    first = export.export(ExportConfig(root=finished, run="first", to=files[0]))
    for before, after, format in ((*files[:2], "caffe2"), (*files[1:], "ig65m")):
        tagreel("export", "--weights", before, "--format", format, "--to", after)
    last = weights.card(files[2])
    for name in ("labels", "preprocessing", "training", "data", "network"):
        assert last[name] == first[name]
    assert last["source"]["source"]["source"] == first["source"]
    assert_same(weights.load(files[2]), run_tensors(finished, 32), "num_batches_tracked")


def test_a_published_file_has_a_card_that_says_what_is_not_known(finished, tmp_path):
    torch.save(run_tensors(finished, 32), tmp_path / "published.pth")
    assert weights.preprocessing(tmp_path / "published.pth") is None
    card = export.export(ExportConfig(weights=str(tmp_path / "published.pth"), to=str(tmp_path / "w")))
    assert card["network"]["num_labels"] == 3
    assert (card["labels"], card["preprocessing"], card["training"], card["data"]) == (None, None, None, None)
    assert "## Preprocessing\n\nNot known." in (tmp_path / "w.md").read_text()


def test_the_same_command_again_does_nothing_and_another_is_refused(finished, tmp_path, capsys):
    config = ExportConfig(root=finished, run="first", to=str(tmp_path / "w"))
    export.export(config)
    before = (tmp_path / "w").stat()
    export.export(config)
    assert "nothing to do" in capsys.readouterr().out
    assert (tmp_path / "w").stat() == before
    other = dataclasses.replace(config, format="ig65m")
    with pytest.raises(ConfigError, match=r"is another file.*--force"):
        export.export(other)
    export.export(dataclasses.replace(other, force=True))
    (tmp_path / "w").write_bytes(b"something else")
    with pytest.raises(ConfigError, match="is another file"):
        export.export(other)
    assert weights.card(tmp_path / "w") is None  # the card beside it is of a file that is no more


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run": "first"}, "name it with --to"),
        ({"to": "w"}, "either a run"),
        ({"to": "w", "run": "first", "weights": "x.pth"}, "either a run"),
        ({"to": "w", "run": "absent"}, "run 'absent' has no whole checkpoint"),
        ({"to": "w", "run": "first", "format": "torchvision"}, "not for r2plus1d_10; these are: safetensors"),
    ],
)
def test_impossible_exports_are_refused_before_anything_is_written(finished, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        export.export(ExportConfig(root=finished, **options))
    assert not any(tmp_path.iterdir())
