"""The normal form of hashtags."""

import csv
import sys
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_builder.hashtags import normalise
from dataset_builder.tag_table import normalise_tags

INVISIBLE = (
    "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2060\u2066\u2069\u3164\ufe0e\ufe0f\ufeff"
    "\U000e0061"
)
# Text that mixes what goes wrong: accents apart from their letters, joiners, vowel signs, wide letters, Turkish and Greek.
awkward = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from(
            "aéİıIßſςΣǰΐͅ\u0301\u0307\u0323\u0345\u093c\u093e\u094d\u0e31\u0e48ｶﾞか\u3099ﬁ①가각\u1161#_ 🐟" + INVISIBLE
        ),
    )
)


@pytest.mark.parametrize(
    ("tag", "normal"),
    [
        ("#CatchFish", "catchfish"),
        ("  ＃Ｓｕｒｆ_1 ", "surf1"),
        ("Straße", "strasse"),
        ("cafe\u0301", "café"),
        ("café", "café"),
        ("e\u200b\u0301", "é"),
        ("ﬁsh🐟\u202e\u200d!", "fish"),
        ("1\ufe0f\u20e3", "1"),
        ("東京タワー", "東京タワー"),
        ("ｶﾞ", "ガ"),
        ("קַיִץ", "קיץ"),
        ("\u0301", ""),
        ("\u093e", ""),
        ("#", ""),
        ("", ""),
    ],
)
def test_normal_form(tag, normal):
    assert normalise(tag) == normal


@pytest.mark.parametrize(("one", "other"), [("की", "का"), ("दिन", "दीन"), ("ไม่", "ไม้"), ("กิน", "กัน"), ("கல்", "கால்")])
def test_words_that_differ_by_a_vowel_sign_or_tone_mark_stay_apart(one, other):
    assert normalise(one) != normalise(other)
    assert normalise(f"#{one}") == unicodedata.normalize("NFKC", one)


def test_turkish_letters_i_are_one():
    assert {normalise(tag) for tag in ("ISPARTA", "İSPARTA", "ısparta", "isparta")} == {"isparta"}


def check(text):
    once = normalise(text)
    assert normalise(once) == once
    assert all(unicodedata.category(c)[0] in "LN" or unicodedata.category(c) in ("Mn", "Mc") for c in once)
    assert once == "" or once[0].isalnum()
    assert normalise(unicodedata.normalize("NFD", text)) == normalise(unicodedata.normalize("NFC", text)) == once


@given(awkward)
def test_normal_form_is_stable_and_holds_letters_and_digits_only(text):
    check(text)


def test_normal_form_of_every_character():
    for code in range(sys.maxunicode + 1):
        c = chr(code)
        if unicodedata.category(c) not in ("Cn", "Cs", "Co"):
            check(c)
            assert normalise(c.upper()) == normalise(c.lower()) == normalise(c), hex(code)


@given(awkward, st.lists(st.tuples(st.integers(0, 20), st.sampled_from(INVISIBLE))))
def test_invisible_characters_change_nothing(text, inserted):
    hidden = text
    for at, c in inserted:
        hidden = hidden[:at] + c + hidden[at:]
    assert normalise(hidden) == normalise(text)


@given(st.lists(awkward))
def test_whole_columns_are_normalised_alike(tags):
    assert normalise_tags(pa.array(tags, pa.string())).to_pylist() == [normalise(tag) for tag in tags]


def test_normal_form_of_real_tags(shared_data):
    text = shared_data / "text"
    tags = set((text / "harrison/tag_list.txt").read_text().split())
    with (text / "youtube_trending_2017/USvideos.csv").open(errors="replace") as file:
        tags |= {tag.strip('"') for row in csv.DictReader(file) for tag in row["tags"].split("|")}
    with (text / "hashset/HashSet-Manual.csv").open() as file:
        tags |= {row["Hashtag"] for row in csv.DictReader(file)}
    for path in (text / "hashtag_master").rglob("*_corrected.tsv"):
        tags |= {field for line in path.read_text().splitlines() for field in line.split("\t")[1:2]}
    assert len(tags) > 20_000
    for tag in tags:
        check(tag)
        hidden = "\u200b".join(f"\u202e{tag}\u2069")
        assert normalise(tag) == normalise(tag.upper()) == normalise(tag.lower()) == normalise(hidden), tag
