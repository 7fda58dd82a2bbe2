from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from vocabalign.alignment.mapping import learn_mapping
from vocabalign.alignment.mapping_options import PRESETS, MappingOptions
from vocabalign.alignment.neighbors import csls_top_k, unit_rows
from vocabalign.alignment.procrustes import solve_procrustes
from vocabalign.alignment.unsupervised import similarity_distributions
from vocabalign.errors import TooFewAnchorsError


def spaces(number: int, dimensions: int, seed: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((number, dimensions)) * np.linspace(2, 0.5, dimensions) + 0.3
    rotation = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))[0]
    y = x @ rotation + noise * rng.standard_normal(x.shape)
    return x.astype(np.float32), y.astype(np.float32), rotation.astype(np.float32)


@settings(deadline=None, max_examples=10)
@given(dimensions=st.integers(2, 16), seed=st.integers(0, 99))
def test_procrustes_recovers_a_rotation(dimensions, seed):
    x, y, rotation = spaces(3 * dimensions, dimensions, seed)
    found = solve_procrustes(x, y)
    assert np.allclose(found, rotation, atol=1e-4)
    assert np.allclose(found @ found.T, np.eye(dimensions), atol=1e-5)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("self_learning", [False, True])
def test_a_rotated_space_is_mapped_back_and_every_pair_found(whiten, self_learning):
    x, y, rotation = spaces(400, 20, 0)
    order = np.random.default_rng(1).permutation(400)
    y = y[order]
    truth = np.argsort(order)
    anchors = np.stack([np.arange(60), truth[:60]], axis=1)
    mapping = learn_mapping(x, y, anchors, options=MappingOptions(whiten=whiten, self_learning=self_learning))
    source, target = mapping.map_source(x), mapping.map_target(y)
    assert np.allclose(source, target[truth], atol=1e-3)
    assert np.array_equal(csls_top_k(source, target, 1)[1][:, 0], order)
    if not whiten:
        assert np.allclose(mapping.source_matrix, rotation, atol=1e-3)


def test_self_learning_grows_the_dictionary_and_helps_few_noisy_anchors():
    x, y, _ = spaces(600, 20, 2, noise=0.6)
    anchors = np.stack([np.arange(24)] * 2, axis=1)

    def precision(self_learning: bool) -> float:
        mapping = learn_mapping(x, y, anchors, options=MappingOptions(self_learning=self_learning))
        if self_learning:
            assert mapping.pairs[0] == 24 and mapping.pairs[-1] > 100
            assert max(mapping.objectives) > mapping.objectives[0]
        return float((csls_top_k(mapping.map_source(x), mapping.map_target(y), 1)[1][:, 0] == np.arange(600)).mean())

    assert precision(True) > precision(False)


def test_dropping_is_reproducible_and_ends():
    x, y, _ = spaces(300, 10, 3, noise=0.5)
    anchors = np.stack([np.arange(20)] * 2, axis=1)
    options = MappingOptions(keep_probability=0.25, seed=5, max_iterations=30)
    first, second = (learn_mapping(x, y, anchors, options=options) for _ in range(2))
    assert np.array_equal(first.source_matrix, second.source_matrix)
    assert len(first.objectives) < 30


def test_tokens_without_a_vector_take_no_part():
    x, y, _ = spaces(200, 10, 4)
    x[150:], y[150:] = 0, 0
    anchors = np.stack([np.arange(200)] * 2, axis=1)
    mapping = learn_mapping(x, y, anchors)
    assert mapping.pairs[0] == 150
    assert not mapping.map_source(x)[150:].any() and not mapping.map_target(y)[150:].any()


def test_weights_decide_between_anchors_that_contradict_each_other():
    x, y, rotation = spaces(100, 6, 5)
    wrong = np.stack([np.arange(50), np.roll(np.arange(50), 1)], axis=1)
    right = np.stack([np.arange(50, 100)] * 2, axis=1)
    options = MappingOptions(whiten=False, self_learning=False, centre=False)
    weights = np.concatenate([np.zeros(50), np.ones(50)])
    mapping = learn_mapping(x, y, np.concatenate([wrong, right]), weights=weights, options=options)
    assert np.allclose(mapping.source_matrix, rotation, atol=1e-3)


def test_too_few_anchors_are_told():
    x, y, _ = spaces(100, 30, 6)
    x[5:10] = 0
    anchors = np.stack([np.arange(25)] * 2, axis=1)
    with pytest.raises(TooFewAnchorsError, match=r"20 of 25 shared tokens .* at least 30: .* at most 10 dimensions"):
        learn_mapping(x, y, anchors)


def isomorphic(number: int, dimensions: int, seed: int, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two spaces that differ by rotation, order and noise; source rows in clusters, as those of tokens are."""
    rng = np.random.default_rng(seed)
    centres = 2 * rng.standard_normal((number // 10, dimensions))
    x = centres[rng.integers(len(centres), size=number)] + rng.standard_normal((number, dimensions))
    rotation = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))[0]
    order = rng.permutation(number)
    y = (x @ rotation)[order] + noise * rng.standard_normal(x.shape)
    return x.astype(np.float32), y.astype(np.float32), order


def found_share(mapping, x, y, order) -> float:
    return float((csls_top_k(mapping.map_source(x), mapping.map_target(y), 1)[1][:, 0] == order).mean())


NO_ANCHORS = np.zeros((0, 2), dtype=np.int64)


@pytest.mark.parametrize("method", ["vecmap", "muse"])
def test_an_unsupervised_start_finds_the_map_without_any_pair(method):
    x, y, order = isomorphic(500, 12, 0, noise=0.05)
    options = replace(PRESETS["tokalign++"], method=method, start="unsupervised", keep_seeds=False, max_iterations=60)
    mapping = learn_mapping(x, y, NO_ANCHORS, options=options)
    assert found_share(mapping, x, y, order) > 0.95
    again = learn_mapping(x, y, NO_ANCHORS, options=options)
    assert np.array_equal(mapping.source_matrix, again.source_matrix) and mapping.objectives == again.objectives


def test_similarity_distributions_know_neither_rotation_nor_order():
    x, y, order = isomorphic(120, 8, 1, noise=0.0)
    of_source, of_target = (similarity_distributions(unit_rows(v)) for v in (x, y))
    assert np.allclose(of_source[order], of_target, atol=1e-4)
    root = np.real(sqrtm(unit_rows(x).astype(np.float64) @ unit_rows(x).T.astype(np.float64)))
    expected = np.sort(root, axis=1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    expected -= expected.mean(axis=0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.allclose(of_source, expected, atol=1e-3)


def test_muse_refines_a_poor_rotation_and_stays_a_rotation():
    x, y, order = isomorphic(600, 20, 2, noise=1.0)
    truth = np.argsort(order)
    anchors = np.stack([np.arange(24), truth[:24]], axis=1)
    shares = {}
    for name in ("procrustes", "muse"):
        mapping = learn_mapping(x, y, anchors, options=PRESETS[name])
        assert np.allclose(mapping.source_matrix @ mapping.source_matrix.T, np.eye(20), atol=1e-4)
        assert np.array_equal(mapping.target_matrix, np.eye(20, dtype=np.float32))
        shares[name] = found_share(mapping, x, y, order)
    assert shares["muse"] > shares["procrustes"] + 0.05
    # The restriction to common tokens holds: what is rare joins no dictionary.
    options = replace(PRESETS["muse"], frequency_cutoff=100)
    mapping = learn_mapping(x, y, anchors, options=options, source_counts=np.arange(600), target_counts=np.arange(600))
    assert max(mapping.pairs[1:]) <= 100


@pytest.mark.parametrize("name", list(PRESETS))
def test_renumbered_tokens_give_the_renumbered_neighbours(name):
    x, y, order = isomorphic(200, 8, 3, noise=0.2)
    truth = np.argsort(order)
    anchors = np.stack([np.arange(40), truth[:40]], axis=1)
    options = replace(PRESETS[name], keep_probability=1.0, frequency_cutoff=10_000)
    source_order, target_order = (np.random.default_rng(seed).permutation(200) for seed in (4, 5))
    moved = np.stack([np.argsort(source_order)[anchors[:, 0]], np.argsort(target_order)[anchors[:, 1]]], axis=1)
    mapping = learn_mapping(x, y, anchors, options=options)
    renumbered = learn_mapping(x[source_order], y[target_order], moved, options=options)
    first = csls_top_k(mapping.map_source(x), mapping.map_target(y), 1)[1][:, 0]
    second = csls_top_k(renumbered.map_source(x[source_order]), renumbered.map_target(y[target_order]), 1)[1][:, 0]
    assert np.mean(source_order[second] == first[target_order]) > 0.99


def test_seeds_stay_where_they_are_kept_and_leave_where_not():
    x, y, order = isomorphic(300, 10, 6, noise=0.1)
    truth = np.argsort(order)
    wrong = np.stack([np.arange(30), np.roll(truth[:30], 1)], axis=1)
    seeds = np.concatenate([wrong, np.stack([np.arange(30, 130), truth[30:130]], axis=1)])
    pairs = {}
    for keep_seeds in (True, False):
        options = MappingOptions(self_learning=True, keep_seeds=keep_seeds, max_iterations=6)
        pairs[keep_seeds] = learn_mapping(x, y, seeds, options=options)
    # What the wrong seeds occupy, no found pair can take; and their errors stay in the map.
    assert max(pairs[True].pairs) <= 300 - 30 + 30
    cosines = [
        np.einsum("nd,nd->n", mapping.map_source(x)[order], mapping.map_target(y)).mean() for mapping in pairs.values()
    ]
    assert cosines[1] > cosines[0]
