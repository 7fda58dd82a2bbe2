"""Cross-entropy and event-KL together are the two apart: values, gradients, padding, classes out of reach."""

import pytest
import torch

from tests.losses.mixtures import case, check_out_of_reach, check_size, check_together, in_every_way
from tests.losses.test_events import some_classes
from vocabalign.losses.class_sums import ClassSums
from vocabalign.losses.classes import identity_classes
from vocabalign.losses.event_mixture import event_mixture_loss
from vocabalign.losses.events import EventMerge, event_loss
from vocabalign.losses.fused import fused_loss


def apart(hidden, head, labels, teacher_hidden, teacher_head, starts, classes, weights, num_items):
    entropy = fused_loss(hidden, head, labels, num_items=num_items).loss
    divergence = event_loss(
        hidden[starts[:, 0]],
        head,
        teacher_hidden[starts[:, 1]],
        teacher_head,
        EventMerge(classes),
        num_items=num_items,
    )
    return weights[0] * entropy + weights[1] * divergence, entropy, divergence


@in_every_way
def test_together_is_what_they_are_apart(weights, padding, block_bytes):
    classes = some_classes()
    inputs = case(classes, padding=padding)
    found = check_together(event_mixture_loss, apart, inputs, classes, weights, block_bytes)
    assert float(found.continuations) == 0


def test_one_vocabulary():
    classes = identity_classes(17)
    inputs = case(classes)
    expected = apart(*inputs, classes, (1.0, 1.0), 4.0)
    found = event_mixture_loss(*inputs, ClassSums(classes, 17), num_items=4.0)
    assert float(found[0].detach()) == pytest.approx(float(expected[0].detach()), rel=1e-9)


def test_classes_that_float32_cannot_hold_have_their_value():
    assert check_out_of_reach(event_mixture_loss, apart) > 30


def test_no_starts_and_nothing_supervised():
    classes = some_classes()
    hidden, head, labels, th, thead, starts = case(classes)
    sums = ClassSums(classes, head.num_rows)
    loss, entropy, divergence, *_ = event_mixture_loss(hidden, head, labels, th, thead, starts[:0], sums, num_items=2.0)
    alone = fused_loss(hidden, head, labels, num_items=2.0).loss
    assert float(loss.detach()) == pytest.approx(float(alone.detach())) and float(divergence) == 0
    nothing = torch.full_like(labels, -100)
    loss, entropy, *_ = event_mixture_loss(hidden, head, nothing, th, thead, starts[:0], sums, num_items=2.0)
    loss.backward()
    assert float(entropy) == 0 and float(hidden.grad.abs().max()) == 0


def test_a_head_of_another_size_is_refused():
    check_size(event_mixture_loss)
