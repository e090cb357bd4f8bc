"""The hashtags of all seed labels as one table, and the labels of raw tags: Arrow over whole batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset_builder.hashtags import HashtagMatcher, concatenations, count_concatenations, label_words, normalise
from dataset_builder.label_space import take_lists
from pipeline import artifacts

MAX_ENUMERATED = 5000  # hashtags; labels with more are matched tag by tag (six words and more)


@dataclass(frozen=True)
class TagTable:
    """Hashtags of all labels; hashtag i belongs to `label_ids[offsets[i]:offsets[i + 1]]`."""

    labels: list[str]
    hashtags: pa.Array
    """string [U], sorted."""
    offsets: np.ndarray
    """int64 [U + 1]."""
    label_ids: np.ndarray
    """int32 [M]."""
    long_labels: HashtagMatcher
    """Labels with too many permutations to list."""

    def rows(self) -> pa.Table:
        """As `artifacts.HASHTAGS`."""
        hashtags = self.hashtags.take(pa.array(np.repeat(np.arange(len(self.hashtags)), np.diff(self.offsets))))
        return pa.table([hashtags, pa.array(self.labels).take(pa.array(self.label_ids))], schema=artifacts.HASHTAGS)

    def shared(self) -> list[dict[str, Any]]:
        """Hashtags that several labels own."""
        owners = np.split(self.label_ids, self.offsets[1:-1])
        several = np.flatnonzero(np.diff(self.offsets) > 1)
        return [{"hashtag": self.hashtags[i].as_py(), "labels": [self.labels[k] for k in owners[i]]} for i in several]


def make_tag_table(labels: list[str], kind: str) -> TagTable:
    words = {label: label_words(label, kind) for label in labels}
    long_labels = [label for label in labels if count_concatenations(words[label]) > MAX_ENUMERATED]
    listed = set(labels) - set(long_labels)
    pairs = sorted(
        (tag, i) for i, label in enumerate(labels) if label in listed for tag in concatenations(words[label])
    )
    hashtags = sorted({tag for tag, _ in pairs})
    per_tag = Counter(tag for tag, _ in pairs)
    offsets = np.concatenate([[0], np.cumsum([per_tag[tag] for tag in hashtags])]).astype(np.int64)
    label_ids = np.array([i for _, i in pairs], dtype=np.int32)
    return TagTable(labels, pa.array(hashtags, pa.string()), offsets, label_ids, HashtagMatcher(long_labels, kind))


def normalise_tags(tags: pa.Array) -> pa.Array:
    """`hashtags.normalise` of every string; only distinct strings that are not plain ASCII words pass through Python."""
    folded = pc.ascii_lower(pc.ascii_ltrim(tags, "#"))
    odd = pc.invert(pc.ascii_is_alnum(folded))
    if not pc.any(odd).as_py():
        return folded
    distinct = folded.filter(odd).dictionary_encode()
    normal = pa.array([normalise(tag) for tag in distinct.dictionary.to_pylist()], pa.string())
    return pc.replace_with_mask(folded, odd, normal.take(distinct.indices))


def find_labels(tags: pa.Array, table: TagTable) -> tuple[np.ndarray, np.ndarray]:
    """Labels that own each raw tag: (int64 [H] position of the tag, int32 [H] label)."""
    tags = normalise_tags(tags)
    index = pc.index_in(tags, value_set=table.hashtags)
    hit = np.flatnonzero(index.is_valid().to_numpy(zero_copy_only=False))
    known = _expand(hit, index.drop_null().to_numpy(), table.offsets, table.label_ids)
    found = _find_long_labels(tags, table)
    return np.concatenate([known[0], found[0]]), np.concatenate([known[1], found[1]])


def _find_long_labels(tags: pa.Array, table: TagTable) -> tuple[np.ndarray, np.ndarray]:
    matcher = table.long_labels
    if not matcher.labels:
        return np.zeros(0, np.int64), np.zeros(0, np.int32)
    lengths = pc.utf8_length(tags).to_numpy(zero_copy_only=False)
    candidates = np.flatnonzero((lengths >= max(1, matcher.min_length)) & (lengths <= matcher.max_length))
    distinct = tags.take(pa.array(candidates)).dictionary_encode()
    id_of = {label: i for i, label in enumerate(table.labels)}
    owners = [sorted(id_of[label] for label in matcher.match(tag)) for tag in distinct.dictionary.to_pylist()]
    offsets = np.concatenate([[0], np.cumsum([len(ids) for ids in owners])]).astype(np.int64)
    flat = np.array([i for ids in owners for i in ids], dtype=np.int32)
    return _expand(candidates, distinct.indices.to_numpy(zero_copy_only=False), offsets, flat)


def _expand(
    positions: np.ndarray, index: np.ndarray, offsets: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(positions repeated, values of list `index[i]`) for every i, one list after another."""
    taken_offsets, taken = take_lists(offsets, values, index)
    return np.repeat(positions, np.diff(taken_offsets)), taken
