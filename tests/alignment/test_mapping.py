from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabalign.alignment.mapping import learn_mapping
from vocabalign.alignment.mapping_options import MappingOptions
from vocabalign.alignment.neighbors import csls_top_k
from vocabalign.alignment.procrustes import solve_procrustes
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
