from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import inv, sqrtm

from vocabalign.alignment.procrustes import mean_of, normalise, solve_procrustes, whitened_maps


def rows(number: int, dimensions: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    correlated = np.eye(dimensions) + 0.3 * rng.random((dimensions, dimensions))
    return (rng.standard_normal((number, dimensions)) @ correlated).astype(np.float32)


def test_normalising_is_length_centre_length():
    vectors = rows(30, 5, 0) + 1
    vectors[3] = 0
    expected = np.stack([v / np.linalg.norm(v) for v in vectors if v.any()])
    expected = expected - expected.mean(axis=0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = normalise(vectors, mean_of(vectors, True))
    assert np.allclose(np.delete(found, 3, axis=0), expected, atol=1e-5) and not found[3].any()
    assert not mean_of(vectors, False).any()


@settings(deadline=None, max_examples=15)
@given(dimensions=st.integers(2, 12), seed=st.integers(0, 99))
def test_the_rotation_is_orthogonal_and_no_other_is_better(dimensions, seed):
    x, y = rows(40, dimensions, seed), rows(40, dimensions, seed + 1)
    rotation = solve_procrustes(x, y)
    assert np.allclose(rotation @ rotation.T, np.eye(dimensions), atol=1e-5)
    rng = np.random.default_rng(seed)
    for _ in range(5):
        other = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))[0]
        assert np.linalg.norm(x @ rotation - y) <= np.linalg.norm(x @ other - y) + 1e-3


@pytest.mark.parametrize("reweight", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("dewhiten", [False, True])
def test_each_step_is_that_of_the_paper(reweight, dewhiten):
    """Artetxe et al. (AAAI 2018), table 1, with scipy's matrix roots."""
    x, z = rows(200, 6, 0).astype(np.float64), rows(200, 6, 1).astype(np.float64)
    white_x, white_z = (np.real(inv(sqrtm(m.T @ m))) for m in (x, z))
    u, s, vt = np.linalg.svd((x @ white_x).T @ (z @ white_z))
    expected_x, expected_z = white_x @ u @ np.diag(s**reweight), white_z @ vt.T @ np.diag(s**reweight)
    if dewhiten:
        expected_x = expected_x @ u.T @ inv(white_x) @ u
        expected_z = expected_z @ vt @ inv(white_z) @ vt.T
    found_x, found_z = whitened_maps(x, z, reweight, dewhiten)
    assert np.allclose((x @ found_x) @ (z @ found_z).T, (x @ expected_x) @ (z @ expected_z).T, rtol=1e-3, atol=1e-3)


def test_whitening_makes_second_moments_the_identity():
    x, z = rows(300, 7, 2), rows(300, 7, 3)
    found_x, found_z = whitened_maps(x, z, 0.0, False)
    for mapped in (x @ found_x, z @ found_z):
        assert np.allclose(mapped.T @ mapped, np.eye(7), atol=1e-3)


def test_without_reweighting_and_with_dewhitening_lengths_stay():
    x, z = rows(300, 7, 2), rows(300, 7, 3)
    found_x, found_z = whitened_maps(x, z, 0.0, True)
    for rows_of, matrix in ((x, found_x), (z, found_z)):
        assert np.allclose(np.linalg.norm(rows_of @ matrix, axis=1), np.linalg.norm(rows_of, axis=1), rtol=1e-3)
