"""Joins of 64-bit frame codes within a Hamming radius: our engine and faiss on the same codes.

    python -m benchmarks.dedup_join [--codes 1e7] [--queries 1e6] [--clips FOLDER] [--only-ours]

`natural` codes are those of crops (random place and shape, 60 to 110 of 112 px) of frames of real videos, and of the same
crops mirrored, upside down and both; beyond four times `MAX_CROPS`, also of these with up to 3 bits changed, as in the next
frame. Queries are crops of frames of other videos. Each code occurs once on either side. `uniform` codes are random bits.

On one core; time is CPU time. Recall is of all pairs within the radius, by distance, against comparing everything with
everything, for a sample of queries: half as they are, half codes of the index with 0 to 7 bits changed. Backends that would
take too long are given fewer queries; rates are per query. `peak_mb` is of the whole process, with the making of the codes.
"""

from __future__ import annotations

from benchmarks import record

record.one_core()

import argparse  # noqa: E402  (libraries count cores when they are imported)
import resource  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

from benchmarks import clips  # noqa: E402
from dedup import census  # noqa: E402
from dedup.lsh import BAND_BITS, NUM_BANDS, CodeIndex, _band_key, _spread_bits  # noqa: E402
from pipeline import video  # noqa: E402
from pipeline.upload import Upload  # noqa: E402

RADII = (3, 7)
SAMPLE = 200  # queries whose pairs are checked against brute force
SLOW_QUERIES = {"numpy": 20_000, "faiss Flat": 200, "MultiHash nflip 0": 20_000, "MultiHash nflip 1": 1_000}
MAX_S, FPS, MAX_VIDEOS = 6.0, 4, 120  # seconds of each video, frames per second taken, and videos
MAX_CROPS = 2_500_000
CODES_AT_SCALE, QUERIES_AT_SCALE = 5e7, 1e10  # 300K target videos, 65M source videos

Matches = tuple[np.ndarray, np.ndarray]
"""(query rows, code rows) within a radius, int64."""
Join = Callable[[np.ndarray, int], Matches]


# ------------------------------------------------------------------------------------------------------- codes


def read_frames(folder: Path) -> list[np.ndarray]:
    """uint8 [T, 112, 112] of each readable video."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in clips.SUFFIXES)
    found = [read_video(path.read_bytes()) for path in paths[:: max(1, len(paths) // MAX_VIDEOS)]]
    return [frames for frames in found if len(frames)]


def read_video(data: bytes) -> np.ndarray:
    """uint8 [T, 112, 112]; none when it cannot be read."""
    scaler, resampler, luma, side = video.Scaler(), video.Resampler(FPS), [], census.SIDE_PX
    try:
        upload = Upload(data)
        for time_s, frame in upload.frames():
            if time_s > MAX_S:
                break
            luma += [scaler.gray(due, side, side) for due in resampler.push(time_s, frame)]
        upload.close()
    except video.VideoError:
        pass
    return np.array(luma, np.uint8).reshape(-1, side, side)


def crop_codes(frames: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """uint64 [at most `count`]: distinct codes of random crops, in random order."""
    parts, num_codes = [np.empty(0, np.uint64)], 0
    while num_codes < 2 * count:  # about so many are distinct
        height, width = 10 * rng.integers(6, 12, 2)
        y, x = rng.integers(0, 113 - height), rng.integers(0, 113 - width)
        parts.append(census.frame_codes(frames[:, y : y + height, x : x + width]))
        num_codes += len(parts[-1])
    codes = distinct(np.concatenate(parts))
    rng.shuffle(codes)
    return codes[:count]


def distinct(codes: np.ndarray) -> np.ndarray:
    """As `np.unique`, of which the hash table takes minutes here."""
    codes = np.sort(codes)
    return codes[np.append(True, codes[1:] != codes[:-1])]


def natural_codes(folder: Path, num_codes: int, num_queries: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    videos = read_frames(folder)
    half = len(videos) // 2
    upright = crop_codes(np.concatenate(videos[:half]), min(-(-num_codes // 4), MAX_CROPS), rng)
    turned = [upright, census.mirrored(upright), census.flipped(upright), census.flipped(census.mirrored(upright))]
    codes = np.concatenate(turned)
    while len(codes) < num_codes:
        codes = np.concatenate([codes, changed(codes[: num_codes - len(codes)], rng)])
    codes = distinct(codes)
    rng.shuffle(codes)
    return codes[:num_codes], crop_codes(np.concatenate(videos[half:]), num_queries, rng)


def changed(codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Codes with up to 3 bits changed."""
    codes = codes.copy()
    for _ in range(3):
        codes ^= np.uint64(1) << rng.integers(0, 64, len(codes), dtype=np.uint64)
    return codes


def uniform_codes(num_codes: int, num_queries: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return tuple(rng.integers(0, 2**64, count, dtype=np.uint64) for count in (num_codes, num_queries))


def sample_queries(codes: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """uint64 [SAMPLE]: some queries as they are, and some codes of the index with 0 to 7 bits changed."""
    rng = np.random.default_rng(2)
    planted = rng.choice(codes, SAMPLE // 2)
    for i in range(len(planted)):
        for bit in rng.choice(64, i % 8, replace=False):
            planted[i] ^= np.uint64(1) << np.uint64(bit)
    return np.concatenate([planted, queries[: SAMPLE - len(planted)]])


# ---------------------------------------------------------------------------------------------------- backends


def ours(codes: np.ndarray, backend: str) -> tuple[Join, int]:
    index = CodeIndex(codes, max(RADII), backend)

    def join(queries: np.ndarray, radius: int) -> Matches:
        index.radius = radius
        return index.join(queries)

    return join, index.num_bytes


def multi_hash(codes: np.ndarray, flips: int) -> tuple[Join, int]:
    """faiss's multi-index hashing, 4 maps of 16 bits; its memory is what the process grows by (little the second time)."""
    faiss = record.peer("faiss")
    index = faiss.IndexBinaryMultiHash(64, 4, 16)
    before = resident_bytes()
    index.add(codes.view(np.uint8).reshape(-1, 8))

    def join(queries: np.ndarray, radius: int) -> Matches:
        index.nflip = flips
        limits, _, rows = index.range_search(queries.view(np.uint8).reshape(-1, 8), radius + 1)  # strictly below
        return np.repeat(np.arange(len(queries)), np.diff(limits.astype(np.int64))), rows

    return join, resident_bytes() - before


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


BACKENDS: dict[str, Callable[[np.ndarray], tuple[Join, int]]] = {
    "numba": lambda codes: ours(codes, "numba"),
    "numpy": lambda codes: ours(codes, "numpy"),
    "faiss Flat": lambda codes: ours(codes, "faiss"),
    "MultiHash nflip 0": lambda codes: multi_hash(codes, 0),
    "MultiHash nflip 1": lambda codes: multi_hash(codes, 1),
}


# ----------------------------------------------------------------------------------------------------- figures


def measure(name: str, codes: np.ndarray, queries: np.ndarray, rounds: int) -> dict[str, Any]:
    """Build time, memory, queries per second and core at each radius, recall by distance."""
    began = record.cpu_seconds()
    join, num_bytes = BACKENDS[name](codes)
    results: dict[str, Any] = {"build_s": round(record.cpu_seconds() - began, 2), "index_mb": round(num_bytes / 1e6)}
    asked = queries[: SLOW_QUERIES.get(name, len(queries))]
    join(asked[:100], max(RADII))  # compile
    for radius in RADII:
        actions = {"join": lambda radius=radius: join(asked, radius)}
        seconds = record.interleave(actions, rounds if name == "numba" else 1)["join"]
        rate = len(asked) / min(seconds)
        results[f"r{radius}"] = {"queries_per_s": round(rate), "queries": len(asked)}
    results["recall_by_distance"] = recall(join, codes, sample_queries(codes, queries))
    return results


def recall(join: Join, codes: np.ndarray, queries: np.ndarray) -> dict[str, float]:
    """Share of the pairs at each distance that are found."""
    found, wanted = np.zeros(max(RADII) + 1, np.int64), np.zeros(max(RADII) + 1, np.int64)
    rows, columns = join(queries, max(RADII))
    found += np.bincount(np.bitwise_count(queries[rows] ^ codes[columns]), minlength=len(found))
    for query in queries:
        distances = np.bitwise_count(codes ^ query)
        wanted += np.bincount(distances[distances <= max(RADII)], minlength=len(wanted))
    return {f"d{d}": round(float(found[d] / wanted[d]), 4) for d in range(len(wanted)) if wanted[d]}


def skew(codes: np.ndarray, queries: np.ndarray) -> float:
    """Pairs that share a band, as a multiple of what uniform codes would have."""
    sides, pairs = [_spread_bits(side) for side in (codes, queries)], 0.0
    for band in range(NUM_BANDS):
        indexed, asked = (np.bincount(_band_key(side, band), minlength=1 << BAND_BITS) for side in sides)
        pairs += float((indexed * asked).sum())
    return round(pairs * 2**BAND_BITS / (NUM_BANDS * len(codes) * len(queries)), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", type=float, default=1e7, help="codes in the index")
    parser.add_argument("--queries", type=float, default=1e6, help="queries in a batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--clips", type=Path, default=clips.default_folder(), help="folder of videos (searched in depth)"
    )
    parser.add_argument("--only-ours", action="store_true", help="leave out every backend but numba")
    parser.add_argument("--name", default="dedup_join", help="name of the results")
    given = parser.parse_args()

    num_codes, num_queries = int(given.codes), int(given.queries)
    results: dict[str, Any] = {"codes": num_codes, "queries": num_queries}
    for kind, (codes, queries) in {
        "natural": natural_codes(given.clips, num_codes, num_queries),
        "uniform": uniform_codes(num_codes, num_queries),
    }.items():
        results[kind] = {"codes": len(codes), "queries": len(queries), "skew": skew(codes, queries)}
        for name in ["numba"] if given.only_ours or kind == "uniform" else BACKENDS:
            results[kind][name] = measure(name, codes, queries, given.rounds)
            print(kind, name, results[kind][name], flush=True)
    results["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
    rates = {radius: results["natural"]["numba"][f"r{radius}"]["queries_per_s"] for radius in RADII}
    scale = QUERIES_AT_SCALE * CODES_AT_SCALE / num_codes / 3600
    results["core_hours_at_1e10_by_5e7"] = {f"r{radius}": round(scale / rate, 1) for radius, rate in rates.items()}
    print(record.write(given.name, results, "numpy", "numba", "faiss-cpu"))


if __name__ == "__main__":
    main()
