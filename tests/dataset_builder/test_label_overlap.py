"""A target's labels in a source's label space, by spelling and by canonical words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_builder.label_overlap import canonical_words, label_overlap

LABELS = st.lists(
    st.sampled_from(["cut", "cuts", "cutting", "Cut!", "wash", "washing up", "切る", "!", "opens"]), unique=True
)


@pytest.mark.parametrize(
    ("source", "target", "kind"),
    [
        ("washing", "wash", "verb"),
        ("wash", "washes", "verb"),
        ("taking", "took", "verb"),
        ("knives", "knife", "noun"),
        ("chopping board", "board:chopping", "noun"),
        ("burning candle", "burn candles", "verb_noun"),
        ("burn candle", "candle burning", "verb_noun"),
        ("catching a fish", "fish catching", "kinetics"),
    ],
)
def test_the_same_words_in_another_form(source, target, kind):
    found = label_overlap([source, "other"], [target], kind)
    assert (found.exact, found.canonical, found.missing) == ({}, {target: [source]}, [])
    assert found.share == 1


@pytest.mark.parametrize("target", ["Blow-Dry HAIR", "BlowDryHair", "#blowdryhair"])
def test_the_same_spelling(target):
    assert label_overlap(["blow dry hair"], [target], "kinetics").exact == {target: ["blow dry hair"]}


@pytest.mark.parametrize(("source", "target"), [("turn off", "turn on"), ("cutting", "cutting bread"), ("swim", "run")])
def test_other_words_are_missing(source, target):
    found = label_overlap([source], [target], "verb")
    assert (found.missing, found.share) == ([target], 0)


def test_every_owner_is_named_and_the_share_is_of_the_targets_labels():
    found = label_overlap(["wash", "washing", "open"], ["washes", "open", "peel", "dry"], "verb")
    assert found.canonical == {"washes": ["wash", "washing"]}
    assert found.exact == {"open": ["open"]}
    assert found.missing == ["peel", "dry"]
    assert found.share == 0.5


def test_a_label_of_stop_words_keeps_them():
    assert canonical_words("on to", "verb") == ("on", "to")


@given(LABELS, LABELS.filter(bool), st.sampled_from(["verb", "noun", "verb_noun", "kinetics"]))
def test_exact_canonical_and_missing_add_up(source, target, kind):
    found = label_overlap(source, target, kind)
    assert sorted([*found.exact, *found.canonical, *found.missing]) == sorted(target)
    assert {owner for owners in (*found.exact.values(), *found.canonical.values()) for owner in owners} <= set(source)
    assert not label_overlap(target, target, kind).missing or "!" in target
