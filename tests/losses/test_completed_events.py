"""Completed event-KL is its parts apart: values, gradients, padding, classes out of reach, nothing to learn from."""

import numpy as np
import pytest
import torch

from tests.losses.mixtures import case, check_out_of_reach, check_size, check_together, in_every_way
from tests.losses.test_events import some_classes
from vocabalign.losses.class_sums import ClassSums
from vocabalign.losses.classes import identity_classes
from vocabalign.losses.completed_events import completed_event_loss
from vocabalign.losses.events import EventMerge, class_entropy, event_loss
from vocabalign.losses.fused import fused_loss


def apart(hidden, head, labels, teacher_hidden, teacher_head, starts, classes, weights, num_items):
    """Cross-entropy everywhere, and at aligned starts the divergence in place of what of it is about classes."""
    of_class = torch.from_numpy(classes.student)
    used = starts[(labels[starts[:, 0]] >= 0) & (of_class[labels[starts[:, 0]].clamp(min=0)] >= 0)]
    entropy = fused_loss(hidden, head, labels, num_items=num_items).loss
    mine, merge = hidden[used[:, 0]], EventMerge(classes)
    divergence = event_loss(mine, head, teacher_hidden[used[:, 1]], teacher_head, merge, num_items=num_items)
    known = class_entropy(mine, head, labels[used[:, 0]], merge, num_items=num_items)
    taught = entropy + divergence - known
    return weights[0] * entropy + weights[1] * taught, entropy, taught


@in_every_way
def test_together_is_what_they_are_apart(weights, padding, block_bytes):
    classes = some_classes()
    inputs = case(classes, padding=padding)
    labels, starts = inputs[2], inputs[5]
    without = np.flatnonzero(classes.student < 0)
    labels[starts[0, 0]] = int(without[0]) if len(without) else -100
    found = check_together(completed_event_loss, apart, inputs, classes, weights, block_bytes)
    assert len(found) == 3


def test_one_vocabulary_is_the_plain_mixture():
    hidden, head, labels, th, thead, starts = case(identity_classes(17))
    rows = torch.arange(len(hidden))
    starts = torch.stack([rows, rows + 2], 1)
    loss, entropy, value = completed_event_loss(
        hidden, head, labels, th, thead, starts, ClassSums(identity_classes(17), 17), cross_entropy=0.2, events=0.8,
        num_items=4.0,
    )  # fmt: skip
    plain = fused_loss(hidden, head, labels, teacher_hidden=th[rows + 2], teacher_head=thead, weight=0.8, num_items=4.0)
    assert float(loss.detach()) == pytest.approx(float(plain.loss.detach()), rel=1e-9)
    assert float(entropy) == pytest.approx(float(plain.cross_entropy), rel=1e-9)
    assert float(value) == pytest.approx(float(plain.divergence), rel=1e-9)


def test_classes_that_float32_cannot_hold_have_their_value():
    check_out_of_reach(completed_event_loss, apart)


def test_no_starts_and_nothing_supervised():
    classes = some_classes()
    hidden, head, labels, th, thead, starts = case(classes)
    sums = ClassSums(classes, head.num_rows)
    loss, entropy, value = completed_event_loss(hidden, head, labels, th, thead, starts[:0], sums, num_items=2.0)
    assert float(entropy) == float(value) and float(loss.detach()) == pytest.approx(2 * float(entropy))
    nothing = torch.full_like(labels, -100)
    loss, entropy, value = completed_event_loss(hidden, head, nothing, th, thead, starts, sums, num_items=2.0)
    loss.backward()
    assert float(entropy) == float(value) == 0 and float(hidden.grad.abs().max()) == 0


def test_a_head_of_another_size_is_refused():
    check_size(completed_event_loss)
