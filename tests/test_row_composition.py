"""The benchmark of learned composition: tokens re-cut without themselves, and each form beside what it must find."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vocabalign.transplantation.rows import Pieces

ROOT = Path(__file__).parents[1]
SIZE, HIDDEN, NUM = 30, 6, 200


@pytest.fixture(scope="module")
def forms():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("composition_forms")


@pytest.fixture(scope="module")
def cut():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("recut_tokens").cut_by_others


def every_cut(token: bytes, ids: dict[bytes, int]) -> list[list[int]]:
    """All ways to write the bytes, by trying each."""
    if not token:
        return [[]]
    ends = [end for end in range(1, len(token) + 1) if token[:end] in ids]
    return [[ids[token[:end]], *rest] for end in ends for rest in every_cut(token[end:], ids)]


@given(st.sets(st.text("ab", min_size=1, max_size=5).map(str.encode), min_size=1), st.data())
def test_a_token_is_cut_into_the_fewest_others(cut, tokens, data):
    ids = {token: i for i, token in enumerate(sorted(tokens))}
    token = data.draw(st.sampled_from(sorted(ids)))
    others = [way for way in every_cut(token, ids) if way != [ids[token]]]
    found = cut(token, ids)
    assert found in others if others else found == []
    assert len(found) == min(map(len, others), default=0)


def world(seed: int = 0) -> tuple[Pieces, np.ndarray]:
    """Pieces of 200 tokens, two to four each, and 30 rows of six numbers."""
    generator = np.random.default_rng(seed)
    lists = [generator.integers(0, SIZE, generator.integers(2, 5)).tolist() for _ in range(NUM)]
    return Pieces.from_lists(lists), generator.normal(size=(SIZE, HIDDEN))


def compose(pieces: Pieces, rows: np.ndarray, weigh) -> np.ndarray:
    """(N, H) token by token; ``weigh`` maps a number of pieces to their weights."""
    return np.stack([weigh(len(pieces.of(t))) @ rows[pieces.of(t)] for t in range(len(pieces))])


@pytest.mark.parametrize("side", ["input", "head"])
def test_the_learned_factor_is_the_true_one(forms, side):
    pieces, rows = world()

    def weigh(size: int) -> np.ndarray:
        weights = 0.35 ** np.arange(size)
        return (weights[::-1] if side == "input" else weights) / weights.sum()

    truth = compose(pieces, rows, weigh)
    predict = forms.learned_decay(pieces, rows, truth, np.ones(NUM), side)
    np.testing.assert_allclose(predict(pieces), truth, atol=1e-9)


@pytest.mark.parametrize("name", ["weights from the end", "weights from both", "weights × diagonal", "plain ridge"])
def test_weights_by_position_are_found_with_their_constant(forms, name):
    pieces, rows = world()
    lists = [pieces.of(t)[:3].tolist() for t in range(NUM)]
    pieces = Pieces.from_lists(lists)
    truth = compose(pieces, rows, lambda size: np.array([0.2, 0.5, 0.9])[3 - size :]) + np.arange(HIDDEN)
    if name == "plain ridge":  # knows no piece before the last of two, but the first
        truth = compose(pieces, rows, lambda size: np.array([0.2, 0.5, 0.9])[[0, 1, 2] if size == 3 else [0, 2]])
    predict = forms.FORMS[name](pieces, rows, truth, np.ones(NUM), "input")
    assert forms.squared_error(predict(pieces), truth, np.ones(NUM)) < 1e-4 * forms.squared_error(
        truth - truth.mean(0), np.zeros_like(truth), np.ones(NUM)
    )


def test_no_weight_is_negative(forms):
    pieces, rows = world()
    truth = -compose(pieces, rows, np.ones)
    predict = forms.FORMS["weights from the end"](pieces, rows, truth, np.ones(NUM), "input")
    np.testing.assert_allclose(predict(pieces), np.tile(truth.mean(0), (NUM, 1)), atol=1e-6)


def test_a_residual_is_taken_where_there_is_one_and_left_where_there_is_noise(forms):
    pieces, rows = world()
    generator = np.random.default_rng(1)
    mapped = compose(pieces, rows, lambda size: np.arange(size) == size - 1) @ generator.normal(size=(HIDDEN, HIDDEN))
    base, with_map = forms.FORMS["weights from both"], forms.FORMS["+ residual"]
    trust, half = np.ones(NUM // 2), np.arange(NUM // 2)
    learned, tested = forms.select(pieces, half), forms.select(pieces, half + NUM // 2)

    def error(form, truth: np.ndarray) -> float:
        predict = form(learned, rows, truth[half], trust, "input")
        return forms.squared_error(predict(tested), truth[half + NUM // 2], trust)

    assert error(with_map, mapped) < 0.1 * error(base, mapped)
    noise = generator.normal(size=mapped.shape)
    assert error(with_map, noise) < 1.2 * error(base, noise)


def test_unbelieved_tokens_change_nothing(forms):
    pieces, rows = world()
    truth = np.random.default_rng(2).normal(size=(NUM, HIDDEN))
    trust = (np.arange(NUM) < NUM // 2).astype(float)
    spoilt = truth.copy()
    spoilt[NUM // 2 :] += 100
    for name, form in forms.FORMS.items():
        if name != "+ residual":  # its folds are drawn from all tokens
            first, second = (form(pieces, rows, given, trust, "head")(pieces) for given in (truth, spoilt))
            np.testing.assert_allclose(first, second, atol=1e-6, err_msg=name)


@pytest.fixture(scope="module")
def likelihood(forms):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("composition_likelihood")


def places_of(likelihood, ids: np.ndarray, scale: float = 0.5):
    generator = torch.Generator().manual_seed(0)
    states, head = torch.randn(7, HIDDEN, generator=generator), torch.randn(SIZE, HIDDEN, generator=generator)
    return states, head, likelihood.Places.of(states, head, ids, scale)


def test_what_composed_rows_cost_is_the_divergence_of_each_token_from_all_others(likelihood):
    ids = np.array([3, 8, 21])
    states, head, places = places_of(likelihood, ids)
    rows = torch.randn(3, HIDDEN, generator=torch.Generator().manual_seed(1))
    expected = 0.0
    for state in states:
        true = torch.softmax(0.5 * head @ state, 0)
        for row, token in zip(rows, ids, strict=True):
            changed = head.clone()
            changed[token] = row
            p, q = true[token], torch.softmax(0.5 * changed @ state, 0)[token]
            expected += float(p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()) / len(states)
    assert float(places.excess(rows)) == pytest.approx(expected, rel=1e-4)
    assert float(places.excess(head[ids])) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("shifts", [False, True])
def test_learning_by_likelihood_pays_less_than_auto_and_leaves_what_is_fixed(likelihood, shifts):
    pieces, rows = world()
    ids = np.arange(20)
    states, head, places = places_of(likelihood, ids)
    lists = [pieces.of(t).tolist() for t in ids]
    shift = np.linspace(-1, 1, len(ids))
    examples = likelihood.Examples.of(Pieces.from_lists(lists), rows, shift)
    direction = torch.ones(HIDDEN)
    start = likelihood.Composition.start(direction)
    by_hand = torch.from_numpy(rows[[row[0] for row in lists]]).float() + torch.from_numpy(shift).float()[:, None]
    torch.testing.assert_close(start.rows(examples), by_hand)
    made = likelihood.learn(examples, places, direction, mapped=False, shifts=shifts)
    assert float(places.excess(made.rows(examples))) < float(places.excess(start.rows(examples)))
    assert made.mapping.norm() == 0 and torch.equal(made.shifts, start.shifts) != shifts
