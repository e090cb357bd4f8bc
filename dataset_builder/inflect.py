"""English word forms: the dictionary form of a word (catching → catch), its inflections (candle → candles), its Porter stem.

The dictionary is lemminflect's. A word that it lacks is tried as a compound, which inflects as its last part does (snowkiting as
kiting, policewoman as woman). What is still unknown: inflections are guessed by spelling rule (zorb → zorbing), which is right
for new words because new words are regular; a dictionary form is guessed only for verbs in -ing (krumping → krump), because the
rules would also undo what is no inflection (zumba → zumb, Texas → Texa). Words of other scripts and words with digits stay as
they are.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Literal

Pos = Literal["verb", "noun"]
_UPOS = {"verb": "VERB", "noun": "NOUN"}
_TAG = {"verb": "VBG", "noun": "NNS"}


@functools.cache
def lemma(word: str, pos: Pos) -> str:
    """Dictionary form: catching → catch, candles → candle; a word that is its own dictionary form stays (saw, not see).

    Args:
        word: one word in small letters.
        pos: the part of speech to read it as; a word that cannot be read so stays as it is.
    """
    if not _is_english(word):
        return word
    if known := _lemmas(word, pos):
        return word if word in known else known[0]
    if pos == "verb" and not word.endswith("ing"):
        return word
    rest, last = _compound(word, pos, shortest=5 if pos == "verb" else 4)  # busking is no compound of king
    if last:
        return rest + lemma(last, pos)
    return _new_verb(word) if pos == "verb" else word


@functools.cache
def inflections(word: str, pos: Pos) -> tuple[str, ...]:
    """A verb's -ing forms or a noun's plurals, every spelling, most usual first: travel → (traveling, travelling).

    These are the written forms that hashtags combine (paper, Section A.1: burning, candles; neither burned nor burns).

    Args:
        word: a dictionary form, see `lemma`.
        pos: the part of speech to inflect it as.
    """
    if not _is_english(word):
        return ()
    if known := _dictionary().getAllInflections(word, _UPOS[pos]).get(_TAG[pos]):
        return tuple(form for form in known if form.isalpha())
    rest, last = _compound(word, pos, shortest=4)
    if last:
        return tuple(rest + form for form in inflections(last, pos))
    return _dictionary().getAllInflectionsOOV(word, _UPOS[pos])[_TAG[pos]]


@functools.cache
def stem(word: str) -> str:
    """Porter stem (NLTK): bouncing → bounc."""
    return _stemmer().stem(word) if _is_english(word) else word


def _is_english(word: str) -> bool:
    return word.isascii() and word.isalpha()


def _lemmas(word: str, pos: Pos) -> tuple[str, ...]:
    return _dictionary().getAllLemmas(word, _UPOS[pos]).get(_UPOS[pos], ())


def _new_verb(word: str) -> str:
    """Dictionary form of an unknown verb in -ing: snowmobiling → snowmobile, krumping → krump; something stays."""
    base = word.removesuffix("ing")
    if _lemmas(base + "e", "noun"):
        return base + "e"
    if _dictionary().getAllLemmas(word):
        return word
    return base if _lemmas(base, "noun") else _dictionary().getLemma(word, "VERB")[0]


def _compound(word: str, pos: Pos, shortest: int) -> tuple[str, str]:
    """(rest, longest last part that the dictionary knows), e.g. (snow, kiting); the last part is empty if none is known."""
    cuts = range(2, len(word) - shortest + 1)
    cut = next((cut for cut in cuts if _lemmas(word[cut:], pos)), len(word))
    return word[:cut], word[cut:]


@functools.cache
def _dictionary() -> ModuleType:
    try:
        import lemminflect
    except ImportError as error:
        raise ImportError("inflecting seed labels needs lemminflect: pip install 'tagreel[build]'") from error
    return lemminflect


@functools.cache
def _stemmer() -> Any:
    # Loading NLTK takes seconds, whichever part is asked for: its package loads all the others.
    try:
        from nltk.stem.porter import PorterStemmer
    except ImportError as error:
        raise ImportError("stemming seed labels needs NLTK: pip install 'tagreel[build]'") from error
    return PorterStemmer()
