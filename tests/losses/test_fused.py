"""The fused loss against the loss written out."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from tests.losses.plain import PLAIN, both, case, distillation, logits, same
from vocabalign.losses.decoupled import Decoupled
from vocabalign.losses.divergences import DIVERGENCES, JensenShannon
from vocabalign.losses.fused import IGNORE, Head, fused_loss
from vocabalign.losses.shaping import standardise

NAMES = sorted(DIVERGENCES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "temperature,shared,softcap,scale,bias",
    [
        (1.0, 17, None, 1.0, False),
        (2.0, 17, None, 1.0, True),
        (1.0, 12, 5.0, 0.5, True),
        (0.7, 15, 3.0, 1.0, False),
    ],
)
def test_value_and_gradient_agree_with_the_naive_loss(name, temperature, shared, softcap, scale, bias):
    hidden, head, labels, teacher_hidden, teacher_head = case(bias=bias)
    leaves = [t.clone().requires_grad_() for t in (hidden, head.weight, *([head.bias] if bias else []))]
    head = Head(leaves[1], leaves[2] if bias else None, scale, softcap)
    arguments = dict(weight=0.4, temperature=temperature)
    expected = distillation(leaves[0], head, labels, teacher_hidden, teacher_head, name, 0.4, temperature, shared, 7.0)
    expected_gradients = torch.autograd.grad(expected, leaves)
    result = fused_loss(
        leaves[0],
        head,
        labels,
        num_items=7.0,
        teacher_hidden=teacher_hidden,
        teacher_head=teacher_head,
        divergence=name,
        shared_rows=shared,
        block_bytes=1,
        **arguments,
    )
    gradients = torch.autograd.grad(result.loss * 3, leaves)
    torch.testing.assert_close(result.loss, expected, rtol=1e-10, atol=1e-10)
    for gradient, other in zip(gradients, expected_gradients):
        torch.testing.assert_close(gradient, 3 * other, rtol=1e-9, atol=1e-10)
    assert torch.isclose(result.loss, 0.6 * result.cross_entropy + 0.4 * temperature**2 * result.divergence)


@pytest.mark.parametrize("name", sorted({*NAMES} - {"adaptive-kl"}))  # its weights are constants
def test_gradcheck(name):
    hidden, head, labels, teacher_hidden, teacher_head = case(n=5, v=7, vt=7)
    hidden.requires_grad_()
    weight = head.weight.requires_grad_()
    labels = labels.clamp(max=6)

    def loss(x, w):
        return fused_loss(
            x,
            Head(w),
            labels,
            teacher_hidden=teacher_hidden,
            teacher_head=teacher_head,
            divergence=name,
            weight=0.7,
            temperature=1.5,
        ).loss

    assert torch.autograd.gradcheck(loss, (hidden, weight))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_identity_is_exactly_zero(name, dtype):
    hidden, head, labels, *_ = case(dtype=dtype)
    x, w = hidden.requires_grad_(), head.weight.requires_grad_()
    result = fused_loss(
        x, head, labels, teacher_hidden=hidden.detach(), teacher_head=Head(w.detach()), divergence=name, weight=1.0
    )
    result.loss.backward()
    assert result.loss == 0 and not x.grad.any() and not w.grad.any()


def test_a_mixture_is_the_sum_of_its_terms():
    inputs = case()
    coefficients = torch.rand(13, dtype=torch.float64)
    parts = {name: both(*inputs, divergence=name, weight=1.0, temperature=2.0) for name in ("forward-kl", "reverse-kl")}
    mixture = both(*inputs, divergence={"forward-kl": 0.3, "reverse-kl": 2.0}, weight=1.0, temperature=2.0)
    same(mixture, [0.3 * a + 2 * b for a, b in zip(parts["forward-kl"], parts["reverse-kl"])])
    weighted = both(*inputs, divergence={"total-variation": coefficients}, weight=1.0, num_items=3)
    rows = both(*inputs, divergence="total-variation", weight=1.0, num_items=3, weights=coefficients)
    same(weighted, rows)
    hidden, head, labels, *teacher = inputs
    result = fused_loss(
        hidden,
        head,
        labels,
        teacher_hidden=teacher[0],
        teacher_head=teacher[1],
        shared_rows=17,
        weight=0.25,
        divergence={"forward-kl": 0.5, JensenShannon(0.1): 0.5, Decoupled(): 0.0},
    )
    assert torch.isclose(result.divergence, (result.terms[0] + result.terms[1]) / 2)
    assert torch.isclose(result.loss, 0.75 * result.cross_entropy + 0.25 * result.divergence)


def test_teacher_temperature_and_the_squared_temperature():
    hidden, head, labels, teacher_hidden, teacher_head = case()
    keep = labels != IGNORE
    q = F.log_softmax(logits(hidden, head)[keep] / 2, -1)
    p = F.log_softmax(logits(teacher_hidden, teacher_head)[keep][:, :17] / 3, -1)
    expected = PLAIN["forward-kl"](q, p).mean()
    arguments = dict(weight=1.0, temperature=2.0, teacher_temperature=1.5)
    same(
        both(hidden, head, labels, teacher_hidden, teacher_head, squared_temperature=False, **arguments)[:1],
        [expected],
    )
    same(both(hidden, head, labels, teacher_hidden, teacher_head, **arguments)[:1], [4 * expected])


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_standardised_logits(temperature):
    hidden, head, labels, teacher_hidden, teacher_head = case()
    x, w = hidden.clone().requires_grad_(), head.weight.clone().requires_grad_()
    keep = labels != IGNORE
    q = F.log_softmax(standardise(logits(x, Head(w))[keep]) / temperature, -1)
    p = F.log_softmax(standardise(logits(teacher_hidden, teacher_head)[keep][:, :17]) / temperature, -1)
    loss = temperature**2 * PLAIN["jensen-shannon"](q, p).mean()
    found = both(
        hidden,
        head,
        labels,
        teacher_hidden,
        teacher_head,
        standardise=True,
        weight=1.0,
        temperature=temperature,
        divergence="jensen-shannon",
    )
    same(found, [loss.detach(), *torch.autograd.grad(loss, [x, w])])
    # The scale of the teacher's logits plays no part any more.
    louder = both(
        hidden,
        head,
        labels,
        teacher_hidden,
        dataclasses.replace(teacher_head, scale=5.0),
        standardise=True,
        weight=1.0,
        temperature=temperature,
        divergence="jensen-shannon",
    )
    for a, b in zip(louder, found):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
