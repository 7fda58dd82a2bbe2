"""Entropic transport: marginals, limits, the gradient."""

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from vocabalign.losses.sinkhorn import sinkhorn_distance


def cost(n=6, m=6, batch=3):
    return torch.rand(batch, n, m, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_small_epsilon_is_the_cheapest_assignment():
    d = cost()
    for matrix, value in zip(d, sinkhorn_distance(d, epsilon=1e-3, iterations=3000)):
        assert abs(float(matrix.numpy()[linear_sum_assignment(matrix.numpy())].mean()) - float(value)) < 5e-3


def test_a_large_epsilon_is_the_product_of_the_marginals():
    a = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    d = cost(3, 4)
    value = sinkhorn_distance(d, epsilon=1e5, source=a)
    entropy = -(a * a.log()).sum() + math.log(4)
    torch.testing.assert_close(value + 1e5 * entropy, (a[:, None] * d / 4).sum((1, 2)), rtol=1e-6, atol=1e-4)


def test_the_gradient_is_the_plan():
    d = cost(5, 4, batch=1).requires_grad_()
    a = torch.tensor([0.1, 0.2, 0.3, 0.2, 0.2], dtype=torch.float64)
    value = sinkhorn_distance(d, source=a, iterations=200)
    (plan,) = torch.autograd.grad(value.sum(), d)
    torch.testing.assert_close(plan.sum(2), a.expand(1, 5))
    torch.testing.assert_close(plan.sum(1), torch.full((1, 4), 0.25, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda x: sinkhorn_distance(x, source=a, iterations=200), d)


def test_costs_and_marginals_that_make_no_sense_are_refused():
    for call, message in (
        (lambda: sinkhorn_distance(torch.zeros(3)), "cost has shape"),
        (lambda: sinkhorn_distance(torch.full((2, 2), math.nan)), "NaN"),
        (lambda: sinkhorn_distance(cost(), epsilon=0.0), "epsilon"),
        (lambda: sinkhorn_distance(cost(), source=torch.ones(2) / 2), "2 entries"),
        (lambda: sinkhorn_distance(cost(), target=torch.ones(6)), "not a distribution"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
