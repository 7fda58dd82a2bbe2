"""Losses completed by the text: the fast way and the general one, one vocabulary, labels that are not supervised."""

from dataclasses import replace

import pytest
import torch

from tests.losses.toy import LARGE, SMALL, document, random_side, vocabulary
from vocabalign.losses.fused import fused_loss
from vocabalign.losses.logits import Head
from vocabalign.train.completed_terms import COMPLETED, Text
from vocabalign.train.lesson_tables import Tables
from vocabalign.train.loss_choice import COMPLETED_BY_TEXT
from vocabalign.train.loss_terms import TERMS, Lesson
from vocabalign.train.pieces import Piece
from vocabalign.train.teachers import RunRows

CPU = torch.device("cpu")
TEXTS = ["ab a", "aba bb", "b ab ab", " a", "ab ab"]


def setting(tokens, **more):
    """A lesson, its rows for each loss, and the labels; row 3 is not supervised."""
    student, teacher = (vocabulary(side) for side in tokens)
    tables = Tables(student, teacher, CPU, one_vocabulary=tokens[0] == tokens[1])
    pieces, labels, at = [], [], [0, 0]
    for text in TEXTS:
        made = document(student, teacher, text)
        placed = replace(made, student_at=at[0], teacher_at=at[1])
        pieces.append(Piece(placed, 0, 0, len(made.teacher_ids), len(made.student_ids)))
        labels += [*made.student_ids[1:].tolist(), -100]
        at = [at[0] + len(made.student_ids), at[1] + len(made.teacher_ids)]
    hidden, head = random_side(at[0], 5, len(student), 1)
    states, their_head = random_side(at[1], 4, len(teacher), 2)
    labels = torch.tensor(labels)
    labels[3] = -100
    hidden.requires_grad_()
    options = {"divergence": "forward-kl", "temperature": 1.0, **more}
    lesson = Lesson(hidden, Head(head.weight.requires_grad_()), RunRows(states, their_head, tables), tables, **options)
    return lesson, labels, lambda name: TERMS[name].prepare(pieces, tables)


def worth(name, lesson, labels, rows, entropy=0.1, taught=0.9):
    loss, *parts = COMPLETED[name](lesson, rows(name), Text(labels, entropy, taught, 7.0))
    return loss, parts, torch.autograd.grad(loss, (lesson.hidden, lesson.head.weight))


def test_what_is_completed_is_weighted_so():
    assert set(COMPLETED) == set(COMPLETED_BY_TEXT) and set(COMPLETED) <= set(TERMS)


@pytest.mark.parametrize("tokens", [(SMALL, LARGE), (LARGE, SMALL)])
def test_the_general_way_is_the_fast_one(tokens):
    fast, labels, rows = setting(tokens)
    general, _, _ = setting(tokens, temperature=1 + 1e-9)
    one, other = worth("event", fast, labels, rows), worth("event", general, labels, rows)
    assert float(one[0].detach()) == pytest.approx(float(other[0].detach()), rel=1e-6)
    for a, b in zip(one[1], other[1], strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-6)
    for a, b in zip(one[2], other[2], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", sorted(COMPLETED))
def test_with_one_vocabulary_all_are_the_mixture(name):
    lesson, labels, rows = setting((LARGE, LARGE))
    loss, (entropy, divergence), gradients = worth(name, lesson, labels, rows)
    known = labels >= 0
    theirs = lesson.teacher.hidden(torch.arange(len(labels)))
    plain = fused_loss(
        lesson.hidden[known], lesson.head, labels[known],
        teacher_hidden=theirs[known], teacher_head=lesson.teacher.head(), weight=0.9, num_items=7.0,
    )  # fmt: skip
    assert float(loss.detach()) == pytest.approx(float(plain.loss.detach()), rel=1e-9)
    assert float(entropy) == pytest.approx(float(plain.cross_entropy), rel=1e-9)
    assert float(divergence) == pytest.approx(float(plain.divergence), rel=1e-9)
    for a, b in zip(gradients, torch.autograd.grad(plain.loss, (lesson.hidden, lesson.head.weight)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["event", "prefixes"])
def test_without_weight_it_is_the_cross_entropy_and_unsupervised_rows_get_nothing(name):
    lesson, labels, rows = setting((SMALL, LARGE))
    loss, (entropy, _), (gradient, _) = worth(name, lesson, labels, rows, 1.0, 0.0)
    plain = fused_loss(lesson.hidden, lesson.head, labels, num_items=7.0).loss
    assert float(loss.detach()) == pytest.approx(float(plain.detach())) == pytest.approx(float(entropy))
    _, _, (gradient, _) = worth(name, lesson, labels, rows)
    assert not gradient[labels < 0].any() and (gradient[labels >= 0].abs().sum(1) > 0).all()
