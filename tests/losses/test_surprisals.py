"""Divergences of surprisals: textbook forms, slopes, limits."""

import math

import pytest
import torch

from vocabalign.losses.surprisals import FLOOR, surprisal_divergence

A, B = torch.meshgrid(*[torch.tensor([1e-6, 1e-3, 0.1, 1.0, 7.0, 90.0], dtype=torch.float64)] * 2, indexing="ij")
TAUS = [1.0, 5.0, 100.0, math.inf]


def textbook(a, b, tau):
    if math.isinf(tau):
        return b - a + a * (a / b).log()
    p, q = (-a / tau).exp(), (-b / tau).exp()
    return tau * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log())


@pytest.mark.parametrize("tau", TAUS)
def test_values_slopes_and_sign(tau):
    a, b = A.clone(), B.clone().requires_grad_()
    values, slopes = surprisal_divergence(a, b, tau)
    inside = (A > FLOOR) & (B > FLOOR)
    torch.testing.assert_close(values[inside].detach(), textbook(A, B, tau)[inside], rtol=1e-6, atol=1e-9)
    (gradient,) = torch.autograd.grad(values[inside].sum(), b)
    torch.testing.assert_close(slopes[inside].detach(), gradient[inside], rtol=1e-6, atol=1e-9)
    assert (values >= 0).all() and values.isfinite().all() and slopes.isfinite().all()


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_surprisals_are_exactly_nothing(tau, dtype):
    a = A.reshape(-1).to(dtype)
    values, slopes = surprisal_divergence(a, a.clone(), tau)
    assert not values.any() and not slopes.any()


@pytest.mark.parametrize("tau", TAUS)
def test_continued_by_its_tangent_below_the_floor(tau):
    a = torch.tensor([2.0], dtype=torch.float64)
    at, slope = surprisal_divergence(a, torch.tensor([FLOOR], dtype=torch.float64), tau)
    below, same = surprisal_divergence(a, torch.tensor([0.0], dtype=torch.float64), tau)
    torch.testing.assert_close(below, at - FLOOR * slope)
    assert same == slope < 0


def test_limit():
    """τ -> ∞ is the I-divergence of surprisals; τ = 100 is within 6 % for surprisals of usual size."""
    a, b = torch.tensor([0.5, 2.0, 8.0]).double(), torch.tensor([1.0, 5.0, 3.0]).double()
    limit = surprisal_divergence(a, b, math.inf)[0]
    assert (abs(surprisal_divergence(a, b, 100.0)[0] / limit - 1) < 0.06).all()
    torch.testing.assert_close(surprisal_divergence(a, b, 1e7)[0], limit, rtol=1e-5, atol=0)


def test_bad_temperature():
    with pytest.raises(ValueError):
        surprisal_divergence(A, B, 0.0)
