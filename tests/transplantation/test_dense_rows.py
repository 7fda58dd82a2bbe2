"""Rows that are no mixtures."""

import pytest
import torch

from vocabalign.errors import ConfigError
from vocabalign.transplantation.dense_rows import landmark_rows, moments, normal_rows, scattered_rows, zero_rows


def matrix(rows: int, size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, size, generator=generator) @ torch.randn(size, size, generator=generator) + 3


def test_moments_are_those_of_the_rows():
    rows = matrix(20_000, 6)
    mean, covariance = moments(rows)
    assert torch.allclose(mean, rows.double().mean(0))
    assert torch.allclose(covariance, torch.cov(rows.double().T, correction=0), rtol=1e-8)


def test_draws_have_the_sources_moments_and_follow_the_seed():
    source = matrix(500, 6)
    drawn = normal_rows(source, 200_000, seed=1)
    mean, covariance = moments(source)
    assert torch.allclose(moments(drawn)[0], mean, atol=0.05)
    assert torch.allclose(moments(drawn)[1], covariance, atol=0.02 * float(covariance.abs().max()))
    assert torch.equal(normal_rows(source, 3, seed=1), normal_rows(source, 3, seed=1))
    assert not torch.equal(normal_rows(source, 3, seed=1), normal_rows(source, 3, seed=2))
    assert normal_rows(source[:3], 2, seed=0).isfinite().all()  # a covariance without full rank


def test_scattered_rows_have_the_sources_spread_in_each_dimension_and_nothing_between_them():
    source = matrix(500, 6)
    drawn = scattered_rows(source, 200_000, seed=1)
    assert torch.allclose(drawn.mean(0), source.mean(0), atol=0.05)
    assert torch.allclose(drawn.std(0), source.std(0), rtol=0.02)
    assert (torch.corrcoef(drawn.T) - torch.eye(6)).abs().max() < 0.02
    # A row at a time, as the published program draws, gives the same (16 numbers are drawn together).
    wide = matrix(50, 32)
    generator = torch.Generator().manual_seed(5)
    one_by_one = [torch.normal(wide.mean(0), wide.std(0), generator=generator) for _ in range(7)]
    assert torch.allclose(scattered_rows(wide, 7, seed=5), torch.stack(one_by_one), atol=1e-4)


def test_zero_rows_are_zero():
    assert torch.equal(zero_rows(matrix(4, 3), 2), torch.zeros(2, 3))


@pytest.mark.parametrize(("owner_size", "size"), [(6, 6), (9, 6)])
def test_a_rotated_scaled_and_moved_space_is_brought_back(owner_size, size):
    rows = matrix(40, size, 1)
    turn = torch.linalg.qr(matrix(owner_size, owner_size, 2) - 3)[0][:, :size]
    owner = 2.5 * rows @ turn.T + 1
    found = landmark_rows(owner[30:], owner[:30], rows[:30])
    assert torch.allclose(found, rows[30:], atol=1e-3)


def test_landmarks_are_needed():
    with pytest.raises(ConfigError, match="share"):
        landmark_rows(torch.zeros(1, 2), torch.zeros(0, 2), torch.zeros(0, 3))
