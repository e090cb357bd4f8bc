"""English word forms, checked on words whose forms any dictionary gives."""

import builtins

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_builder import inflect
from dataset_builder.hashtags import split_words
from dataset_builder.inflect import inflections, lemma, stem


@pytest.mark.parametrize(
    ("word", "pos", "base"),
    [
        ("catching", "verb", "catch"),
        ("bouncing", "verb", "bounce"),
        ("tying", "verb", "tie"),
        ("swimming", "verb", "swim"),
        ("caught", "verb", "catch"),
        ("catch", "verb", "catch"),
        ("saw", "verb", "saw"),
        ("mudsling", "verb", "mudsling"),
        ("candles", "noun", "candle"),
        ("knives", "noun", "knife"),
        ("feet", "noun", "foot"),
        ("scissors", "noun", "scissors"),
        ("catching", "noun", "catching"),
    ],
)
def test_dictionary_forms(word, pos, base):
    assert lemma(word, pos) == base


@pytest.mark.parametrize(
    ("word", "base"),
    [
        ("snowkiting", "snowkite"),
        ("headbutting", "headbutt"),
        ("faceplanting", "faceplant"),
        ("skydiving", "skydive"),
        ("snowmobiling", "snowmobile"),
        ("trapezing", "trapeze"),
        ("texting", "text"),
        ("krumping", "krump"),
        ("busking", "busk"),
    ],
)
def test_verbs_that_the_dictionary_lacks_have_a_dictionary_form(word, base):
    assert lemma(word, "verb") == base
    assert inflections(base, "verb") == (word,)


@pytest.mark.parametrize("pos", ["verb", "noun"])
@pytest.mark.parametrize(
    "word", ["something", "zumba", "yoga", "parkour", "kansas", "christmas", "surf4life", "танцы", "釣り"]
)
def test_words_that_are_no_inflection_stay(word, pos):
    assert lemma(word, pos) == word


@pytest.mark.parametrize(
    ("word", "pos", "forms"),
    [
        ("burn", "verb", ("burning",)),
        ("lie", "verb", ("lying",)),
        ("dye", "verb", ("dyeing",)),
        ("vlog", "verb", ("vlogging",)),
        ("candle", "noun", ("candles",)),
        ("child", "noun", ("children",)),
        ("policewoman", "noun", ("policewomen",)),
        ("labrador", "noun", ("labradors",)),
        ("scissors", "noun", ("scissors",)),
        ("café", "noun", ()),
        ("4x4", "noun", ()),
    ],
)
def test_inflections(word, pos, forms):
    assert inflections(word, pos) == forms


def test_every_spelling_of_an_inflection_is_given():
    assert set(inflections("travel", "verb")) == {"traveling", "travelling"}


def test_forms_of_real_labels_go_there_and_back(shared_data):
    labels = (shared_data / "labels" / "kinetics700.txt").read_text().splitlines()
    gerunds = {word for label in labels for word in split_words(label) if word.endswith("ing")}
    bases = {word: lemma(word, "verb") for word in gerunds}
    unchanged = {word for word, base in bases.items() if base == word}
    assert unchanged == {"something", "ping", "swing", "felting"}  # the last is a noun to the dictionary
    for word in gerunds - unchanged:
        assert lemma(bases[word], "verb") == bases[word]
        assert word in inflections(bases[word], "verb")


@given(st.from_regex("[a-z]{0,9}(ing|s)?", fullmatch=True), st.sampled_from(["verb", "noun"]))
def test_any_letters_have_forms(word, pos):
    base = lemma(word, pos)
    assert bool(base) == bool(word)
    assert all(form.isalpha() for form in inflections(base, pos))


def test_porter_stems():
    assert [stem(word) for word in ("bouncing", "ponies", "relational", "танцы")] == ["bounc", "poni", "relat", "танцы"]


@pytest.mark.parametrize(
    ("library", "ask"), [("lemminflect", lambda: lemma("catching", "verb")), ("nltk", lambda: stem("catching"))]
)
def test_a_missing_library_is_named_with_its_extra(monkeypatch, library, ask):
    real_import = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] == library:
            raise ImportError(name)
        return real_import(name, *rest)

    for function in (inflect.lemma, inflect.stem, inflect._dictionary, inflect._stemmer):
        function.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"tagreel\[build\]"):
        ask()
