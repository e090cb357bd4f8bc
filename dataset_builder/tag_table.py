"""The hashtags of all seed labels as one table, and the labels of raw tags: Arrow and NumPy over whole batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset_builder.hashtags import HashtagMatcher, concatenations, count_concatenations, label_words
from dataset_builder.label_space import take_lists
from dataset_builder.normal_form import letters_of, normalise_tags
from dataset_builder.tag_index import TagIndex, make_tag_index
from pipeline import artifacts

MAX_ENUMERATED = 5000  # hashtags; labels with more are matched tag by tag (six words and more)
_LABELS_AT_ONCE = 10_000  # whose hashtags are Python strings at one time


@dataclass(frozen=True)
class TagTable:
    """Hashtags of all labels; hashtag i belongs to `label_ids[offsets[i]:offsets[i + 1]]`."""

    labels: pa.Array
    """string [K]."""
    index: TagIndex
    """The U hashtags."""
    offsets: np.ndarray
    """int64 [U + 1]."""
    label_ids: np.ndarray
    """int32 [M], ascending for each hashtag."""
    letters: frozenset[str]
    """All that hashtags are written with, accents apart."""
    long_labels: HashtagMatcher
    """Labels with too many permutations to list."""
    long_ids: dict[str, int]
    """Their numbers."""

    def rows(self) -> pa.Table:
        """As `artifacts.HASHTAGS`, in order of the hashtags."""
        order = pc.sort_indices(self.index.strings).to_numpy()
        offsets, label_ids = take_lists(self.offsets, self.label_ids, order)
        hashtags = self.index.strings.take(pa.array(np.repeat(order, np.diff(offsets))))
        return pa.table([hashtags, self.labels.take(pa.array(label_ids))], schema=artifacts.HASHTAGS)

    def shared(self, limit: int) -> tuple[int, list[dict[str, Any]]]:
        """(number of hashtags that several labels own, the first `limit` of them by name with their labels)."""
        several = np.flatnonzero(np.diff(self.offsets) > 1)
        hashtags = self.index.strings.take(pa.array(several))
        listed = pc.sort_indices(hashtags)[:limit].to_numpy()
        owners = [self.label_ids[self.offsets[i] : self.offsets[i + 1]] for i in several[listed]]
        return len(several), [
            {"hashtag": hashtag, "labels": self.labels.take(pa.array(ids)).to_pylist()}
            for hashtag, ids in zip(hashtags.take(pa.array(listed)).to_pylist(), owners, strict=True)
        ]


def make_tag_table(labels: Sequence[str], kind: str) -> TagTable:
    """The table of `labels`, which are numbered as they stand."""
    hashtags, owners, long_ids = [pa.array([], pa.string())], [np.zeros(0, np.int32)], {}
    for first in range(0, len(labels), _LABELS_AT_ONCE):
        listed: list[str] = []
        sizes = []
        for number, label in enumerate(labels[first : first + _LABELS_AT_ONCE], start=first):
            words = label_words(label, kind)
            if is_long := count_concatenations(words) > MAX_ENUMERATED:
                long_ids[label] = number
            found = set() if is_long else concatenations(words)
            listed.extend(found)
            sizes.append(len(found))
        hashtags.append(pa.array(listed, pa.string()))
        owners.append(np.repeat(np.arange(first, first + len(sizes), dtype=np.int32), sizes))
    index, hashtag_of = make_tag_index(pa.concat_arrays(hashtags))
    order = np.argsort(hashtag_of, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(hashtag_of, minlength=len(index.strings)))]).astype(np.int64)
    long_forms = [form for label in long_ids for word in label_words(label, kind) for form in word.forms]
    letters = letters_of(index.strings) | letters_of(pa.array(long_forms, pa.string()))
    long_labels = HashtagMatcher(list(long_ids), kind)
    return TagTable(
        pa.array(labels, pa.string()), index, offsets, np.concatenate(owners)[order], letters, long_labels, long_ids
    )


def find_labels(tags: pa.Array, table: TagTable) -> tuple[np.ndarray, np.ndarray]:
    """Labels that own each raw tag (string [M], no nulls): (int64 [H] position of the tag, int32 [H] label)."""
    matcher = table.long_labels
    lengths = range(max(1, matcher.min_length), matcher.max_length + 1)  # empty where there is no such label
    positions = table.index.candidates(tags, lengths)
    normal = normalise_tags(tags.take(pa.array(positions)), table.letters)
    positions, normal = positions[normal.is_valid().to_numpy(zero_copy_only=False)], normal.drop_null()
    index = table.index.find(normal)
    known = _expand(positions[index >= 0], index[index >= 0], table.offsets, table.label_ids)
    if not lengths:
        return known
    found = _find_long_labels(positions, normal, lengths, table)
    return np.concatenate([known[0], found[0]]), np.concatenate([known[1], found[1]])


def _find_long_labels(
    positions: np.ndarray, normal: pa.Array, lengths: range, table: TagTable
) -> tuple[np.ndarray, np.ndarray]:
    sizes = pc.utf8_length(normal).to_numpy(zero_copy_only=False)
    right = (sizes >= lengths.start) & (sizes < lengths.stop)
    distinct = normal.filter(pa.array(right)).dictionary_encode()
    match, ids = table.long_labels.match, table.long_ids
    owners = [sorted(ids[label] for label in match(tag)) for tag in distinct.dictionary.to_pylist()]
    offsets = np.concatenate([[0], np.cumsum([len(owner) for owner in owners])]).astype(np.int64)
    flat = np.array([i for owner in owners for i in owner], dtype=np.int32)
    return _expand(positions[right], distinct.indices.to_numpy(zero_copy_only=False), offsets, flat)


def _expand(
    positions: np.ndarray, index: np.ndarray, offsets: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(positions repeated, values of list `index[i]`) for every i, one list after another."""
    taken_offsets, taken = take_lists(offsets, values, index)
    return np.repeat(positions, np.diff(taken_offsets)), taken
