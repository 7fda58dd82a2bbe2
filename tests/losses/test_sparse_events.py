"""Event losses from a few tokens of the teacher: all tokens are the event loss, draws are it on average."""

import numpy as np
import pytest
import torch

from vocabalign.losses.classes import EventClasses
from vocabalign.losses.divergences import DIVERGENCES
from vocabalign.losses.events import EventMerge, event_loss
from vocabalign.losses.logits import Head
from vocabalign.losses.sparse_events import merge_top, sampled_event_loss, top_event_loss
from vocabalign.losses.targets import SampledTargets, capture_samples, capture_top

ROWS, SIZES = 9, (23, 31)


def student_classes():
    return np.concatenate([np.arange(7), np.random.default_rng(0).integers(0, 7, 15), [-1]]).astype(np.int64)


@pytest.fixture()
def scene():
    torch.manual_seed(0)
    student = student_classes()
    teacher = np.concatenate([np.arange(7), np.random.default_rng(1).integers(0, 7, 24)])
    classes = EventClasses(student, teacher.astype(np.int64), 7, None)
    hidden = torch.randn(ROWS, 5, dtype=torch.float64, requires_grad=True)
    head = Head(torch.randn(SIZES[0], 5, dtype=torch.float64, requires_grad=True))
    theirs, their_head = torch.randn(ROWS, 6, dtype=torch.float64), Head(torch.randn(SIZES[1], 6, dtype=torch.float64))
    return hidden, head, theirs, their_head, EventMerge(classes), torch.from_numpy(classes.teacher)


def gradients(loss, *tensors):
    return [loss, *torch.autograd.grad(loss, tensors)]


@pytest.mark.parametrize("classless", [False, True])
@pytest.mark.parametrize("divergence", sorted(DIVERGENCES))
def test_all_tokens_are_the_event_loss(scene, divergence, classless):
    hidden, head, theirs, their_head, merge, classes = scene
    if classless:  # tokens of the teacher that the student knows nothing like
        numbers = classes.numpy().copy()
        numbers[[9, 20]] = -1
        merge = EventMerge(EventClasses(student_classes(), numbers, 7, None))
        classes = torch.from_numpy(numbers)
    full = event_loss(hidden, head, theirs, their_head, merge, divergence=divergence)
    targets = capture_top(theirs, their_head, SIZES[1])
    top = top_event_loss(hidden, head, targets, classes, merge, divergence=divergence)
    for a, b in zip(gradients(full, hidden, head.weight), gradients(top, hidden, head.weight)):
        assert torch.allclose(a, b.to(a), atol=1e-5)


def test_fewer_tokens_are_a_coarser_divergence_with_the_gradient_of_finite_differences(scene):
    hidden, head, theirs, their_head, merge, classes = scene
    full = float(event_loss(hidden, head, theirs, their_head, merge).detach())
    for k in (1, 3, 8):
        targets = capture_top(theirs, their_head, k)

        def loss(x, targets=targets):
            return top_event_loss(x, head, targets, classes, merge)

        value, slope = gradients(loss(hidden), hidden)
        assert -1e-6 <= float(value) <= full + 0.5
        step = torch.randn_like(hidden) * 1e-5
        change = float((loss(hidden.detach() + step) - loss(hidden.detach() - step)).detach()) / 2
        assert change == pytest.approx(float((slope * step).sum()), rel=1e-3, abs=1e-9)


def test_draws_are_the_event_loss_on_average(scene):
    hidden, head, theirs, their_head, merge, classes = scene
    _, exact = gradients(event_loss(hidden, head, theirs, their_head, merge), hidden)
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros_like(exact)
    for _ in range(60):
        drawn = capture_samples(theirs, their_head, 200, generator=generator)
        total += gradients(sampled_event_loss(hidden, head, drawn, classes, merge), hidden)[1]
    assert torch.allclose(total / 60, exact, atol=3e-3)


def test_classes_are_added_up_and_what_has_none_is_left_out():
    from vocabalign.losses.targets import TopTargets

    probabilities = torch.tensor([[0.4, 0.3, 0.1, 0.05]])
    targets = TopTargets(torch.tensor([[0, 1, 2, 3]]), probabilities.log(), torch.tensor([0.15]).log())
    numbers, log_probs, rest = merge_top(targets, torch.tensor([5, 2, 5, -1]))
    found = {int(n): float(p.exp()) for n, p in zip(numbers[0], log_probs[0]) if n >= 0}
    assert found == pytest.approx({2: 0.3 / 0.95, 5: 0.5 / 0.95}) and float(rest.exp()) == pytest.approx(0.15 / 0.95)


def test_targets_of_another_temperature_are_refused(scene):
    hidden, head, theirs, their_head, merge, classes = scene
    with pytest.raises(ValueError, match="temperature"):
        top_event_loss(hidden, head, capture_top(theirs, their_head, 5), classes, merge, temperature=2.0)


def test_no_rows_and_draws_without_a_class(scene):
    hidden, head, theirs, their_head, merge, classes = scene
    targets = capture_top(theirs[:0], their_head, 5)
    assert top_event_loss(hidden[:0], head, targets, classes, merge).item() == 0
    none = SampledTargets(torch.zeros(ROWS, 3, dtype=torch.int64), torch.ones(ROWS, 3) / 3)
    assert float(sampled_event_loss(hidden, head, none, torch.full_like(classes, -1), merge)) == 0
