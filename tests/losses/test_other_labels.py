"""Cross-entropy at some rows and at all others is cross-entropy: values, gradients, sides, blocks, no rows at all."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.losses.toy import random_side
from vocabalign.losses.fused import fused_loss
from vocabalign.losses.logits import Head
from vocabalign.losses.other_labels import stream_with_other_labels
from vocabalign.losses.streaming import Side

ROWS, WIDTH, TOKENS = 9, 5, 13


class Entropy:
    """Cross-entropy of a few labels, twice, and what the other sides' logits sum to."""

    def __init__(self, labels):
        self.labels, self.calls = labels, 0

    def __call__(self, logits, rows, gradient):
        self.calls += 1
        z, *others = logits
        log_q = torch.log_softmax(z, -1)
        index = self.labels[rows, None]
        value = -log_q.gather(1, index).squeeze(1)
        if gradient:
            z.copy_(log_q.exp()).scatter_add_(1, index, -torch.ones_like(value)[:, None])
        return torch.stack([value, 2 * value, *[other.sum(-1) for other in others]])


def inputs():
    hidden, head = random_side(ROWS, WIDTH, TOKENS, 1)
    labels = torch.randint(0, TOKENS, (ROWS,), generator=torch.Generator().manual_seed(2))
    return hidden.requires_grad_(), Head(head.weight.requires_grad_()), labels


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(ROWS)), st.integers(0, ROWS), st.sets(st.integers(0, ROWS - 1)))
def test_both_parts_together_are_the_cross_entropy(order, count, ignored):
    hidden, head, labels = inputs()
    at = torch.tensor([row for row in order[:count] if row not in ignored], dtype=torch.int64)
    labels[list(ignored)] = -100
    expected = fused_loss(hidden, head, labels, num_items=3.5).loss
    wanted = torch.autograd.grad(expected, (hidden, head.weight))
    together, rest, parts = stream_with_other_labels(
        Entropy(labels[at]), 2, hidden, head, labels, at, num_items=3.5, block_bytes=2000
    )
    torch.testing.assert_close(together + rest, expected)
    torch.testing.assert_close(parts, torch.stack([together, 2 * together]).detach())
    for found, gradient in zip(torch.autograd.grad(together + rest, (hidden, head.weight)), wanted, strict=True):
        torch.testing.assert_close(found, gradient)


def test_further_sides_are_read_at_the_same_rows_and_not_trained():
    hidden, head, labels = inputs()
    other, other_head = random_side(3, WIDTH + 1, TOKENS + 2, 3)
    side = Side(other.requires_grad_(), other_head, trained=False)
    at = torch.tensor([4, 0, 7])
    together, rest, parts = stream_with_other_labels(
        Entropy(labels[at]), 3, hidden, head, labels, at, [side], num_items=2.0
    )
    torch.testing.assert_close(parts[2], (other @ other_head.weight.T).sum().detach() / 2)
    (together + rest).backward()
    assert other.grad is None and hidden.grad.abs().sum(1).bool().all()


def test_of_no_rows_all_values_are_zero():
    hidden, head, labels = inputs()
    nothing = torch.zeros(0, dtype=torch.int64)
    together, rest, parts = stream_with_other_labels(
        Entropy(labels[:0]), 4, hidden, head, labels, nothing, num_items=2.0
    )
    assert float(together.detach()) == 0 and parts.tolist() == [0, 0, 0, 0]
    assert float(rest.detach()) == pytest.approx(float(fused_loss(hidden, head, labels, num_items=2.0).loss.detach()))


def test_a_block_of_its_own_size_changes_nothing_but_the_number_of_blocks():
    hidden, head = random_side(2_000, WIDTH, TOKENS, 1)
    labels, at = torch.arange(2_000) % TOKENS, torch.arange(2_000)
    found = []
    for block_bytes_at in (None, 4_000):
        entropy = Entropy(labels)
        together, *_ = stream_with_other_labels(
            entropy, 2, hidden, head, labels, at, num_items=1.0, block_bytes=1 << 20, block_bytes_at=block_bytes_at
        )
        found.append((float(together), entropy.calls))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12) and found[1][1] > found[0][1]
