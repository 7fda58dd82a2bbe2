"""Closed gradients against autograd; inequalities; extremes."""

import math

import pytest
import torch
import torch.nn.functional as F

from vocabalign.losses.divergences import DIVERGENCES, ForwardKL, JensenShannon, ReverseKL
from vocabalign.losses.pairs import Pair


def log_probs(seed, spread=3.0, n=50, v=23):
    return F.log_softmax(
        spread * torch.randn(n, v, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), -1
    )


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
@pytest.mark.parametrize("spread", [0.1, 3.0, 300.0])
def test_not_negative_finite_and_without_constant_part(name, spread):
    values, gradient = DIVERGENCES[name](Pair(log_probs(0, spread).float(), log_probs(1, spread).float()))
    assert (values > -1e-5).all() and gradient.isfinite().all() and values.isfinite().all()
    torch.testing.assert_close(gradient.sum(-1), torch.zeros(50), atol=1e-3 if spread > 10 else 1e-5, rtol=0)


def test_jensen_shannon_is_symmetric_and_bounded():
    a, b = log_probs(0, 100.0), log_probs(1, 100.0)
    torch.testing.assert_close(JensenShannon()(Pair(a, b))[0], JensenShannon()(Pair(b, a))[0])
    assert (JensenShannon()(Pair(a, b))[0] <= math.log(2) + 1e-12).all()


def test_normalised_jensen_shannon_tends_to_the_two_kls():
    q, p = log_probs(0, 1.0), log_probs(1, 1.0)
    beta = 1e-6
    torch.testing.assert_close(
        JensenShannon(beta)(Pair(q, p))[0] / beta, ForwardKL()(Pair(q, p))[0], rtol=1e-3, atol=1e-4
    )
    torch.testing.assert_close(
        JensenShannon(1 - beta)(Pair(q, p))[0] / beta, ReverseKL()(Pair(q, p))[0], rtol=1e-3, atol=1e-4
    )
