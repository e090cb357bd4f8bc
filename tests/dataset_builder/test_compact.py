"""A copy without the excluded videos: whole to every reader, the same bytes every time, nothing lost or added."""

import hashlib
import json
import tarfile

import pytest

from dataset_builder.build import build
from dataset_builder.compact import compact
from dataset_builder.manifest import manifest_part
from pipeline import artifacts, storage
from pipeline.config import CompactConfig, ConfigError, ExecutionConfig
from pretrain.samples import open_samples
from tests.dataset_builder.small_world import build_config, files_in, make_world

LOCAL = ExecutionConfig(backend="process", num_workers=1)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(posts folder, root) of a dataset of 9 videos in 3 shards, one of them unreadable, 3 of them excluded."""
    folder, root = make_world(tmp_path_factory.mktemp("world"), 8), tmp_path_factory.mktemp("built")
    with (folder / "posts.jsonl").open("a") as file:
        file.write(json.dumps({"post_id": "bad", "video_uri": "gone.mp4", "hashtags": ["surf"]}) + "\n")
    build(build_config(folder, root))
    files = artifacts.dataset_files(str(root), "d")
    stored = [row["key"] for row in index_rows(files) if row["status"] == "ok"]
    rows = [dict.fromkeys(artifacts.EXCLUSIONS.names) | {"video_id": video_id} for video_id in sorted(stored)[:3]]
    exclude(files, rows)
    return folder, root


def exclude(files, rows):
    storage.write_parquet(files.exclusions, artifacts.pa.Table.from_pylist(rows, artifacts.EXCLUSIONS))
    storage.write_json(storage.join(files.dedup, "config.json"), {})
    storage.write_json(
        files.dedup_marker,
        {"digest": "of-the-dedup", "input_digests": {"dataset": storage.read_json(files.marker)["digest"]}},
    )


def index_rows(files):
    shards = artifacts.shard_paths(files, storage.read_json(files.marker))
    return [row for shard in shards for row in storage.read_parquet(f"{shard}.parquet").to_pylist()]


def contents(folder):
    """Every file but config.json, which also records how it ran."""
    return {path: data for path, data in files_in(folder).items() if path != "config.json"}


def run(root, to="clean", **changes):
    return compact(CompactConfig(root=str(root), to=to, execution=LOCAL, **{"dataset": "d"} | changes))


def test_what_is_kept_is_what_readers_kept(built):
    marker = run(built[1])
    old, new = (open_samples(artifacts.dataset_files(str(built[1]), name), "") for name in ("d", "clean"))
    assert {old.key(i): old.read(i) for i in range(len(old))} == {new.key(i): new.read(i) for i in range(len(new))}
    assert old.labels == new.labels
    assert marker["num_videos"] == 5
    assert marker["counts"]["compact"] == {"in": 9, "kept": 5, "dropped": {"excluded": 3, "missing": 1}}
    assert marker["input_digests"]["dedup"] == "of-the-dedup"


def test_tars_indices_sidecars_and_signatures_agree(built):
    marker, files = run(built[1]), artifacts.dataset_files(str(built[1]), "clean")
    counts = {label["id"]: label["num_videos"] for label in marker["labels"]}
    found = dict.fromkeys(counts, 0)
    for shard, path in zip(marker["shards"], artifacts.shard_paths(files, marker), strict=True):
        sidecar, data = storage.read_json(f"{path}.json"), storage.read_bytes(f"{path}.tar")
        assert shard["sha256"] == sidecar["sha256"] == hashlib.sha256(data).hexdigest()
        assert shard["bytes"] == len(data)
        rows = storage.read_parquet(f"{path}.parquet").to_pylist()
        part = storage.read_parquet(f"{files.manifest}/part-{path[-6:]}.parquet")
        assert part["video_id"].to_pylist() == [row["key"] for row in rows]
        rows = [row for row in rows if row["status"] == "ok"]
        signatures = storage.read_parquet(f"{path}.sig.parquet")["video_id"].to_pylist()
        with tarfile.open(f"{path}.tar") as tar:
            members = {member.name: member for member in tar}
        assert [row["key"] for row in rows] == signatures
        assert list(members) == [row["key"] + suffix for row in rows for suffix in (".mp4", ".json")]
        for row in rows:
            video, described = members[f"{row['key']}.mp4"], members[f"{row['key']}.json"]
            assert (video.offset_data, video.size) == (row["video_offset"], row["video_size"])
            assert (described.offset_data, described.size) == (row["json_offset"], row["json_size"])
            for label in row["label_ids"]:
                found[label] += 1
    assert found == counts


def test_again_and_after_a_stop_the_same_bytes(built):
    run(built[1])
    folder = built[1] / "datasets/clean"
    whole = contents(folder)
    run(built[1], force=True)
    assert contents(folder) == whole
    for name in ("dataset.json", "shards/clean-000001.json", "shards/clean-000001.tar"):
        (folder / name).unlink()
    kept = (folder / "shards/clean-000000.tar").stat().st_mtime_ns
    run(built[1])
    assert contents(folder) == whole
    assert (folder / "shards/clean-000000.tar").stat().st_mtime_ns == kept


def test_labels_are_numbered_as_in_the_dataset_not_as_in_its_base(built):
    """A subset whose labels are numbered the other way round than those of the base, whose shards it has."""
    root = str(built[1])
    base, files = artifacts.dataset_files(root, "d"), artifacts.dataset_files(root, "turned")
    marker = storage.read_json(base.marker)
    names, wanted = [label["name"] for label in marker["labels"]], {}
    artifacts.open_stage(files.folder, files.marker, CompactConfig(), {})
    storage.write_json(files.label_space, {})
    for i in range(3):
        rows = storage.read_parquet(manifest_part(base, i)).to_pylist()
        wanted |= {row["video_id"]: {names[i] for i in row["label_ids"]} for row in rows}
        turned = [row | {"label_ids": [len(names) - 1 - i for i in row["label_ids"]]} for row in rows]
        storage.write_parquet(manifest_part(files, i), artifacts.pa.Table.from_pylist(turned, artifacts.MANIFEST))
    shards = [{**shard, "path": f"../d/{shard['path']}"} for shard in marker["shards"]]
    labels = [{"id": i, "name": name, "num_videos": 0} for i, name in enumerate(reversed(names))]
    artifacts.seal(files.folder, files.marker, {}, shards=shards, labels=labels, kind="kinetics", base="d")
    exclude(files, [])

    found = {}
    clean, sealed = artifacts.dataset_files(root, "turned-clean"), run(root, "turned-clean", dataset="turned")
    for shard in artifacts.shard_paths(clean, sealed):
        with tarfile.open(f"{shard}.tar") as tar:
            for name in tar.getnames()[1::2]:
                content = json.load(tar.extractfile(name))
                assert content["labels"] == [sealed["labels"][i]["name"] for i in content["label_ids"]]
                found[content["id"]] = set(content["labels"])
    assert found == {video_id: wanted[video_id] for video_id in found}
    assert len(found) == 8
    assert sealed["base"] == "d"  # readers cut the spans of its manifest


def test_a_later_dedup_makes_it_stale(built):
    run(built[1])
    files = artifacts.dataset_files(str(built[1]), "d")
    digest = storage.read_json(files.dedup_marker)
    storage.write_json(files.dedup_marker, {**digest, "digest": "of-another"})
    with pytest.raises(ConfigError, match=r"input_digests.dedup: 'of-the-dedup' → 'of-another'"):
        run(built[1])
    storage.write_json(files.dedup_marker, digest)


def test_what_cannot_be_compacted_is_refused(built, tmp_path):
    for to in ("", "d"):
        with pytest.raises(ConfigError, match="--to"):
            run(built[1], to)
    with pytest.raises(ConfigError, match="tagreel build --dataset nowhere"):
        run(built[1], dataset="nowhere")
    storage.write_json(str(tmp_path / "datasets/d/dataset.json"), {"digest": ""})
    with pytest.raises(ConfigError, match="tagreel dedup"):
        run(tmp_path)
