"""Seed labels → relevant hashtags, and hashtags → seed labels (paper, Sections 3.1 and A.1; examples in docs/label-spaces.md).

A label is a list of words; each word has forms (as written, stemmed, ...) and may be optional (stop words, remarks). A hashtag is
relevant when it is a concatenation, in any order, of one form of every word, optional words left out or not. Short labels are
enumerated (`relevant_hashtags`); `HashtagMatcher` answers the same question for labels of any length without enumerating.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product

from dataset_builder.inflect import Pos, inflections, lemma, stem

# Words that people leave out of a hashtag. Particles that carry meaning ("up", "off", "down", "not") are not among them.
STOP_WORDS = frozenset(
    """a an the and or of in on at to with for from by into onto through
    some your my his her its their our""".split()  # noqa: SIM905  (a list of words reads better as words)
)
_BEFORE_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_APOSTROPHES = re.compile("['’ʼ]")
_REMARK = re.compile(r"\(([^()]*)\)")
_SLASH = re.compile(r"\s*/\s*")
# Code points that Unicode calls default-ignorable: joiners, direction marks, variation selectors, fillers.
INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Combining classes of the marks that spell words: vowel signs (0 and some scripts' own), nukta, virama, tone marks. The others
# are accents, which NFKC unites with their letter where that is a letter of its own, and Hebrew and Arabic vowel points.
_SPELLING_CLASSES = frozenset({0, 7, 9, 84, 91, 103, 107, 118, 122, 129, 130, 132})


@dataclass(frozen=True)
class Word:
    forms: tuple[str, ...]
    """Normalised spellings, sorted."""
    optional: bool = False
    """May be left out."""


# ----------------------------------------------------------------------------------------------- normal form


def normalise(tag: str) -> str:
    """NFKC, casefold, then letters and digits of any script only: no '#', "_", emoji, stray accent or control character.

    Marks that spell words (vowel signs of Devanagari, Thai, ...) count as letters, and the four Turkish letters I as one.
    """
    if tag.isascii():
        folded = tag.lower()
        return folded if folded.isalnum() else "".join(filter(str.isalnum, folded))
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", INVISIBLE.sub("", tag)).casefold())
    kept = "".join(c for c in folded.replace("ı", "i") if c.isalnum() or spells_words(c))
    start = next((i for i, c in enumerate(kept) if c.isalnum()), len(kept))
    return unicodedata.normalize("NFKC", kept[start:])


def spells_words(c: str) -> bool:
    return unicodedata.category(c) in ("Mn", "Mc") and unicodedata.combining(c) in _SPELLING_CLASSES


def split_words(label: str) -> list[str]:
    """Normalised words of a label; "_", punctuation and a capital after a small letter (ApplyLipstick) separate them."""
    text = _APOSTROPHES.sub("", INVISIBLE.sub("", unicodedata.normalize("NFKC", label)))
    spaced = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in _BEFORE_CAPITAL.sub(" ", text))
    return [word for piece in spaced.split() if (word := normalise(piece))]


# ------------------------------------------------------------------------------------------------ word forms


def label_words(label: str, kind: str = "kinetics") -> list[Word]:
    """Words of a seed label with their forms; a remark in parentheses is one optional word, in its own order.

    Args:
        label: the seed label.
        kind: `kinetics`: every word as written and stemmed (Section 3.1), words joined by a slash are alternatives;
            `verb`, `noun`: the whole label is one word, with the forms that it has in `verb_noun`;
            `verb_noun`: the label up to its first space is the verb, the rest the noun (Section A.1).
    """
    if kind == "verb_noun":
        verb, space, noun = label.strip().partition(" ")
        return verb_noun_words(verb, noun) if space else _joined_verb_noun(label)
    text = unicodedata.normalize("NFKC", label)
    main = _REMARK.sub(" ", text)
    if not split_words(main):
        main, text = text, ""
    remarks = [_remark(words) for remark in _REMARK.findall(text) if (words := split_words(remark))]
    if kind in ("verb", "noun"):
        return [_inflected(main, kind), *remarks]
    return [*_action_words(main), *remarks]


def verb_noun_words(verb: str, noun: str) -> list[Word]:
    """Section A.1: the verb as written, in dictionary form and in -ing; the noun as written, singular and plural."""
    return [word for word in (_inflected(verb, "verb"), _inflected(noun, "noun")) if word.forms]


def _joined_verb_noun(label: str) -> list[Word]:
    """`verb_noun` written without a space: BurnCandle, burn_candle."""
    verb, *noun = split_words(label) or [""]
    return verb_noun_words(verb, " ".join(noun)) if noun else [_inflected(verb, "verb")]


@functools.cache
def _inflected(text: str, pos: Pos) -> Word:
    """One word: all forms of its first word (verb) or last word (noun), the others as they are, in their order."""
    words = [word for piece in text.split() if (word := "".join(split_words(piece)))] or [""]
    at = 0 if pos == "verb" else len(words) - 1
    base = lemma(words[at], pos)
    forms = (words[at], base, *inflections(base, pos))
    return Word(_distinct("".join((*words[:at], form, *words[at + 1 :])) for form in forms))


def _action_words(text: str) -> list[Word]:
    pieces: list[list[tuple[str, ...]]] = []  # alternatives of each word
    for piece in _SLASH.sub("/", text).split():
        choices = [tuple(words) for part in piece.split("/") if (words := split_words(part))]
        pieces += [choices] if len(choices) > 1 else [[(word,)] for words in choices for word in words]
    droppable = [all(words <= STOP_WORDS for words in map(set, choices)) for choices in pieces]
    only_stop_words = all(droppable)
    return [
        Word(_distinct(form for words in choices for form in _spelled(words)), drop and not only_stop_words)
        for choices, drop in zip(pieces, droppable, strict=True)
    ]


def _canonical(word: str) -> str:
    return lemma(word, "verb" if word.endswith("ing") else "noun")


_STEMMED = (str, stem, _canonical)  # bouncing, bounc, bounce


@functools.cache
def _spelled(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple("".join(forms) for forms in product(*({form(word) for form in _STEMMED} for word in words)))


def _remark(words: list[str]) -> Word:
    """A remark is part of a hashtag as a whole, or left out: few spellings, all of its words in the same form."""
    without_stop_words = [word for word in words if word not in STOP_WORDS]
    spellings = ("".join(map(form, kept)) for kept in (words, without_stop_words) for form in _STEMMED)
    return Word(_distinct(spellings), optional=True)


def _distinct(forms: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(forms) - {""}))


# ----------------------------------------------------------------------------------------------- enumeration


def count_concatenations(words: Sequence[Word]) -> int:
    """Upper bound of the number of hashtags that `concatenations` makes."""
    subsets = {0: 1}  # words used → number of choices of forms
    for word in words:
        grown: dict[int, int] = defaultdict(int)
        for used, choices in subsets.items():
            grown[used + 1] += choices * len(word.forms)
            if word.optional:
                grown[used] += choices
        subsets = grown
    return sum(choices * math.factorial(used) for used, choices in subsets.items())


def concatenations(words: Sequence[Word]) -> set[str]:
    """Every order of every choice of one form a word, optional words left out or not."""
    choices = [(*word.forms, "") if word.optional else word.forms for word in words]
    picks = {tuple(sorted(form for form in pick if form)) for pick in product(*choices)}
    return {"".join(order) for pick in picks for order in permutations(pick)} - {""}


def relevant_hashtags(label: str) -> set[str]:
    """Section 3.1: original and stemmed words of the label, concatenated in all permutations, stop words left out or not."""
    return concatenations(label_words(label))


def verb_noun_hashtags(verb: str, noun: str) -> set[str]:
    """Section A.1: both orders of all forms; ("burning", "candle") and ("burn", "candle") give the paper's eight hashtags."""
    return concatenations(verb_noun_words(verb, noun))


# -------------------------------------------------------------------------------------------------- matching


class HashtagMatcher:
    """Finds the labels that own a hashtag: the same answer as enumerating, in time that does not grow with permutations.

    An index from word forms to labels proposes labels that can begin the tag; a memoised search over (position, words used)
    then decides.
    """

    def __init__(self, labels: Iterable[str], kind: str = "kinetics") -> None:
        self.labels = list(labels)
        self._words = {label: sorted(label_words(label, kind), key=_by_forms) for label in self.labels}
        self._lengths = {label: _length_range(words) for label, words in self._words.items()}
        self._starting: dict[str, list[str]] = defaultdict(list)
        for label, words in self._words.items():
            for form in {form for word in words for form in word.forms}:
                self._starting[form].append(label)
        self._form_lengths = sorted({len(form) for form in self._starting})
        self.min_length = min((low for low, _ in self._lengths.values()), default=0)
        """Length of the shortest hashtag that could match."""
        self.max_length = max((high for _, high in self._lengths.values()), default=-1)

    def match(self, tag: str) -> set[str]:
        """Labels for which `tag` is a relevant hashtag; the tag is normalised first."""
        tag = normalise(tag)
        return {label for label in self._candidates(tag) if _spells(tag, self._words[label])}

    def _candidates(self, tag: str) -> Iterator[str]:
        if not self.min_length <= len(tag) <= self.max_length:
            return
        seen: set[str] = set()
        for length in self._form_lengths:
            for label in self._starting.get(tag[:length], ()) if length <= len(tag) else ():
                low, high = self._lengths[label]
                if low <= len(tag) <= high and label not in seen:
                    seen.add(label)
                    yield label


def _by_forms(word: Word) -> tuple[tuple[str, ...], bool]:
    return word.forms, word.optional


def _length_range(words: Sequence[Word]) -> tuple[int, int]:
    shortest = sum(min(map(len, word.forms)) for word in words if not word.optional)
    return max(1, shortest), sum(max(map(len, word.forms)) for word in words)


def _spells(tag: str, words: Sequence[Word]) -> bool:
    """Whether `tag` is a concatenation of the words; equal words must stand next to each other in `words`."""
    if not all(word.optional or any(form in tag for form in word.forms) for word in words):
        return False
    required = sum(1 << i for i, word in enumerate(words) if not word.optional)
    seen, stack = {(0, 0)}, [(0, 0)]  # (position in the tag, bit mask of the words used)
    while stack:
        position, used = stack.pop()
        if position == len(tag):
            if used & required == required:
                return True
            continue
        for i, word in enumerate(words):
            if used >> i & 1 or (i and words[i - 1] == word and not used >> (i - 1) & 1):
                continue  # of equal words the first is used first
            for form in word.forms:
                state = (position + len(form), used | 1 << i)
                if tag.startswith(form, position) and state not in seen:
                    seen.add(state)
                    stack.append(state)
    return False
