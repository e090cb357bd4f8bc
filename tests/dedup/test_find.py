"""The stage on hand-written codes: what is excluded, counted, reported, and that the work may be cut up at will."""

import json
from dataclasses import replace

import numpy as np
import pytest

from dedup import census, chance, evidence, find, search, tables
from dedup.census import Signature
from dedup.search import search_part
from pipeline import artifacts, storage
from pipeline.config import ConfigError, DedupConfig, ExecutionConfig
from pipeline.exclusions import read_exclusions
from tests.dedup.small_world import coded, write_dataset, write_target

RNG = np.random.default_rng(0)
LOCAL = ExecutionConfig(backend="process", num_workers=1)


def scene(num_frames: int = 20) -> list[int]:
    """Codes of a video of its own."""
    return [int(code) for code in RNG.integers(0, 2**64, num_frames, dtype=np.uint64)]


def mirror_image(signature: Signature) -> Signature:
    codes, fine = census.mirrored(signature.codes64), census.mirrored256(signature.codes256)
    return replace(signature, codes64=codes, codes256=fine)


TARGET, OTHER, HELD_OUT, LOGO = scene(), scene(), scene(), scene(8)


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """These videos have codes and no pictures."""
    monkeypatch.setattr(evidence, "exclusion_pages", lambda exclusions, duplicates: evidence.EVIDENCE.empty_table())


@pytest.fixture
def root(tmp_path):
    """Two targets and a source of 8 shards: copies of known overlap, 70 unrelated videos, 2 black ones."""
    write_target(str(tmp_path), "sport", {"t0": coded(TARGET), "t1": coded(scene())}, {"h0": coded(HELD_OUT)})
    write_target(str(tmp_path), "food", {"f0": coded(OTHER)}, {"f1": coded(TARGET[:8] + scene())})
    planted = {
        "all": coded(TARGET),
        "tenth": coded(scene(72) + TARGET[:8]),  # 8 of 80
        "less": coded(scene(73) + TARGET[:8]),  # 8 of 81
        "few": coded(TARGET[:7] + scene(3)),  # 7 frames are under min_frames
        "near": coded([code ^ 0b111 for code in HELD_OUT]),  # 3 bits off, 12 of 256
        "far": coded([code ^ 0b1111111 for code in OTHER]),  # 7 bits off, 28 of 256
        "both": coded(TARGET[:8] + OTHER),
        "black0": coded([], invalid=9),
        "black1": coded([], invalid=4),
        "mirror": mirror_image(coded(TARGET)),
    }
    videos = list(planted.items()) + [(f"u{i}", coded(scene())) for i in range(70)]
    write_dataset(str(tmp_path), "source", [dict(videos[i::8]) for i in range(8)])
    return str(tmp_path)


def run(root: str, **changes) -> tuple[dict, dict[tuple[str, str], dict]]:
    """(marker, exclusions by video and target)."""
    marker = find.find(DedupConfig(**{"root": root, "targets": ("sport", "food"), "execution": LOCAL} | changes))
    rows = storage.read_parquet(artifacts.dataset_files(root, "source").exclusions).to_pylist()
    assert len(rows) == len({(row["video_id"], row["target"]) for row in rows})
    return marker, {(row["video_id"], row["target"]): row for row in rows}


def contents(root: str) -> dict[str, bytes]:
    files = artifacts.dataset_files(root, "source")
    tables = [storage.join(files.dedup, f"{name}.parquet") for name in ("pairs", "stop_codes", "within", "evidence")]
    return {path: storage.read_bytes(path) for path in [*tables, files.exclusions, files.dedup_marker]}


def test_exclusions_are_exactly_the_planted_overlaps(root):
    marker, rows = run(root)
    assert set(rows) == {
        ("all", "sport"), ("all", "food"), ("tenth", "sport"), ("tenth", "food"), ("near", "sport"), ("far", "food"),
        ("both", "sport"), ("both", "food"), ("mirror", "sport"), ("mirror", "food"),
    }  # fmt: skip
    assert marker["counts"] == {"videos": 80, "kept": 74, "dropped": {"food": 3, "sport": 3}, "undecidable": 2}
    assert marker["undecidable"] == ["black0", "black1"]
    best = rows["all", "sport"]
    assert (best["target_split"], best["target_video_id"], best["overlap"], best["matched_frames"]) == (
        "train",
        "t0",
        1,
        20,
    )
    assert (best["start_s"], best["end_s"], best["min_distance"], best["mirrored"]) == (0, 20 / 16, 0, False)
    assert rows["near", "sport"]["target_split"] == "test"
    assert rows["near", "sport"]["min_distance"] == 3
    assert {video_id for (video_id, _), row in rows.items() if row["mirrored"]} == {"mirror"}
    assert rows["both", "food"]["valid_overlap"] == np.float32(20 / 28)
    assert rows["tenth", "sport"]["start_s"] == 72 / 16
    assert rows["tenth", "sport"]["target_overlap"] == np.float32(8 / 20)


def test_readers_see_the_exclusions_and_the_inputs(root):
    marker, rows = run(root)
    files = artifacts.dataset_files(root, "source")
    assert read_exclusions(files) == ({video_id for video_id, _ in rows}, marker["digest"])
    digests = {
        s: storage.read_json(artifacts.target_files(root, "sport", s).marker)["digest"] for s in ("train", "test")
    }
    assert marker["input_digests"]["dataset"] == storage.read_json(files.marker)["digest"]
    assert {s: marker["input_digests"][f"sport/{s}"] for s in digests} == digests


def test_the_paper_s_radius_is_three(root):
    assert {video_id for video_id, _ in run(root, mode="paper")[1]} == {"all", "tenth", "near", "both", "mirror"}


def test_videos_that_cannot_be_compared_can_be_dropped(root, capsys):
    marker, rows = run(root, undecidable="drop")
    assert {v for v, target in rows if target == tables.UNDECIDABLE} == {"black0", "black1"}
    assert marker["counts"]["kept"] == 72
    assert "80 = 72 kept + 2 (undecidable) + 3 food + 3 sport" in capsys.readouterr().out.replace(",", "")


@pytest.fixture
def cut(monkeypatch):
    """Makes the stage work in about so many parts."""

    def cut(num_parts: int) -> None:
        monkeypatch.setattr(search, "MIN_PART_FRAMES", 1)
        monkeypatch.setattr(search, "WANTED_PARTS", num_parts)

    return cut


@pytest.mark.parametrize(("num_parts", "workers"), [(8, 1), (3, 1), (4, 2)])
def test_parts_and_workers_change_nothing(root, cut, num_parts, workers):
    run(root)
    whole = contents(root)
    cut(num_parts)
    run(root, force=True, execution=ExecutionConfig(backend="process", num_workers=workers))
    for target in ("food", "sport"):
        parts = f"targets/{target}-*/parts/part-*.json"
        assert len(storage.listing(storage.join(artifacts.dataset_files(root, "source").dedup, parts))) == num_parts
    assert contents(root) == whole


@pytest.mark.ray
@pytest.mark.slow
def test_ray_changes_nothing(root, cut):
    pytest.importorskip("ray")
    run(root)
    whole = contents(root)
    cut(4)
    run(root, force=True, execution=ExecutionConfig(backend="ray", num_workers=2))
    assert contents(root) == whole


def test_a_cut_short_run_goes_on_and_a_finished_one_is_skipped(root, monkeypatch):
    run(root)
    whole, files = contents(root), artifacts.dataset_files(root, "source")
    storage.remove(files.dedup_marker)
    for target in storage.listing(storage.join(files.dedup, "targets/*/target.json")):
        storage.remove(target)
    with pytest.raises(ConfigError, match="not finished"):
        read_exclusions(files)
    monkeypatch.setattr(search.overlap, "compare", None)  # parts that are on disk must not be computed again
    run(root)
    assert contents(root) == whole
    monkeypatch.setattr(find, "search_targets", None)
    run(root)


def test_targets_added_later_are_compared_alone(root, cut, monkeypatch):
    cut(4)
    run(root)
    at_once, compared = contents(root), []
    monkeypatch.setattr(search, "search_part", lambda part, job: compared.append(job) or search_part(part, job))
    first, _ = run(root, targets=("sport",), force=True)
    assert {target.name for job in compared for target in job.targets} == {"sport"}
    compared.clear()
    second, rows = run(root)
    assert {target.name for job in compared for target in job.targets} == {"food"}
    assert len(compared) == 4
    assert ("far", "food") in rows
    assert contents(root) == at_once
    assert first["digest"] != second["digest"]
    compared.clear()
    marker, rows = run(root, targets=("sport",))  # taking one away again compares nothing
    assert (compared, marker) == ([], first)
    assert {target for _, target in rows} == {"sport"}


def test_a_target_made_anew_is_compared_anew(root, monkeypatch):
    run(root)
    storage.remove(storage.join(root, "targets/food"))
    write_target(root, "food", {"f2": coded(OTHER[:10])}, {"f3": coded(scene())})
    compared = []
    monkeypatch.setattr(search, "search_part", lambda part, job: compared.append(job) or search_part(part, job))
    rows = run(root)[1]
    assert [target.name for job in compared for target in job.targets] == ["food"]
    assert rows["both", "food"]["target_video_id"] == "f2"
    assert ("all", "food") not in rows


def test_what_needs_another_comparison_is_refused(root):
    run(root)
    before = contents(root)
    with pytest.raises(ConfigError, match=r"config.mode: 'default' → 'paper'\n.*--force"):
        run(root, mode="paper")
    storage.write_json(storage.join(root, "datasets/source/dataset.json"), {"digest": "anew"})
    with pytest.raises(ConfigError, match=r"input_digests.dataset: '\w+' → 'anew'"):
        run(root)
    assert contents(root) == before


def test_other_thresholds_need_no_comparison(root, monkeypatch):
    run(root)
    monkeypatch.setattr(search, "search_part", None)
    marker, rows = run(root, min_overlap=0.2, min_frames=4, undecidable="drop")
    assert marker["counts"]["kept"] == 80 - 6 - 2  # `few` instead of `tenth`, and the black ones
    assert ("tenth", "sport") not in rows
    assert ("few", "sport") in rows
    assert ("less", "sport") in run(root, min_overlap=0.05)[1]
    monkeypatch.setattr(search, "search_part", search_part)
    assert len(run(root, min_overlap=0.01)[1]) > 0  # below what was kept of the pairs: compared again


def test_other_thresholds_are_foretold(root):
    marker, _ = run(root)
    table = {(row["min_overlap"], row["min_frames"]): row["videos"] for row in marker["thresholds"]}
    assert table[0.05, 8] == 7  # and `less`
    assert table[0.1, 1] == 7  # and `few`
    assert table[0.5, 8] == 5  # without `tenth`: 8 / 80
    for min_overlap, min_frames in ((0.05, 1), (0.2, 4), (0.5, 32)):
        _, rows = run(root, min_overlap=min_overlap, min_frames=min_frames)
        assert len({video_id for video_id, _ in rows}) == table[min_overlap, min_frames]


def test_what_matches_upside_down_is_the_estimate_of_chance(root, tmp_path, cut, monkeypatch):
    assert run(root)[0]["chance"] == chance.estimate(0, 80, 80)
    upside_down = coded([int(c) for c in census.flipped(np.array(TARGET, np.uint64))])
    videos = {f"d{i}": upside_down for i in range(3)} | {f"u{i}": coded(scene()) for i in range(7)}
    write_dataset(str(tmp_path / "b"), "source", [dict(list(videos.items())[:5]), dict(list(videos.items())[5:])])
    for name in ("sport", "food"):
        write_target(str(tmp_path / "b"), name, {"t": coded(TARGET)}, {"h": coded(HELD_OUT)})
    marker, rows = run(str(tmp_path / "b"), mode="paranoid")
    assert marker["chance"] == chance.estimate(3, 10, 10)
    assert rows == {}
    cut(2)
    monkeypatch.setattr(search, "DECOY_PARTS", 1)  # the first of two shards speaks for both
    marker, _ = run(str(tmp_path / "b"), mode="paranoid", force=True)
    assert marker["chance"] == chance.estimate(3, 5, 10)
    assert marker["chance"]["estimate"] == 6


@pytest.mark.parametrize(("flagged", "compared"), [(0, 50), (1, 50), (7, 50), (50, 50)])
def test_interval_of_chance_is_where_the_score_test_does_not_reject(flagged, compared):
    """Wilson's bounds solve (share - p)² = z² p (1 - p) / n."""
    found = chance.estimate(flagged, compared, 1_000_000)
    for bound in (end / 1_000_000 for end in found["interval"]):
        assert (flagged / compared - bound) ** 2 == pytest.approx(
            1.959964**2 * bound * (1 - bound) / compared, abs=1e-6
        )
    assert found["interval"][0] <= found["estimate"] <= found["interval"][1]


def test_of_many_parts_some_are_compared_upside_down(root, cut, monkeypatch):
    everything = run(root)[1]
    cut(8)
    monkeypatch.setattr(search, "DECOY_PARTS", 2)  # shards 0 and 4 of 8, which have 10 videos each
    marker, rows = run(root, force=True)
    assert marker["chance"]["compared"] == 20
    assert rows == everything


def test_a_target_within_a_long_video_is_pointed_out(tmp_path, capsys):
    """It is less than a tenth of the long video, so the rule keeps that; the same share without half a target is no news."""
    root = str(tmp_path)
    long, part = coded(scene(400) + TARGET), coded(scene(400) + TARGET[:9])
    write_dataset(root, "source", [{"long": long, "part": part, "none": coded(scene())}])
    write_target(root, "sport", {"t": coded(TARGET)}, {"dark": coded([], invalid=5)})
    marker, rows = run(root, targets=("sport",))
    assert rows == {}
    assert marker["contain_target"] == ["long"]
    assert marker["undecidable_targets"] == ["sport/test/dark"]
    assert "1 kept videos hold half or more of a target video" in capsys.readouterr().out
    marker, rows = run(root, targets=("sport",), min_overlap=0.04)
    assert set(rows) == {("long", "sport")}
    assert marker["contain_target"] == []


def test_frames_that_match_many_videos_are_reported_and_still_count(tmp_path):
    root = str(tmp_path)
    videos = {f"v{i}": coded(LOGO + scene(12)) for i in range(22)} | {f"u{i}": coded(scene()) for i in range(9)}
    write_dataset(root, "source", [videos])
    write_target(root, "sport", {"t0": coded(TARGET + LOGO), "t1": coded(LOGO)}, {"t2": coded(TARGET)})
    marker, rows = run(root, targets=("sport",))
    assert len(rows) == 22
    assert marker["counts"]["dropped"] == {"sport": 22}
    stop = storage.read_parquet(storage.join(artifacts.dataset_files(root, "source").dedup, "stop_codes.parquet"))
    assert set(stop["code"].to_pylist()) == set(LOGO)
    assert set(stop["num_videos"].to_pylist()) == {22}
    assert set(stop["num_target_videos"].to_pylist()) == {2}
    assert marker["stop_codes"] == 8


def test_a_subset_counts_its_own_videos(root):
    """A dataset drawn from another one has its shards and fewer videos."""
    files = artifacts.dataset_files(root, "small")
    wanted = ["all", "u1", "u2", "black1"]
    base = storage.read_json(artifacts.dataset_files(root, "source").marker)
    config = find.artifacts.configs.BuildConfig(root=root, dataset="small", base="source")
    artifacts.open_stage(files.folder, files.marker, config, {})
    rows = [{"video_id": v, "uri": v, "label_ids": [0], "weight": 1.0} for v in wanted]
    manifest = find.pa.Table.from_pylist(rows, artifacts.MANIFEST)
    storage.write_parquet(storage.join(files.manifest, "part-000000.parquet"), manifest, artifacts.MANIFEST)
    shards = [{**shard, "path": f"../source/{shard['path']}"} for shard in base["shards"]]
    artifacts.seal(files.folder, files.marker, {}, shards=shards, num_videos=4, minutes=base["minutes"] / 20)
    marker = find.find(DedupConfig(root=root, dataset="small", targets=("sport",), execution=LOCAL))
    assert marker["counts"] == {"videos": 4, "kept": 3, "dropped": {"sport": 1}, "undecidable": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ()}, "--targets"),
        ({"targets": ("sport", "sport")}, "named twice"),
        ({"targets": ("sport", "dance")}, "tagreel target --target dance"),
        ({"dataset": "nowhere"}, "tagreel build --dataset nowhere"),
        ({"min_overlap": 0.0}, "min_overlap"),
        ({"min_frames": 0}, "min_frames"),
        ({"within_overlap": 0.4}, "within_overlap"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(root, changes, message):
    with pytest.raises(ConfigError, match=message):
        run(root, **changes)
    assert not storage.exists(artifacts.dataset_files(root, "source").dedup)


def test_command_line(root, tmp_path):
    path = tmp_path / "dedup.json"
    path.write_text(json.dumps({"root": root, "execution": {"backend": "process", "num_workers": 1}}))
    with pytest.raises(SystemExit) as stopped:
        find.main(["--config", str(path), "--targets", "sport"])
    assert stopped.value.code == 0
    assert "all" in read_exclusions(artifacts.dataset_files(root, "source"))[0]
