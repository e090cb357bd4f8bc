"""Seed labels → relevant hashtags, and hashtags → seed labels (paper, Sections 3.1 and A.1).

A label is a list of words; each word has forms (as written, stemmed, ...) and may be optional (stop words). A hashtag is relevant
when it is a concatenation, in any order, of one form of every word, optional words left out or not. Short labels are enumerated
(`relevant_hashtags`); `HashtagMatcher` answers the same question for labels of any length without enumerating.
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
from typing import Any

# Words that people leave out of a hashtag. Particles that carry meaning ("up", "off", "down", "not") are not among them.
STOP_WORDS = frozenset(
    """a an the and or of in on at to with for from by into onto through
    some your my his her its their our""".split()  # noqa: SIM905  (a list of words reads better as words)
)
_BEFORE_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_APOSTROPHES = re.compile("['’ʼ]")
_BETWEEN_WORDS = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Word:
    forms: tuple[str, ...]
    """Normalised spellings, sorted."""
    optional: bool = False
    """May be left out."""


# ----------------------------------------------------------------------------------------------- normal form


def normalise(tag: str) -> str:
    """NFKC, casefold, then letters and digits of any script only: no '#', emoji, combining mark or control character."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", tag).casefold())
    if not folded.isalnum():
        folded = "".join(c for c in folded if c.isalnum())
    return unicodedata.normalize("NFKC", folded)


def split_words(label: str) -> list[str]:
    """Normalised words of a label; "_", punctuation and a capital after a small letter (ApplyLipstick) separate them."""
    text = _BEFORE_CAPITAL.sub(" ", _APOSTROPHES.sub("", unicodedata.normalize("NFKC", label)))
    return [word for piece in _BETWEEN_WORDS.split(text) if (word := normalise(piece))]


# ------------------------------------------------------------------------------------------------ word forms


@functools.cache
def _stemmer() -> Any:
    try:
        from nltk.stem import PorterStemmer
    except ImportError as error:
        raise ImportError("stemming seed labels needs NLTK: pip install 'tagreel[build]'") from error
    return PorterStemmer()


@functools.cache
def stem(word: str) -> str:
    """Porter stem (NLTK); words of other scripts stay as they are."""
    return _stemmer().stem(word) if word.isascii() else word


def simple_plural(noun: str) -> str:
    """English plural by spelling rule: candle → candles, box → boxes, berry → berries; a plural stays as it is."""
    if not noun.isascii() or (noun.endswith("s") and not noun.endswith(("ss", "us", "is"))):
        return noun
    if re.search("[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "z", "ch", "sh")) else "s")


def _forms(*spellings: str) -> tuple[str, ...]:
    return tuple(sorted({form for spelling in spellings if (form := normalise(spelling))}))


def verb_noun_words(verb: str, noun: str) -> list[Word]:
    """Section A.1: verb as written and stemmed; noun, its words kept in order, as written and in the plural."""
    *before, last = split_words(noun) or [""]
    joined = "".join(before)
    return [
        Word(_forms(*(f(normalise(verb)) for f in (str, stem)))),
        Word(_forms(joined + last, joined + simple_plural(last))),
    ]


def label_words(label: str, kind: str = "kinetics") -> list[Word]:
    """Words of a seed label with their forms.

    Args:
        label: the seed label.
        kind: `kinetics` and `verb`: every word as written and stemmed (Section 3.1); `noun`: the last word also in the
            plural; `verb_noun`: the first word is the verb, the rest the noun (Section A.1).
    """
    words = split_words(label)
    if kind == "verb_noun" and len(words) > 1:
        return verb_noun_words(words[0], " ".join(words[1:]))
    droppable = not all(word in STOP_WORDS for word in words)
    parts = [Word(_forms(word, stem(word)), droppable and word in STOP_WORDS) for word in words]
    if kind == "noun" and words:
        parts[-1] = Word(_forms(words[-1], stem(words[-1]), simple_plural(words[-1])))
    return parts


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
    """Section A.1: both orders of all forms; ("burning", "candle") gives the paper's eight hashtags."""
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
