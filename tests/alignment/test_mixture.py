from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from vocabalign.alignment.mixture import Events, MixtureWeights, bits, learn_weights

PRIOR = np.array([[0.3, 0.3, 0.4], [0.5, 0.0, 0.5]])


def make_events(number: int, seed: int, cells: int = 1, scripts: int = 1, truth=(0.6, 0.3, 0.1)) -> Events:
    """Events drawn from a known mixture of two layers and a background over ten source tokens."""
    rng = np.random.default_rng(seed)
    layers = rng.dirichlet(np.full(10, 0.3), size=2)
    table = np.vstack([layers, np.full(10, 0.1)])
    sources = rng.choice(10, size=number, p=np.array(truth) @ table)
    return Events(
        table[:, sources].T.copy(),
        np.ones(number),
        np.arange(number),
        rng.integers(cells, size=number),
        rng.integers(scripts, size=number),
    )


def total_bits(events: Events, learned: MixtureWeights) -> float:
    return float(bits(events, learned.of(events.cells, events.scripts)).sum())


def test_the_weights_that_made_the_events_are_found():
    events = make_events(20_000, 0)
    learned = learn_weights(events, PRIOR[:1])
    assert learned.cells[0] == pytest.approx([0.6, 0.3, 0.1], abs=0.03)
    assert learned.scripts[0, 0] == pytest.approx([0.6, 0.3, 0.1], abs=0.03)


def test_no_other_weights_make_the_events_more_likely():
    events = make_events(400, 1)
    strong = make_events(400, 1)
    strong.tokens[:] = 1e8
    strong.targets[:] = np.arange(400)
    learned = learn_weights(strong, PRIOR[:1]).cells[0]

    def cost(logits: np.ndarray) -> float:
        weights = np.exp(logits - logits.max())
        return float(bits(events, np.tile(weights / weights.sum(), (400, 1))).sum())

    best = minimize(cost, np.zeros(3), method="Nelder-Mead", options={"maxiter": 4000, "fatol": 1e-9, "xatol": 1e-7})
    assert bits(events, np.tile(learned, (400, 1))).sum() == pytest.approx(best.fun, abs=0.05)


@settings(deadline=None, max_examples=20)
@given(number=st.integers(0, 60), seed=st.integers(0, 999))
def test_weights_are_distributions_and_silent_layers_stay_silent(number, seed):
    events = make_events(number, seed, cells=2, scripts=3)
    events.probabilities[events.cells == 1, 1] = 0
    learned = learn_weights(events, PRIOR)
    found = learned.of(np.repeat([0, 1], 4), np.tile([0, 1, 2, 7], 2))
    assert np.allclose(found.sum(axis=1), 1) and (found >= 0).all()
    assert not found[4:, 1].any()


def test_few_tokens_hardly_move_what_is_believed_and_one_token_counts_little():
    few = learn_weights(make_events(1, 2), PRIOR[:1]).cells[0]
    assert np.abs(few - PRIOR[0]).max() < 0.3
    many = make_events(400, 2)
    one_token = Events(many.probabilities, many.tokens, np.zeros(400, dtype=int), many.cells, many.scripts)
    moved, shrunk = (np.abs(learn_weights(events, PRIOR[:1]).cells[0] - PRIOR[0]).sum() for events in (many, one_token))
    assert shrunk < moved
    nothing = learn_weights(make_events(0, 0), PRIOR)
    assert np.array_equal(nothing.of(np.array([1]), np.array([4])), PRIOR[1:])


def test_a_script_without_events_takes_its_cells_weights_and_others_learn_their_own():
    first, second = make_events(3_000, 3, truth=(0.9, 0.0, 0.1)), make_events(3_000, 3, truth=(0.0, 0.9, 0.1))
    columns = [np.concatenate([getattr(one, n) for one in (first, second)]) for n in ("probabilities", "tokens")]
    events = Events(*columns, np.arange(6_000), np.zeros(6_000, int), np.repeat([0, 1], 3_000))
    learned = learn_weights(events, PRIOR[:1])
    own = learned.of(np.zeros(3, int), np.arange(3))
    assert own[0, 0] > 0.8 and own[1, 1] > 0.8
    assert np.array_equal(own[2], learned.cells[0]) and 0.3 < own[2, 0] < 0.6
    together = MixtureWeights(learned.prior, learned.cells, {})
    assert total_bits(events, learned) < total_bits(events, together)
