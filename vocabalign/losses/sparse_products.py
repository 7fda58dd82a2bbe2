"""Products of blocks of probabilities with sparse matrices: sums by class, projections through a lexicon."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

__all__ = ["sum_matrices", "times", "to_tensor"]


def times(matrix: Tensor, rows: Tensor) -> Tensor:
    """(C, n) rows times the transpose of a sparse (m, n) matrix: (C, m)."""
    if rows.device.type != "cpu":
        return (matrix @ rows.T.contiguous()).T.contiguous()
    # Written where it is wanted: the product as torch returns it costs as much again in copies.
    result = rows.new_zeros(len(rows), matrix.shape[0])
    torch.addmm(result.T, matrix, rows.T, beta=0, out=result.T)
    return result


def to_tensor(matrix: sparse.csr_matrix, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """The same matrix for torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls the format new; products with it are not
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int64)),
            torch.from_numpy(matrix.indices.astype(np.int64)),
            torch.from_numpy(matrix.data).to(dtype),
            size=matrix.shape,
            device=device,
            check_invariants=False,
        )


def sum_matrices(classes: np.ndarray, num_classes: int, device: torch.device | str) -> dict[torch.dtype, Tensor]:
    """(K, V) of zeros and ones in float32 and float64: which of V columns each class is the sum of; -1 is none."""
    columns = np.flatnonzero(classes >= 0)
    shape = (num_classes, len(classes))
    matrix = sparse.csr_matrix((np.ones(len(columns)), (classes[columns], columns)), shape=shape)
    return {dtype: to_tensor(matrix, dtype, device) for dtype in (torch.float32, torch.float64)}
