"""A loss that gives the student's logits several uses at once, beside the same losses apart."""

import numpy as np
import pytest
import torch

from tests.losses.test_events import some_classes
from tests.losses.toy import random_side
from vocabalign.losses.class_sums import ClassSums
from vocabalign.losses.logits import Head

ROWS, WIDTH = 12, 5
WEIGHTS = [(1.0, 1.0), (0.3, 2.0), (1.0, 0.0), (0.0, 1.0)]


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


def in_every_way(test):
    """A test of weights, padded rows of the head, and blocks."""
    test = pytest.mark.parametrize("weights", WEIGHTS)(test)
    test = pytest.mark.parametrize("padding", [0, 3])(test)
    return pytest.mark.parametrize("block_bytes", [None, 4000])(test)


def check_together(loss, apart, inputs, classes, weights, block_bytes):
    """Values and gradients of three numbers, the first of them the loss."""
    hidden, head = inputs[:2]
    expected = apart(*inputs, classes, weights, 9.5)
    wanted = torch.autograd.grad(expected[0], (hidden, head.weight))
    found = loss(
        *inputs,
        ClassSums(classes, head.num_rows),
        cross_entropy=weights[0],
        events=weights[1],
        num_items=9.5,
        block_bytes=block_bytes,
    )
    for value, other in zip(found[:3], expected, strict=True):
        assert float(value.detach()) == pytest.approx(float(other.detach()), rel=1e-9)
    for gradient, other in zip(torch.autograd.grad(found[0], (hidden, head.weight)), wanted, strict=True):
        assert torch.allclose(gradient, other, rtol=1e-7, atol=1e-10)
    return found


def check_out_of_reach(loss, apart):
    """The third number and the gradients where float32 cannot hold what classes sum to; what it should be."""
    classes = some_classes()
    inputs = case(classes, torch.float32, scale=25.0)
    expected = apart(*inputs, classes, (1.0, 1.0), 4.0)
    found = loss(*inputs, ClassSums(classes, len(classes.student)), num_items=4.0)
    assert float(found[2]) == pytest.approx(float(expected[2].detach()), rel=1e-4)
    gradients = torch.autograd.grad(found[0], (inputs[0], inputs[1].weight))
    wanted = torch.autograd.grad(expected[0], (inputs[0], inputs[1].weight))
    for gradient, other in zip(gradients, wanted, strict=True):
        assert torch.isfinite(gradient).all()
        assert float(torch.cosine_similarity(gradient.flatten(), other.flatten(), 0)) > 0.9999
    return float(expected[2].detach())


def check_size(loss):
    """A head of another size is refused."""
    classes = some_classes()
    hidden, head, *others = case(classes)
    with pytest.raises(ValueError, match="rows"):
        loss(hidden, head, *others, ClassSums(classes, head.num_rows + 1), num_items=1.0)
