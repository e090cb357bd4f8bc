"""`hashtags.normalise` of whole batches of tags: what Unicode says is asked once per character, not once per tag."""

from __future__ import annotations

import functools
import re
import string
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset_builder.hashtags import INVISIBLE, normalise, spells_words

_KEPT, _DROPPED, _FOREIGN, _OTHER = range(4)  # what a character means for the tag that holds it
_ASCII_WORD = string.ascii_letters + string.digits


def letters_of(strings: pa.Array) -> frozenset[str]:
    """Every character of some strings, accents apart."""
    return frozenset(unicodedata.normalize("NFKD", "".join(set(_text(strings)))))


def normalise_tags(tags: pa.Array, letters: frozenset[str] | None = None) -> pa.Array:
    """Normal form of every tag (string [M], no nulls); null for a tag with a letter that is made of none of `letters`.

    ASCII letters, digits, and what falls away between them ("#", "_", emoji) are dealt with by whole batches; a tag with
    anything else (accents, ligatures, full-width letters, other scripts) is made normal once, however often it is there.
    """
    odd = pc.invert(pc.ascii_is_alnum(tags))
    small = pc.ascii_lower(tags)
    return pc.replace_with_mask(small, odd, _normal_forms(tags.filter(odd), letters)) if pc.any(odd).as_py() else small


def _normal_forms(tags: pa.Array, letters: frozenset[str] | None) -> pa.Array:
    points = np.frombuffer(_text(tags).encode("utf-32-le"), "<u4")
    kinds = _kinds(points, letters)
    starts = np.concatenate([[0], np.cumsum(pc.utf8_length(tags).to_numpy(zero_copy_only=False))])
    normal = pc.ascii_lower(_kept(points, kinds == _KEPT, starts))
    foreign = _holds(kinds == _FOREIGN, starts)
    other = _holds(kinds == _OTHER, starts) & ~foreign
    distinct = tags.filter(pa.array(other)).dictionary_encode()
    others = pa.array(_normalise_others(distinct.dictionary.to_pylist()), pa.string())
    normal = pc.replace_with_mask(normal, pa.array(other), others.take(distinct.indices))
    return pc.if_else(pa.array(foreign), pa.scalar(None, pa.string()), normal)


def _normalise_others(tags: list[str]) -> list[str]:
    """`normalise` of each, by its steps on one text: none of them reaches across the ends of a line, or alters these."""
    text = INVISIBLE.sub("", "\n".join(tag.replace("\n", " ") for tag in tags))
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).replace("ı", "i")
    characters = {c for c in set(folded) if not c.isalnum()} - {"\n"}
    marks = set(filter(spells_words, characters))
    kept = re.sub(_any_of(characters - marks), "", folded)
    begun = re.sub("(?m)^" + _any_of(marks), "", kept)
    return unicodedata.normalize("NFKC", begun).split("\n") if tags else []


def _any_of(characters: set[str]) -> str:
    return f"[{re.escape(''.join(characters))}]+" if characters else "(?!)"


def _text(strings: pa.Array) -> str:
    if not len(strings):
        return ""
    first, last = np.frombuffer(strings.buffers()[1], np.int32)[strings.offset :][[0, len(strings)]].tolist()
    return strings.buffers()[2][first:last].to_pybytes().decode() if last > first else ""


def _kept(points: np.ndarray, kept: np.ndarray, starts: np.ndarray) -> pa.Array:
    """Strings of the ASCII characters that are kept; string i has those of `points[starts[i]:starts[i + 1]]`."""
    offsets = np.concatenate([[0], np.cumsum(kept)])[starts].astype(np.int32)
    return pa.StringArray.from_buffers(
        len(starts) - 1, pa.py_buffer(offsets), pa.py_buffer(points[kept].astype(np.uint8))
    )


def _holds(marked: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Whether any character is marked in each of `[starts[i]:starts[i + 1]]`."""
    total = np.concatenate([[0], np.cumsum(marked)])
    return total[starts[1:]] > total[starts[:-1]]


# ------------------------------------------------------------------------------------------------- characters


def _kinds(points: np.ndarray, letters: frozenset[str] | None) -> np.ndarray:
    """What each code point means: uint8 [characters]."""
    present = np.zeros(0x110000, dtype=bool)
    present[points] = True
    kind_of = np.zeros(len(present), dtype=np.uint8)
    for point in np.flatnonzero(present).tolist():
        kind_of[point] = _kind(chr(point), letters)
    return kind_of[points]


@functools.lru_cache(1 << 17)
def _kind(character: str, letters: frozenset[str] | None) -> int:
    if character in _ASCII_WORD:
        return _KEPT
    if normalise(character.join(_ASCII_WORD)) == normalise(_ASCII_WORD):
        return _DROPPED  # after and before any of them
    # Whatever stands beside a letter, what it is made of is in the tag's normal form: accents unite with it, none undoes it.
    made_of = {c for c in unicodedata.normalize("NFKD", normalise(character)) if c.isalpha()}
    return _FOREIGN if letters is not None and character.isalpha() and not made_of <= letters else _OTHER
