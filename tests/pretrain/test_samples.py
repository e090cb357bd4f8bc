import pyarrow as pa
import pytest

from pipeline import artifacts, storage
from pipeline.config import ConfigError
from pretrain.samples import open_samples


def exclude(root, name: str, video_ids: list[str], finished: bool = True) -> None:
    files = artifacts.dataset_files(str(root), name)
    table = pa.Table.from_pylist([{"video_id": v, "target": "t"} for v in video_ids], artifacts.EXCLUSIONS)
    storage.write_json(f"{files.dedup}/config.json", {})
    if finished:
        storage.write_parquet(files.exclusions, table)
        storage.write_json(files.dedup_marker, {"digest": "e" * 16, "input_digests": {"dataset": "d" * 16}})


def opened(root, name: str):
    return open_samples(artifacts.dataset_files(str(root), name), "build it")


def test_samples_hold_the_bytes_and_labels_that_were_written(root, mp4):
    samples = opened(root, "tiny")
    assert samples.labels == ("label 0", "label 1", "label 2")
    assert samples.dropped == {"overlaps_a_target": 0, "quarantined": 1}
    assert (samples.total, len(samples)) == (24, 23)
    for sample in (0, 4, 5, 22):  # v0005 is in no shard
        number = int(samples.key(sample)[1:])
        assert number == sample + (sample >= 5)
        assert samples.read(sample) == mp4(number, 6 + number % 10)
        assert samples.labels_of(sample).tolist() == [number % 3] + ([2] if number % 6 == 0 else [])
        assert samples.columns["num_frames"][sample] == 6 + number % 10
    assert "'v0023' of shard" in samples.describe(22)
    assert samples.describe(22).endswith("tiny-000002.tar'")


def test_excluded_videos_are_dropped_and_counted_and_change_the_digest(tmp_path, make_dataset):
    make_dataset(tmp_path, "d", num_videos=8)
    before = opened(tmp_path, "d")
    exclude(tmp_path, "d", ["v0002", "v0005", "v0007", "v9999"])
    after = opened(tmp_path, "d")
    assert after.keys.to_pylist() == ["v0000", "v0001", "v0003", "v0004", "v0006"]
    assert after.dropped == {"overlaps_a_target": 3, "quarantined": 0}
    assert (before.digests["exclusions"], after.digests["exclusions"]) == ("", "e" * 16)
    assert after.labels_of(2).tolist() == [0]


def test_a_dedup_that_was_begun_and_not_finished_stops_training(tmp_path, make_dataset):
    make_dataset(tmp_path, "d", num_videos=2)
    exclude(tmp_path, "d", ["v0000"], finished=False)
    with pytest.raises(ConfigError, match="begun and not finished"):
        opened(tmp_path, "d")


def test_nothing_left_is_an_error_that_says_where_all_went(tmp_path, make_dataset):
    make_dataset(tmp_path, "d", num_videos=2)
    exclude(tmp_path, "d", ["v0000", "v0001"])
    with pytest.raises(ConfigError, match=r"2 = 0 kept.*'overlaps_a_target': 2"):
        opened(tmp_path, "d")


def test_a_missing_dataset_names_the_remedy(tmp_path):
    with pytest.raises(ConfigError, match="build it"):
        opened(tmp_path, "none")


def test_a_subset_reads_the_shards_of_its_base(root, mp4):
    base, subset = (artifacts.dataset_files(str(root), name) for name in ("tiny", "part"))
    manifest = storage.read_parquet_parts(base.manifest)
    storage.write_parquet(f"{subset.manifest}/part-00000.parquet", manifest.slice(11, 3))
    marker = storage.read_json(base.marker)
    storage.write_json(subset.marker, {**marker, "shards": [{"path": "../tiny/shards/tiny-000001"}]})
    samples = opened(root, "part")
    assert samples.keys.to_pylist() == ["v0011", "v0012", "v0013"]
    assert samples.read(1) == mp4(12, 8)
    assert samples.labels_of(1).tolist() == [0, 2]
