from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import sparse

from vocabalign.alignment import ppmi
from vocabalign.alignment.ppmi import PpmiOptions, ppmi_vectors, shifted_ppmi


def random_counts(size=40, seed=0):
    rng = np.random.default_rng(seed)
    table = rng.poisson(np.outer(rng.gamma(0.5, 1, size), rng.gamma(0.5, 2, size))).astype(float)
    return sparse.csr_matrix(table + table.T)


@pytest.mark.parametrize(("smoothing", "shift"), [(1.0, 1.0), (0.75, 1.0), (0.75, 5.0)])
def test_the_table_is_the_definition_cell_by_cell(smoothing, shift):
    counts = random_counts(12)
    dense = counts.toarray()
    found = shifted_ppmi(counts, smoothing, shift).toarray()
    contexts = dense.sum(axis=0) ** smoothing
    for w in range(12):
        for c in range(12):
            if dense[w, c]:
                joint, word = dense[w, c] / dense.sum(), dense[w].sum() / dense.sum()
                pmi = math.log(joint / (word * contexts[c] / contexts.sum()))
                assert found[w, c] == pytest.approx(max(0.0, pmi - math.log(shift)), abs=1e-12)
            else:
                assert found[w, c] == 0


def test_with_all_dimensions_the_products_are_the_table_times_itself():
    counts = random_counts()
    vectors = ppmi_vectors(counts, PpmiOptions(dimensions=40, power=1.0)).astype(float)
    table = shifted_ppmi(counts).toarray()
    assert np.allclose(vectors @ vectors.T, table @ table.T, atol=1e-4)


def test_the_subspace_iteration_finds_the_decomposition(monkeypatch):
    counts = random_counts(150)
    exact = ppmi_vectors(counts, PpmiOptions(dimensions=10))
    monkeypatch.setattr(ppmi, "DENSE_SIZE", 0)
    found = ppmi_vectors(counts, PpmiOptions(dimensions=10))
    assert np.allclose(np.linalg.norm(found, axis=0), np.linalg.norm(exact, axis=0), rtol=1e-3)
    assert np.allclose(found[:, :3], exact[:, :3], atol=1e-2)
    assert np.array_equal(found, ppmi_vectors(counts, PpmiOptions(dimensions=10)))


def test_signs_do_not_depend_on_the_library():
    vectors = ppmi_vectors(random_counts(), PpmiOptions(dimensions=8))
    assert (vectors[np.abs(vectors).argmax(axis=0), np.arange(8)] > 0).all()


def test_tokens_without_company_and_missing_dimensions_are_zero():
    counts = np.zeros((5, 5))
    counts[0, 1] = counts[1, 0] = 4
    counts[2, 3] = counts[3, 2] = 1
    vectors = ppmi_vectors(sparse.csr_matrix(counts), PpmiOptions(dimensions=9))
    assert vectors.shape == (5, 9) and vectors[:4].any(axis=1).all() and not vectors[4].any()
    assert not vectors[:, 4:].any()
    assert not ppmi_vectors(sparse.csr_matrix((5, 5)), PpmiOptions(dimensions=2)).any()
