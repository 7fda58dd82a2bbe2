"""Products with sparse matrices against dense ones, and sums of columns against ``index_add``."""

import numpy as np
import pytest
import torch
from scipy import sparse

from vocabalign.losses.sparse_products import sum_matrices, times, to_tensor


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_products_are_those_of_the_dense_matrix(dtype, rows):
    matrix = sparse.random(11, 6, 0.4, "csr", random_state=0)
    given = torch.randn(rows, 6, dtype=dtype, generator=torch.Generator().manual_seed(0))
    found = times(to_tensor(matrix, dtype, "cpu"), given)
    assert found.dtype == dtype and found.is_contiguous()
    torch.testing.assert_close(found, given @ torch.from_numpy(matrix.toarray()).to(dtype).T)


def test_sums_of_columns_by_class():
    classes = np.array([3, 0, -1, 3, 1, -1, 0, 3])
    values = torch.randn(5, len(classes), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kept = torch.from_numpy(classes >= 0)
    expected = torch.zeros(5, 4, dtype=torch.float64).index_add(1, torch.from_numpy(classes)[kept], values[:, kept])
    for dtype, matrix in sum_matrices(classes, 4, "cpu").items():
        found = times(matrix, values.to(dtype))
        torch.testing.assert_close(found, expected.to(dtype))
        assert not found[:, 2].any()
