"""The corrected GOLD hybrid: by brute force in a toy world, and everything that must not change it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.losses.toy import (
    LARGE,
    SMALL,
    World,
    check_plain,
    document,
    random_side,
    texts,
    vocabulary,
    without_large_buffers,
)
from vocabalign.losses.classes import common_classes, identity_classes, shared_token_classes
from vocabalign.losses.divergences import DIVERGENCES
from vocabalign.losses.events import EventMerge
from vocabalign.losses.gold import gold_loss
from vocabalign.losses.gold_rows import gold_rows
from vocabalign.losses.likelihood import observed_log_probs
from vocabalign.losses.logits import Head

PAIRS = [(SMALL, LARGE), (LARGE, SMALL)]
TEXTS = ["ab a", "aba bb", "b ab ab", " a", "ab ab"]


def batch(student, teacher, found=TEXTS):
    made, at = [], [0, 0]
    for text in found:
        d = document(student, teacher, text)
        made.append(replace(d, student_at=at[0], teacher_at=at[1]))
        at = [at[0] + len(d.student_ids), at[1] + len(d.teacher_ids)]
    return made, at


def case(tokens=PAIRS[0], dtype=torch.float64, found=TEXTS):
    student, teacher = (vocabulary(side) for side in tokens)
    classes = shared_token_classes(student, teacher)
    documents, counts = batch(student, teacher, found)
    rows = gold_rows(documents, classes)
    hidden, head = random_side(counts[0], 5, len(student), 1, dtype)
    th, thead = random_side(counts[1], 4, len(teacher), 2, dtype)
    hidden.requires_grad_()
    head = Head(head.weight.requires_grad_())
    return hidden, head, th, thead, rows, EventMerge(classes)


def run(hidden, head, th, thead, rows, merge, **more):
    rest = observed_log_probs(th[rows.teacher.rows], thead, rows.teacher.labels).tokens
    mine, theirs = rows.pairs.unbind(1)
    return gold_loss(hidden[mine], head, hidden[rows.student.rows], th[theirs], thead, rest, rows, merge, **more)


@pytest.mark.parametrize("tokens", PAIRS)
def test_events_by_the_chain_rule_counted_over_whole_texts(tokens):
    """Faults of GOLD: its merge looks up probs[k] for token k although they predict token k + 1, and multiplies
    whole distributions. Here the chunk has exactly the probability that the texts of the world give it."""
    probabilities = texts()
    student, teacher = (vocabulary(side) for side in tokens)
    worlds = World(student, probabilities), World(teacher, probabilities)
    classes = shared_token_classes(student, teacher)
    merge = EventMerge(classes)
    moved = 0
    for text in [*list(probabilities)[::9], "ab a", " aba", "aba "]:
        rows = gold_rows([document(student, teacher, text)], classes)
        hidden = [world.hidden(text) for world in worlds]
        expected = 0.0
        for c in range(len(rows.pairs)):
            found, length = [], []
            for side, (world, numbers) in enumerate(zip(worlds, (classes.student, classes.teacher), strict=True)):
                cut, at = world.cut(text), int(rows.pairs[c, side])
                part = rows.student if side == 0 else rows.teacher
                end = at + 2 + int((part.owner == c).sum())
                length.append(end - at - 1)
                p = np.zeros(classes.num_classes + 1)
                for other, own in world.cuts.items():
                    if own[: at + 1] == cut[: at + 1] and len(own) > at + 1:
                        whole = own[:end] == cut[:end]
                        event = int(rows.event[c]) if whole else numbers[own[at + 1]]
                        p[event] += probabilities[other]
                found.append(p / p.sum())
            moved += max(length) > 1
            q, p = found
            for side in (p, q):
                used = side > 0
                expected += 0.5 * (side[used] * np.log(2 * side[used] / (p + q)[used])).sum()
        loss = run(hidden[0], worlds[0].head, hidden[1], worlds[1].head, rows, merge, unmatched=0.0, num_items=1)
        # Where all of a class moves, one part in a million stays behind.
        np.testing.assert_allclose(float(loss), expected, rtol=1e-4, atol=1e-4)
    assert moved > 3


@pytest.mark.parametrize("tokens", PAIRS)
@pytest.mark.parametrize("name", sorted(set(DIVERGENCES) - {"adaptive-kl"}))
def test_gradcheck(tokens, name):
    hidden, head, *others = case(tokens, found=["ab ab"])
    assert (others[2].student.origin >= 0).any()
    weights = 1 + torch.arange(len(others[2].pairs)) % 3
    assert torch.autograd.gradcheck(
        lambda h, w: run(h, Head(w), *others, divergence=name, weights=weights.double(), top=3, unmatched=0.5),
        (hidden, head.weight),
    )


def test_unmatched_tokens_are_compared_sorted_and_renormalised():
    hidden, head, th, thead, rows, merge = case()
    classes = shared_token_classes(vocabulary(SMALL), vocabulary(LARGE))
    one, none = (run(hidden, head, th, thead, rows, merge, unmatched=u) for u in (1.0, 0.0))
    plain = 0.0
    for c in range(len(rows.pairs)):
        q = torch.softmax(hidden[rows.pairs[c, 0]] @ head.weight.T, -1)
        p = torch.softmax(th[rows.pairs[c, 1]] @ thead.weight.T, -1)
        q_other, p_other = q[classes.student == classes.other], p[classes.teacher == classes.other]
        mass = p_other.sum()
        if rows.teacher.origin[c] == classes.other:  # the chunk itself is no longer among the others
            more = rows.teacher.owner == c
            log_p = torch.log_softmax(th[rows.teacher.rows[more]] @ thead.weight.T, -1)
            rest = log_p.gather(1, rows.teacher.labels[more][:, None]).sum()
            mass = mass - p[rows.teacher.first[c]] * rest.exp()
        parts = [side.sort(descending=True).values / side.sum() for side in (q_other, p_other)]
        parts[0] = torch.nn.functional.pad(parts[0], (0, len(parts[1]) - len(parts[0])))
        plain = plain + mass * (parts[0] - parts[1]).abs().sum()
    torch.testing.assert_close(one - none, plain / len(rows.pairs), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_vocabulary_is_plain_distillation_bit_for_bit(name, dtype):
    hidden, head, th, thead, rows, merge = case((LARGE, LARGE), dtype)
    loss = run(hidden, head, th, thead, rows, merge, divergence=name)
    check_plain(loss, hidden, head, (hidden[rows.pairs[:, 0]], th[rows.pairs[:, 1]], thead), name)


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
def test_equal_models_on_chunks_of_several_tokens_are_exactly_nothing(name):
    """The same chunk of two tokens on both sides: the loss of equal models is 0, as for every divergence."""
    v = vocabulary(SMALL)
    hidden, head = random_side(9, 5, len(v), 1)
    hidden.requires_grad_()
    classes = identity_classes(len(v))
    d = document(v, v, "ab ab")
    chunks = replace(
        d.alignment,
        cs_start=np.array([1]),
        cs_end=np.array([4]),
        ct_start=np.array([1]),
        ct_end=np.array([4]),
        byte_end=np.array([5]),
        start_pairs=np.array([[0, 0, 0]]),
    )
    rows = gold_rows([replace(d, alignment=chunks)], classes)
    assert len(rows.student.labels) == 2
    loss = run(hidden, head, hidden.detach(), Head(head.weight.detach()), rows, EventMerge(classes), divergence=name)
    (gradient,) = torch.autograd.grad(loss, hidden)
    assert loss == 0 and not gradient.any()


def test_blocks_shifts_and_accumulation_change_nothing():
    hidden, head, th, thead, rows, merge = case()
    expected = run(hidden, head, th, thead, rows, merge)
    shift = torch.full((len(head.weight),), 7.0, dtype=torch.float64)
    half = (torch.arange(len(rows.pairs)) % 2).double()
    count = len(rows.pairs)
    for other in (
        run(hidden, Head(head.weight, shift), th, thead, rows, merge),
        run(hidden, head, th, thead, rows, merge, block_bytes=1),
        sum(run(hidden, head, th, thead, rows, merge, weights=w, num_items=count) for w in (half, 1 - half)),
    ):
        torch.testing.assert_close(other, expected)


def test_end_of_text_is_an_event_by_role():
    """GOLD skips EOS on both sides: the student never learns to stop."""
    student, teacher = vocabulary(SMALL), vocabulary(LARGE)
    hidden, head, th, thead, rows, merge = case()
    ends = rows.student.first == student.roles["eos"]
    assert ends.sum() == len(TEXTS)
    classes = shared_token_classes(student, teacher)
    assert (rows.event[ends] == int(classes.student[student.roles["eos"]])).all()
    (gradient,) = torch.autograd.grad(run(hidden, head, th, thead, rows, merge), head.weight)
    assert gradient[student.roles["eos"]].any()


def test_no_rows():
    hidden, head, th, thead, _, merge = case()
    none = gold_rows([], shared_token_classes(vocabulary(SMALL), vocabulary(LARGE)))
    loss = run(hidden, head, th, thead, none, merge)
    gradients = torch.autograd.grad(loss, (hidden, head.weight), allow_unused=True)
    assert loss == 0 and all(g is None or not g.any() for g in gradients)


def test_works_with_canonical_classes_too():
    student, teacher = vocabulary(SMALL), vocabulary(LARGE)
    hidden, head, th, thead, *_ = case()
    classes = common_classes(student, teacher)
    documents, _ = batch(student, teacher)
    assert run(hidden, head, th, thead, gold_rows(documents, classes), EventMerge(classes)) > 0


def test_memory():
    tokens = [bytes([a, b]) for a in range(97, 123) for b in range(97, 123)]
    single = [bytes([a]) for a in range(97, 123)]
    student, teacher = (
        vocabulary(tokens + single),
        vocabulary(single + [token for token in tokens if token[:1] in b"ac"]),
    )
    classes = shared_token_classes(student, teacher)
    rows = gold_rows([document(student, teacher, "abcdefgh" * 200)], classes)
    hidden, head = random_side(2000, 4, len(student), 0, torch.float32)
    th, thead = random_side(2000, 4, len(teacher), 1, torch.float32)
    hidden.requires_grad_()
    without_large_buffers(
        lambda: run(hidden, head, th, thead, rows, EventMerge(classes), block_bytes=1 << 17).backward(),
        len(rows.pairs) * len(teacher) * 2,
    )


def test_bad_input_is_refused():
    hidden, head, th, thead, rows, merge = case()
    mine, theirs = rows.pairs.unbind(1)
    good = [hidden[mine], head, hidden[rows.student.rows], th[theirs], thead]
    rest = observed_log_probs(th[rows.teacher.rows], thead, rows.teacher.labels).tokens
    for bad in (rest[:-1], torch.full_like(rest, torch.nan)):
        with pytest.raises(ValueError):
            gold_loss(*good, bad, rows, merge)
    with pytest.raises(ValueError):
        gold_loss(*good, rest, rows, merge, divergence="nonsense")
