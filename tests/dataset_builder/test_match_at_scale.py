"""Matching over batches, parts and buckets: what a plain loop over posts finds, on any input, in bounded memory."""

import json
import unicodedata
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset_builder import match, post_rows, posts, read_posts, spill, tag_index
from dataset_builder.hashtags import normalise, relevant_hashtags
from dataset_builder.normal_form import letters_of, normalise_tags
from dataset_builder.tag_index import make_tag_index
from dataset_builder.tag_table import find_labels, make_tag_table
from pipeline import artifacts
from pipeline.config import BuildConfig, ConfigError, SourceConfig
from pipeline.storage import StorageError
from tests.dataset_builder.small_world import HERE, write_posts

LABELS = ["burning candle", "catching a fish", "surfing", "кошка", "café", "東京"]
ODD = [
    "#Surf",
    "SURFING",
    "surf🏄",
    "s\u200burf",
    "catch_fish",
    "КОШКА",
    "cafe\u0301",
    "CAFÉ",
    "東京",
    "ｓｕｒｆ",
    "ﬁsh",
    "",
    "##surf",
]
HOSTILE = ["\u202esurf\u202c", "su\0rf", "surf\nsurf", "x" * 100_000, "#" * 500, "\r\n", "ß", "İ", "𝓼𝓾𝓻𝓯", "\u0301surf"]
TAGS = st.one_of(
    st.sampled_from([*ODD, *HOSTILE, "love", "candleburn"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)
POSTS = st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.lists(st.one_of(st.none(), TAGS), max_size=4))))


def by_a_plain_loop(rows, folder):
    """The definition: {uri: (labels, post ids)}."""
    owners = defaultdict(set)
    for label in LABELS:
        for hashtag in relevant_hashtags(label):
            owners[hashtag].add(label)
    found = defaultdict(lambda: (set(), set()))
    for post, (video, tags) in enumerate(rows):
        labels = set().union(*(owners.get(normalise(tag), ()) for tag in tags or () if tag))
        if labels:
            found[f"{folder}/{video}"][0].update(labels)
            found[f"{folder}/{video}"][1].add(str(post))
    return dict(found)


def match_file(folder, path, **source):
    (folder / "seeds.txt").write_text("\n".join(LABELS))
    source = SourceConfig(posts=str(path), seed_labels=str(folder / "seeds.txt"), **source)
    marker = match.match_posts(BuildConfig(root=str(folder / "out"), source=source, execution=HERE, force=True))
    parts = sorted((folder / "out/sources/source/matches").glob("part-*.parquet"))
    return marker, pa.concat_tables([pq.read_table(part) for part in parts])


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    rows=POSTS, group=st.integers(1, 9), batch=st.integers(1, 9), run=st.integers(1, 2000), bucket=st.integers(64, 4000)
)
def test_any_cut_into_batches_parts_runs_and_buckets_finds_what_a_plain_loop_finds(
    tmp_path, monkeypatch, rows, group, batch, run, bucket
):
    rows = [*rows, (0, ["surf"])]
    ids, videos = [str(i) for i in range(len(rows))], [str(video) for video, _ in rows]
    tags = pa.array([tags for _, tags in rows], pa.list_(pa.string()))
    pq.write_table(
        pa.table({"post_id": ids, "video_uri": videos, "hashtags": tags}),
        tmp_path / "posts.parquet",
        row_group_size=group,
    )
    monkeypatch.setattr(read_posts, "BATCH_ROWS", batch)
    monkeypatch.setattr(spill, "RUN_BYTES", run)
    monkeypatch.setattr(match, "BUCKET_BYTES", bucket)
    marker, matches = match_file(tmp_path, tmp_path / "posts.parquet")
    found = {row["uri"]: (set(row["labels"]), set(row["post_ids"])) for row in matches.to_pylist()}
    assert found == by_a_plain_loop(rows, tmp_path)
    counts = marker["counts"]
    assert counts["in"] == len(rows) == counts["kept"] + sum(counts["dropped"].values())
    assert matches["video_id"].to_pylist() == sorted(matches["video_id"].to_pylist())
    assert {label["name"] for label in marker["labels"]} == set().union(*(labels for labels, _ in found.values()))


# ---------------------------------------------------------------------------------------------------- normal form


@given(st.lists(TAGS, max_size=12))
def test_a_tag_without_a_normal_form_has_letters_that_no_hashtag_has(tags):
    letters = letters_of(pa.array(["surf", "кошка"]))
    for tag, normal in zip(tags, normalise_tags(pa.array(tags, pa.string()), letters).to_pylist(), strict=True):
        if normal is None:
            assert not set(unicodedata.normalize("NFKD", normalise(tag))) <= letters
        else:
            assert normal == normalise(tag)


def test_every_letter_of_unicode_is_foreign_only_where_it_says_so_in_context():
    letters = letters_of(pa.array(["surf", "кошка", "café"]))
    every = [chr(point) for point in range(0x80, 0x110000, 7) if chr(point).isalpha()]
    tags = [f"a{c}\u0301b" for c in every]
    normal = normalise_tags(pa.array(tags), letters).to_pylist()
    for tag, form in zip(tags, normal, strict=True):
        assert (
            form == normalise(tag)
            if form is not None
            else not set(unicodedata.normalize("NFKD", normalise(tag))) <= letters
        )


@given(st.lists(st.lists(TAGS, max_size=3).map("\n".join)))
def test_tags_with_line_breaks_become_normal_as_if_alone(tags):
    assert normalise_tags(pa.array(tags, pa.string())).to_pylist() == [normalise(tag) for tag in tags]


# ----------------------------------------------------------------------------------------------------------- URIs


@given(st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"])), st.text(" \t\n\u3000a"))))
def test_white_space_is_no_text(values):
    assert post_rows.has_text(pa.array(values, pa.string())).tolist() == [bool(v and v.strip()) for v in values]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_video_ids_of_a_batch_are_those_of_each_uri(uris):
    prefixes, ids = match.video_ids(pa.array(uris, pa.string()))
    assert ids.to_pylist() == [match.video_id(uri) for uri in uris]
    assert prefixes.tolist() == [int(name[:8], 16) for name in ids.to_pylist()]


# ---------------------------------------------------------------------------------------------------------- index


@given(st.lists(st.text("ab0é東", min_size=1, max_size=30), unique=True), st.lists(st.text("ab0é東", max_size=30)))
def test_the_index_finds_exactly_its_members(members, others):
    index, where = make_tag_index(pa.array(members, pa.string()))
    found = index.find(pa.array([*members, *others], pa.string())).tolist()
    assert found[: len(members)] == where.tolist()
    names = index.strings.to_pylist()
    assert [names[i] if i >= 0 else None for i in found] == [s if s in members else None for s in [*members, *others]]


def test_strings_that_share_a_hash_get_another_seed(monkeypatch):
    real = tag_index.hash_strings
    monkeypatch.setattr(tag_index, "hash_strings", lambda s, seed, length: real(s, seed, length) * np.uint64(seed > 0))
    index, _ = make_tag_index(pa.array(["a", "b", "a"]))
    assert index.seed == 1
    assert sorted(index.strings.to_pylist()) == ["a", "b"]


def test_arrays_that_are_slices_of_others_are_read_from_their_own_start():
    table = make_tag_table(["surfing"], "kinetics")
    tags = pa.array(["x" * 50, "love", "#SURF", "surf_ing", "é"])[1:4]
    assert find_labels(tags, table)[0].tolist() == [1, 2]


def test_all_pairs_of_verbs_and_nouns_are_listed_by_number_and_the_marker_stays_short(tmp_path, monkeypatch):
    monkeypatch.setattr(match, "MAX_LISTED", 5)
    verbs, nouns = ["burning", "lighting", "making"], ["candle", "box", "cake", "house"]
    path = write_posts(tmp_path / "posts.jsonl", [{"post_id": "1", "video_uri": "a", "hashtags": ["CandleBurning"]}])
    (tmp_path / "seeds.txt").write_text("\n".join(f"{v} {n}" for v in verbs for n in nouns))
    source = SourceConfig(posts=str(path), seed_labels=str(tmp_path / "seeds.txt"), kind="verb_noun")
    marker = match.match_posts(BuildConfig(root=str(tmp_path / "out"), source=source, execution=HERE))
    assert marker["labels"] == [{"name": "burning candle", "num_videos": 1}]
    assert (marker["num_labels"], marker["num_unused_labels"], len(marker["unused_labels"])) == (12, 11, 5)
    assert marker["unused_labels"] == sorted(marker["unused_labels"])


# ------------------------------------------------------------------------------------------------------- bad input


def test_hostile_lines_are_read_and_counted(tmp_path):
    lines = [
        json.dumps({"post_id": i, "video_uri": f"{i}", "hashtags": [tag, "surf"], "caption": f"#{tag} #surf"})
        for i, tag in enumerate(HOSTILE)
    ]
    lines.append('{"post_id": "s", "video_uri": "s", "hashtags": ["\\ud800surf"], "caption": "\\udfff"}')
    lines.append(json.dumps({"post_id": "m", "video_uri": "m", "hashtags": ["love"] * 9_999 + ["surf"]}))
    (tmp_path / "posts.jsonl").write_text("\n".join(lines))
    marker, matches = match_file(tmp_path, tmp_path / "posts.jsonl")
    assert marker["counts"] == {"in": 12, "kept": 12, "dropped": {}, "videos": 12}
    assert all(row["labels"] == ["surfing"] for row in matches.to_pylist())


def test_post_ids_of_several_types_name_the_same_posts(tmp_path):
    for name, ids in (
        ("a", pa.array([1, 2])),
        ("b", pa.array(["1", "3"])),
        ("c", pa.array(["1", "2"]).dictionary_encode()),
    ):
        table = pa.table({"post_id": ids, "video_uri": ["v", "v"], "hashtags": [["surf"], ["surf"]]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    marker, matches = match_file(tmp_path, tmp_path / "*.parquet")
    assert matches["post_ids"].to_pylist() == [["1", "2", "3"]]
    assert marker["counts"]["dropped"] == {"duplicate_post_id": 3}


def test_empty_row_groups_are_read(tmp_path):
    table = pa.table({"post_id": ["1"], "video_uri": ["v"], "hashtags": [["surf"]]})
    with pq.ParquetWriter(tmp_path / "posts.parquet", table.schema) as writer:
        for part in (table[:0], table, table[:0]):
            writer.write_table(part)
    assert match_file(tmp_path, tmp_path / "posts.parquet")[0]["counts"]["kept"] == 1


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["1"])] * 3, ["post_id", "video_uri", "video_uri"])
    pq.write_table(table.append_column("hashtags", [["surf"]]), tmp_path / "posts.parquet")
    with pytest.raises(ConfigError, match="several columns video_uri"):
        match_file(tmp_path, tmp_path / "posts.parquet")


def test_a_column_of_a_type_that_cannot_be_meant_is_named(tmp_path):
    table = pa.table({"post_id": ["1"], "video_uri": ["v"], "hashtags": [{"a": 1}]})
    pq.write_table(table, tmp_path / "posts.parquet")
    with pytest.raises(ConfigError, match=r"posts\.parquet' has a column of a type"):
        match_file(tmp_path, tmp_path / "posts.parquet")


def write_parquet(path, num_posts=2000):
    ids = [str(i) for i in range(num_posts)]
    pq.write_table(pa.table({"post_id": ids, "video_uri": ids, "hashtags": [["surf", f"t{i}"] for i in ids]}), path)
    return path


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "gone"])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = write_parquet(tmp_path / "posts.parquet")
    [part] = posts.plan_parts([str(path)], SourceConfig())
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-100] if damage == "truncated" else data[:4] + b"\xff" * 3000 + data[3004:])
    with pytest.raises(StorageError, match=r"posts\.parquet"):
        list(read_posts.read_part(part))
    if damage == "truncated":
        with pytest.raises(ConfigError, match=r"posts\.parquet' cannot be read as parquet"):
            match_file(tmp_path, path)


def test_a_part_that_fails_leaves_no_spill(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "posts.parquet")
    monkeypatch.setattr(read_posts, "BATCH_ROWS", 500)
    real, calls = post_rows.tag_lists, []

    def fail_once(table):
        calls.append(table.num_rows)
        if len(calls) == 3:
            raise StorageError("the disk went away")
        return real(table)

    monkeypatch.setattr(match.post_rows, "tag_lists", fail_once)
    job = match.MatchJob(make_tag_table(LABELS, "kinetics"), "", str(tmp_path / "spill"))
    [part] = posts.plan_parts([str(path)], SourceConfig())
    with pytest.raises(StorageError):
        match.match_part((0, part), job)
    assert list((tmp_path / "spill").iterdir()) == []
    assert match.match_part((0, part), job)["posts"] == 2000


def test_the_digest_sees_contents_of_small_tables_and_the_ends_of_large_ones(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_bytes(b"x" * 300_000)
    whole = posts.posts_digest([str(path)])
    path.write_bytes(b"x" * 150_000 + b"y" + b"x" * 149_999)
    assert posts.posts_digest([str(path)]) != whole
    monkeypatch.setattr(posts, "HASHED_BYTES", 1000)
    ends = posts.posts_digest([str(path)])
    path.write_bytes(b"x" * 299_999 + b"y")
    assert posts.posts_digest([str(path)]) != ends


def test_matches_keep_their_schema(tmp_path):
    _, matches = match_file(tmp_path, write_parquet(tmp_path / "posts.parquet", 10))
    assert matches.schema == artifacts.MATCHES
