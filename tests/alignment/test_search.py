from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabalign.alignment import search
from vocabalign.alignment.neighbors import csls_top_k, mutual_nearest, top_k, unit_rows
from vocabalign.alignment.search import SearchOptions, TorchSearch

EVERY_WAY = [
    SearchOptions(backend="torch"),
    SearchOptions(backend="faiss"),
    SearchOptions(precision="bfloat16"),
    SearchOptions(precision="int8"),
]
FLOAT = SearchOptions(precision="float32")


def spaces(sources: int, targets: int, dimensions: int = 24, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two spaces with a hub, clusters and doubles, as those of tokens have."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((12, dimensions))
    rows = [centres[rng.integers(12, size=n)] + 0.5 * rng.standard_normal((n, dimensions)) for n in (sources, targets)]
    rows[0][0] = centres.sum(axis=0)
    rows[0][sources // 2] = rows[0][sources // 2 - 1]
    return unit_rows(rows[0].astype(np.float32)), unit_rows(rows[1].astype(np.float32))


@pytest.mark.parametrize("way", EVERY_WAY, ids=["torch", "faiss", "bfloat16", "int8"])
@pytest.mark.parametrize("block_mebibytes", [1, 64])
def test_every_way_finds_the_same(way, block_mebibytes):
    if way.backend == "faiss":
        pytest.importorskip("faiss")
    source, target = spaces(3_000, 700)
    expected = csls_top_k(source, target, 10, 10, FLOAT)
    options = SearchOptions(block_mebibytes=block_mebibytes, backend=way.backend, precision=way.precision)
    found = csls_top_k(source, target, 10, 10, options)
    assert np.array_equal(found[1], expected[1])
    assert np.allclose(found[0], expected[0], atol=1e-6)


@pytest.mark.parametrize("k", [1, 4])
def test_a_targets_own_mean_moves_all_its_scores_alike(k):
    source, target = spaces(3_000, 700)
    whole, without = (csls_top_k(source, target, k, 10, FLOAT, own_mean=own_mean) for own_mean in (True, False))
    assert np.array_equal(whole[1], without[1])
    mean = np.sort(target @ source.T, axis=1)[:, -10:].mean(axis=1)
    assert np.allclose(without[0] - whole[0], mean[:, None], atol=1e-6)


def test_the_precision_that_is_taken_by_itself(monkeypatch):
    for fast in (True, False):
        monkeypatch.setattr(search, "multiplies_integers_fast", lambda fast=fast: fast)
        found = {n: SearchOptions().settled(n).precision for n in (search.FEWEST_INTEGER_KEYS - 1, 100_000)}
        assert list(found.values()) == ["float32", "int8" if fast else "float32"]
    assert SearchOptions(device="cuda").settled(100_000).precision == "float32"
    assert SearchOptions(backend="faiss", precision="bfloat16").settled(100_000).precision == "float32"
    assert SearchOptions(precision="bfloat16").settled(100_000).precision == "bfloat16"


def test_bfloat16_alone_would_not_find_the_same():
    source, target = spaces(3_000, 200)
    exact = top_k(target, source, 10)[1]
    rough = torch.from_numpy(target).bfloat16() @ torch.from_numpy(source).bfloat16().T
    assert not np.array_equal(np.sort(rough.float().topk(10).indices.numpy()), np.sort(exact))


@settings(deadline=None, max_examples=30)
@given(keys=st.integers(1, 400), k=st.integers(1, 9), spread=st.sampled_from([0.0, 0.1, 5.0]), seed=st.integers(0, 99))
def test_candidates_hold_the_best_unless_the_bound_says_otherwise(keys, k, spread, seed):
    rng = np.random.default_rng(seed)
    key_rows, query_rows = rng.standard_normal((keys, 4)), rng.standard_normal((5, 4))
    offsets = spread * rng.standard_normal(keys)
    k = min(k, keys)
    tensors = [torch.from_numpy(x.astype(np.float32)) for x in (key_rows, query_rows)]
    engine = TorchSearch(tensors[0], torch.from_numpy(offsets), k, FLOAT)
    engine.look(tensors[1])
    for with_offsets in (False, True):
        ids, others = engine.candidates(k, with_offsets=with_offsets)
        scores = query_rows @ key_rows.T + (offsets if with_offsets else 0)
        for row in range(5):
            chosen = ids[row].tolist()
            assert len(set(chosen)) == k
            left_out = np.delete(scores[row], chosen)
            assert not len(left_out) or left_out.max() <= float(others[row]) + 1e-4


def fake_faiss(num_gpus: int, calls: list[str]) -> SimpleNamespace:
    """FAISS as it looks on a machine with GPUs, with the arithmetic of numpy."""

    class Index:
        def __init__(self, dimensions: int) -> None:
            self.keys = np.zeros((0, dimensions), np.float32)

        def add(self, keys: np.ndarray) -> None:
            self.keys = keys

        def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
            return knn(queries, self.keys, k)

    def knn(queries: np.ndarray, keys: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores = queries @ keys.T
        ids = np.argsort(-scores, axis=1)[:, :k]
        return np.take_along_axis(scores, ids, axis=1), ids

    def knn_gpu(resources, queries, keys, k, metric):
        assert (resources, metric) == ("resources", "inner product")
        calls.append("knn_gpu")
        return knn(queries, keys, k)

    def index_cpu_to_all_gpus(index, co):
        assert co.shard
        calls.append("all gpus")
        return index

    return SimpleNamespace(
        get_num_gpus=lambda: num_gpus,
        IndexFlatIP=Index,
        knn_gpu=knn_gpu,
        index_cpu_to_all_gpus=index_cpu_to_all_gpus,
        StandardGpuResources=lambda: "resources",
        GpuMultipleClonerOptions=SimpleNamespace,
        METRIC_INNER_PRODUCT="inner product",
    )


@pytest.mark.parametrize(("num_gpus", "expected"), [(1, "knn_gpu"), (2, "all gpus"), (0, None)])
def test_faiss_takes_the_gpus_that_it_sees(monkeypatch, num_gpus, expected):
    calls: list[str] = []
    monkeypatch.setattr(search, "import_faiss", lambda: fake_faiss(num_gpus, calls))
    keys = torch.from_numpy(spaces(300, 40)[0])
    queries = torch.from_numpy(spaces(300, 40)[1])
    offsets = torch.linspace(-0.1, 0.1, 300, dtype=torch.float64)
    # The device only says that GPUs are wished for: the fake ones calculate here.
    engine = search.FaissSearch(keys, offsets, 5, SearchOptions(device="cuda", backend="faiss"))
    engine.look(queries)
    ids, _ = engine.candidates(5, with_offsets=True)
    assert np.array_equal(ids.numpy(), (queries @ keys.T + offsets).topk(5).indices.numpy())
    assert set(calls) == ({expected} if expected else set())


def test_a_broken_faiss_is_no_faiss(monkeypatch):
    import builtins

    real = builtins.__import__

    def broken(name, *args, **kwargs):
        if name == "faiss":
            raise RuntimeError("libcudart.so is missing")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    assert search.import_faiss() is None
    source, target = spaces(50, 20)
    assert csls_top_k(source, target, 3)[1].shape == (20, 3)


def test_memory_is_a_parameter():
    keys = torch.from_numpy(spaces(5_000, 1)[0])
    for mebibytes in (1, 8, 64):
        rows = TorchSearch(keys, None, 18, SearchOptions(block_mebibytes=mebibytes, precision="float32")).block_rows
        assert rows * 4 * 5_000 <= mebibytes << 20 and rows >= (mebibytes << 20) // (16 * 5_000)


def test_stochastic_dropping_draws_pairs_and_is_reproducible():
    source, target = spaces(200, 300)
    every = mutual_nearest(source, target)[0]
    some = [mutual_nearest(source, target, keep_probability=0.3, seed=seed)[0] for seed in (1, 1, 2)]
    assert np.array_equal(some[0], some[1]) and not np.array_equal(some[0], some[2])
    # A pair that is best of all is only lost when it is not drawn.
    kept = {tuple(pair) for pair in some[0].tolist()} & {tuple(pair) for pair in every.tolist()}
    assert 0.15 < len(kept) / len(every) < 0.45
    small = SearchOptions(block_mebibytes=1)
    assert np.array_equal(mutual_nearest(source, target, 10, small, keep_probability=0.3, seed=1)[0], some[0])
