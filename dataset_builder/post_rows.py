"""Rows of a posts table in one form, the tags in them, and where their videos are."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import storage

POSTS = pa.schema(
    [
        ("post_id", pa.string()),
        ("video_uri", pa.string()),
        ("caption", pa.string()),
        ("hashtags", pa.list_(pa.string())),
        ("duration_s", pa.float32()),
    ]
)
_NOT_PLAIN = r"^\s|\s$|^/|/$|//|(^|/)\.\.?(/|$)"  # of a URI: absolute, a URL, or to be tidied
# A caption's hashtag ends at white space and at punctuation other than "_".
_TAG_IN_CAPTION = r"(?s)^([^\s\p{Pd}\p{Ps}\p{Pe}\p{Pi}\p{Pf}\p{Po}]*).*$"


def in_one_form(table: pa.Table) -> pa.Table:
    """Columns of `POSTS`, hashtags as a list of raw tags from both the hashtags and the caption column."""
    columns = {}
    for name in ("post_id", "video_uri", "caption"):
        columns[name] = _as_string(_column(table, name, pa.string()))
    columns["hashtags"] = as_tags(_column(table, "hashtags", pa.list_(pa.string())))
    columns["duration_s"] = _as_float(_column(table, "duration_s", pa.float32()))
    return pa.table(columns, schema=POSTS)


def _column(table: pa.Table, name: str, kind: pa.DataType) -> pa.Array:
    if name not in table.column_names:
        return pa.nulls(table.num_rows, kind)
    column = whole(table[name])
    column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    return pa.nulls(len(column), kind) if pa.types.is_null(column.type) else column


def _as_string(column: pa.Array) -> pa.Array:
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:  # bytes that are not UTF-8
        values = [value if value is None else value.decode("utf-8", "replace") for value in column.to_pylist()]
        return pa.array(values, pa.string())


def _as_float(column: pa.Array) -> pa.Array:
    """Seconds; what is no number becomes null."""
    try:
        return column.cast(pa.float32())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return pa.array([_float(value) for value in column.to_pylist()], pa.float32())


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def as_tags(column: pa.Array) -> pa.Array:
    """A list of tags: as it is, or from text with tags separated by white space, commas, semicolons or '#'."""
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return column.cast(pa.list_(pa.string()))
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list_view(
        kind
    ):  # Arrow's casts of these are not to be relied on
        return pa.array(column.to_pylist(), pa.list_(pa.string()))
    # One separator, then a split on a plain string: several times faster than a split on a pattern.
    text = pc.replace_substring_regex(_as_string(column), r"[\s,;#＃]+", " ")
    return pc.split_pattern(pc.utf8_trim(text, " "), " ").cast(pa.list_(pa.string()))


def whole(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array, copied only where it has several chunks."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


# ------------------------------------------------------------------------------------------------------- tags


@dataclass(frozen=True)
class TagLists:
    """Raw tags of N posts, none empty; post i has `tags[offsets[i]:offsets[i + 1]]`."""

    tags: pa.Array
    """string [M]."""
    offsets: np.ndarray
    """int64 [N + 1]."""

    def posts_of(self, positions: np.ndarray) -> np.ndarray:
        """Which posts the tags at `positions` stand in."""
        return np.searchsorted(self.offsets, positions, "right") - 1


def tag_lists(posts: pa.Table) -> list[TagLists]:
    """The tags of the hashtags column, and those inside the captions."""
    lists = whole(posts["hashtags"])
    # Not the array's own offsets: they count what stands behind a null list, which list_flatten leaves out.
    sizes = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    found = [_without_empty(pc.list_flatten(lists), sizes)]
    captions = whole(posts["caption"])
    return [*found, caption_hashtags(captions)] if captions.null_count < len(captions) else found


def caption_hashtags(captions: pa.Array) -> TagLists:
    """#hashtags written inside captions."""
    pieces = pc.split_pattern(pc.replace_substring(captions, "＃", "#"), "#")
    sizes = pc.list_value_length(pieces).fill_null(0).to_numpy(zero_copy_only=False)
    after_hash = np.ones(sizes.sum(), dtype=bool)
    after_hash[np.cumsum(sizes)[sizes > 0] - sizes[sizes > 0]] = False  # all but a caption's first piece
    tags = pc.list_flatten(pieces).filter(pa.array(after_hash))
    return _without_empty(pc.replace_substring_regex(tags, _TAG_IN_CAPTION, r"\1"), np.maximum(sizes - 1, 0))


def _without_empty(tags: pa.Array, sizes: np.ndarray) -> TagLists:
    offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    lengths = pc.binary_length(tags)
    if not tags.null_count and pc.min(lengths).as_py() != 0:
        return TagLists(tags, offsets)
    written = pc.fill_null(pc.greater(lengths, 0), False)
    counted = np.concatenate([[0], np.cumsum(written.to_numpy(zero_copy_only=False))])
    return TagLists(tags.filter(written), counted[offsets])


# ------------------------------------------------------------------------------------------------------- URIs


def resolve_uris(uris: pa.Array, prefix: str) -> pa.Array:
    """Absolute path or URL of each video (string [N], no nulls): what is neither stands under `prefix`."""
    prefix = os.path.abspath(prefix) if storage.is_local(prefix) else prefix.rstrip("/")
    odd = pc.match_substring_regex(uris, _NOT_PLAIN)
    resolved = [_resolve(uri, prefix) for uri in uris.filter(odd).to_pylist()]
    return pc.replace_with_mask(pc.binary_join_element_wise(prefix, uris, "/"), odd, pa.array(resolved, pa.string()))


def has_text(column: pa.Array) -> np.ndarray:
    """bool [N], whether each string has more than white space."""
    written = pc.and_(pc.greater(pc.binary_length(column), 0), pc.invert(pc.utf8_is_space(column)))
    return written.fill_null(False).to_numpy(zero_copy_only=False)


def _resolve(uri: str, prefix: str) -> str:
    uri = uri.strip()
    if storage.is_local(uri):
        uri = storage.join(prefix, uri) if not os.path.isabs(uri) else uri
    return os.path.abspath(uri) if storage.is_local(uri) else uri


def folder_of(path: str) -> str:
    return path.rsplit("/", 1)[0]
