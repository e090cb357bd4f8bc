"""Matching of posts against hashtags: what a build does, beside reading the column and other libraries' joins.

    python -m benchmarks.matching [--posts 20000000] [--rounds 5] [--slice 200000] [--folder FOLDER]

Posts have eight Zipf-like tags out of two million; 40 thousand of these are relevant, to about 7 % of the posts. `read`
decodes the column of tags and nothing else. `lower` and `written` are `match_part` from the file to its spill (normal form,
look-up, URIs, video ids), for tags that are lower-case already and for tags as people write them. The others find the same
(post, label) pairs of the lower-case tags, without a normal form: `polars` and `duckdb` write them to Parquet; `python`, a
loop over a dict, and `ray_data`, a join of data sets, see the first posts only. Each runs in a process of its own with one
thread, in turn; `ray_data` has the whole machine and is timed by the clock, the others by their CPU.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import logging
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import record
from benchmarks.matching_posts import write_posts
from dataset_builder.match import MatchJob, match_part
from dataset_builder.posts import plan_parts
from dataset_builder.tag_table import TagTable, make_tag_table
from pipeline.config import SourceConfig

PACKAGES = ("pyarrow", "numpy", "polars", "duckdb", "ray")
NEEDS = {"polars": ("polars",), "duckdb": ("duckdb",), "ray_data": ("ray", "pandas", "polars")}
BATCH_ROWS = 1 << 17
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")


# ------------------------------------------------------------------- the runners: a posts file → (posts, pairs found)


def read(path: Path, work: Path, at_most: int) -> tuple[int, int]:
    batches = pq.ParquetFile(path).iter_batches(BATCH_ROWS, columns=["hashtags"], use_threads=False)
    return sum(batch.num_rows for batch in batches), 0


def match(path: Path, work: Path, at_most: int) -> tuple[int, int]:
    parts = plan_parts([str(path)], SourceConfig(posts=str(path)))
    job = MatchJob(_table(work), "", str(work / f"spill-{os.getpid()}"))
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


def polars(path: Path, work: Path, at_most: int) -> tuple[int, int]:
    import polars as pl

    pairs = pl.from_arrow(_pairs(_table(work))).lazy()
    posts = pl.scan_parquet(path).select("post_id", "video_uri", "hashtags").explode("hashtags")
    joined = posts.join(pairs, left_on="hashtags", right_on="hashtag").select("post_id", "video_uri", "label").unique()
    joined.sink_parquet(work / "polars.parquet")
    return pq.read_metadata(path).num_rows, pq.read_metadata(work / "polars.parquet").num_rows


def duckdb(path: Path, work: Path, at_most: int) -> tuple[int, int]:
    import duckdb as db

    connection = db.connect(config={"threads": 1})
    connection.register("pairs", _pairs(_table(work)))
    tags = f"SELECT post_id, video_uri, unnest(hashtags) AS hashtag FROM '{path}'"
    joined = f"SELECT DISTINCT post_id, video_uri, label FROM ({tags}) JOIN pairs USING (hashtag)"
    connection.execute(f"COPY ({joined}) TO '{work / 'duckdb.parquet'}' (FORMAT parquet)")
    return pq.read_metadata(path).num_rows, pq.read_metadata(work / "duckdb.parquet").num_rows


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
    "lower": (match, "lower"),
    "written": (match, "written"),
    "python": (python, "lower"),
    "polars": (polars, "lower"),
    "duckdb": (duckdb, "lower"),
    "ray_data": (ray_data, "lower"),
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
    for module in ("pandas", *NEEDS.get(name, ())):  # not counted; pyarrow imports pandas where it is, for any runner
        if importlib.util.find_spec(module):
            importlib.import_module(module)
    began = time.process_time()
    posts, pairs = RUNNERS[name][0](path, work, at_most)
    seconds = _clock.get("seconds", time.process_time() - began)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({"posts": posts, "pairs": pairs, "seconds": seconds, "peak_mb": round(peak_mb)}))


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
    missing = [module for module in NEEDS.get(name, ()) if importlib.util.find_spec(module) is None]
    if missing:
        print(f"{name} is left out: {', '.join(missing)} cannot be imported (pip install 'tagreel[bench]')")
    return not missing


def summarise(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Millions of posts a second, peak memory, and how often as fast as each other runner `lower` and `written` are."""
    whole = [name for name, runs in found.items() if name != "read" and runs[0]["posts"] == found["lower"][0]["posts"]]
    pairs = {name: found[name][0]["pairs"] for name in whole if name != "written"}
    if len(set(pairs.values())) != 1:
        raise SystemExit(f"the runners do not agree: {pairs}")
    rates = {name: [run["posts"] / run["seconds"] / 1e6 for run in runs] for name, runs in found.items()}
    result = {
        name: {
            "million_posts_a_second": record.spread(rates[name]),
            "peak_mb": max(run["peak_mb"] for run in runs),
            "posts": runs[0]["posts"],
            "pairs": runs[0]["pairs"],
        }
        for name, runs in found.items()
    }
    for ours in ("lower", "written"):
        ratios = {name: [a / b for a, b in zip(rates[ours], rates[name], strict=False)] for name in found}  # per round
        result[ours]["rate_to"] = {name: record.spread(ratios[name], 3) for name in found if name != ours}
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
    with tempfile.TemporaryDirectory() as work:
        table = make_tag_table((options.folder / "seeds.txt").read_text().split("\n"), "kinetics")
        (Path(work) / "table.pickle").write_bytes(pickle.dumps(table))
        found = measure(paths, Path(work), options.rounds, options.slice)
    results = {"hashtags": len(table.index.strings), "runners": summarise(found)}
    print(record.write("matching", results, *PACKAGES))


if __name__ == "__main__":
    main()
