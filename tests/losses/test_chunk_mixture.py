"""Cross-entropy and chunks from the same logits: the sum of the two losses, gradient included."""

import pytest
import torch

from tests.losses.test_chunks import STUDENT, TEACHER, batch
from tests.losses.toy import random_side, without_large_buffers
from vocabalign.losses.aligned import AlignedChunks, ChunkRows
from vocabalign.losses.chunk_mixture import chunk_mixture_loss
from vocabalign.losses.chunks import chunk_loss
from vocabalign.losses.fused import fused_loss
from vocabalign.losses.likelihood import Observed, observed_log_probs, word_starts
from vocabalign.losses.logits import Head


def case(dtype=torch.float64, extra=3):
    """Hidden states of all rows, some behind the documents; labels where chunks have them, and some others."""
    chunks, counts = batch()
    hidden, head = random_side(counts[0] + extra, 5, len(STUDENT), 1, dtype)
    states, their_head = random_side(counts[1], 4, len(TEACHER), 2, dtype)
    observed = observed_log_probs(
        states[chunks.teacher.positions], their_head, chunks.teacher.labels, word_starts(TEACHER)
    )
    labels = torch.full((len(hidden),), -100)
    labels[chunks.student.positions] = chunks.student.labels
    labels[-1] = 2  # predicted by nobody but the text
    labels[chunks.student.positions[1]] = -100  # in a chunk, and nothing that the text teaches
    return hidden.requires_grad_(), Head(head.weight.requires_grad_()), labels, chunks, observed


@pytest.mark.parametrize("remedies", [False, True])
@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.0, 1.0), (1.0, 0.0)])
def test_it_is_the_sum_of_both(remedies, weights):
    hidden, head, labels, chunks, observed = case()
    starts = word_starts(STUDENT) if remedies else None
    options = dict(starts=starts, num_items=7.0)
    loss, entropy, value = chunk_mixture_loss(
        hidden, head, labels, chunks, observed, cross_entropy=weights[0], chunk=weights[1], num_chunk_items=31.0,
        **options,
    )  # fmt: skip
    plain = fused_loss(hidden, head, labels, num_items=7.0).loss
    options["num_items"] = 31.0
    apart = chunk_loss(hidden[chunks.student.positions], head, chunks, observed, **options)
    torch.testing.assert_close(entropy.to(plain), plain)
    torch.testing.assert_close(value.to(apart), apart)
    expected = weights[0] * plain + weights[1] * apart
    torch.testing.assert_close(loss, expected)
    for a, b in zip(*(torch.autograd.grad(x * 2, (hidden, head.weight)) for x in (loss, expected)), strict=True):
        torch.testing.assert_close(a, b)


def test_without_chunks_it_is_the_cross_entropy_and_without_anything_nothing():
    hidden, head, labels, chunks, observed = case()
    none = chunks.merged(torch.ones(len(chunks), dtype=torch.bool))
    empty = type(none)(
        *(type(side)(*(getattr(side, name)[:0] for name in ("positions", "labels", "starts", "stops", "after")))
          for side in (none.student, none.teacher)), none.num_bytes[:0],
    )  # fmt: skip
    nothing = type(observed)(observed.tokens[:0], None)
    loss, _, value = chunk_mixture_loss(hidden, head, labels, empty, nothing, num_items=4.0, num_chunk_items=0.0)
    torch.testing.assert_close(loss, fused_loss(hidden, head, labels, num_items=4.0).loss)
    assert value == 0
    loss, *_ = chunk_mixture_loss(
        hidden, head, torch.full_like(labels, -100), empty, nothing, num_items=0.0, num_chunk_items=0.0
    )
    (gradient,) = torch.autograd.grad(loss, hidden)
    assert loss == 0 and not gradient.any()


def test_no_tensor_of_rows_times_vocabulary():
    rows, count = 512, 4096
    hidden, head = random_side(rows, 8, count, 1, torch.float32)
    at, labels = torch.arange(rows), torch.zeros(rows, dtype=torch.int64)
    side = ChunkRows(at, labels, at, at + 1, torch.full((rows,), -1))
    chunks, told = AlignedChunks(side, side, torch.ones(rows, dtype=torch.int64)), Observed(-torch.ones(rows), None)
    options = dict(num_items=1.0, num_chunk_items=1.0, block_bytes=2 << 20)
    hidden.requires_grad_()
    without_large_buffers(
        lambda: chunk_mixture_loss(hidden, head, labels, chunks, told, **options)[0].backward(), rows * count * 2
    )
