"""Projection KL against a dense matrix, and everything that must not change it."""

import numpy as np
import pytest
import torch

from tests.losses.test_events import naive
from tests.losses.toy import random_side, without_large_buffers
from vocabalign.losses.divergences import DIVERGENCES
from vocabalign.losses.fused import fused_loss
from vocabalign.losses.logits import Head
from vocabalign.losses.projection import LexiconProjection, projection_loss

ROWS = 6


def lexicon(student=13, teacher=11, width=3, lost=True, seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, teacher - 2, (student, width))  # the last two teacher tokens are never reached
    weights = rng.dirichlet(np.ones(width), student)
    ids[::4, -1], weights[::4, -1] = -1, 0
    weights /= weights.sum(1, keepdims=True)
    if lost:
        ids[5], weights[5] = -1, 0
    return ids.astype(np.int32), weights.astype(np.float32)


def case(student=13, teacher=11, rows=ROWS, dtype=torch.float64):
    hidden, head = random_side(rows, 5, student, 1, dtype)
    th, thead = random_side(rows, 4, teacher, 2, dtype)
    return hidden.requires_grad_(), Head(head.weight.requires_grad_()), th, thead


def dense(ids, weights, teacher):
    matrix = np.zeros((len(ids), teacher + 1))
    for s, (row, values) in enumerate(zip(ids, weights, strict=True)):
        for t, w in zip(row, values, strict=True):
            if t >= 0:
                matrix[s, t] += float(w) / float(values.astype(np.float64).sum())
        if (row < 0).all():
            matrix[s, teacher] = 1
    return torch.from_numpy(matrix)


@pytest.mark.parametrize("name,lost", [("forward-kl", True), ("jensen-shannon", True), ("reverse-kl", False)])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_against_the_dense_matrix(name, lost, temperature):
    ids, weights = lexicon(lost=lost)
    hidden, head, th, thead = case()
    matrix = dense(ids, weights, 11)
    covered = (matrix[:, :11].sum(0) > 0).nonzero().squeeze(1)
    events = torch.cat([covered, torch.tensor([11])]) if lost else covered
    q = (torch.softmax(hidden @ head.weight.T / temperature, -1) @ matrix)[:, events].log()
    log_p = torch.log_softmax(th @ thead.weight.T / temperature, -1)[:, covered]
    resolved = log_p.logsumexp(-1)
    p = log_p - resolved[:, None]
    p = torch.cat([p, torch.full((ROWS, 1), -700.0).double()], 1) if lost else p
    assert (resolved < -1e-3).all()
    expected = sum(resolved[i].exp() * naive(name, q[i : i + 1], p[i : i + 1]) for i in range(ROWS))
    expected = expected * temperature**2 / ROWS
    projection = LexiconProjection(ids, weights, 11)
    loss = projection_loss(hidden, head, th, thead, projection, divergence=name, temperature=temperature)
    torch.testing.assert_close(loss, expected)
    for a, b in zip(*(torch.autograd.grad(value, (hidden, head.weight)) for value in (loss, expected))):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", sorted(set(DIVERGENCES) - {"adaptive-kl", "reverse-kl"}))
def test_gradcheck(name):
    hidden, head, th, thead = case(rows=3)
    projection = LexiconProjection(*lexicon(), 11)
    assert torch.autograd.gradcheck(
        lambda h, w: projection_loss(h, Head(w, scale=0.7), th, thead, projection, divergence=name, temperature=1.5),
        (hidden, head.weight),
    )


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_identity_matrix_is_plain_distillation_bit_for_bit(name, dtype):
    hidden, head, th, thead = case(12, 12, dtype=dtype)
    ids = np.stack([np.arange(12), np.full(12, -1)], 1)
    projection = LexiconProjection(ids, np.array([[1.0, 0.0]] * 12), 12)
    loss = projection_loss(hidden, head, th, thead, projection, divergence=name)
    labels = torch.zeros(ROWS, dtype=torch.int64)
    plain = fused_loss(hidden, head, labels, teacher_hidden=th, teacher_head=thead, divergence=name, weight=1.0).loss
    assert projection.identity and loss == plain
    for a, b in zip(*(torch.autograd.grad(value, (hidden, head.weight)) for value in (loss, plain))):
        assert torch.equal(a, b)


def test_a_permutation_is_the_permuted_plain_loss():
    hidden, head, th, thead = case(12, 12)
    order = np.random.default_rng(0).permutation(12)
    moved = LexiconProjection(order[:, None], np.ones((12, 1)), 12)
    same = LexiconProjection(np.arange(12)[:, None], np.ones((12, 1)), 12)
    a = projection_loss(hidden, head, th, thead, moved)
    b = projection_loss(hidden, head, th, Head(thead.weight[order]), same)
    torch.testing.assert_close(a, b)


def test_blocks_shifts_and_padding_change_nothing():
    hidden, head, th, thead = case()
    projection = LexiconProjection(*lexicon(), 11)
    expected = projection_loss(hidden, head, th, thead, projection)
    shift = torch.full((13,), 7.0, dtype=torch.float64)
    for other in (
        projection_loss(hidden, Head(head.weight, shift), th, thead, projection),
        projection_loss(hidden, head, th, Head(torch.cat([thead.weight, 9 * thead.weight])), projection),
        projection_loss(hidden, head, th, thead, projection, block_bytes=1),
        sum(
            projection_loss(hidden[i], head, th[i], thead, projection, num_items=ROWS) for i in (slice(2), slice(2, 6))
        ),
    ):
        torch.testing.assert_close(other, expected, rtol=1e-12, atol=1e-12)


def test_confident_models_stay_finite():
    projection = LexiconProjection(*lexicon(), 11)
    hidden, head = (300 * torch.eye(13)[:ROWS]).requires_grad_(), Head(torch.eye(13))
    th, thead = 300 * torch.eye(11)[1 : ROWS + 1], Head(torch.eye(11))
    loss = projection_loss(hidden, head, th, thead, projection)
    loss.backward()
    assert loss.isfinite() and hidden.grad.isfinite().all()


def test_no_rows():
    hidden, head, th, thead = case()
    loss = projection_loss(hidden[:0], head, th[:0], thead, LexiconProjection(*lexicon(), 11))
    gradients = torch.autograd.grad(loss, (hidden, head.weight), allow_unused=True)
    assert loss == 0 and all(g is None or not g.any() for g in gradients)


def test_memory():
    ids, weights = lexicon(5000, 4000)
    hidden, head, th, thead = case(5000, 4000, 1024, torch.float32)
    projection = LexiconProjection(ids, weights, 4000)
    without_large_buffers(
        lambda: projection_loss(hidden, head, th, thead, projection, block_bytes=2 << 20).backward(), 1024 * 4000 * 2
    )


@pytest.mark.parametrize(
    "ids,weights",
    [
        (np.zeros((3, 2), int), np.ones((3, 1))),
        (np.full((3, 1), 11), np.ones((3, 1))),
        (np.zeros((3, 1), int), -np.ones((3, 1))),
        (np.zeros((3, 1), int), np.full((3, 1), np.nan)),
        (np.zeros((3, 1), int), np.full((3, 1), 0.5)),
    ],
)
def test_bad_lexicons_are_refused(ids, weights):
    with pytest.raises(ValueError):
        LexiconProjection(ids, weights, 11)


def test_bad_teacher_is_refused():
    hidden, head, th, thead = case()
    projection = LexiconProjection(*lexicon(), 11)
    for broken in (th * torch.nan, th[:-1]):
        with pytest.raises(ValueError):
            projection_loss(hidden, head, broken, thead, projection)
