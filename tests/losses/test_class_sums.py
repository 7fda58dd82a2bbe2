"""Sums by class against a loop over tokens and against logits by class; what float32 cannot hold."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.losses.test_events import some_classes
from vocabalign.losses.class_sums import ClassSums, in_float64, is_out_of_reach


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_of_both_sides_are_those_of_their_tokens(padding, dtype):
    classes = some_classes()
    rows = len(classes.student) + padding
    sums = ClassSums(classes, rows)
    generator = torch.Generator().manual_seed(0)
    q, p = (torch.rand(4, size, dtype=dtype, generator=generator) for size in (rows, len(classes.teacher)))
    for found, values, side in ((sums.student_sums(q), q, classes.student), (sums.teacher_sums(p), p, classes.teacher)):
        for number in range(classes.num_classes):
            torch.testing.assert_close(found[:, number], values[:, np.flatnonzero(side == number)].sum(1))
    assert sums.num_rows == rows and sums.num_tokens == (len(classes.student), len(classes.teacher))


def test_the_teachers_classes_from_logits_are_the_logarithms_of_its_sums():
    sums = ClassSums(some_classes(), len(some_classes().student))
    logits = 3 * torch.randn(4, sums.num_tokens[1], dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = sums.teacher_sums(logits.exp()).log()
    merged, _ = sums.merge.merge(sums.merge.arrange(logits))
    torch.testing.assert_close(merged.index_select(1, sums.merge.rank), expected)


@given(st.integers(0, 3), st.integers(0, 20))
def test_labels_have_the_class_of_their_token_or_none(padding, seed):
    classes = some_classes(seed=seed)
    sums = ClassSums(classes, len(classes.student) + padding)
    labels = torch.tensor([-100, *range(sums.num_rows)])
    expected = [False, *(classes.student >= 0), *[False] * padding]
    assert sums.has_class(labels).tolist() == expected
    kept = classes.student >= 0
    assert (sums.class_of[: len(kept)].numpy()[kept] == classes.student[kept]).all()
    assert (sums.class_of.numpy()[np.flatnonzero(~np.array(expected[1:]))] == classes.num_classes).all()


def test_out_of_reach_is_a_matter_of_float32():
    unlikely = torch.tensor([[0.5, 1e-31]])
    assert is_out_of_reach(unlikely) and not is_out_of_reach(unlikely.double())
    assert not is_out_of_reach(torch.tensor([[0.5, 1e-29]])) and not is_out_of_reach(unlikely[:0])


def test_rows_once_more_in_float64_leave_their_gradient_in_float32():
    logits = [torch.full((2, 3), 100.0), torch.ones(2, 5)]
    kept, told = [each.clone() for each in logits], []

    def row_loss(wide, rows, gradient):
        told.append((rows, gradient, [each.dtype for each in wide]))
        values = wide[0].exp().sum(-1)  # no float32 holds it
        wide[0].copy_(wide[0].exp().log() + wide[1][:, :3])
        return values.log()[None]

    values = in_float64(row_loss, logits, slice(4, 6), True)
    assert told == [(slice(4, 6), True, [torch.float64] * 2)]
    assert values.dtype == logits[0].dtype == torch.float32
    torch.testing.assert_close(values, torch.full((1, 2), 100 + float(np.log(3))))
    torch.testing.assert_close(logits[0], kept[0] + 1)
    assert torch.equal(logits[1], kept[1])
