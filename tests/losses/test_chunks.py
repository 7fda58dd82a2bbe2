"""Chunk likelihood against a naive loss, by brute force in a toy world, and everything that must not change it."""

import math
from dataclasses import replace

import pytest
import torch

from tests.losses.toy import LARGE, SMALL, World, document, random_side, texts, vocabulary, without_large_buffers
from vocabalign.losses.aligned import AlignedChunks, ChunkRows, aligned_chunks
from vocabalign.losses.chunks import chunk_loss, chunk_surprisals
from vocabalign.losses.likelihood import Observed, observed_log_probs, word_starts
from vocabalign.losses.logits import Head
from vocabalign.losses.surprisals import surprisal_divergence

STUDENT, TEACHER = vocabulary(SMALL), vocabulary(LARGE)
TEXTS = ["ab a", "aba bb", "b ab ab", " a"]
TAUS = [1.0, 100.0, math.inf]


def batch(student=STUDENT, teacher=TEACHER):
    made, at = [], [0, 0]
    for text in TEXTS:
        d = document(student, teacher, text)
        made.append(replace(d, student_at=at[0], teacher_at=at[1]))
        at = [at[0] + len(d.student_ids), at[1] + len(d.teacher_ids)]
    return aligned_chunks(made), at


def case(student=STUDENT, teacher=TEACHER, dtype=torch.float64, seed=1):
    chunks, counts = batch(student, teacher)
    hidden, head = random_side(counts[0], 5, len(student), seed, dtype)
    th, thead = random_side(counts[1], 4, len(teacher), seed + 1, dtype)
    observed = observed_log_probs(th[chunks.teacher.positions], thead, chunks.teacher.labels, word_starts(teacher))
    x = hidden[chunks.student.positions].requires_grad_()
    return x, Head(head.weight.requires_grad_()), chunks, observed, th[chunks.teacher.positions], thead


def naive(x, head, chunks, teacher_log_probs, tau, starts=None, merge_below=None):
    """Loops over chunks, with autograd."""
    log_q = torch.log_softmax(x @ head.weight.T, -1)
    runs, run = [], []
    for c in range(len(chunks)):
        run.append(c)
        after = int(chunks.teacher.after[c])
        closed = after < 0 or merge_below is None
        if not closed:
            closed = float(teacher_log_probs[after][word_starts(TEACHER)].exp().sum()) > merge_below
        special = chunks.num_bytes[c] == 0 or (c + 1 < len(chunks) and chunks.num_bytes[c + 1] == 0)
        if closed or special or c + 1 == len(chunks):
            runs.append(run)
            run = []
    total, weight = 0.0, 0.0
    for run in runs:
        a = b = 0.0
        for c in run:
            for side, log_probs in ((chunks.teacher, teacher_log_probs), (chunks.student, log_q)):
                rows = range(int(side.starts[c]), int(side.stops[c]))
                found = -sum(log_probs[i, side.labels[i]] for i in rows)
                a, b = (a + found, b) if side is chunks.teacher else (a, b + found)
        at = int(chunks.teacher.after[run[-1]]), int(chunks.student.after[run[-1]])
        if starts is not None and min(at) >= 0:
            a = a - teacher_log_probs[at[0]][word_starts(TEACHER)].logsumexp(0)
            b = b - log_q[at[1]][starts].logsumexp(0)
        w = sum(max(1, int(chunks.num_bytes[c])) for c in run)
        total = total + w * surprisal_divergence(a[None], b[None], tau)[0][0]
        weight += w
    return total / weight


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("remedies", [False, True])
@pytest.mark.parametrize("merge_below", [None, 0.3])
def test_against_the_naive_loss(tau, remedies, merge_below):
    x, head, chunks, observed, th, thead = case()
    starts = word_starts(STUDENT) if remedies else None
    merge_below = merge_below if remedies else None
    expected = naive(x, head, chunks, torch.log_softmax(th @ thead.weight.T, -1), tau, starts, merge_below)
    loss = chunk_loss(x, head, chunks, observed, starts=starts, merge_below=merge_below, temperature=tau)
    torch.testing.assert_close(loss, expected)
    for a, b in zip(*(torch.autograd.grad(value, (x, head.weight)) for value in (loss * 2, expected * 2))):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("tau", TAUS)
def test_gradcheck(tau):
    x, head, chunks, observed, *_ = case()
    starts = word_starts(STUDENT)
    assert torch.autograd.gradcheck(
        lambda h, w: chunk_loss(h, Head(w, softcap=30.0), chunks, observed, starts=starts, temperature=tau),
        (x, head.weight),
    )


@pytest.mark.parametrize("tau", TAUS)
def test_one_vocabulary_is_the_binary_divergence_of_each_token(tau):
    x, head, chunks, observed, *_ = case(TEACHER, TEACHER)
    assert (chunks.student.stops - chunks.student.starts == 1).all()
    labelled = chunks.student.labels >= 0
    log_q = torch.log_softmax(x @ head.weight.T, -1)[labelled]
    b = -log_q.gather(1, chunks.student.labels[labelled][:, None]).squeeze(1)
    expected = surprisal_divergence(-observed.tokens[labelled], b, tau)[0].mean()
    loss = chunk_loss(x, head, chunks, observed, temperature=tau, weights="tokens")
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("tau", TAUS)
def test_identity_is_exactly_zero(dtype, tau):
    x, head, chunks, *_ = case(TEACHER, TEACHER, dtype)
    starts = word_starts(TEACHER)
    observed = observed_log_probs(x.detach(), head, chunks.student.labels, starts)
    loss = chunk_loss(x, head, chunks, observed, starts=starts, temperature=tau)
    gradients = torch.autograd.grad(loss, (x, head.weight))
    assert loss == 0 and not any(g.any() for g in gradients)


def test_texts_have_one_likelihood_whatever_the_tokens():
    """Models that know a world by heart give each text its probability: chunks multiply up to it on both sides."""
    probabilities = texts()
    worlds = World(STUDENT, probabilities), World(TEACHER, probabilities)
    for text in list(probabilities)[::9]:
        chunks = aligned_chunks([document(STUDENT, TEACHER, text)])
        for world, rows in zip(worlds, (chunks.student, chunks.teacher), strict=True):
            observed = observed_log_probs(world.hidden(text)[rows.positions], world.head, rows.labels)
            surprisals = chunk_surprisals(observed.tokens, rows)
            assert math.isclose(float(surprisals.sum()), -math.log(probabilities[text]), rel_tol=1e-9)
            # Each chunk by brute force: texts whose cut begins with the tokens up to its end, and up to its start.
            for c in range(len(chunks)):
                ends = rows.positions[rows.starts[c]] + 1, rows.positions[rows.stops[c] - 1] + 2
                cut = world.cut(text)
                counts = [sum(p for t, p in probabilities.items() if world.cuts[t][:e] == cut[:e]) for e in ends]
                assert math.isclose(float(surprisals[c]), -math.log(counts[1] / counts[0]), rel_tol=1e-9, abs_tol=1e-12)


def test_the_stop_probability_is_learned():
    """GOLD skips EOS on both sides; here its row has a gradient."""
    x, head, chunks, observed, *_ = case()
    (gradient,) = torch.autograd.grad(chunk_loss(x, head, chunks, observed), x)
    eos = chunks.student.labels == STUDENT.roles["eos"]
    assert eos.sum() == len(TEXTS) and gradient[eos].any(-1).all()


def test_blocks_shifts_and_accumulation_change_nothing():
    x, head, chunks, observed, *_ = case()
    starts = word_starts(STUDENT)
    arguments = dict(starts=starts, temperature=math.inf)
    expected = chunk_loss(x, head, chunks, observed, **arguments)
    shifted = Head(head.weight, torch.full((len(STUDENT),), 9.0, dtype=torch.float64))
    weights = chunks.weights()
    halves = [weights * (torch.arange(len(weights)) % 2 == k) for k in (0, 1)]
    plain = chunk_loss(x, head, chunks, observed)
    split = sum(chunk_loss(x, head, chunks, observed, weights=h, num_items=float(weights.sum())) for h in halves)
    torch.testing.assert_close(split, plain)
    for other in (
        chunk_loss(x, head, chunks, observed, block_bytes=1, **arguments),
        chunk_loss(x, shifted, chunks, observed, **arguments),
        chunk_loss(x, head, chunks, observed, weights=weights, **arguments),
    ):
        torch.testing.assert_close(other, expected, rtol=1e-12, atol=1e-12)


def test_nothing_to_compare():
    x, head, *_ = case()
    empty = torch.zeros(0, dtype=torch.int64)
    none = AlignedChunks(*[ChunkRows(*[empty] * 5)] * 2, empty)
    observed = Observed(torch.zeros(0).double(), torch.zeros(0).double())
    for starts in (None, word_starts(STUDENT)):
        loss = chunk_loss(x[:0], head, none, observed, starts=starts)
        gradients = torch.autograd.grad(loss, (x, head.weight), allow_unused=True)
        assert loss == 0 and all(g is None or not g.any() for g in gradients)


def test_memory():
    count, rows = 5000, 1024
    hidden, head = random_side(rows, 4, count, 0, torch.float32)
    hidden.requires_grad_()
    at = torch.arange(rows)
    side = ChunkRows(at, torch.zeros(rows, dtype=torch.int64), at, at + 1, torch.full((rows,), -1))
    chunks = AlignedChunks(side, side, torch.ones(rows, dtype=torch.int64))
    without_large_buffers(
        lambda: chunk_loss(hidden, head, chunks, Observed(-torch.ones(rows), None), block_bytes=2 << 20).backward(),
        rows * count * 2,
    )


@pytest.mark.parametrize(
    "change",
    [
        dict(teacher=Observed(torch.zeros(3), None)),
        dict(starts=torch.zeros(3, dtype=torch.bool)),
        dict(temperature=-1.0),
        dict(weights="words"),
        dict(weights=torch.ones(3)),
    ],
)
def test_bad_input_is_refused(change):
    x, head, chunks, observed, *_ = case()
    with pytest.raises(ValueError):
        chunk_loss(**dict(hidden=x, head=head, chunks=chunks, teacher=observed) | change)


def test_nan_in_the_teacher_is_refused():
    x, head, chunks, observed, *_ = case()
    spoilt = observed.tokens.clone()
    spoilt[2] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        chunk_loss(x, head, chunks, Observed(spoilt, None))
    with pytest.raises(ValueError, match="starts"):
        chunk_loss(x, head, chunks, Observed(observed.tokens, None), starts=word_starts(STUDENT))
