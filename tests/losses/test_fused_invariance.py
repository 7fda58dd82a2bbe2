"""Everything that must not change the fused loss: blocks, padding, order, splits, masks."""

import dataclasses
import math

import pytest
import torch

from tests.losses.plain import both, case, same
from vocabalign.losses import plan
from vocabalign.losses.divergences import DIVERGENCES
from vocabalign.losses.fused import IGNORE, Head, fused_loss

NAMES = sorted(DIVERGENCES)


def test_chunk_size_padding_shift_and_row_order_change_nothing():
    hidden, head, labels, teacher_hidden, teacher_head = case()
    arguments = dict(divergence="jensen-shannon", weight=0.5)

    def loss(h=hidden, hd=head, y=labels, th=teacher_hidden, thd=teacher_head, **more):
        return fused_loss(h, hd, y, teacher_hidden=th, teacher_head=thd, shared_rows=17, **arguments, **more).loss

    expected = loss()
    order = torch.randperm(len(labels))
    shifted = Head(teacher_head.weight, torch.full((20,), 4.0, dtype=torch.float64))
    wild = Head(torch.cat([teacher_head.weight[:17], 100 * torch.ones(9, 5, dtype=torch.float64)]))
    for other in (
        loss(block_bytes=1),
        loss(block_bytes=1 << 30),
        loss(thd=shifted),
        loss(thd=wild),
        loss(h=hidden[order], y=labels[order], th=teacher_hidden[order]),
    ):
        torch.testing.assert_close(other, expected, rtol=1e-12, atol=1e-12)


def test_joint_permutation_of_the_vocabulary():
    hidden, head, labels, teacher_hidden, teacher_head = case(vt=17)
    order = torch.randperm(17)
    inverse = torch.argsort(order)
    moved = torch.where(labels == IGNORE, labels, inverse[labels.clamp(min=0)])
    a = fused_loss(hidden, head, labels, teacher_hidden=teacher_hidden, teacher_head=teacher_head, weight=0.5).loss
    b = fused_loss(
        hidden,
        Head(head.weight[order]),
        moved,
        teacher_hidden=teacher_hidden,
        teacher_head=Head(teacher_head.weight[order]),
        weight=0.5,
    ).loss
    torch.testing.assert_close(a, b)


def test_accumulation_is_exact():
    hidden, head, labels, *_ = case()
    x = hidden.requires_grad_()
    items = int((labels != IGNORE).sum())
    whole = fused_loss(x, head, labels).loss
    parts = sum(fused_loss(x[s], head, labels[s], num_items=items).loss for s in (slice(0, 3), slice(3, 13)))
    torch.testing.assert_close(parts, whole)


def test_frozen_head_and_frozen_hidden_states():
    hidden, head, labels, *_ = case()
    x = hidden.requires_grad_()
    fused_loss(x, head, labels).loss.backward()
    assert x.grad is not None and head.weight.grad is None
    weight = head.weight.requires_grad_()
    fused_loss(x.detach(), head, labels).loss.backward()
    assert weight.grad is not None
    with torch.no_grad():
        assert not fused_loss(x, head, labels).loss.requires_grad


def test_everything_masked_is_zero():
    hidden, head, labels, *_ = case()
    x = hidden.requires_grad_()
    loss = fused_loss(x, head, torch.full_like(labels, IGNORE)).loss
    loss.backward()
    assert loss == 0 and not x.grad.any()


def test_bfloat16_is_computed_in_float32():
    hidden, head, labels, *_ = case(n=200, h=32, v=50, dtype=torch.bfloat16)
    exact = fused_loss(hidden.double(), Head(head.weight.double()), labels).loss
    rough = fused_loss(hidden, head, labels).loss
    assert rough.dtype == torch.float32
    assert abs(float(rough) / float(exact) - 1) < 3e-3


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_tiles_and_blocks_change_nothing(monkeypatch, rows):
    inputs = case(n=40)
    expected = both(*inputs, divergence={"adaptive-kl": 1.0, "skewed-kl": 1.0})
    monkeypatch.setattr(plan, "CPU_TILE_BYTES", rows * 17 * 8)
    monkeypatch.setattr(plan, "CPU_BLOCK_ROWS", 7)
    same(both(*inputs, divergence={"adaptive-kl": 1.0, "skewed-kl": 1.0}), expected)


@pytest.mark.parametrize("name", NAMES)
def test_padding_rows_sliced_or_masked_are_as_if_they_were_not_there(name):
    hidden, head, labels, teacher_hidden, teacher_head = case()
    cut = dataclasses.replace(teacher_head, weight=teacher_head.weight[:17])
    expected = both(hidden, head, labels, teacher_hidden, cut, divergence=name, shared_rows=None)
    padding = 100 * torch.randn(5, 6, dtype=torch.float64)
    padded = torch.cat([head.weight, padding])
    three = torch.arange(17, 20)
    for mine, theirs, shared in (
        (Head(padded, rows=17), teacher_head, None),
        (Head(padded, masked=torch.arange(17, 22)), dataclasses.replace(teacher_head, masked=three), None),
        (Head(padded, masked=torch.arange(17, 22)), teacher_head, None),
        (Head(padded, rows=20, masked=three), teacher_head, 18),
        (Head(padded, rows=17), dataclasses.replace(teacher_head, masked=three), 20),
    ):
        loss, d_hidden, d_weight = both(
            hidden, mine, labels, teacher_hidden, theirs, divergence=name, shared_rows=shared
        )
        same((loss, d_hidden, d_weight[:17]), expected)
        assert not d_weight[17:].any()


def test_rows_that_only_the_teacher_masks_leave_both_sides():
    hidden, head, labels, teacher_hidden, teacher_head = case(vt=17)
    masked = dataclasses.replace(teacher_head, masked=torch.tensor([3, 16]))
    found = both(hidden, head, labels, teacher_hidden, masked, weight=1.0)
    keep = torch.tensor([i for i in range(17) if i not in (3, 16)])
    moved = torch.where(labels == IGNORE, labels, torch.zeros_like(labels))
    mine, theirs = Head(head.weight[keep]), Head(teacher_head.weight[keep])
    loss, d_hidden, d_weight = both(hidden, mine, moved, teacher_hidden, theirs, weight=1.0)
    same((found[0], found[1], found[2][keep]), (loss, d_hidden, d_weight))


def test_weights_and_masks():
    inputs = case()
    hidden, head, labels, teacher_hidden, teacher_head = inputs
    weights = torch.rand(13, dtype=torch.float64)
    weights[3] = 0
    found = both(*inputs, weights=weights)
    supervised = (labels != IGNORE).nonzero().squeeze(1)
    single = [both(*(t if isinstance(t, Head) else t[i : i + 1] for t in inputs), num_items=1) for i in supervised]
    total = weights[supervised].sum()
    same(found[:1], [sum(weights[i] * one[0] for i, one in zip(supervised, single)) / total])
    same(found[2:], [sum(weights[i] * one[2] for i, one in zip(supervised, single)) / total])
    assert not found[1][labels == IGNORE].any() and not found[1][3].any()
    # What a masked position holds does not matter, not even NaN.
    hidden, teacher_hidden = hidden.clone(), teacher_hidden.clone()
    hidden[0] = teacher_hidden[0] = math.nan
    assert labels[0] == IGNORE
    same(both(hidden, head, labels, teacher_hidden, teacher_head, weights=weights)[::2], found[::2])


def test_left_and_right_padding_and_packing_are_one():
    inputs = case(n=12)
    hidden, head, labels, teacher_hidden, teacher_head = inputs
    expected = both(*inputs)

    def laid_out(tensor, value):
        left, right = tensor[:5], tensor[5:]
        rows = torch.full((2, 9, *tensor.shape[1:]), value, dtype=tensor.dtype)
        rows[0, 4:], rows[1, :7] = left, right
        return rows

    batch = laid_out(hidden, 7.0), head, laid_out(labels, IGNORE), laid_out(teacher_hidden, 7.0), teacher_head
    loss, d_hidden, d_weight = both(*batch)
    same((loss, torch.cat([d_hidden[0, 4:], d_hidden[1, :7]]), d_weight), expected)
    assert not d_hidden[0, :4].any() and not d_hidden[1, 7:].any()


@pytest.mark.parametrize(
    "make", [int, float, torch.tensor, lambda n: torch.tensor(float(n)), lambda n: torch.tensor([n])]
)
def test_splits_over_batches_and_ranks_are_exact(make):
    inputs = case(dtype=torch.float32, n=40)
    count = int((inputs[2] != IGNORE).sum())
    whole = both(*inputs)
    parts = [
        both(*(t if isinstance(t, Head) else t[piece] for t in inputs), num_items=make(count))
        for piece in (slice(0, 3), slice(3, 29), slice(29, 40))
    ]
    torch.testing.assert_close(sum(part[0] for part in parts), whole[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), whole[1], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(sum(part[2] for part in parts), whole[2], rtol=1e-5, atol=1e-7)


def test_a_large_integer_count_keeps_all_its_digits():
    hidden, head, labels, *_ = case()
    count = 2**24 + 1
    exact = fused_loss(hidden, head, labels, num_items=count).loss
    assert fused_loss(hidden, head, labels, num_items=torch.tensor(count)).loss == exact
    assert fused_loss(hidden, head, labels, num_items=2**24).loss != exact
