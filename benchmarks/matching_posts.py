"""Posts for `benchmarks.matching`: Zipf-like tags from a vocabulary of which a few are relevant to the seed labels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataset_builder.tag_table import make_tag_table

VOCABULARY = 2_000_000
NUM_LABELS = 4250
"""Of three words: about 40 thousand hashtags."""
TAGS_A_POST = 8
ROW_GROUP = 1 << 20
HEAD = 200
"""Most frequent tags (#love, #instagood, ...), none of them relevant."""
FORMS = (0.70, 0.20, 0.08, 0.02)
"""Shares of tags written lower-case, Capitalised, with '#', and with a character outside ASCII, in the file `written`."""
SCHEMA = pa.schema([("post_id", pa.int64()), ("video_uri", pa.string()), ("hashtags", pa.list_(pa.string()))])


@dataclass(frozen=True)
class Vocabulary:
    tags: list[str]
    """Most frequent first."""
    labels: list[str]


def make_vocabulary(seed: int = 0) -> Vocabulary:
    draws = np.random.default_rng(seed)
    words = _words(draws, 20_000, 2)
    labels = sorted({" ".join(draws.choice(words, 3, replace=False)) for _ in range(NUM_LABELS)})
    relevant = make_tag_table(labels, "kinetics").index.strings.to_pylist()
    others = sorted(set(_words(draws, VOCABULARY, 4)) - set(relevant))[: VOCABULARY - len(relevant)]
    shuffled = draws.permutation(len(others) + len(relevant) - HEAD)
    rest = others[HEAD:] + relevant
    return Vocabulary(others[:HEAD] + [rest[i] for i in shuffled], labels)


def _words(draws: np.random.Generator, count: int, syllables: int) -> list[str]:
    """`count` distinct words of `syllables` to `syllables` + 2 syllables."""
    parts = [
        a + b for a in ["b", "ch", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w"] for b in "aeiou"
    ]
    words: dict[str, None] = {}
    while len(words) < count:
        lengths = draws.integers(syllables, syllables + 3, count)
        flat = [parts[i] for i in draws.integers(0, len(parts), int(lengths.sum()))]
        ends = np.cumsum(lengths).tolist()
        words |= dict.fromkeys("".join(flat[end - n : end]) for end, n in zip(ends, lengths.tolist(), strict=True))
    return list(words)[:count]


def write_posts(folder: Path, num_posts: int) -> dict[str, Path]:
    """Files `lower` and `written` of the same posts, and seeds.txt, in `folder`; reused where they are."""
    paths = {name: folder / f"{name}-{num_posts}.parquet" for name in ("lower", "written")}
    if all(path.exists() for path in paths.values()):
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = make_vocabulary()
    (folder / "seeds.txt").write_text("\n".join(vocabulary.labels))
    tags = vocabulary.tags
    forms = [tags, [tag.title() for tag in tags], [f"#{tag}" for tag in tags]]
    forms.append([f"{tag}\N{SURFER}" if i % 2 else f"{tag}é" for i, tag in enumerate(tags)])
    spelled = pa.array([tag for form in forms for tag in form])
    draws = np.random.default_rng(1)
    temporary = {name: path.with_suffix(f".{os.getpid()}.tmp") for name, path in paths.items()}
    writers = {name: pq.ParquetWriter(path, SCHEMA) for name, path in temporary.items()}
    for first in range(0, num_posts, ROW_GROUP):
        count = min(ROW_GROUP, num_posts - first)
        ranks = np.exp(draws.random(count * TAGS_A_POST) * np.log(len(tags))).astype(np.int64) - 1  # P(rank) ~ 1 / rank
        form = draws.choice(len(FORMS), len(ranks), p=FORMS)
        writers["lower"].write_table(_rows(first, count, spelled.take(pa.array(ranks))))
        writers["written"].write_table(_rows(first, count, spelled.take(pa.array(ranks + form * len(tags)))))
    for name, writer in writers.items():
        writer.close()
        temporary[name].rename(paths[name])
    return paths


def _rows(first: int, count: int, tags: pa.Array) -> pa.Table:
    ids = np.arange(first, first + count)
    uris = pa.array([f"v/{i % 1000:03d}/{i}.mp4" for i in ids.tolist()])
    offsets = pa.array(np.arange(0, len(tags) + 1, TAGS_A_POST, dtype=np.int32))
    return pa.table([pa.array(ids), uris, pa.ListArray.from_arrays(offsets, tags)], schema=SCHEMA)
