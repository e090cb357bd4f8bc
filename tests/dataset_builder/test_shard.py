"""Shards: a tar that others can read, every attempted video accounted for, and nothing that one video can break."""

import hashlib
import json
import pickle
import tarfile
import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset

from dataset_builder import shard
from dataset_builder.dataset import describe_shards
from dataset_builder.match import video_id
from dataset_builder.shard import write_shard, write_shards
from dataset_builder.tar import TarWriter
from dedup import census
from pipeline import artifacts, storage, video
from pipeline.config import ConfigError
from tests.dataset_builder.small_world import LABEL_NAMES as NAMES
from tests.dataset_builder.small_world import files_in, make_job, write_mp4


@pytest.fixture
def clip(tmp_path):
    write_mp4(tmp_path / "clip.mp4", num_frames=30, fps=15)
    return (tmp_path / "clip.mp4").read_bytes()


@pytest.fixture
def broken(tmp_path, clip):
    """One good file and every kind of bad one; returns (URIs, reason by URI)."""
    bad = {
        "empty.mp4": (b"", "empty"),
        "page.mp4": (b"<html>not found</html>" * 50, "not_a_video"),
        "truncated.mp4": (clip[: len(clip) // 2], "not_a_video"),
        "noise.mp4": (np.random.default_rng(0).bytes(5000), "not_a_video"),
        "list.mp4": (b"ffconcat version 1.0\nfile /etc/passwd\n", "not_a_video"),
    }
    for name, (data, _) in bad.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder.mp4").mkdir()
    reasons = {str(tmp_path / name): reason for name, (_, reason) in bad.items()}
    reasons |= {
        str(tmp_path / "gone.mp4"): "missing",
        str(tmp_path / "folder.mp4"): "unreadable",
        "pipe://rm -rf": "refused_uri",
        "simplecache::s3://b/x.mp4": "refused_uri",
        "memory://nothing/here.mp4": "missing",
    }
    return [str(tmp_path / "clip.mp4"), *reasons], reasons


def test_every_attempted_video_has_a_row_and_a_reason(tmp_path, broken):
    uris, reasons = broken
    job = make_job(tmp_path / "d", uris)
    sidecar = write_shard(0, job)
    table = pq.read_table(job.files.shard(0) + ".parquet")
    assert table.schema == artifacts.SHARD_INDEX
    rows = {row["key"]: row for row in table.to_pylist()}
    assert {uri: rows[video_id(uri)]["reason"] for uri in uris} == {uris[0]: None, **reasons}
    assert {row["status"] for row in rows.values()} == {"ok", "quarantined"}
    assert sidecar["attempted"] == len(uris)
    assert sidecar["written"] == 1
    assert sum(sidecar["quarantined"].values()) == len(reasons)
    assert sidecar["label_counts"] == {"0": 1, "1": 1}
    assert rows[video_id(uris[-3])]["source_sha256"] is None
    empty = next(uri for uri in uris if uri.endswith("empty.mp4"))
    assert rows[video_id(empty)]["source_sha256"] == hashlib.sha256(b"").hexdigest()


def test_offsets_of_the_index_find_the_members(tmp_path, broken):
    uris, _ = broken
    write_mp4(tmp_path / "second.mp4", seed=2)
    job = make_job(tmp_path / "d", [*uris, str(tmp_path / "second.mp4")])
    write_shard(0, job)
    tar = (tmp_path / "d/shards/d-000000.tar").read_bytes()
    stored = [row for row in pq.read_table(job.files.shard(0) + ".parquet").to_pylist() if row["status"] == "ok"]
    assert len(stored) == 2
    for row in stored:
        described = json.loads(tar[row["json_offset"] : row["json_offset"] + row["json_size"]])
        assert described["id"] == row["key"]
        assert described["labels"] == [NAMES[i] for i in row["label_ids"]]
        assert described["source_sha256"] == row["source_sha256"]
        frames = video.read_video(tar[row["video_offset"] : row["video_offset"] + row["video_size"]])
        assert frames.shape == (row["num_frames"], row["height"], row["width"], 3)
        assert row["duration_s"] == pytest.approx(row["num_frames"] / row["fps"])


def test_webdataset_and_tarfile_read_the_shard(tmp_path, broken):
    uris, _ = broken
    write_mp4(tmp_path / "second.mp4", seed=2)
    job = make_job(tmp_path / "d", [*uris, str(tmp_path / "second.mp4")])
    sidecar = write_shard(0, job)
    path = job.files.shard(0) + ".tar"
    samples = list(webdataset.WebDataset(path, shardshuffle=False))
    assert {s["__key__"] for s in samples} == {video_id(uris[0]), video_id(str(tmp_path / "second.mp4"))}
    for sample in samples:
        assert len(video.read_video(sample["mp4"])) == json.loads(sample["json"])["num_frames"]
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == [f"{s['__key__']}.{kind}" for s in samples for kind in ("mp4", "json")]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.mode, m.type) for m in members} == {
        (0, 0, 0, "", 0o644, tarfile.REGTYPE)
    }
    data = (tmp_path / "d/shards/d-000000.tar").read_bytes()
    assert (sidecar["bytes"], sidecar["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_signatures_are_of_the_stored_videos(tmp_path, broken):
    uris, _ = broken
    job = make_job(tmp_path / "d", uris)
    write_shard(0, job)
    table = pq.read_table(job.files.shard(0) + ".sig.parquet")
    assert table.schema == artifacts.SIGNATURES
    (signature,) = census.read_signatures(table).values()
    assert table["video_id"].to_pylist() == [video_id(uris[0])]
    assert len(signature.codes64) == 2 * census.SIGNATURE_FPS
    assert census.informative(signature.quality).all()


def test_writing_again_gives_the_same_bytes(tmp_path, broken):
    uris, _ = broken
    for name in ("a", "b"):
        write_shard(0, make_job(tmp_path / name, uris))
    assert files_in(tmp_path / "a") == files_in(tmp_path / "b")


def test_a_shard_with_a_sidecar_is_not_written_again(tmp_path, broken):
    uris, _ = broken
    job = make_job(tmp_path / "d", uris)
    first = write_shard(0, job)
    (tmp_path / "clip.mp4").unlink()
    assert write_shard(0, job) == first
    (tmp_path / "d/shards/d-000000.json").unlink()
    assert write_shard(0, job)["quarantined"]["missing"] == first["quarantined"]["missing"] + 1


def test_a_shard_that_stops_half_way_leaves_no_file_under_its_name(tmp_path, broken, monkeypatch):
    uris, _ = broken
    job = make_job(tmp_path / "d", uris)
    calls = []

    def full(self, name, data):
        calls.append(name)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TarWriter, "add", full)
    with pytest.raises(OSError, match="No space left"):
        write_shard(0, job)
    assert calls
    assert list((tmp_path / "d/shards").iterdir()) == []


def test_what_the_driver_keeps_of_a_shard_is_small(tmp_path):
    """65,000 shards of a thousand labels each must fit into the driver's memory: 8 bytes a label, and little else."""
    job, num_labels = make_job(tmp_path / "d", [], label_names=[str(i) for i in range(5000)]), 5000
    sidecar = {"label_counts": {str(i): i + 1 for i in range(num_labels)}, "written": 1, "quarantined": {}}
    storage.write_bytes(job.files.shard(0) + ".tar", b"")
    storage.write_json(
        job.files.shard(0) + ".json", {**sidecar, "bytes": 1, "sha256": "", "duration_s": 1.0, "copied": 0}
    )
    answer = pickle.dumps(write_shards(job, 1))  # as it comes from a worker
    tracemalloc.start()
    kept = [pickle.loads(answer)[0] for _ in range(20)]
    size = tracemalloc.get_traced_memory()[0] / 20
    tracemalloc.stop()
    assert size < 8 * num_labels + 4096
    described = describe_shards(job.files, "kinetics", job.label_names, kept)
    assert [label["num_videos"] for label in described["labels"]] == [20 * (i + 1) for i in range(num_labels)]


def test_shards_that_are_elsewhere_are_missed(tmp_path, monkeypatch):
    """Nodes whose root is a folder of their own write where the driver does not look."""
    job = make_job(tmp_path / "d", [])
    monkeypatch.setattr(shard, "write_shard", lambda index, job: {"label_counts": {}})
    storage.write_bytes(job.files.shard(0) + ".json", b"{}")
    with pytest.raises(storage.StorageError, match=r"2 of 3 shards .*d-000001\.tar'.* every node sees"):
        write_shards(job, 3)


def test_a_dataset_of_which_nothing_can_be_stored_is_an_error(tmp_path, broken):
    job = make_job(tmp_path / "d", broken[0][1:])
    with pytest.raises(ConfigError, match=r"none of the videos could be stored .*--source.uri-prefix"):
        describe_shards(job.files, "kinetics", job.label_names, write_shards(job, 1))
