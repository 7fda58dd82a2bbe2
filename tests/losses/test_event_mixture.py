"""Cross-entropy and event-KL together are the two apart: values, gradients, padding, classes out of reach."""

import numpy as np
import pytest
import torch

from tests.losses.test_events import some_classes
from tests.losses.toy import random_side
from vocabalign.losses.class_sums import ClassSums
from vocabalign.losses.classes import identity_classes
from vocabalign.losses.event_mixture import event_mixture_loss
from vocabalign.losses.events import EventMerge, event_loss
from vocabalign.losses.fused import fused_loss
from vocabalign.losses.logits import Head

ROWS, WIDTH = 12, 5


def case(classes, dtype=torch.float64, padding=0, scale=1.0):
    hidden, head = random_side(ROWS, WIDTH, len(classes.student) + padding, 1, dtype)
    teacher_hidden, teacher_head = random_side(ROWS + 4, WIDTH + 1, len(classes.teacher), 2, dtype)
    hidden = (scale * hidden).requires_grad_()
    weight = head.weight.requires_grad_()
    generator = np.random.default_rng(3)
    labels = torch.from_numpy(generator.integers(0, len(classes.student), ROWS))
    labels[[2, 7]] = -100
    starts = np.stack([generator.permutation(ROWS)[:8], generator.permutation(ROWS + 4)[:8]], 1)
    return hidden, Head(weight), labels, teacher_hidden, teacher_head, torch.from_numpy(starts)


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


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.3, 2.0), (1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("block_bytes", [None, 4000])
def test_together_is_what_they_are_apart(weights, padding, block_bytes):
    classes = some_classes()
    hidden, head, labels, th, thead, starts = inputs = case(classes, padding=padding)
    expected = apart(*inputs, classes, weights, 9.5)
    wanted = torch.autograd.grad(expected[0], (hidden, head.weight))
    found = event_mixture_loss(
        *inputs,
        ClassSums(classes, head.num_rows),
        cross_entropy=weights[0],
        events=weights[1],
        num_items=9.5,
        block_bytes=block_bytes,
    )
    assert float(found.continuations) == 0
    for value, other in zip(found[:3], expected, strict=True):
        assert float(value.detach()) == pytest.approx(float(other.detach()), rel=1e-9)
    for gradient, other in zip(torch.autograd.grad(found[0], (hidden, head.weight)), wanted, strict=True):
        assert torch.allclose(gradient, other, rtol=1e-7, atol=1e-10)


def test_one_vocabulary():
    classes = identity_classes(17)
    inputs = case(classes)
    expected = apart(*inputs, classes, (1.0, 1.0), 4.0)
    found = event_mixture_loss(*inputs, ClassSums(classes, 17), num_items=4.0)
    assert float(found[0].detach()) == pytest.approx(float(expected[0].detach()), rel=1e-9)


def test_classes_that_float32_cannot_hold_have_their_value():
    classes = some_classes()
    inputs = case(classes, torch.float32, scale=25.0)
    expected = apart(*inputs, classes, (1.0, 1.0), 4.0)
    found = event_mixture_loss(*inputs, ClassSums(classes, len(classes.student)), num_items=4.0)
    assert float(expected[2].detach()) > 30
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
    loss, entropy, divergence, *_ = event_mixture_loss(hidden, head, labels, th, thead, starts[:0], sums, num_items=2.0)
    alone = fused_loss(hidden, head, labels, num_items=2.0).loss
    assert float(loss.detach()) == pytest.approx(float(alone.detach())) and float(divergence) == 0
    nothing = torch.full_like(labels, -100)
    loss, entropy, *_ = event_mixture_loss(hidden, head, nothing, th, thead, starts[:0], sums, num_items=2.0)
    loss.backward()
    assert float(entropy) == 0 and float(hidden.grad.abs().max()) == 0


def test_a_head_of_another_size_is_refused():
    classes = some_classes()
    hidden, head, labels, th, thead, starts = case(classes)
    with pytest.raises(ValueError, match="rows"):
        sums = ClassSums(classes, head.num_rows + 1)
        event_mixture_loss(hidden, head, labels, th, thead, starts, sums, num_items=1.0)
