"""The index finds exactly what comparing everything with everything finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup import lsh
from dedup.lsh import BACKENDS, CodeIndex


def brute_force(codes: np.ndarray, queries: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    return np.nonzero(np.bitwise_count(queries[:, None] ^ codes[None]) <= radius)


def assert_exact(codes: np.ndarray, queries: np.ndarray, radius: int, backend: str) -> None:
    found, wanted = CodeIndex(codes, radius, backend).join(queries), brute_force(codes, queries, radius)
    assert [rows.tolist() for rows in found] == [rows.tolist() for rows in wanted]


def random_codes(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(0, 2**64, count, dtype=np.uint64)


def change_bits(rng: np.random.Generator, codes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Each code with so many of its bits changed, chosen at random."""
    changed = codes.copy()
    for i, count in enumerate(counts):
        for bit in rng.choice(64, count, replace=False):
            changed[i] ^= np.uint64(1) << np.uint64(bit)
    return changed


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("radius", [3, 4, 7])
def test_neighbours_planted_at_every_distance_are_found_up_to_the_radius(backend, radius):
    rng = np.random.default_rng(radius)
    codes = random_codes(rng, 2000)
    distances = np.arange(900) % 9
    queries = change_bits(rng, codes[:900], distances)
    query_rows, code_rows = CodeIndex(codes, radius, backend).join(queries)
    assert set(zip(query_rows.tolist(), code_rows.tolist(), strict=True)) >= {
        (i, i) for i in np.flatnonzero(distances <= radius)
    }
    assert_exact(codes, queries, radius, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("radius", [0, 3, 5, 7])
def test_clustered_codes(backend, radius):
    """Many near-equal codes, as from a static scene: large buckets, pairs that several bands would find, equal rows."""
    rng = np.random.default_rng(1)
    centres = random_codes(rng, 3)
    codes = change_bits(rng, centres[rng.integers(0, 3, 500)], rng.integers(0, 7, 500))
    queries = change_bits(rng, centres[rng.integers(0, 3, 300)], rng.integers(0, 7, 300))
    assert len(np.unique(codes)) < 500
    assert_exact(codes, queries, radius, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_differences_packed_into_one_or_two_bands(backend):
    """The pairs that an index of 4 bands finds hardest: all differing bits spread evenly, or all within few bands."""
    band_of = np.array([(bit % 8 + 2 * (bit // 8)) % 4 for bit in range(64)])
    rng = np.random.default_rng(2)
    codes, queries = random_codes(rng, 300), []
    for i, code in enumerate(codes):
        per_band = [(1, 2, 2, 2), (2, 2, 2, 1), (7, 0, 0, 0), (3, 4, 0, 0), (0, 1, 3, 3), (2, 2, 2, 2), (1, 1, 1, 1)][
            i % 7
        ]
        bits = [
            b for band, n in enumerate(per_band) for b in rng.choice(np.flatnonzero(band_of == band), n, replace=False)
        ]
        queries.append(int(code) ^ sum(1 << int(bit) for bit in bits))
    queries = np.array(queries, np.uint64)
    for radius in (3, 4, 7):
        assert_exact(codes, queries, radius, backend)


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=20),
    st.lists(st.tuples(st.integers(0, 19), st.sets(st.integers(0, 63), max_size=9)), max_size=20),
    st.integers(0, 7),
)
def test_any_codes_any_changes(codes, changes, radius):
    pool = codes or [0]
    queries = [pool[i % len(pool)] ^ sum(1 << bit for bit in bits) for i, bits in changes]
    for backend in BACKENDS:
        assert_exact(np.array(codes, np.uint64), np.array(queries, np.uint64), radius, backend)


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.integers(0, 7), st.sampled_from(["numba", "numpy"]))
def test_as_many_pairs_at_each_distance_as_faiss_finds(seed, radius, backend):
    """Clustered codes against faiss's own brute force, asked directly: its range search is strictly below a radius."""
    faiss, rng = pytest.importorskip("faiss"), np.random.default_rng(seed)
    centres = random_codes(rng, 20)
    codes, queries = (change_bits(rng, centres[rng.integers(0, 20, n)], rng.integers(0, 6, n)) for n in (300, 150))
    index = faiss.IndexBinaryFlat(64)
    index.add(codes.view(np.uint8).reshape(-1, 8))
    _, distances, _ = index.range_search(queries.view(np.uint8).reshape(-1, 8), radius + 1)
    rows, columns = CodeIndex(codes, radius, backend).join(queries)
    found = np.bincount(np.bitwise_count(queries[rows] ^ codes[columns]), minlength=8)
    assert found.tolist() == np.bincount(distances.astype(int), minlength=8).tolist()


def test_numpy_works_in_batches(monkeypatch):
    rng = np.random.default_rng(3)
    codes = change_bits(rng, np.zeros(200, np.uint64), rng.integers(0, 6, 200))
    monkeypatch.setattr(lsh, "_BATCH_PAIRS", 7)
    assert_exact(codes, codes, 7, "numpy")


def test_bands_keep_neighbouring_cells_apart():
    """Band (x + 2y) mod 4: spread bits 16b to 16b + 15 come from these cells, and no bit is lost."""
    single = np.uint64(1) << np.arange(64, dtype=np.uint64)
    spread = [int(code).bit_length() - 1 for code in lsh._spread_bits(single)]
    assert sorted(spread) == list(range(64))
    assert [new // 16 for new in spread] == [(bit % 8 + 2 * (bit // 8)) % 4 for bit in range(64)]


def test_arrays_that_cannot_be_written_are_fine():
    codes = random_codes(np.random.default_rng(4), 50)
    index = CodeIndex(codes, 3)
    codes.setflags(write=False)
    for band in index._bands:  # as they come out of a shared object store
        for array in (band.codes, band.rows, band.offsets):
            array.setflags(write=False)
    assert index.join(codes)[0].tolist() == list(range(50))


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="radius"):
        CodeIndex(np.zeros(1, np.uint64), 8)
    with pytest.raises(ValueError, match="numba, numpy, faiss"):
        CodeIndex(np.zeros(1, np.uint64), 3, "annoy")


@pytest.mark.skipif(lsh.numba is None, reason="needs numba")
def test_a_machine_without_a_folder_to_cache_in_still_compiles(monkeypatch):
    compile_in_memory = lsh.numba.njit

    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_in_memory(**options)

    monkeypatch.setattr(lsh.numba, "njit", njit)
    assert lsh._compile(lambda x: x + 1)(1) == 2


def test_without_numba_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(lsh, "numba", None)
    with pytest.raises(ImportError, match=r"pip install 'tagreel\[dedup\]'"):
        CodeIndex(np.zeros(1, np.uint64), 3)
    assert CodeIndex(np.zeros(1, np.uint64), 3, "numpy").join(np.zeros(2, np.uint64))[0].tolist() == [0, 1]
