"""Closed gradients against autograd, exact zeros, inequalities, limits, extremes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.losses.plain import PLAIN, jensen_shannon, kl, log_probs, mixed
from vocabalign.losses.divergences import (
    DIVERGENCES,
    AdaptiveKL,
    ForwardKL,
    JensenShannon,
    ReverseKL,
    SkewedKL,
    SkewedReverseKL,
    named,
)
from vocabalign.losses.pairs import Pair

NAMES = sorted(DIVERGENCES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spread", [0.1, 3.0, 20.0])
def test_value_and_gradient_are_those_of_the_formula(name, spread):
    logits = log_probs(0, spread).requires_grad_()
    q, p = logits.log_softmax(-1), log_probs(1, spread)
    expected = PLAIN[name](q, p)
    values, gradient = DIVERGENCES[name](Pair(q.detach(), p))
    torch.testing.assert_close(values, expected.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), logits)[0], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    "divergence,plain",
    [
        (JensenShannon(0.1), lambda q, p: jensen_shannon(q, p, 0.1)),
        (JensenShannon(0.9), lambda q, p: jensen_shannon(q, p, 0.9)),
        (JensenShannon(0.1, normalised=True), lambda q, p: jensen_shannon(q, p, 0.1) / 0.09),
        (SkewedKL(0.5), lambda q, p: kl(p, mixed(p, q, 0.5))),
        (SkewedReverseKL(0.01), lambda q, p: kl(q, mixed(p, q, 0.99))),
    ],
)
def test_parameters_have_their_meaning(divergence, plain):
    logits = log_probs(0).requires_grad_()
    expected = plain(logits.log_softmax(-1), log_probs(1))
    values, gradient = divergence(Pair(logits.detach(), log_probs(1)))
    torch.testing.assert_close(values, expected.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), logits)[0])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None)
@given(spread=st.floats(0, 400), seed=st.integers(0, 10**6), double=st.booleans())
def test_equal_distributions_give_exactly_zero(name, spread, seed, double):
    q = log_probs(seed, spread, n=5, dtype=torch.float64 if double else torch.float32)
    q[0, 3] = -math.inf
    values, gradient = DIVERGENCES[name](Pair(q, q.clone()))
    assert not values.any() and not gradient.any()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None)
@given(spread=st.floats(0.01, 300), seed=st.integers(0, 10**6))
def test_never_negative_always_finite_and_the_gradient_has_no_constant_part(name, spread, seed):
    q, p = log_probs(seed, spread, dtype=torch.float32), log_probs(seed + 1, spread, dtype=torch.float32)
    values, gradient = DIVERGENCES[name](Pair(q, p))
    assert (values > -1e-6).all() and gradient.isfinite().all() and values.isfinite().all()
    assert (gradient.sum(-1).abs() <= 1e-5 * values.clamp(min=1)).all()


@pytest.mark.parametrize("name", NAMES)
def test_agreement_in_single_precision(name):
    q, p = log_probs(0, 4.0, v=5000), log_probs(1, 4.0, v=5000)
    exact, exact_gradient = DIVERGENCES[name](Pair(q, p))
    rough, gradient = DIVERGENCES[name](Pair(q.float(), p.float()))
    torch.testing.assert_close(rough.double(), exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-3, atol=1e-6)


def test_bounds():
    q, p = log_probs(0, 100.0), log_probs(1, 100.0)
    for beta in (0.1, 0.5, 0.9):
        entropy = -beta * math.log(beta) - (1 - beta) * math.log(1 - beta)
        assert (JensenShannon(beta)(Pair(q, p))[0] <= entropy + 1e-12).all()
    for divergence in (SkewedKL(0.1), SkewedReverseKL(0.1)):
        assert (divergence(Pair(q, p))[0] <= -math.log(0.1) + 1e-12).all()
    torch.testing.assert_close(JensenShannon()(Pair(q, p))[0], JensenShannon()(Pair(p, q))[0])


@settings(max_examples=30, deadline=None)
@given(spread=st.floats(0.01, 10), seed=st.integers(0, 10**6))
def test_inequality_of_pinsker(spread, seed):
    pair = Pair(log_probs(seed, spread), log_probs(seed + 1, spread))
    variation = DIVERGENCES["total-variation"](pair)[0]
    assert (variation <= 1 + 1e-12).all()
    for name in ("forward-kl", "reverse-kl"):
        assert (variation <= (DIVERGENCES[name](pair)[0] / 2).sqrt() + 1e-9).all()


def test_limits():
    pair = Pair(log_probs(0, 1.0), log_probs(1, 1.0))
    forward, reverse = ForwardKL()(pair), ReverseKL()(pair)
    for near, limit in (
        (JensenShannon(1e-6, normalised=True), forward),
        (JensenShannon(1 - 1e-6, normalised=True), reverse),
        (SkewedKL(1e-7), forward),
        (SkewedReverseKL(1e-7), reverse),
    ):
        for found, expected in zip(near(pair), limit):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_ends_of_beta_are_the_two_kl_as_in_trl():
    pair = Pair(log_probs(0), log_probs(1))
    for normalised in (False, True):
        for beta, divergence in ((0.0, ForwardKL()), (1.0, ReverseKL())):
            for found, expected in zip(JensenShannon(beta, normalised)(pair), divergence(pair)):
                assert torch.equal(found, expected)


def test_high_temperature_turns_kl_into_the_squared_distance_of_logits():
    g = torch.Generator().manual_seed(0)
    z, t = (torch.randn(9, 31, generator=g, dtype=torch.float64) for _ in range(2))
    temperature = 1e4
    value = ForwardKL()(Pair((z / temperature).log_softmax(-1), (t / temperature).log_softmax(-1)))[0]
    torch.testing.assert_close(value * temperature**2, (z - t).var(-1, unbiased=False) / 2, rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_events_excluded_on_both_sides_do_not_count(name):
    q, p = log_probs(0, v=11), log_probs(1, v=11)
    nothing = torch.full((50, 3), -math.inf, dtype=torch.float64)
    values, gradient = DIVERGENCES[name](Pair(torch.cat([q, nothing], 1), torch.cat([p, nothing], 1)))
    expected, expected_gradient = DIVERGENCES[name](Pair(q, p))
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(gradient[:, :11], expected_gradient)
    assert not gradient[:, 11:].any()


def test_an_event_that_one_side_excludes_is_infinite_or_bounded():
    q, p = log_probs(0, v=4), log_probs(1, v=4)
    without = p.clone()
    without[:, 0] = -math.inf
    without = without.log_softmax(-1)
    assert ForwardKL()(Pair(without, p))[0].isinf().all() and ForwardKL()(Pair(q, without))[0].isfinite().all()
    assert ReverseKL()(Pair(q, without))[0].isinf().all() and ReverseKL()(Pair(without, p))[0].isfinite().all()
    for divergence in (JensenShannon(), SkewedKL(), SkewedReverseKL(), named("total-variation")):
        for pair in (Pair(without, p), Pair(q, without)):
            values, gradient = divergence(pair)
            assert values.isfinite().all() and gradient.isfinite().all()


def test_head_of_adaptive_kl_beyond_the_first_candidates():
    q, p = log_probs(0, 0.5, n=6, v=3000), log_probs(1, 0.5, n=6, v=3000)  # some 1,000 tokens hold one half
    torch.testing.assert_close(AdaptiveKL()(Pair(q, p))[0], PLAIN["adaptive-kl"](q, p))


def test_what_makes_no_sense_is_refused():
    for make in (
        lambda: JensenShannon(1.5),
        lambda: SkewedKL(0.0),
        lambda: SkewedReverseKL(1.0),
        lambda: AdaptiveKL(0.0),
        lambda: named("nonsense"),
        lambda: Pair(log_probs(0), log_probs(1, v=5)),
    ):
        with pytest.raises(ValueError):
            make()
