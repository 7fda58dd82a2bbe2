"""Standardised logits: both forms, and the way back."""

import torch

from vocabalign.losses.shaping import standardise, standardise_, standardise_back_


def test_mean_spread_and_invariance():
    z = torch.randn(7, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = standardise(z)
    torch.testing.assert_close(found.mean(-1), torch.zeros(7, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(found.std(-1), torch.ones(7, dtype=torch.float64))
    torch.testing.assert_close(standardise(3 * z + 5), found)
    assert not standardise(torch.full((2, 5), 3.0)).any()


def test_in_place_and_back():
    z = torch.randn(7, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    upstream = torch.randn(7, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = standardise(z)
    y = z.detach().clone()
    factor = standardise_(y)
    torch.testing.assert_close(y, expected.detach())
    found = standardise_back_(upstream.clone(), y, factor)
    torch.testing.assert_close(found, torch.autograd.grad(expected, z, upstream)[0])


def test_equal_logits_have_a_finite_way_back():
    y = torch.full((2, 5), 3.0)
    factor = standardise_(y)
    assert standardise_back_(torch.zeros(2, 5), y, factor).isfinite().all()
