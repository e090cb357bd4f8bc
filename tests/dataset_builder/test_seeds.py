"""Seed labels from the user's file, or the shipped lists."""

import pytest

from dataset_builder.hashtags import concatenations, label_words, normalise
from dataset_builder.inflect import lemma
from dataset_builder.match import match_posts
from dataset_builder.seeds import read_seed_labels, seed_labels, shipped_labels
from pipeline.config import BuildConfig, ConfigError, SourceConfig
from tests.dataset_builder.small_world import HERE, write_posts

KINDS = ["kinetics", "noun", "verb"]


def test_the_users_file_comes_first(tmp_path):
    path = tmp_path / "seeds.txt"
    path.write_text("surf\nhula\thoop\n", encoding="utf-8")
    for kind in (*KINDS, "verb_noun"):
        assert seed_labels(str(path), kind) == read_seed_labels(str(path)) == ["surf", "hula hoop"]


def test_a_hash_and_white_space_begin_a_comment_and_a_hashtag_is_a_label(tmp_path):
    path = tmp_path / "seeds.txt"
    path.write_text("# sports\n#\n#surfing\n  # more\n#hula hoop\nC# lesson\n", encoding="utf-8")
    assert read_seed_labels(str(path)) == ["#surfing", "#hula hoop", "C# lesson"]
    path.write_text("# only a comment\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no seed label"):
        read_seed_labels(str(path))


@pytest.mark.parametrize("kind", KINDS)
def test_shipped_labels_are_sorted_and_distinct(kind):
    labels = seed_labels("", kind)
    assert labels == sorted(labels)
    assert len({normalise(label) for label in labels}) == len(labels)
    assert all(label == " ".join(label.split()) and not label.startswith("#") for label in labels)


def test_shipped_kinetics_labels_are_the_papers_400():
    labels = shipped_labels("kinetics")
    assert len(labels) == 400
    assert {"abseiling", "catching fish", "zumba"} <= set(labels)


def test_shipped_verbs_are_dictionary_forms():
    assert {"catch", "ride", "run"} <= set(shipped_labels("verb"))
    assert {"tench", "candle", "polar bear", "hot dog", "toilet tissue"} <= set(shipped_labels("noun"))
    for verb in shipped_labels("verb"):
        assert verb.isalpha()
        assert lemma(verb, "verb") == verb


def test_verbs_with_nouns_are_all_pairs():
    verbs, nouns = shipped_labels("verb"), shipped_labels("noun")
    pairs = seed_labels("", "verb_noun")
    assert len(pairs) == len(set(pairs)) == len(verbs) * len(nouns)
    for pair in pairs[:: len(pairs) // 500]:
        verb, noun = pair.split(" ", 1)
        assert verb in verbs
        assert noun in nouns
        joined = normalise(noun)
        assert {verb + joined, joined + verb} <= concatenations(label_words(pair, "verb_noun"))


def test_posts_are_matched_with_the_shipped_list_where_no_file_is_named(tmp_path):
    rows = [
        {"post_id": str(i), "video_uri": f"{i}.mp4", "hashtags": [tag]} for i, tag in enumerate(["FishCatching", "cat"])
    ]
    source = SourceConfig(posts=str(write_posts(tmp_path / "posts.jsonl", rows)), kind="kinetics")
    sealed = match_posts(BuildConfig(root=str(tmp_path / "root"), source=source, execution=HERE))
    assert sealed["num_labels"] == 400
    assert [label["name"] for label in sealed["labels"] if label["num_videos"]] == ["catching fish"]
