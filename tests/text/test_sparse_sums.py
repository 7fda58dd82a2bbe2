"""Sums of sparse tables against dense ones."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from vocabalign.text.sparse_sums import SparseSum

TABLE = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 9)), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(TABLE, max_size=8))
def test_the_sum_is_that_of_dense_tables(tables):
    total, expected = SparseSum((4, 6)), np.zeros((4, 6), np.int64)
    for entries in tables:
        rows, columns, values = np.array(entries, dtype=np.int64).reshape(-1, 3).T
        total.add(sparse.coo_matrix((values, (rows, columns)), shape=(4, 6)).tocsr())
        np.add.at(expected, (rows, columns), values)
        assert len(total._stack) <= 1 + np.log2(1 + sum(map(len, tables)))
        found = total.total()
        assert np.array_equal(found.toarray(), expected)
        assert (found.data != 0).all() and found.has_sorted_indices
