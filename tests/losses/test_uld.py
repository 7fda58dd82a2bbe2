"""ULD against sorting, and its known properties."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.losses.toy import random_side, without_large_buffers
from vocabalign.losses.divergences import DIVERGENCES
from vocabalign.losses.logits import Head
from vocabalign.losses.pairs import Pair
from vocabalign.losses.uld import likeliest, uld_loss


def naive(q, p, top):
    q, p = (side.sort(-1, descending=True).values for side in (q, p))
    tails = [side[:, top:].sum(-1) for side in (q, p)]
    heads = [torch.nn.functional.pad(side[:, :top], (0, max(0, top - side.shape[1]))) for side in (q, p)]
    return ((heads[0] - heads[1]).abs().sum(-1) + (tails[0] - tails[1]).abs()).mean()


def case(student=40, teacher=33, rows=6, dtype=torch.float64):
    hidden, head = random_side(rows, 5, student, 1, dtype)
    th, thead = random_side(rows, 4, teacher, 2, dtype)
    return hidden.requires_grad_(), Head(head.weight.requires_grad_()), th, thead


@pytest.mark.parametrize("top", [1, 4, 35, 1000])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("sizes", [(40, 33), (9, 33), (33, 9)])
def test_against_sorting(top, temperature, sizes):
    hidden, head, th, thead = case(*sizes)
    q, p = (torch.softmax(x @ h.weight.T / temperature, -1) for x, h in ((hidden, head), (th, thead)))
    expected = naive(q, p, top)
    loss = uld_loss(hidden, head, th, thead, top=top, temperature=temperature)
    torch.testing.assert_close(loss, expected)
    for a, b in zip(*(torch.autograd.grad(value, (hidden, head.weight)) for value in (loss, expected))):
        torch.testing.assert_close(a, b)


def test_gradcheck():
    hidden, head, th, thead = case(rows=3)
    assert torch.autograd.gradcheck(lambda h, w: uld_loss(h, Head(w), th, thead, top=5), (hidden, head.weight))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 9), st.booleans())
def test_selection_in_two_steps(width, top, seed, ties):
    p = torch.rand(4, width, generator=torch.Generator().manual_seed(seed))
    p = (p * 5).round() if ties else p
    values, at = likeliest(p, top)
    expected = p.sort(-1, descending=True).values[:, :top]
    assert torch.equal(values, expected) and torch.equal(p.gather(1, at), values)
    assert all(len(set(row)) == len(row) for row in at.tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_identity_is_exactly_zero(dtype):
    hidden, head, *_ = case(dtype=dtype)
    loss = uld_loss(hidden, head, hidden.detach(), Head(head.weight.detach()), top=7)
    assert loss == 0 and not any(g.any() for g in torch.autograd.grad(loss, (hidden, head.weight)))


def test_at_most_twice_the_total_variation():
    hidden, head, th, thead = case(33, 33)
    pair = Pair(*(torch.log_softmax(x @ h.weight.T, -1) for x, h in ((hidden, head), (th, thead))))
    variation = DIVERGENCES["total-variation"](pair)[0].mean()
    assert 0 <= uld_loss(hidden, head, th, thead) <= 2 * variation


def test_blocks_shifts_rows_and_weights():
    hidden, head, th, thead = case()
    expected = uld_loss(hidden, head, th, thead, top=6)
    shift = torch.full((40,), 7.0, dtype=torch.float64)
    order = torch.randperm(6)
    for other in (
        uld_loss(hidden, Head(head.weight, shift), th, thead, top=6),
        uld_loss(hidden[order], head, th[order], thead, top=6, block_bytes=1),
        uld_loss(hidden, head, th, thead, top=6, weights=torch.ones(6)),
    ):
        torch.testing.assert_close(other, expected)


def test_no_rows_and_memory():
    hidden, head, th, thead = case()
    assert uld_loss(hidden[:0], head, th[:0], thead) == 0
    hidden, head, th, thead = case(5000, 4000, 1024, torch.float32)
    without_large_buffers(
        lambda: uld_loss(hidden, head, th, thead, top=64, block_bytes=2 << 20).backward(), 1024 * 4000 * 2
    )


@pytest.mark.parametrize("more", [dict(top=0), dict(temperature=-1.0), dict(weights=torch.ones(2)), dict(spoil=True)])
def test_bad_input_is_refused(more):
    with pytest.raises(ValueError):
        hidden, head, th, thead = case()
        th = th * torch.nan if more.pop("spoil", False) else th
        uld_loss(hidden, head, th, thead, **more)
