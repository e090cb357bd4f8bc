"""Rows of a posts table in one form, the tags in them, and where their videos are."""

from __future__ import annotations

import os
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
    column = table[name].combine_chunks()
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


def all_tags(posts: pa.Table) -> tuple[pa.Array, np.ndarray]:
    """Every raw tag of the posts: (strings [M], int64 [M] row of each), from the hashtags and the caption columns."""
    lists = posts["hashtags"].combine_chunks()
    caption_tags, caption_rows = caption_hashtags(posts["caption"].combine_chunks())
    tags = pa.concat_arrays([pc.list_flatten(lists), caption_tags])
    # Not list_parent_indices: it counts what stands behind a null list, which list_flatten leaves out.
    sizes = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    rows = np.concatenate([np.repeat(np.arange(len(lists)), sizes), caption_rows])
    written = pc.fill_null(pc.greater(pc.binary_length(tags), 0), False)
    return tags.filter(written), rows[written.to_numpy(zero_copy_only=False)]


def caption_hashtags(captions: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """#hashtags written inside captions: (strings [M], int64 [M] row of each)."""
    rows = np.flatnonzero(
        pc.fill_null(pc.match_substring_regex(captions, "[#＃]"), False).to_numpy(zero_copy_only=False)
    )
    pieces = pc.split_pattern(pc.replace_substring(captions.take(pa.array(rows)), "＃", "#"), "#")
    flat = pc.list_flatten(pieces)
    parents = pc.list_parent_indices(pieces).to_numpy(zero_copy_only=False)
    after_hash = np.flatnonzero(np.diff(parents, prepend=-1) == 0)  # all but a caption's first piece
    tags = pc.replace_substring_regex(flat.take(pa.array(after_hash)), _TAG_IN_CAPTION, r"\1")
    return tags, rows[parents[after_hash]]


# ------------------------------------------------------------------------------------------------------- URIs


def resolve_uris(uris: pa.Array, prefix: str) -> list[str]:
    """Absolute path or URL of each video: what is neither stands under `prefix`."""
    prefix = os.path.abspath(prefix) if storage.is_local(prefix) else prefix.rstrip("/")
    odd = pc.match_substring_regex(uris, _NOT_PLAIN).to_numpy(zero_copy_only=False)
    values = uris.to_pylist()
    return [_resolve(uri, prefix) if is_odd else f"{prefix}/{uri}" for uri, is_odd in zip(values, odd, strict=True)]


def _resolve(uri: str, prefix: str) -> str:
    uri = uri.strip()
    if storage.is_local(uri):
        uri = storage.join(prefix, uri) if not os.path.isabs(uri) else uri
    return os.path.abspath(uri) if storage.is_local(uri) else uri


def folder_of(path: str) -> str:
    return path.rsplit("/", 1)[0]
