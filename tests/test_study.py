"""What docs/study.md says is what its raw results say."""

import pytest

from benchmarks import study_findings
from benchmarks.study_findings import DOCUMENT, RESULTS, TABLES, filled, minus, of, read_csv, text

pytestmark = pytest.mark.skipif(not RESULTS.is_file(), reason="the study's results are not there")


@pytest.fixture(scope="module")
def rows():
    return read_csv()


def test_tables_of_the_document_are_made_of_the_raw_results(rows):
    document = DOCUMENT.read_text()
    assert filled(document, rows) == document
    assert all(f"<!-- table {name} -->" in document for name in TABLES)


def test_every_planned_point_of_the_study_has_a_row_and_says_what_it_came_from(rows):
    from pipeline import sweeps

    for kind in sweeps.kinds("study"):
        planned = {point.id for point in sweeps.plan(sweeps.scaled(kind, "study")).points}
        found = [row for row in rows if row["sweep"] == kind]
        assert {row["point"] for row in found} >= planned
        assert all(row["result_digest"] for row in of(found))


def test_differences_are_paired_by_seed_and_stand_out_only_when_their_interval_leaves_out_nothing():
    assert minus({0: 0.5, 1: 0.7, 3: 0.1}, {0: 0.4, 1: 0.5, 2: 0.9}) == pytest.approx([0.1, 0.2])
    # 4.303 is Student's t of two degrees of freedom: ± 4.303 · 1 / √3 = 2.5 points
    assert text([0.02, 0.03, 0.04], signed=True) == "**+3.0 ± 2.5**"
    assert text([0.01, 0.02, 0.03], signed=True) == "+2.0 ± 2.5"
    assert text([0.5, 0.7]) == "60.0 (2 seeds)"
    assert text([]) == "missing"


def test_two_points_of_one_seed_are_not_one_arm():
    row = {"seed": "0", "top1": "0.5", "point": "a"}
    with pytest.raises(ValueError, match="not one arm"):
        study_findings.by_seed([row, {**row, "point": "b"}])
