"""Sums of columns by class against ``index_add``, and their gradient against autograd."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabalign.losses.merging import Merge


@st.composite
def sides(draw):
    count = draw(st.integers(1, 6))
    # One class may be much larger than the others, so that groups are filled up.
    more = draw(st.lists(st.integers(-1, count - 1), max_size=40)) + [0] * draw(st.integers(0, 70))
    return np.array(draw(st.permutations([*range(count), *more])), dtype=np.int64), count


@settings(max_examples=80, deadline=None)
@given(sides(), st.integers(0, 99))
def test_against_index_add(side, seed):
    classes, count = side
    merge = Merge(classes, count)
    generator = torch.Generator().manual_seed(seed)
    z = (5 * torch.randn(3, len(classes), generator=generator, dtype=torch.float64)).requires_grad_()
    kept = torch.from_numpy(classes >= 0)
    sums = torch.zeros(3, count, dtype=torch.float64).index_add(1, torch.from_numpy(classes)[kept], z.exp()[:, kept])
    expected = sums.log()[:, merge.order]
    towards = torch.randn(3, count, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(expected, z, towards)
    block = z.detach().clone()
    arranged = merge.arrange(block)
    merged, totals = (part.clone() for part in merge.merge(arranged))
    merge.spread(towards, totals, arranged, block)
    torch.testing.assert_close(merged, expected)
    torch.testing.assert_close(block, gradient)
    assert (merge.rank[merge.order] == torch.arange(count)).all()


def test_members_of_one_keep_their_bits():
    classes = np.array([2, 0, 1, 0])
    merge = Merge(classes, 3)
    z = torch.randn(5, 4)
    merged = merge.merge(merge.arrange(z))[0][:, merge.rank]
    assert (merged[:, 2] == z[:, 0]).all() and (merged[:, 1] == z[:, 2]).all()
    same = Merge(np.arange(4), 4)
    assert same.identity and same.merge(same.arrange(z))[0] is z


def test_masked_columns_and_extremes_stay_finite():
    merge = Merge(np.array([0, 0, 1, 1, 1]), 2)
    z = torch.tensor([[-1e30, -1e30, 3e4, -3e4, 0.0]])
    arranged = merge.arrange(z)
    merged, totals = merge.merge(arranged)
    merge.spread(torch.ones(1, 2), totals, arranged, z)
    assert merged.isfinite().all() and z.isfinite().all()


def test_distribution_within_a_class():
    merge = Merge(np.array([1, 0, 1, -1, 1]), 2)
    z = torch.randn(2, 5, dtype=torch.float64)
    arranged = merge.arrange(z)
    merge.merge(arranged)
    assert merge.columns_of(1).tolist() == [0, 2, 4]
    torch.testing.assert_close(merge.share_of(1, arranged), torch.softmax(z[:, [0, 2, 4]], -1))
    assert (merge.share_of(0, arranged) == 1).all()
