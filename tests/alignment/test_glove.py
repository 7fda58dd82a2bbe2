from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from tests.alignment.toy import make_texts, word_vocabulary
from vocabalign.alignment import glove
from vocabalign.alignment.cooccurrence import count_cooccurrence
from vocabalign.alignment.glove import GloveOptions, pair_weights, tile_gradients, train_glove

pytestmark = pytest.mark.filterwarnings("ignore:Sparse")
OPTIONS = GloveOptions(dimensions=8, epochs=10, x_max=10)


def toy_counts():
    return count_cooccurrence(word_vocabulary(), make_texts(100), 15).symmetric()


def random_table(seed, shape=(7, 5), density=0.5):
    rng = np.random.default_rng(seed)
    return sparse.random(*shape, density, format="csr", random_state=seed, data_rvs=lambda n: rng.uniform(0.05, 300, n))


def objective(table, words, contexts, word_biases, context_biases, options):
    """Equation 8 pair by pair, halved, in float64."""
    total = 0.0
    coo = table.tocoo()
    for i, j, x in zip(coo.row, coo.col, coo.data, strict=True):
        weight = (x / options.x_max) ** options.alpha if x < options.x_max else 1.0
        total += 0.5 * weight * (words[i] @ contexts[j] + word_biases[i] + context_biases[j] - np.log(x)) ** 2
    return total


@pytest.mark.parametrize("seed", range(3))
def test_the_gradients_are_those_of_the_published_objective(seed):
    table = random_table(seed)
    generator = torch.Generator().manual_seed(seed)
    words, contexts, word_biases, context_biases = (
        torch.randn(*shape, generator=generator, requires_grad=True) for shape in ((7, 3), (5, 3), (7,), (5,))
    )
    coo = table.tocoo()
    logarithms = torch.from_numpy(np.log(coo.data)).float()
    weights = torch.clamp((torch.from_numpy(coo.data) / 10) ** 0.75, max=1).float()
    row, column = torch.from_numpy(coo.row).long(), torch.from_numpy(coo.col).long()
    products = (words[row] * contexts[column]).sum(dim=1)
    expected = (0.5 * weights * (products + word_biases[row] + context_biases[column] - logarithms) ** 2).sum()
    expected.backward()
    tile = glove._make_tile(table.tocsc(), OPTIONS)
    with torch.no_grad():
        error, for_words, for_contexts = tile_gradients(tile, (words, word_biases), (contexts, context_biases))
    values = [part.detach().numpy().astype(float) for part in (words, contexts, word_biases, context_biases)]
    assert error == pytest.approx(float(expected.detach()), rel=1e-5)
    assert error == pytest.approx(objective(table, *values, OPTIONS), rel=1e-5)
    for found, leaf in zip((*for_words, *for_contexts), (words, word_biases, contexts, context_biases), strict=True):
        torch.testing.assert_close(found, leaf.grad, rtol=1e-4, atol=1e-4)


def test_one_tile_and_one_epoch_are_one_step_of_adagrad(monkeypatch):
    """With a single tile the whole is: start, gradient, ``value -= rate * g / sqrt(g^2)``."""
    monkeypatch.setattr(glove, "FEWEST_PARTS", 1)
    table = random_table(0, (6, 6), 1.0)
    before = train_glove(table, GloveOptions(dimensions=3, epochs=0), seed=1)
    after = train_glove(table, GloveOptions(dimensions=3, epochs=1), seed=1)
    assert np.allclose(np.abs(after.words - before.words), 0.05, atol=1e-4)
    assert np.allclose(np.abs(after.word_biases - before.word_biases), 1.0, atol=1e-3)
    expected = objective(
        table, before.words, before.contexts, before.word_biases, before.context_biases, GloveOptions(dimensions=3)
    )
    assert after.objectives[0] == pytest.approx(expected / table.nnz, rel=1e-5)


def test_weights_rise_to_one():
    assert np.allclose(pair_weights(np.array([0.0625, 100, 1e6]), 100, 0.75), [(0.0625 / 100) ** 0.75, 1, 1])


def test_tiles_hold_every_pair_once():
    table = random_table(3, (20, 20), 0.3)
    slices = [slice(0, 3), slice(3, 11), slice(11, 20)]
    tiles = glove._cut(table, slices, OPTIONS)
    found = np.zeros((20, 20))
    for rows, stripe in zip(slices, tiles, strict=True):
        for columns, tile in zip(slices, stripe, strict=True):
            places = rows.start + tile.rows.numpy(), columns.start + tile.columns.numpy()
            np.add.at(found, places, np.exp(tile.logarithms.numpy()))
            assert np.array_equal(tile.rows[tile.by_column], tile.column_rows)
    assert np.allclose(found, table.toarray(), rtol=1e-5)
    strata = list(glove._strata(5, np.random.default_rng(0)))
    assert len({place for stratum in strata for place in stratum}) == 25
    for stratum in strata:
        assert len({row for row, _ in stratum}) == len({column for _, column in stratum}) == 5


def test_the_objective_falls_and_what_is_reported_is_true():
    table = toy_counts()
    result = train_glove(table, OPTIONS, seed=0)
    assert all(later < earlier for earlier, later in zip(result.objectives[:5], result.objectives[1:6]))
    parts = (result.words, result.contexts, result.word_biases, result.context_biases)
    now = objective(table, *(part.astype(float) for part in parts), OPTIONS) / table.nnz
    # The reported one is of the pairs as they came during the epoch.
    assert 0.5 * result.objectives[-1] < now < result.objectives[-1] < 0.2 * result.objectives[0]


def test_the_seed_alone_decides():
    table = toy_counts()
    first, again, threads, other = (
        train_glove(table, OPTIONS, seed, n) for seed, n in ((3, 1), (3, 1), (3, 2), (4, 1))
    )
    assert np.array_equal(first.vectors, again.vectors) and first.objectives == again.objectives
    assert np.array_equal(first.vectors, threads.vectors)
    assert not np.array_equal(first.vectors, other.vectors)


def test_tokens_without_company_have_no_vector():
    table = sparse.csr_matrix(np.array([[0, 2, 0], [2, 0, 0], [0, 0, 0]], dtype=float))
    result = train_glove(table, OPTIONS, seed=0)
    assert result.vectors.any(axis=1).tolist() == [True, True, False]
    nothing = train_glove(sparse.csr_matrix((3, 3)), OPTIONS, seed=0)
    assert not nothing.vectors.any()
