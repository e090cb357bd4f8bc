"""results.csv, and text as the report writes it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from pipeline.report.markup import clean, size
from pipeline.report.results import COLUMNS, csv_bytes
from tests.pipeline.synthetic_sweep import rows_of


def test_csv_equals_the_results(full: tuple[str, str]) -> None:
    folder, _ = full
    root = Path(folder).parents[1]
    points = json.loads(Path(folder, "plan.json").read_text())["points"]
    rows = rows_of(folder)
    assert [row["run"] for row in rows] == [p["run"] for p in points]
    assert tuple(rows[0]) == COLUMNS
    for p, row in zip(points, rows, strict=True):
        path = root / p["result"]
        if not path.exists():
            assert (row["status"], row["top1"], row["result_digest"]) == ("missing", "", "")
            continue
        content = json.loads(path.read_text())
        metrics = content["metrics"]
        assert [float(row[k]) for k in ("top1", "top5", "mean_class_accuracy")] == [
            metrics[k] for k in ("top1", "top5", "mean_class_accuracy")
        ]
        assert [float(row["top1_low"]), float(row["top1_high"])] == metrics["top1_interval"]
        assert (row["result_digest"], float(row["chosen"])) == (content["digest"], content["chosen"])
        if p["dataset"]:
            marker = json.loads((root / f"datasets/{p['dataset']}/dataset.json").read_text())
            assert row["dataset_digest"] == marker["digest"]


@pytest.mark.parametrize("unseen", ["\x00", "\x1b", "\u202e", "\u2066", "\ufeff", "\ud800"])
def test_unseen_characters_are_made_visible(unseen: str) -> None:
    assert clean(f"a{unseen}b") == "a\ufffdb"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1+1", " =1"])
def test_formula_cells_are_quoted(text: str) -> None:
    row = dict.fromkeys(COLUMNS) | {"target": text, "top1": -0.5}
    cells = next(csv.DictReader(io.StringIO(csv_bytes([row]).decode())))
    assert cells["target"].startswith("'")
    assert cells["top1"] == "-0.5"


@pytest.mark.parametrize(
    ("count", "text"), [(50, "50"), (2500, "2500"), (500_000, "500K"), (1_500_000, "1.5M"), (65_000_000, "65M")]
)
def test_size_is_short(count: int, text: str) -> None:
    assert size(count) == text
