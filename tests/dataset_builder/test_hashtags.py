"""Seed labels → relevant hashtags: the paper's examples, and the matcher against brute force."""

import random
import re
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
    split_words,
    verb_noun_hashtags,
)
from dataset_builder.inflect import lemma, stem

_PAPER = "burncandle candlesburning candleburning burncandles burningcandle burningcandles candlesburn candleburn"
PAPERS_EIGHT = set(_PAPER.split())


def canonical(word):
    return lemma(word, "verb" if word.endswith("ing") else "noun")


def forms(word):
    return {word, stem(word), canonical(word)}


def brute_force(label):
    """Section 3.1 read literally: which words to keep, original or stemmed form of each, in every order.

    A remark, "passing American football (in game)", is kept whole, its words in their order and all in one form, or left out.
    """
    main, *remark = re.split(r"[()]", label)
    words = split_words(main)
    optional = [i for i, word in enumerate(words) if word in STOP_WORDS]
    if len(optional) == len(words):
        optional = []
    asides = {""}
    if remark:
        aside = split_words(remark[0])
        for spelled in (aside, map(stem, aside), map(canonical, aside)):
            pairs = list(zip(aside, spelled, strict=True))
            asides |= {
                "".join(form for _, form in pairs),
                "".join(form for word, form in pairs if word not in STOP_WORDS),
            }
    found = set()
    for left_out in subsets(optional):
        kept = [forms(word) for i, word in enumerate(words) if i not in left_out]
        for *spelled, aside in product(*kept, asides):
            found |= {"".join(order) for order in permutations([*spelled, aside])}
    return found - {""}


def subsets(items):
    return [set(chosen) for size in range(len(items) + 1) for chosen in combinations(items, size)]


@pytest.fixture(scope="module")
def real_labels(shared_data):
    """Kinetics-700, UCF101 (CamelCase) and Moments in Time."""

    def names(file):
        return [line.strip() for line in (shared_data / "labels" / file).read_text().splitlines() if line.strip()]

    files = ("kinetics700.txt", "ucf101.txt", "moments_in_time.txt")
    return list(dict.fromkeys(name for file in files for name in names(file)))


@pytest.fixture(scope="module")
def owners(real_labels):
    """Labels of up to six words that own each hashtag, by brute force."""
    found = {}
    for label in real_labels:
        if len(split_words(label)) <= 6:
            for tag in brute_force(label):
                found.setdefault(tag, set()).add(label)
    return found


# ------------------------------------------------------------------------------------------ the paper's examples


def test_the_papers_example_of_an_action():
    assert {"catchingafish", "catchfish", "fishcatching"} <= relevant_hashtags("catching a fish")
    assert "fish" not in relevant_hashtags("catching a fish")


@pytest.mark.parametrize("verb", ["burning", "burn"])
def test_the_papers_example_of_a_verb_and_a_noun(verb):
    assert verb_noun_hashtags(verb, "candle") == PAPERS_EIGHT
    assert concatenations(label_words(f"{verb} candle", "verb_noun")) == PAPERS_EIGHT


@pytest.mark.parametrize("label", ["BurningCandle", "burn_candle"])
def test_a_verb_and_a_noun_written_without_a_space(label):
    assert concatenations(label_words(label, "verb_noun")) == PAPERS_EIGHT


# ------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("label", "relevant", "not_relevant"),
    [
        ("bouncing ball (not juggling)", "bounceball ballbouncing bouncingballnotjuggling", "ball notjuggling"),
        ("passing American football (in game)", "passamericanfootball gamepassingfootballamerican", "passgamefootball"),
        ("punching person (boxing)", "punchperson boxingpunchingperson", "boxing punchboxingxperson"),
        ("massaging person's head", "massagingpersonshead massageheadpersons", "massaginghead"),
        ("fixing bicycle and 2 wheels", "fixbicycle2wheels fix2wheelbicycle", "fixbicycle"),
        ("cutting/chopping food", "cutfood choppingfood foodcutting", "cuttingchoppingfood food"),
        ("lift / pick up", "liftup pickup", "lift liftpickup"),
        (
            "give/serve (an object) to (a person)",
            "give serveobject apersonservetoanobject",
            "object",
        ),
        ("beatboxing", "beatboxing beatbox", "boxing"),
        ("crème brûlée machen", "crèmebrûléemachen machencrèmebrûlée", "cremebruleemachen"),
        ("釣り 魚", "釣り魚 魚釣り", "魚"),
        ("मछली पकड़ना", "मछलीपकड़ना पकड़नामछली", "मछल"),
        ("(boxing)", "boxing box", "x"),
        ("on the", "onthe theon", "on the"),
    ],
)
def test_labels_of_every_shape(label, relevant, not_relevant):
    found = relevant_hashtags(label)
    assert set(map(normalise, relevant.split())) <= found
    assert not set(not_relevant.split()) & found


@pytest.mark.parametrize(
    ("label", "kind", "hashtags"),
    [
        ("catch", "verb", "catch catching"),
        ("catching", "verb", "catch catching"),
        ("pick up", "verb", "pickup pickingup"),
        ("french-fry", "verb", "frenchfry frenchfrying"),
        ("goldfinch", "noun", "goldfinch goldfinches"),
        ("polar bear", "noun", "polarbear polarbears"),
        ("jack-o'-lantern", "noun", "jackolantern jackolanterns"),
        ("feet", "noun", "foot feet"),
        ("polar bear &", "noun", "polarbear polarbears"),
    ],
)
def test_verbs_and_nouns_keep_the_order_of_their_words(label, kind, hashtags):
    assert concatenations(label_words(label, kind)) == set(hashtags.split())


@pytest.mark.parametrize("label", ["burn !!", "!! burn", "burn"])
def test_a_pair_that_lacks_a_part_is_the_other_part(label):
    assert "burn" in concatenations(label_words(label, "verb_noun"))
    assert HashtagMatcher([label], "verb_noun").match("#burn") == {label}


def test_a_long_remark_has_few_spellings():
    aside = "only the last of all those very long rolling dances that nobody ever finishes in time"
    assert count_concatenations(label_words(f"dancing ({aside})")) < 100
    assert "dance" + "".join(aside.split()) in relevant_hashtags(f"dancing ({aside})")


def test_words_of_labels_as_lists_write_them():
    assert split_words("ApplyEyeMakeup") == ["apply", "eye", "makeup"]
    assert split_words("brush_hair") == ["brush", "hair"]
    assert split_words("hurling (sport)") == ["hurling", "sport"]
    assert split_words("something that doesn't roll") == ["something", "that", "doesnt", "roll"]
    assert split_words("मछली\u200dपकड़ना") == [normalise("मछलीपकड़ना")]


# ------------------------------------------------------------------------------------------------- brute force


def test_enumeration_equals_brute_force_on_real_labels(real_labels):
    short = [label for label in real_labels if len(split_words(label)) <= 6]
    assert len(short) > 1000
    for label in short:
        found = relevant_hashtags(label)
        assert found == brute_force(label), label
        assert len(found) <= count_concatenations(label_words(label))


def test_matcher_equals_brute_force_on_real_labels(real_labels, owners):
    matcher = HashtagMatcher([label for label in real_labels if len(split_words(label)) <= 6])
    draw = random.Random(0)
    for tag, labels in owners.items():
        assert matcher.match(tag) == labels, tag
        at, letter = draw.randrange(len(tag)), draw.choice("aegins")
        near_misses = (
            tag[:at] + tag[at + 1 :],
            tag[:at] + letter + tag[at:],
            tag[at:] + tag[:at],
            tag + letter,
            letter + tag,
        )
        for other in near_misses:
            assert matcher.match(other) == owners.get(other, set()), other


def test_a_hashtag_that_several_labels_own_gives_them_all(real_labels):
    football = {"passing American football (in game)", "passing American football (not in game)"}
    assert football <= set(real_labels)
    matcher = HashtagMatcher(real_labels)
    assert matcher.match("#PassingAmericanFootball") == football
    assert matcher.match("#PassingAmericanFootballInGame") == {"passing American football (in game)"}


def test_matcher_and_real_tags_agree_with_the_table(owners, shared_data):
    tags = set((shared_data / "text/harrison/tag_list.txt").read_text().split())
    matcher = HashtagMatcher(sorted(set().union(*owners.values())))
    found = {tag: matcher.match(tag) for tag in tags}
    assert found == {tag: owners.get(normalise(tag), set()) for tag in tags}
    assert sum(map(bool, found.values())) > 20


# ------------------------------------------------------------------------------------------------- long labels

FOURTEEN_WORDS = "putting seven different wooden chairs upright behind many tables while nobody watches them falling"


@pytest.mark.parametrize("order", [lambda words: words, lambda words: words[::-1], sorted])
@pytest.mark.parametrize(
    "label",
    [
        FOURTEEN_WORDS,
        "Putting something that cannot actually stand upright upright on the table, so it falls on its side",
    ],
)
def test_matcher_answers_for_labels_too_long_to_enumerate(label, order):
    assert count_concatenations(label_words(label)) > 10**13
    matcher = HashtagMatcher([label, "another label"])
    words = order(split_words(label))
    spelled = "".join(words)
    without_stop_words = "".join(stem(word) for word in words if word not in STOP_WORDS)
    assert matcher.match(spelled) == matcher.match(without_stop_words) == {label}
    assert not matcher.match(spelled + "x")
    assert not matcher.match("".join(words[1:-1]))


def test_matcher_stays_quick_on_tags_made_to_be_slow():
    matcher = HashtagMatcher(["a aa aaa aaaa aaaaa aaaaaa aaaaaaa aaaaaaaa b", " ".join(["aa"] * 14)])
    assert matcher.match("a" * 36 + "b") == {matcher.labels[0]}
    assert matcher.match("a" * 37) == set()
    assert matcher.match("a" * 28) == {matcher.labels[1]}
    assert matcher.match("a" * 27) == set()


made_up = st.lists(st.sampled_from(["a", "ab", "b", "ba", "running", "run", "the", "of"]), min_size=1, max_size=5)


@given(st.lists(made_up.map(" ".join), min_size=1, max_size=4, unique=True), st.text("abrunigthe", max_size=12))
def test_matcher_equals_brute_force_on_made_up_labels(labels, tag):
    matcher = HashtagMatcher(labels)
    tags = [tag] + [sorted(brute_force(label))[len(tag) % len(brute_force(label))] for label in labels]
    for each in tags:
        assert matcher.match(each) == {label for label in labels if each in brute_force(label)}
