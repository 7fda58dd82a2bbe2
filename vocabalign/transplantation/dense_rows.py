"""Rows that are no mixture of source rows: drawn, zero, or carried over from the owner of the target vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor

from vocabalign.errors import ConfigError

_BLOCK_ROWS = 8192


def zero_rows(source: Tensor, count: int) -> Tensor:
    """(M, H) zeros. A head row of zeros has logit 0, which beats every negative one: for comparison only."""
    return torch.zeros(count, source.shape[1])


def normal_rows(source: Tensor, count: int, seed: int) -> Tensor:
    """(M, H) float32 draws from the normal distribution with the source rows' mean and covariance.

    Args:
        source: (S, H) in any floating dtype.
        count: M.
        seed: of the draws; the same seed and M give the same rows.

    Reference:
        Hewitt (2021), Initializing New Word Embeddings for Pretrained Language Models.
    """
    mean, covariance = moments(source)
    values, vectors = torch.linalg.eigh(covariance)
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(count, len(mean), generator=generator, dtype=torch.float64)
    return (mean + draws @ (vectors * values.clamp(min=0).sqrt()).T).float()


def scattered_rows(source: Tensor, count: int, seed: int) -> Tensor:
    """(M, H) float32 draws, each dimension by itself, with the source rows' mean and standard deviation.

    FOCUS and WECHSEL give such rows to tokens that no text showed. Beside draws with the whole covariance they are
    harmless in a head: hidden states lie along the directions in which rows vary most.

    Args:
        source: (S, H) in any floating dtype, S at least 2.
        count: M.
        seed: of the draws; the same seed and M give the same rows.

    Reference:
        Dobler and de Melo (2023), FOCUS, section 3; Minixhofer, Paischer and Rekabsaz (2022), WECHSEL, section 3.
    """
    mean, covariance = moments(source)
    size = len(source)
    deviation = (covariance.diagonal().clamp(min=0) * (size / max(1, size - 1))).sqrt()
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, len(mean), generator=generator) * deviation.float() + mean.float()


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(H,) mean and (H, H) covariance of the rows, float64, summed in blocks."""
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    products = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    for block in rows.split(_BLOCK_ROWS):
        total += block.double().sum(0)
        products += block.double().T @ block.double()
    mean = total / len(rows)
    return mean, products / len(rows) - mean[:, None] * mean


def landmark_rows(wanted: Tensor, landmarks: Tensor, rows: Tensor) -> Tensor:
    """Rows of the owner moved into the source's space by the orthogonal map that brings shared tokens together.

    Both sides are centred on the shared tokens and scaled to the same spread; with X the owner's rows of shared
    tokens and Y the source's, the map is ``U V^T`` of the singular value decomposition ``X^T Y = U S V^T`` (where
    the sizes differ it has orthonormal rows or columns: directions that the smaller space lacks are lost).

    Args:
        wanted: (M, D) the owner's rows of tokens that the source lacks.
        landmarks: (O, D) the owner's rows of shared tokens.
        rows: (O, H) the source's rows of the same tokens.

    Returns:
        (M, H) float32.

    Raises:
        ConfigError: no shared tokens.

    Reference:
        Schönemann (1966), A generalized solution of the orthogonal Procrustes problem.
    """
    if not len(landmarks):
        raise ConfigError("The rows 'landmark' need tokens that both vocabularies share, and there are none.")
    x, y = landmarks.double(), rows.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    left, _, right = torch.linalg.svd(x.T @ y, full_matrices=False)
    moved = x @ left @ right
    scale = y.norm() / moved.norm().clamp(min=1e-12)
    return ((wanted.double() - x_mean) @ left @ right * scale + y_mean).float()
