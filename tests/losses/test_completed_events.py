"""Completed event-KL is its parts apart: values, gradients, padding, classes out of reach, nothing to learn from."""

import numpy as np
import pytest
import torch

from tests.losses.test_event_mixture import case
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


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.3, 2.0), (1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("block_bytes", [None, 4000])
def test_together_is_what_they_are_apart(weights, padding, block_bytes):
    classes = some_classes()
    hidden, head, labels, th, thead, starts = inputs = case(classes, padding=padding)
    without = np.flatnonzero(classes.student < 0)
    labels[starts[0, 0]] = int(without[0]) if len(without) else -100
    expected = apart(*inputs, classes, weights, 9.5)
    wanted = torch.autograd.grad(expected[0], (hidden, head.weight))
    found = completed_event_loss(
        *inputs,
        ClassSums(classes, head.num_rows),
        cross_entropy=weights[0],
        events=weights[1],
        num_items=9.5,
        block_bytes=block_bytes,
    )
    for value, other in zip(found, expected, strict=True):
        assert float(value.detach()) == pytest.approx(float(other.detach()), rel=1e-9)
    for gradient, other in zip(torch.autograd.grad(found[0], (hidden, head.weight)), wanted, strict=True):
        assert torch.allclose(gradient, other, rtol=1e-7, atol=1e-10)


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
    classes = some_classes()
    inputs = case(classes, torch.float32, scale=25.0)
    expected = apart(*inputs, classes, (1.0, 1.0), 4.0)
    found = completed_event_loss(*inputs, ClassSums(classes, len(classes.student)), num_items=4.0)
    assert float(found[2]) == pytest.approx(float(expected[2].detach()), rel=1e-4)
    gradients = torch.autograd.grad(found[0], (inputs[0], inputs[1].weight))
    wanted = torch.autograd.grad(expected[0], (inputs[0], inputs[1].weight))
    for gradient, other in zip(gradients, wanted, strict=True):
        assert torch.isfinite(gradient).all()
        assert float(torch.cosine_similarity(gradient.flatten(), other.flatten(), 0)) > 0.9999


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
    classes = some_classes()
    hidden, head, labels, th, thead, starts = case(classes)
    with pytest.raises(ValueError, match="rows"):
        sums = ClassSums(classes, head.num_rows + 1)
        completed_event_loss(hidden, head, labels, th, thead, starts, sums, num_items=1.0)
