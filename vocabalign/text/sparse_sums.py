"""Sums of many sparse tables of whole numbers, at a cost that does not grow with each one added."""

from __future__ import annotations

import numpy as np
from scipy import sparse


class SparseSum:
    """A sum of (N, M) int64 tables.

    Adding a small table to a large one costs as much as the large one. So tables are kept in a stack whose sizes
    halve, as in a binary counter: each entry takes part in a number of additions that is logarithmic in the number
    of tables. Whole numbers make the sum independent of the order.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._stack: list[sparse.csr_matrix] = []

    def add(self, table: sparse.csr_matrix) -> None:
        """Take a table in; it must not be changed afterwards."""
        assert table.shape == self.shape and table.dtype == np.int64, (table.shape, self.shape, table.dtype)
        table.sum_duplicates()
        while self._stack and self._stack[-1].nnz <= 2 * table.nnz:
            table = self._stack.pop() + table
        self._stack.append(table)

    def total(self) -> sparse.csr_matrix:
        """The sum so far, with sorted columns and without zeros."""
        total = sparse.csr_matrix(self.shape, dtype=np.int64)
        while self._stack:
            total = self._stack.pop() + total
        total.sum_duplicates()
        total.eliminate_zeros()
        self._stack.append(total)
        return total
