"""Posts → matches: every format, every reason to drop, and posts of one video united."""

import gzip
import json
import string

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_builder import match, normal_form, posts, tag_table
from dataset_builder.hashtags import HashtagMatcher, normalise
from dataset_builder.post_rows import caption_hashtags
from dataset_builder.read_posts import PostsPart
from dataset_builder.seeds import read_seed_labels
from pipeline import artifacts
from pipeline.config import BuildConfig, ConfigError, SourceConfig
from tests.dataset_builder.small_world import HERE, SEED_LABELS, write_posts

ROWS = [
    {"post_id": "1", "video_uri": "a.mp4", "caption": "no tag", "hashtags": "#CatchFish #love", "duration_s": "3.5"},
    {"post_id": "2", "video_uri": "a.mp4", "caption": "so hot #candle_burning!", "hashtags": "", "duration_s": ""},
    {"post_id": "2", "video_uri": "a.mp4", "caption": "so hot #candle_burning!", "hashtags": "", "duration_s": ""},
    {"post_id": "3", "video_uri": "/v/b.mp4", "caption": "", "hashtags": "surfing,surf", "duration_s": "x"},
    {
        "post_id": "4",
        "video_uri": "c.mp4",
        "caption": 'line\nbreak, and "quotes"',
        "hashtags": "love",
        "duration_s": "1",
    },
    {"post_id": "5", "video_uri": "c.mp4", "caption": "nothing", "hashtags": "", "duration_s": "1"},
    {"post_id": "6", "video_uri": "", "caption": "#surf", "hashtags": "", "duration_s": "1"},
    {"post_id": "7", "video_uri": "s3://bucket/d.mp4", "caption": "", "hashtags": "SURF", "duration_s": "2"},
]
DROPPED = {"duplicate_post_id": 1, "missing_video_uri": 1, "no_hashtags": 1, "no_relevant_hashtag": 1}


def match_rows(folder, path, **source):
    (folder / "seeds.txt").write_text("\n".join(SEED_LABELS))
    source = SourceConfig(posts=str(path), seed_labels=str(folder / "seeds.txt"), **source)
    config = BuildConfig(root=str(folder / "out"), source=source, execution=HERE)
    marker = match.match_posts(config)
    parts = sorted((folder / "out/sources/source/matches").glob("part-*.parquet"))
    return marker, pa.concat_tables([pq.read_table(part) for part in parts])


def by_name(table):
    return {row["uri"].rsplit("/", 1)[-1]: row for row in table.to_pylist()}


def as_lists(rows):
    return [
        {**row, "hashtags": row["hashtags"].replace("#", "").replace(",", " ").split(), "duration_s": None}
        for row in rows
    ]


def write(folder, form):
    if form == "parquet":
        table = pa.Table.from_pylist(as_lists(ROWS))
        path = folder / "posts.parquet"
        pq.write_table(table, path, row_group_size=3)
        return path
    if form == "jsonl.gz":
        path = folder / "posts.jsonl.gz"
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))
        return path
    if form == "folder":
        (folder / "many").mkdir()
        for i, row in enumerate(ROWS):
            write_posts(folder / "many" / f"{i}.jsonl", [row])
        (folder / "many" / "_ignored.csv").write_text("x")
        return folder / "many"
    if form == "glob":
        write_posts(folder / "posts-1.csv", ROWS[:5])
        write_posts(folder / "posts-2.csv", ROWS[5:])
        return folder / "posts-*.csv"
    rows = as_lists(ROWS) if form == "lists.jsonl" else ROWS
    return write_posts(folder / f"posts.{form}", rows)


@pytest.mark.parametrize("form", ["csv", "jsonl", "lists.jsonl", "jsonl.gz", "parquet", "folder", "glob"])
def test_every_format_gives_the_same_matches_and_accounts_for_every_post(tmp_path, form):
    marker, matches = match_rows(tmp_path, write(tmp_path, form), uri_prefix=str(tmp_path))
    assert matches.schema == artifacts.MATCHES
    assert marker["counts"] == {"in": 8, "kept": 4, "dropped": DROPPED, "videos": 3}
    rows = by_name(matches)
    assert {name: row["labels"] for name, row in rows.items()} == {
        "a.mp4": ["burning candle", "catching a fish"],
        "b.mp4": ["surfing"],
        "d.mp4": ["surfing"],
    }
    assert rows["a.mp4"]["post_ids"] == ["1", "2"]
    assert {name: row["uri"] for name, row in rows.items()} == {
        "a.mp4": str(tmp_path / "a.mp4"),
        "b.mp4": "/v/b.mp4",
        "d.mp4": "s3://bucket/d.mp4",
    }
    with_durations = form not in ("parquet", "lists.jsonl")
    assert rows["a.mp4"]["duration_s"] == (3.5 if with_durations else None)
    assert rows["b.mp4"]["duration_s"] is None


def test_relative_uris_stand_in_the_folder_of_the_posts(tmp_path):
    rows = [
        {"post_id": str(i), "video_uri": uri, "hashtags": ["surf"]}
        for i, uri in enumerate(["v/a.mp4", "./v/../v/a.mp4", " v/a.mp4 "])
    ]
    _, matches = match_rows(tmp_path, write_posts(tmp_path / "posts.jsonl", rows))
    assert matches["uri"].to_pylist() == [str(tmp_path / "v/a.mp4")]
    assert matches["post_ids"].to_pylist() == [["0", "1", "2"]]


def test_malformed_rows_are_counted_and_the_others_read(tmp_path):
    good = {"post_id": 1, "video_uri": "a.mp4", "hashtags": ["surf", None, 5], "duration_s": "2", "extra": {"x": 1}}
    text = json.dumps(good) + "\n{not json\n[1, 2]\n\n" + json.dumps({**good, "post_id": "2"})
    (tmp_path / "posts.jsonl").write_bytes(text.encode() + b'\n{"post_id": "\xff"}\n')
    marker, matches = match_rows(tmp_path, tmp_path / "posts.jsonl")
    assert marker["counts"] == {"in": 5, "kept": 2, "dropped": {"malformed": 3}, "videos": 1}
    assert matches["post_ids"].to_pylist() == [["1", "2"]]


def test_ragged_csv_rows_are_counted_and_bytes_that_are_no_text_read(tmp_path):
    path = tmp_path / "posts.csv"
    path.write_bytes(b"post_id,video_uri,hashtags\n1,a.mp4,surf\n2,b.mp4\n3,c.mp4,surf,more\n4,d.mp4,caf\xe9 surf\n")
    marker, matches = match_rows(tmp_path, path)
    assert marker["counts"] == {"in": 4, "kept": 2, "dropped": {"malformed": 2}, "videos": 2}
    assert set(by_name(matches)) == {"a.mp4", "d.mp4"}


def test_lines_cut_by_part_borders_are_read_once(tmp_path, monkeypatch):
    rows = [
        {"post_id": str(i), "video_uri": f"{i}.mp4", "hashtags": ["surf" * (i % 7 == 0) or "x" * (i % 90)]}
        for i in range(300)
    ]
    path = write_posts(tmp_path / "posts.jsonl", rows)
    monkeypatch.setattr(posts, "PART_BYTES", 997)
    marker, matches = match_rows(tmp_path, path)
    assert marker["counts"]["in"] == 300
    assert matches.num_rows == len(range(0, 300, 7))


def test_matches_do_not_depend_on_the_number_of_buckets(tmp_path, monkeypatch):
    rows = [
        {"post_id": str(i), "video_uri": f"{i % 150}.mp4", "hashtags": [["surf", "catchfish"][i % 2]]}
        for i in range(400)
    ]
    path = write_posts(tmp_path / "posts.jsonl", rows)
    monkeypatch.setattr(posts, "PART_BYTES", 5000)
    (tmp_path / "one").mkdir()
    one, whole = match_rows(tmp_path / "one", path)
    monkeypatch.setattr(match, "BUCKET_BYTES", 4000)
    (tmp_path / "many").mkdir()
    many, bucketed = match_rows(tmp_path / "many", path)
    assert len(list((tmp_path / "many/out/sources/source/matches").iterdir())) > 3
    assert bucketed.equals(whole)
    assert many["counts"] == one["counts"]
    assert whole["video_id"].to_pylist() == sorted(whole["video_id"].to_pylist())
    assert whole.num_rows == 150


def test_captions_are_left_alone_when_told_so(tmp_path):
    marker, matches = match_rows(tmp_path, write(tmp_path, "csv"), caption_hashtags=False)
    assert marker["counts"]["dropped"]["no_hashtags"] == 3
    assert by_name(matches)["a.mp4"]["labels"] == ["catching a fish"]


def test_hashtags_in_captions():
    captions = pa.array(["Go #Surf_Now! and #fish,#x", None, "none", "＃東京 #can't #🏄surf # alone"])
    found = caption_hashtags(captions)
    posts_of = found.posts_of(np.arange(len(found.tags))).tolist()
    assert list(zip(found.tags.to_pylist(), posts_of, strict=True)) == [
        ("Surf_Now", 0),
        ("fish", 0),
        ("x", 0),
        ("東京", 3),
        ("can", 3),
        ("🏄surf", 3),
    ]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=20))
def test_vectorised_normal_form_equals_the_function(tags):
    assert normal_form.normalise_tags(pa.array(tags, pa.string())).to_pylist() == [normalise(tag) for tag in tags]


@settings(max_examples=30)
@given(st.lists(st.text("surfcatchingafish #_" + string.ascii_uppercase, max_size=14), max_size=20))
def test_table_and_matcher_agree(tags):
    labels = [*SEED_LABELS, "a long label that nobody would ever write out in full"]
    tags = [*tags, "LabelLongThatNobodyWouldEverWriteFullOut", "fishcatching", "#surf"]
    table = tag_table.make_tag_table(labels, "kinetics")
    assert table.long_labels.labels == labels[-1:]
    matcher = HashtagMatcher(labels)
    found = {(int(i), labels[k]) for i, k in zip(*tag_table.find_labels(pa.array(tags), table), strict=True)}
    assert found == {(i, label) for i, tag in enumerate(tags) for label in matcher.match(tag)}
    assert {label for _, label in found} >= {labels[0], labels[2], labels[3]}


def test_a_hashtag_of_several_labels_counts_for_all_of_them(tmp_path):
    path = write_posts(tmp_path / "posts.jsonl", [{"post_id": "1", "video_uri": "a", "hashtags": ["hulahoop"]}])
    (tmp_path / "seeds.txt").write_text("hula hooping\nhula hoop\nunicycling")
    config = SourceConfig(posts=str(path), seed_labels=str(tmp_path / "seeds.txt"))
    marker = match.match_posts(BuildConfig(root=str(tmp_path / "out"), source=config, execution=HERE))
    assert marker["unused_labels"] == ["unicycling"]
    assert marker["num_shared_hashtags"] == 2
    assert {"hashtag": "hulahoop", "labels": ["hula hoop", "hula hooping"]} in marker["shared_hashtags"]
    table = pq.read_table(tmp_path / "out/sources/source/hashtags.parquet")
    assert table.schema == artifacts.HASHTAGS
    owners = [row["label"] for row in table.to_pylist() if row["hashtag"] == "hulahoop"]
    assert sorted(owners) == ["hula hoop", "hula hooping"]
    assert {row["name"]: row["num_videos"] for row in marker["labels"]} == {
        "hula hoop": 1,
        "hula hooping": 1,
    }


def test_changed_posts_are_refused_and_force_starts_over(tmp_path):
    path = write_posts(tmp_path / "posts.jsonl", ROWS)
    match_rows(tmp_path, path)
    write_posts(path, ROWS[:4])
    with pytest.raises(ConfigError, match="posts"):
        match_rows(tmp_path, path)
    source = SourceConfig(posts=str(path), seed_labels=str(tmp_path / "seeds.txt"))
    forced = match.match_posts(BuildConfig(root=str(tmp_path / "out"), source=source, execution=HERE, force=True))
    assert forced["counts"]["in"] == 4


# -------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "posts.csv",
            "post_id,url\n1,a\n",
            "no column video_uri and no column caption or hashtags; it has: post_id, url",
        ),
        ("posts.jsonl", '{"video_uri": "a", "caption": "#x"}\n', "no column post_id; it has: video_uri, caption"),
        ("posts.csv", "", "posts.csv' is empty"),
        ("posts.jsonl", "", "posts.jsonl' is empty"),
        ("posts.jsonl", "hello\n", "holds no JSON object a line"),
        ("posts.csv", "post_id,video_uri,caption\n", "hold no row"),
        ("posts.parquet", "PAR1", "cannot be read as parquet"),
        ("posts.txt", "x", "is none of .parquet"),
    ],
)
def test_bad_posts_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")) as error:
        match_rows(tmp_path, tmp_path / name)
    assert str(tmp_path) in str(error.value)


def test_a_wrong_path_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no posts found at '.*nowhere' \(--source.posts\)"):
        match_rows(tmp_path, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot read the seed labels"), ("\n\n", "no seed label"), ("surf\n!!\n", "line 2")]
)
def test_bad_seed_labels_are_named(tmp_path, content, message):
    path = tmp_path / "seeds.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_seed_labels(str(path))


def test_repeated_seed_labels_count_once(tmp_path, capsys):
    (tmp_path / "seeds.txt").write_text("\ufeffHula  hoop\n\nhula hoop\nHULA-HOOP\nsurf\n", encoding="utf-8")
    assert read_seed_labels(str(tmp_path / "seeds.txt")) == ["Hula hoop", "surf"]
    assert "2 repeated" in capsys.readouterr().out


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.string()),
        pa.large_list(pa.large_string()),
        pa.list_(pa.string(), 2),
        pa.list_view(pa.string()),
        pa.list_(pa.dictionary(pa.int32(), pa.string())),
    ],
)
def test_hashtags_in_any_kind_of_parquet_list(tmp_path, kind):
    tags = pa.array([["surf", "love"], None, ["x", "catchfish"]], kind)
    table = pa.table({"post_id": [1, 2, 3], "video_uri": ["a", "b", "c"], "hashtags": tags})
    pq.write_table(table, tmp_path / "posts.parquet")
    marker, matches = match_rows(tmp_path, tmp_path / "posts.parquet")
    assert marker["counts"]["dropped"] == {"no_hashtags": 1}
    assert {name: row["labels"] for name, row in by_name(matches).items()} == {
        "a": ["surfing"],
        "c": ["catching a fish"],
    }


def test_parts_cover_row_groups(tmp_path):
    path = write(tmp_path, "parquet")
    parts = posts.plan_parts([str(path)], SourceConfig())
    assert [part.first for part in parts] == [0, 1, 2]
    assert isinstance(parts[0], PostsPart)
