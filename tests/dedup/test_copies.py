"""Edited copies of a video are found in a whole small dataset, with pictures of both; nothing else is."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from dedup import census, evidence, find, overlap
from dedup.lsh import CodeIndex
from pipeline import artifacts, storage
from pipeline.config import DedupConfig, ExecutionConfig
from tests.dedup.small_world import encode, luma_at_16_fps, rescale, texture_video, write_dataset, write_target

COPIES = {
    "later": lambda video: video[7:],
    "small": lambda video: rescale(video, 72, 96),
    "wide": lambda video: rescale(video, 96, 192),
    "crop": lambda video: rescale(video[:, 4:-4, 5:-5], 144, 192),
    "tight crop": lambda video: rescale(video[:, 7:-7, 9:-10], 144, 192),
    "corner": lambda video: rescale(video[:, :-14, 19:], 144, 192),
    "mirror": lambda video: video[:, :, ::-1],
    "embedded": lambda video: np.concatenate([texture_video(50, 96), video, texture_video(51, 96)]),
    "letter-box": lambda video: np.pad(rescale(video, 108, 192), ((0, 0), (18, 18), (0, 0)), constant_values=16),
    "dark": lambda video: (video * 0.7).astype(np.uint8),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """(root, marker, exclusions by video) of a source with each copy, six unrelated videos and a black one."""
    root = str(tmp_path_factory.mktemp("copies"))
    target = texture_video(1)
    copies = {name: encode(edit(target), crf=28) for name, edit in COPIES.items()}
    others = {f"other{i}": encode(texture_video(100 + i)) for i in range(6)}
    write_target(root, "sport", {"wanted": encode(target)}, {"unseen": encode(texture_video(2))})
    write_dataset(root, "source", [copies, others | {"black": encode(np.zeros((24, 96, 96), np.uint8))}])
    marker = find.find(config(root))
    rows = storage.read_parquet(artifacts.dataset_files(root, "source").exclusions).to_pylist()
    return root, marker, {row["video_id"]: row for row in rows}


def config(root: str, **changes) -> DedupConfig:
    local = ExecutionConfig(backend="process", num_workers=1)
    return DedupConfig(root=root, targets=("sport",), execution=local, **changes)


def test_copies_and_only_copies_are_excluded(found):
    _, marker, rows = found
    assert set(rows) == set(COPIES)
    assert {row["target_video_id"] for row in rows.values()} == {"wanted"}
    assert marker["counts"] == {"videos": 17, "kept": 7, "dropped": {"sport": 10}, "undecidable": 1}
    assert marker["undecidable"] == ["black"]
    assert marker["chance"]["flagged"] == 0


def test_where_and_how_a_copy_overlaps(found):
    rows = found[2]
    embedded = rows["embedded"]  # 2 of 10 seconds, from second 4 on
    assert embedded["overlap"] == pytest.approx(0.2, abs=0.02)
    assert (embedded["start_s"], embedded["end_s"]) == (pytest.approx(4, abs=0.1), pytest.approx(6, abs=0.1))
    assert embedded["target_overlap"] > 0.95
    later = rows["later"]  # all of it is the target from 7 / 24 seconds on
    assert later["overlap"] == 1
    assert later["target_start_s"] == pytest.approx(7 / 24, abs=0.1)
    assert {name for name, row in rows.items() if row["mirrored"]} == {"mirror"}


def test_pictures_show_the_same_moment(found):
    root, _, rows = found
    pages = storage.read_parquet(storage.join(artifacts.dataset_files(root, "source").dedup, "evidence.parquet"))
    assert pages.schema.names == evidence.EVIDENCE.names
    pages = {page["video_id"]: page for page in pages.to_pylist()}
    assert set(pages) == set(rows)  # so few exclusions are all shown
    assert sorted(page["kind"] for page in pages.values()) == ["random"] * 2 + ["strongest"] * 4 + ["weakest"] * 4
    weakest = min(rows.values(), key=lambda row: row["valid_overlap"])
    assert pages[weakest["video_id"]]["kind"] == "weakest"
    for name in ("small", "embedded", "mirror"):
        page = pages[name]
        source, target = (Image.open(io.BytesIO(page[f"{side}_jpeg"])).convert("L") for side in ("source", "target"))
        source = source.resize(target.size)
        if page["mirrored"]:
            source = source.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        assert np.abs(np.asarray(source, float) - np.asarray(target, float)).mean() < 8, name
        assert page["phash_distance"] <= 10
        assert page["source_time_s"] - page["target_time_s"] == pytest.approx(4 if name == "embedded" else 0, abs=0.1)


def test_the_same_run_gives_the_same_bytes(found):
    root, marker, _ = found
    files = artifacts.dataset_files(root, "source")
    paths = [files.exclusions, *(storage.join(files.dedup, f"{name}.parquet") for name in ("pairs", "evidence"))]
    before = [storage.read_bytes(path) for path in paths]
    assert find.find(config(root, force=True)) == marker
    assert [storage.read_bytes(path) for path in paths] == before


def test_pictures_are_picked_from_both_ends_and_between():
    rows = [{"video_id": f"v{i}", "target": "t", "valid_overlap": i / 100, "matched_frames": i} for i in range(1, 101)]
    picked = evidence._pick(find.pa.Table.from_pylist(rows))
    by_kind = {kind: [row["matched_frames"] for k, row in picked if k == kind] for kind, _ in picked}
    assert by_kind["strongest"] == list(range(100, 88, -1))
    assert by_kind["weakest"] == list(range(1, 13))
    assert len(set(by_kind["random"]) & set(range(13, 89))) == 12
    assert len(evidence._pick(find.pa.Table.from_pylist(rows[:1]))) == 1


def test_real_edited_copies(shared_data):
    """A family of edits (grey, sepia, logos, cuts) of one clip, and two rescaled transcodes of another."""
    manifest = [row for row in json.loads((shared_data / "MANIFEST.json").read_text()) if row["kind"] == "video"]
    paths = [
        row["file"] for row in manifest if "neardup" in row["file"] and row["label"] in ("chair", "ApplyEyeMakeup")
    ]
    paths.append("clips/ucf101_subset/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.mp4")
    paths += [row["file"] for row in manifest if "_g10_c0" in row["file"] and "ApplyEyeMakeup" not in row["file"]][:3]
    frames = overlap.gather(
        census.signature(luma_at_16_fps((shared_data / path).read_bytes(), max_s=8)) for path in paths
    )
    pairs = overlap.compare(frames, frames, CodeIndex(frames.codes, 7), overlap.PLAIN, 64)
    flagged = overlap.is_overlap(pairs.matched, frames.num_valid[pairs.source], 0.1, 8)
    found = {(paths[s], paths[t]) for s, t in zip(pairs.source[flagged], pairs.target[flagged], strict=True)}

    def family(path: str) -> str:
        return next((name for name in ("chair", "ApplyEyeMakeup_g01_c01") if name in path), path)

    assert sum("chair" in path for path in paths) == 7
    assert found == {(a, b) for a in paths for b in paths if family(a) == family(b)}
