"""`tagreel labels` on datasets that the build wrote."""

import json
import re
from dataclasses import replace

import pytest

from dataset_builder.build import build
from dataset_builder.dataset_labels import read_dataset
from dataset_builder.label_report import LabelReportConfig, main, report_labels
from dataset_builder.targets import build_target
from pipeline import artifacts, storage
from pipeline.config import ConfigError, SamplingConfig, TargetConfig
from tests.dataset_builder.small_world import HERE, TINY_STORAGE, build_config, write_mp4, write_posts

SEEDS = ["catching a fish", "fish catching", "burning candle", "surfing", "archery", "yoga"]
# tag of each video: two fish labels share theirs; one surfer only, and nobody does yoga; the last file is broken
TAGS = ["catchfish"] * 4 + ["candleburning"] * 3 + ["surf", "archery", "archery", "archery"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    world, root = tmp_path_factory.mktemp("world"), tmp_path_factory.mktemp("root")
    for i in range(len(TAGS) - 1):
        write_mp4(world / f"{i}.mp4", seed=i)
    (world / f"{len(TAGS) - 1}.mp4").write_bytes(b"")
    rows = [{"post_id": f"p{i}", "video_uri": f"{i}.mp4", "hashtags": [tag]} for i, tag in enumerate(TAGS)]
    rows[0]["hashtags"].append("burningcandle")
    write_posts(world / "posts.jsonl", rows)
    (world / "seeds.txt").write_text("\n".join(SEEDS))
    config = build_config(world, root, dataset="all", sampling=SamplingConfig(min_videos=2))
    build(config)
    build(replace(config, dataset="few", base="all", sampling=SamplingConfig(min_videos=4, num_videos=5)))
    for split, start in (("train", 0), ("test", 2)):
        rows = [f"{start}.mp4,Archery", f"{start + 1}.mp4,fishes", f"{start + 1}.mp4,catch fish"]
        (world / f"{split}.csv").write_text("path,label\n" + "\n".join(rows))
    tables = {split: str(world / f"{split}.csv") for split in ("train", "test")}
    build_target(TargetConfig(root=str(root), target="bench", storage=TINY_STORAGE, execution=HERE, **tables))
    return str(root)


def test_a_dataset_in_numbers(root):
    found = read_dataset(root, "all")
    fish = {"catching a fish": 4, "fish catching": 4}
    assert found.labels == fish | {"burning candle": 4, "archery": 2}
    assert (found.num_videos, found.statistics.num_pairs, found.statistics.most) == (9, 14, 4)
    assert found.labels_per_video == {1: 5, 2: 3, 3: 1}
    assert found.dropped == {"surfing": 1}
    assert found.label_space == {"in": 6, "kept": 4, "dropped": {"few_videos": 1, "no_video": 1}}
    assert found.unused_labels == ["yoga"]
    assert set(found.shared_hashtags["catchfish"]) == set(fish)
    assert found.num_shared_hashtags == len(found.shared_hashtags)
    assert found.quarantined == {"empty": 1}


def test_a_subset_is_counted_from_its_own_manifest(root):
    found = read_dataset(root, "few")
    assert set(found.labels) == {"catching a fish", "fish catching", "burning candle"}
    assert (found.base, found.num_videos) == ("all", 5)
    assert sum(size * count for size, count in found.labels_per_video.items()) == sum(found.labels.values())
    assert sum(found.labels_per_video.values()) == 5
    assert found.label_space == {"in": 4, "kept": 3, "dropped": {"few_videos": 1}}
    assert (found.unused_labels, found.quarantined) == (["yoga"], {"empty": 1})


def test_the_report_holds_every_dataset_and_overlap_and_its_bytes_repeat(root):
    config = LabelReportConfig(root, ("all", "few"), ("bench",))
    written = report_labels(config)
    first = {path: storage.read_bytes(path) for path in written.values()}
    report = json.loads(first[written["json"]])
    assert [d["name"] for d in report["datasets"]] == ["all", "few"]
    by_dataset = {o["dataset"]: o for o in report["overlaps"]}
    assert by_dataset["all"]["exact"] == {"Archery": ["archery"]}
    assert by_dataset["all"]["canonical"] == {"catch fish": ["catching a fish", "fish catching"]}
    assert by_dataset["all"]["missing"] == by_dataset["few"]["missing"][1:] == ["fishes"]
    assert (by_dataset["all"]["share"], by_dataset["few"]["share"]) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert report_labels(config) == written
    assert {path: storage.read_bytes(path) for path in written.values()} == first


def test_the_page_is_self_contained_and_hostile_names_stay_text(root):
    written = report_labels(LabelReportConfig(root, ("all", "few"), ("bench",), name="x"))
    page = storage.read_bytes(written["html"]).decode()
    assert written["html"].endswith("reports/labels/x.html")
    assert not re.search(r"<script|https?:|(?:src|href)=\"(?!#)", page)
    assert page.count("<svg") == 1
    hostile = "<img src=x onerror=alert(1)>"
    space = artifacts.dataset_files(root, "all").label_space
    kept = storage.read_bytes(space)
    storage.write_json(
        space, json.loads(kept) | {"dropped": [{"name": hostile, "num_videos": 1, "reason": "few_videos"}]}
    )
    try:
        page = storage.read_bytes(report_labels(LabelReportConfig(root, ("all",)))["html"]).decode()
    finally:
        storage.write_bytes(space, kept)
    assert hostile not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_tables_that_contradict_dataset_json_are_refused(root):
    marker = artifacts.dataset_files(root, "few").marker
    kept = storage.read_bytes(marker)
    storage.write_json(marker, json.loads(kept) | {"num_videos": 6})
    try:
        with pytest.raises(storage.StorageError, match=r"counts 6 videos .* 5 with .* --force"):
            read_dataset(root, "few")
    finally:
        storage.write_bytes(marker, kept)


@pytest.mark.parametrize("other", [False, True])
def test_a_dataset_whose_source_is_gone_or_another_one_says_so(root, other):
    marker = artifacts.source_files(root, "source").marker
    kept = storage.read_bytes(marker)
    if other:
        storage.write_json(marker, json.loads(kept) | {"digest": "another", "num_unused_labels": 99})
    else:
        storage.remove(marker)
    try:
        found = read_dataset(root, "all")
    finally:
        storage.write_bytes(marker, kept)
    assert (found.unused_labels, found.num_unused_labels, found.num_shared_hashtags) == (None, None, None)
    assert found.shared_hashtags == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets": ()}, "--datasets"),
        ({"datasets": ("none",)}, "tagreel build --dataset none"),
        ({"targets": ("none",)}, "tagreel target --target none"),
    ],
)
def test_bad_input_names_the_remedy(root, changes, message):
    with pytest.raises(ConfigError, match=message):
        report_labels(replace(LabelReportConfig(root, ("all",)), **changes))


def test_command_line(root, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--root", root, "--datasets", "all", "few", "--targets", "bench"])
    text = capsys.readouterr().out
    assert re.search(r"videos +9 +5\n", text)
    assert "bench in all: 66.7 % of 3 labels = 1 exact + 1 by canonical words; 1 missing" in text
    assert "all+few.html" in text
