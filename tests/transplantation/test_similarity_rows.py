"""Mixtures of shared tokens against slow, obvious references."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabalign.transplantation import similarity_rows
from vocabalign.transplantation.similarity_rows import (
    Mixture,
    map_by_shared,
    mix_by_pursuit,
    mix_by_softmax,
    mix_by_sparsemax,
    mix_nearest,
)

METHODS = {
    "sparsemax": mix_by_sparsemax,
    "softmax": mix_by_softmax,
    "nearest": mix_nearest,
    "pursuit": mix_by_pursuit,
}


def space(seed: int, wanted: int = 7, shared: int = 40, size: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(wanted, size, generator=generator), torch.randn(shared, size, generator=generator)


def dense(mixture: Mixture, wanted: int, shared: int) -> torch.Tensor:
    result = torch.zeros(wanted, shared)
    result.index_put_((mixture.owners, mixture.shared), mixture.weights, accumulate=True)
    return result


def slow_sparsemax(scores: np.ndarray) -> np.ndarray:
    """Euclidean projection onto the simplex, by bisection on the threshold."""
    low, high = scores.min() - 1, scores.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(scores - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(scores - high, 0)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_sparsemax_is_the_projection_onto_the_simplex(seed):
    wanted, shared = space(seed)
    weights = dense(mix_by_sparsemax(wanted, shared), 7, 40)
    cosines = torch.nn.functional.cosine_similarity(wanted[:, None], shared[None], dim=2).double().numpy()
    for row, scores in zip(weights.numpy(), cosines, strict=True):
        assert np.allclose(row, slow_sparsemax(scores), atol=1e-5)
    assert torch.allclose(weights.sum(1), torch.ones(7), atol=1e-5)


def test_a_token_without_a_vector_gets_no_weights():
    wanted, shared = space(0)
    wanted[2] = 0
    assert 2 not in mix_by_sparsemax(wanted, shared).owners


@pytest.mark.parametrize("weighting", ["distance", "barycentric"])
def test_nearest_agrees_with_a_slow_loop(weighting):
    wanted, shared = space(1)
    weights = dense(mix_nearest(wanted, shared, neighbors=5, weighting=weighting), 7, 40)
    for row, point in zip(weights.double(), wanted.double(), strict=True):
        distances = (shared.double() - point).norm(dim=1)
        near = distances.argsort()[:5]
        assert set(row.nonzero().flatten().tolist()) == set(near.tolist())
        if weighting == "distance":
            expected = (1 / distances[near]) / (1 / distances[near]).sum()
            assert torch.allclose(row[near], expected, atol=1e-5)
        else:  # least squares with a sum of 1: no small change of the weights that keeps the sum comes nearer
            nearest = (row @ shared.double() - point).norm()
            assert nearest <= (torch.full((5,), 0.2, dtype=torch.float64) @ shared[near].double() - point).norm()
            assert torch.isclose(row.sum(), torch.tensor(1.0, dtype=torch.float64), atol=1e-5)


def slow_softmax(scores: np.ndarray, neighbors: int, temperature: float) -> np.ndarray:
    """One token: the best K by a full sort, and the definition of the softmax."""
    best = np.argsort(-scores)[:neighbors]
    weights = np.zeros(len(scores))
    weights[best] = np.exp(scores[best] / temperature) / np.exp(scores[best] / temperature).sum()
    return weights


@given(st.integers(0, 1000), st.integers(1, 60), st.sampled_from([0.05, 0.1, 1.0]))
@settings(max_examples=20, deadline=None)
def test_softmax_agrees_with_a_slow_loop(seed, neighbors, temperature):
    wanted, shared = space(seed)
    wanted[3] = 0
    weights = dense(mix_by_softmax(wanted, shared, neighbors=neighbors, temperature=temperature), 7, 40)
    for number, (row, point) in enumerate(zip(weights.numpy(), wanted.double().numpy(), strict=True)):
        if number == 3:
            assert not row.any()
            continue
        atoms = shared.double().numpy()
        scores = atoms @ point / np.linalg.norm(atoms, axis=1) / np.linalg.norm(point)
        assert np.allclose(row, slow_softmax(scores, neighbors, temperature), atol=1e-5)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_map_by_shared_tokens_brings_a_turned_space_back_and_is_the_best_rotation(seed):
    vectors, shared = space(seed)
    turn = torch.linalg.qr(space(seed + 1, 12, 12)[0])[0]
    units = torch.nn.functional.normalize(vectors, dim=1)
    assert torch.allclose(map_by_shared(vectors, shared, 3 * shared @ turn), units @ turn, atol=1e-4)
    # With spaces that do not fit, no other rotation brings the shared tokens nearer.
    _, others = space(seed + 2)
    mapped, goals = map_by_shared(shared, shared, others), torch.nn.functional.normalize(others, dim=1)
    for other in range(5):
        rotation = torch.linalg.qr(space(seed + 3 + other, 12, 12)[0])[0]
        rotated = torch.nn.functional.normalize(shared, dim=1) @ rotation
        assert (mapped - goals).norm() <= (rotated - goals).norm() + 1e-5
    assert not map_by_shared(torch.zeros(1, 12), shared, others).any()


def slow_pursuit(point: np.ndarray, atoms: np.ndarray, steps: int, scaled: bool) -> np.ndarray:
    """The definition: take the most parallel atom (or the one with the greatest product), fit all with lstsq."""
    weights, chosen, rest = np.zeros(len(atoms)), [], point
    for _ in range(steps):
        fits = np.abs(atoms @ rest) / (np.linalg.norm(atoms, axis=1) if scaled else 1)
        fits[chosen] = -1
        chosen.append(int(fits.argmax()))
        solution = np.linalg.lstsq(atoms[chosen].T, point, rcond=None)[0]
        rest = point - solution @ atoms[chosen]
    weights[chosen] = solution
    return weights


@given(st.integers(0, 1000), st.integers(1, 6), st.booleans())
@settings(max_examples=20, deadline=None)
def test_pursuit_is_its_definition(seed, steps, scaled):
    wanted, shared = space(seed)
    weights = dense(mix_by_pursuit(wanted, shared, atoms=steps, scaled=scaled), 7, 40)
    for row, point in zip(weights.numpy(), wanted.double().numpy(), strict=True):
        assert np.allclose(row, slow_pursuit(point, shared.double().numpy(), steps, scaled), atol=1e-3)


def test_pursuit_finds_sparse_combinations_and_stops_there():
    _, shared = space(3)
    wanted = torch.stack([2 * shared[4], shared[1] - 3 * shared[7]])
    weights = dense(mix_by_pursuit(wanted, shared, atoms=12), 2, 40)
    assert torch.allclose(weights @ shared, wanted, atol=1e-4)
    assert weights[0].nonzero().flatten().tolist() == [4] and torch.isclose(weights[0, 4], torch.tensor(2.0))


@pytest.mark.parametrize("name", METHODS)
def test_blocks_do_not_matter_and_the_order_of_shared_tokens_neither(name, monkeypatch):
    wanted, shared = space(5)
    whole = dense(METHODS[name](wanted, shared), 7, 40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(dense(METHODS[name](wanted, shared[order]), 7, 40)[:, order.argsort()], whole, atol=1e-4)
    monkeypatch.setattr(similarity_rows, "BLOCK_BYTES", 1)
    assert torch.allclose(dense(METHODS[name](wanted, shared), 7, 40), whole, atol=1e-4)
    assert not len(METHODS[name](wanted[:0], shared).weights)
