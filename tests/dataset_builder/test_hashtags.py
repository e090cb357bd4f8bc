"""Seed labels → relevant hashtags: the paper's examples, and the matcher against brute force."""

import csv
import unicodedata
from itertools import combinations, permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_builder.hashtags import (
    STOP_WORDS,
    HashtagMatcher,
    concatenations,
    count_concatenations,
    label_words,
    normalise,
    relevant_hashtags,
    simple_plural,
    split_words,
    stem,
    verb_noun_hashtags,
)


def brute_force(label):
    """Section 3.1 read literally: which words to keep, original or stem of each, in every order."""
    words = split_words(label)
    optional = [i for i, word in enumerate(words) if word in STOP_WORDS]
    if len(optional) == len(words):
        optional = []
    found = set()
    for size in range(len(optional) + 1):
        for left_out in combinations(optional, size):
            kept = [word for i, word in enumerate(words) if i not in left_out]
            for forms in product(*({word, normalise(stem(word))} for word in kept)):
                found |= {"".join(order) for order in permutations(forms)}
    return found


@pytest.fixture(scope="module")
def real_labels(shared_data):
    def names(file):
        return [line.strip() for line in (shared_data / "labels" / file).read_text().splitlines() if line.strip()]

    return [*names("kinetics700.txt"), *names("ucf101.txt"), *names("something_something_v2_174.txt")]


def test_the_papers_example_of_an_action():
    assert {"catchingafish", "catchfish", "fishcatching"} <= relevant_hashtags("catching a fish")
    assert "fish" not in relevant_hashtags("catching a fish")


def test_the_papers_example_of_a_verb_and_a_noun():
    paper = "burncandle candlesburning candleburning burncandles burningcandle burningcandles candlesburn candleburn"
    assert verb_noun_hashtags("burning", "candle") == set(paper.split())
    assert concatenations(label_words("burning candle", "verb_noun")) == set(paper.split())


@pytest.mark.parametrize(
    ("noun", "plural"),
    [
        ("candle", "candles"),
        ("box", "boxes"),
        ("berry", "berries"),
        ("toy", "toys"),
        ("shoes", "shoes"),
        ("glass", "glasses"),
    ],
)
def test_simple_plurals(noun, plural):
    assert simple_plural(noun) == plural


@pytest.mark.parametrize(
    ("tag", "normal"),
    [
        ("#CatchFish", "catchfish"),
        ("  ＃Ｓｕｒｆ_1 ", "surf1"),
        ("Straße", "strasse"),
        ("cafe\u0301", "café"),
        ("café", "café"),
        ("ﬁsh🐟\u202e\u200d!", "fish"),
        ("東京タワー", "東京タワー"),
        ("#", ""),
    ],
)
def test_normal_form(tag, normal):
    assert normalise(tag) == normal


@given(st.text())
def test_normal_form_is_stable_and_holds_letters_and_digits_only(text):
    once = normalise(text)
    assert normalise(once) == once
    assert all(unicodedata.category(c)[0] in "LN" for c in once)


def test_words_of_labels_as_lists_write_them():
    assert split_words("ApplyEyeMakeup") == ["apply", "eye", "makeup"]
    assert split_words("brush_hair") == ["brush", "hair"]
    assert split_words("passing American football (not in game)") == [
        "passing",
        "american",
        "football",
        "not",
        "in",
        "game",
    ]
    assert split_words("something that doesn't roll") == ["something", "that", "doesnt", "roll"]


def test_enumeration_equals_brute_force_on_real_labels(real_labels):
    short = [label for label in real_labels if count_concatenations(label_words(label)) <= 500]
    assert len(short) > 700
    for label in short:
        assert relevant_hashtags(label) == brute_force(label), label


def test_matcher_equals_enumeration_on_real_labels(real_labels):
    short = [label for label in dict.fromkeys(real_labels) if count_concatenations(label_words(label)) <= 500][::4]
    owners = {}
    for label in short:
        for tag in brute_force(label):
            owners.setdefault(tag, set()).add(label)
    matcher = HashtagMatcher(short)
    for tag, labels in owners.items():
        assert matcher.match(tag) == labels, tag
        for other in (tag[:-1], tag + "s", tag[::-1], tag[1:]):
            assert matcher.match(other) == owners.get(other, set()), other


def test_matcher_and_real_tags_agree_with_the_table(real_labels, shared_data):
    short = [label for label in dict.fromkeys(real_labels) if count_concatenations(label_words(label)) <= 500]
    owners = {}
    for label in short:
        for tag in relevant_hashtags(label):
            owners.setdefault(tag, set()).add(label)
    tags = set((shared_data / "text/harrison/tag_list.txt").read_text().split())
    with (shared_data / "text/youtube_trending_2017/USvideos.csv").open(errors="replace") as file:
        tags |= {tag.strip('"') for row in csv.DictReader(file) for tag in row["tags"].split("|")}
    matcher = HashtagMatcher(short)
    found = {tag: matcher.match(tag) for tag in tags}
    assert found == {tag: owners.get(normalise(tag), set()) for tag in tags}
    assert sum(map(bool, found.values())) > 20


@pytest.mark.parametrize("order", [lambda words: words, lambda words: words[::-1], sorted])
def test_matcher_answers_for_labels_too_long_to_enumerate(real_labels, order):
    label = "Putting something that cannot actually stand upright upright on the table, so it falls on its side"
    assert label in real_labels
    assert count_concatenations(label_words(label)) > 10**15
    matcher = HashtagMatcher(real_labels)
    words = order(split_words(label))
    spelled = "".join(words)
    without_stop_words = "".join(stem(word) for word in words if word not in STOP_WORDS)
    assert label in matcher.match(spelled)
    assert label in matcher.match(without_stop_words)
    assert label not in matcher.match(spelled + "x")
    assert label not in matcher.match("".join(words[1:-1]))


def test_matcher_stays_quick_on_a_tag_made_to_be_slow():
    matcher = HashtagMatcher(["a aa aaa aaaa aaaaa aaaaaa aaaaaaa aaaaaaaa b"])
    assert matcher.match("a" * 36 + "b") == set(matcher.labels)
    assert matcher.match("a" * 37) == set()


words = st.lists(st.sampled_from(["a", "ab", "b", "ba", "running", "run", "the", "of"]), min_size=1, max_size=5)


@given(st.lists(words.map(" ".join), min_size=1, max_size=4, unique=True), st.text("abrunigthe", max_size=12))
def test_matcher_equals_brute_force_on_made_up_labels(labels, tag):
    matcher = HashtagMatcher(labels)
    tags = [tag] + [sorted(brute_force(label))[len(tag) % len(brute_force(label))] for label in labels]
    for each in tags:
        assert matcher.match(each) == {label for label in labels if each in brute_force(label)}
