"""Matching of posts against hashtags: what a build does, beside reading the column and other libraries' joins.

    python -m benchmarks.matching [--posts 20000000] [--rounds 5] [--slice 200000] [--folder FOLDER]

Posts have eight Zipf-like tags out of two million; 40 thousand of these are relevant, to about one post in ten. `read` decodes
the column of tags and nothing else. There are two kinds of work, of which all runners find the same (post, label) pairs:

- look-up: the tags of every post → its labels, counted. `look_up` (ours, with the normal form), `polars_look_up`,
  `duckdb_look_up`; `python`, a loop over a dict, and `ray_data`, a join of data sets, see the first posts only.
- the whole part: the rows (video, post, label) in a Parquet file. `lower` is `match_part` (normal form, look-up, URIs resolved
  and hashed to video ids, rows in their order). `polars` and `duckdb` join and write; they neither normalise nor hash.
  `polars_lower` and `duckdb_lower` make the tags small first.

`look_up_written` and `written` are ours for tags as people write them. Each runs in a process of its own on one core, in turn,
first on a few posts and then on all, which is what is timed, by the CPU; `ray_data` has the whole machine, and the clock.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import record
from benchmarks.matching_posts import write_posts
from dataset_builder import post_rows
from dataset_builder.match import MatchJob, match_part
from dataset_builder.posts import plan_parts
from dataset_builder.read_posts import BATCH_ROWS, read_part
from dataset_builder.tag_table import TagTable, find_labels, make_tag_table
from pipeline.config import SourceConfig

PACKAGES = ("pyarrow", "numpy", "polars", "duckdb", "ray")
NEEDS = {"polars": ("polars",), "duckdb": ("duckdb",), "ray": ("ray", "pandas", "polars")}
WARM_UP_POSTS = 100_000
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")
OURS = ("look_up", "look_up_written", "lower", "written")


# ------------------------------------------------------------------- the runners: a posts file → (posts, pairs found)


def read(path: Path, work: Path, at_most: int) -> tuple[int, int]:
    batches = pq.ParquetFile(path).iter_batches(BATCH_ROWS, columns=["hashtags"], use_threads=False)
    return sum(batch.num_rows for batch in batches), 0


def look_up(path: Path, work: Path, at_most: int) -> tuple[int, int]:
    table, posts, found = _table(work), 0, 0
    for part in plan_parts([str(path)], SourceConfig(posts=str(path))):
        for rows, _ in read_part(dataclasses.replace(part, columns=("hashtags",))):
            [lists] = post_rows.tag_lists(rows)
            positions, label_ids = find_labels(lists.tags, table)
            found += len(np.unique(lists.posts_of(positions) * len(table.labels) + label_ids))
            posts += rows.num_rows
    return posts, found


def match(path: Path, work: Path, at_most: int) -> tuple[int, int]:
    job = MatchJob(_table(work), "", tempfile.mkdtemp(dir=work))
    parts = plan_parts([str(path)], SourceConfig(posts=str(path)))
    posts = sum(match_part(part, job)["posts"] for part in enumerate(parts))
    spilled = [pq.read_table(file, columns=["label_ids"]) for file in sorted(Path(job.spill).glob("*.parquet"))]
    return posts, sum(len(pc.list_flatten(table["label_ids"])) for table in spilled)


def python(path: Path, work: Path, at_most: int) -> tuple[int, int]:
    pairs = _pairs(_table(work))
    labels: dict[str, list[int]] = {}
    for hashtag, label in zip(pairs["hashtag"].to_pylist(), pairs["label"].to_pylist(), strict=True):
        labels.setdefault(hashtag, []).append(label)
    posts = found = 0
    for batch in pq.ParquetFile(path).iter_batches(min(BATCH_ROWS, at_most), columns=["hashtags"], use_threads=False):
        for tags in batch["hashtags"].to_pylist():
            found += len({label for tag in tags for label in labels.get(tag, ())})
        posts += batch.num_rows
        if posts >= at_most:
            break
    return posts, found


def polars_look_up(path: Path, work: Path, at_most: int) -> tuple[int, int]:
    import polars as pl

    pairs = pl.from_arrow(_pairs(_table(work))).lazy()
    tags = pl.scan_parquet(path).select("hashtags").with_row_index("post").explode("hashtags")
    joined = tags.join(pairs, left_on="hashtags", right_on="hashtag").select("post", "label").unique()
    return pq.read_metadata(path).num_rows, joined.select(pl.len()).collect(engine="streaming").item()


def polars(path: Path, work: Path, at_most: int, make_small: bool = False) -> tuple[int, int]:
    import polars as pl

    written = work / f"{os.getpid()}.parquet"
    pairs = pl.from_arrow(_pairs(_table(work))).lazy()
    tags = pl.scan_parquet(path).select("post_id", "video_uri", "hashtags").explode("hashtags")
    tags = tags.with_columns(pl.col("hashtags").str.to_lowercase()) if make_small else tags
    joined = tags.join(pairs, left_on="hashtags", right_on="hashtag").select("post_id", "video_uri", "label").unique()
    joined.sink_parquet(written)
    return pq.read_metadata(path).num_rows, pq.read_metadata(written).num_rows


def duckdb_look_up(path: Path, work: Path, at_most: int) -> tuple[int, int]:
    rows = f"read_parquet('{path}', file_row_number=true)"
    tags = f"SELECT file_row_number AS post, unnest(hashtags) AS hashtag FROM {rows}"
    joined = f"SELECT count(*) FROM (SELECT DISTINCT post, label FROM ({tags}) JOIN pairs USING (hashtag))"
    return pq.read_metadata(path).num_rows, _duckdb(work).execute(joined).fetchone()[0]


def duckdb(path: Path, work: Path, at_most: int, make_small: bool = False) -> tuple[int, int]:
    written, tag = work / f"{os.getpid()}.parquet", "unnest(hashtags)"
    tags = f"SELECT post_id, video_uri, {f'lower({tag})' if make_small else tag} AS hashtag FROM '{path}'"
    joined = f"SELECT DISTINCT post_id, video_uri, label FROM ({tags}) JOIN pairs USING (hashtag)"
    _duckdb(work).execute(f"COPY ({joined}) TO '{written}' (FORMAT parquet)")
    return pq.read_metadata(path).num_rows, pq.read_metadata(written).num_rows


def _duckdb(work: Path) -> Any:
    import duckdb as db

    connection = db.connect(config={"threads": 1})
    connection.register("pairs", _pairs(_table(work)))
    return connection


def ray_data(path: Path, work: Path, at_most: int) -> tuple[int, int]:
    import ray

    logging.disable(logging.WARNING)
    head = next(pq.ParquetFile(path).iter_batches(at_most, columns=["post_id", "hashtags"]))
    rows = np.repeat(np.arange(len(head)), pc.list_value_length(head["hashtags"]).to_numpy())
    exploded = pa.table({"post_id": head["post_id"].take(pa.array(rows)), "hashtag": pc.list_flatten(head["hashtags"])})
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a short name: sockets stand in it
        ray.init(address="local", include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        try:
            began = time.monotonic()
            cpus = int(ray.cluster_resources()["CPU"])
            data = ray.data.from_arrow(exploded).repartition(4 * cpus)
            pairs = ray.data.from_arrow(_pairs(_table(work)))
            joined = data.join(pairs, "inner", num_partitions=4 * cpus, on=("hashtag",)).to_pandas()
            found = len(joined[["post_id", "label"]].drop_duplicates())
            _clock["seconds"] = time.monotonic() - began
        finally:
            ray.shutdown()
    return len(head), found


RUNNERS: dict[str, tuple[Callable[[Path, Path, int], tuple[int, int]], str]] = {
    "read": (read, "lower"),
    "look_up": (look_up, "lower"),
    "look_up_written": (look_up, "written"),
    "polars_look_up": (polars_look_up, "lower"),
    "duckdb_look_up": (duckdb_look_up, "lower"),
    "python": (python, "lower"),
    "ray_data": (ray_data, "lower"),
    "lower": (match, "lower"),
    "written": (match, "written"),
    "polars": (polars, "lower"),
    "duckdb": (duckdb, "lower"),
    "polars_lower": (partial(polars, make_small=True), "lower"),
    "duckdb_lower": (partial(duckdb, make_small=True), "lower"),
}
_clock: dict[str, float] = {}


def _table(work: Path) -> TagTable:
    return pickle.loads((work / "table.pickle").read_bytes())


def _pairs(table: TagTable) -> pa.Table:
    hashtags = table.index.strings.take(pa.array(np.repeat(np.arange(len(table.offsets) - 1), np.diff(table.offsets))))
    return pa.table({"hashtag": hashtags, "label": table.label_ids})


# ------------------------------------------------------------------------------------------------- the measurement


def run_one(name: str, path: Path, work: Path, at_most: int) -> None:
    """In a process of its own: print what was found, its CPU seconds (`ray_data`: of the clock) and its peak memory."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    if name != "ray_data":
        record.one_core()
        few = work / f"few-{RUNNERS[name][1]}.parquet"
        RUNNERS[name][0](few, work, at_most)  # libraries start up here
    began = time.process_time()
    posts, pairs = RUNNERS[name][0](path, work, at_most)
    seconds = _clock.get("seconds", time.process_time() - began)
    print(json.dumps({"posts": posts, "pairs": pairs, "seconds": seconds, "peak_mb": round(_peak_mb())}))


def _peak_mb() -> float:
    """Not `ru_maxrss`, which begins with what the parent process held."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("VmHWM:"))


def measure(paths: dict[str, Path], work: Path, rounds: int, at_most: int) -> dict[str, list[dict[str, Any]]]:
    names = [name for name in RUNNERS if _is_there(name)]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            if name == "ray_data" and number:
                continue  # a minute each
            file = [str(paths[RUNNERS[name][1]]), str(work), "--slice", str(at_most)]
            command = [sys.executable, "-m", "benchmarks.matching", "--only", name, *file]
            environment = os.environ | (ONE_THREAD if name != "ray_data" else {})
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                raise SystemExit(f"{name} failed")
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"round {number + 1}: {name}: {found[name][-1]}", flush=True)
    return found


def _is_there(name: str) -> bool:
    missing = [module for module in NEEDS.get(name.split("_")[0], ()) if importlib.util.find_spec(module) is None]
    if missing:
        print(f"{name} is left out: {', '.join(missing)} cannot be imported (pip install 'tagreel[bench]')")
    return not missing


def summarise(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """CPU per post, peak memory, and the time of each runner / the time of ours."""
    whole = [name for name, runs in found.items() if name != "read" and runs[0]["posts"] == found["lower"][0]["posts"]]
    pairs = {name: found[name][0]["pairs"] for name in whole if not name.endswith("written")}
    if len(set(pairs.values())) != 1:
        raise SystemExit(f"the runners do not agree: {pairs}")
    times = {name: [1e6 * run["seconds"] / run["posts"] for run in runs] for name, runs in found.items()}
    result = {}
    for name, runs in found.items():
        result[name] = {
            "us_a_post": record.spread(times[name]),
            "million_posts_a_second_at_best": round(1 / min(times[name]), 3),
            "peak_mb": max(run["peak_mb"] for run in runs),
            "posts": runs[0]["posts"],
            "pairs": runs[0]["pairs"],
        }
    for ours in OURS:
        result[ours]["time_of"] = {
            name: record.ratio({name: times[name], ours: times[ours][: len(times[name])]}, name, ours)
            for name in found
            if name != ours
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slice", type=int, default=200_000, help="posts of the slow runners")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tagreel-matching")
    parser.add_argument("--only", nargs=3, metavar=("NAME", "FILE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        name, path, work = options.only
        run_one(name, Path(path), Path(work), options.slice)
        return
    paths = write_posts(options.folder, options.posts)
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as work:
        for name, path in paths.items():
            few = next(pq.ParquetFile(path).iter_batches(WARM_UP_POSTS))
            pq.write_table(pa.Table.from_batches([few]), Path(work) / f"few-{name}.parquet")
        table = make_tag_table((options.folder / "seeds.txt").read_text().split("\n"), "kinetics")
        (Path(work) / "table.pickle").write_bytes(pickle.dumps(table))
        found = measure(paths, Path(work), options.rounds, options.slice)
    load.append(os.getloadavg()[0])
    results = {"hashtags": len(table.index.strings), "load_before_and_after": load, "runners": summarise(found)}
    print(record.write("matching", results, *PACKAGES))


if __name__ == "__main__":
    main()
