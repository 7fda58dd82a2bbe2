from __future__ import annotations

import numpy as np
import pytest
import torch

from vocabalign.alignment.exact_search import ExactSearch, exact_products, joined
from vocabalign.alignment.neighbors import top_k
from vocabalign.alignment.search import SearchOptions


def rows(number: int, dimensions: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((number, dimensions)).astype(np.float32)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("k", [1, 7])
def test_the_mean_of_the_nearest_is_the_mean_of_what_is_found(precision, k):
    queries, keys = rows(300, 12, 0), rows(5_000, 12, 1)
    options = SearchOptions(precision=precision, block_mebibytes=4)
    search = ExactSearch(keys, None, k, options)
    means = np.concatenate(search.each_block(queries, lambda block: block.mean_of_nearest(k)))
    assert np.allclose(means, top_k(queries, keys, k, options)[0].mean(axis=1), rtol=1e-6)


def test_products_are_those_of_float64():
    queries, keys = (torch.from_numpy(rows(n, 50, n)) for n in (70, 200))
    ids = torch.randint(200, (70, 9), generator=torch.Generator().manual_seed(0))
    expected = (queries.double() @ keys.double().T).gather(1, ids)
    found = exact_products(queries, keys, ids, 1)
    assert found.dtype == torch.float64 and torch.allclose(found, expected, rtol=1e-13)


def test_threads_find_what_one_finds():
    queries, keys = rows(2_000, 8, 0), rows(6_000, 8, 1)
    before = torch.get_num_threads()
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(top_k(queries, keys, 5, SearchOptions(block_mebibytes=8)))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))


def test_an_error_in_a_thread_is_told_and_the_threads_are_given_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    search = ExactSearch(rows(50, 4, 0), None, 3, SearchOptions())

    def fail(block: ExactSearch) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        search.each_block(rows(20, 4, 1), fail)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_nothing_asked_and_nothing_to_find():
    assert joined([], 3, 10)[1].shape == (0, 3)
    assert top_k(rows(0, 4, 0), rows(9, 4, 1), 3)[1].shape == (0, 3)
    assert top_k(rows(3, 4, 0), rows(0, 4, 1), 3)[1].shape[1] == 0
