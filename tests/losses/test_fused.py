"""The fused loss against F.cross_entropy and F.kl_div, and everything that must not change it."""

import math

import pytest
import torch
import torch.nn.functional as F

from vocabalign.losses.divergences import DIVERGENCES
from vocabalign.losses.fused import IGNORE, Head, fused_loss

NAMES = sorted(DIVERGENCES)


def naive(hidden, head, labels, teacher_hidden, teacher_head, name, weight, temperature, shared, num_items):
    def logits(x, h):
        z = h.scale * F.linear(x, h.weight, h.bias)
        return z if h.softcap is None else h.softcap * torch.tanh(z / h.softcap)

    z = logits(hidden, head)
    keep = labels != IGNORE
    loss = (1 - weight) * F.cross_entropy(z[keep], labels[keep], reduction="sum")
    if weight:
        q = F.log_softmax(z[keep][:, :shared] / temperature, -1)
        p = F.log_softmax(logits(teacher_hidden, teacher_head)[keep][:, :shared] / temperature, -1)
        m = torch.logsumexp(torch.stack([p, q]) - math.log(2), 0)
        kl = lambda a, b: F.kl_div(a, b, log_target=True, reduction="sum")  # noqa: E731 - kl_div(input, target)
        value = {
            "forward-kl": lambda: kl(q, p),
            "reverse-kl": lambda: kl(p, q),
            "jensen-shannon": lambda: 0.5 * kl(m, p) + 0.5 * kl(m, q),
        }[name]()
        loss = loss + weight * temperature**2 * value
    return loss / num_items


def case(seed=0, n=13, h=6, ht=5, v=17, vt=20, dtype=torch.float64, bias=False):
    g = torch.Generator().manual_seed(seed)
    make = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)  # noqa: E731
    labels = torch.randint(0, v, (n,), generator=g)
    labels[::5] = IGNORE
    head = Head(make(v, h), make(v) if bias else None)
    return make(n, h), head, labels, make(n, ht), Head(make(vt, ht))


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
    expected = naive(leaves[0], head, labels, teacher_hidden, teacher_head, name, 0.4, temperature, shared, 7.0)
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


@pytest.mark.parametrize("name", NAMES)
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


def test_chunk_size_padding_shift_and_row_order_change_nothing():
    hidden, head, labels, teacher_hidden, teacher_head = case()
    arguments = dict(divergence="jensen-shannon", weight=0.5)

    def loss(h=hidden, hd=head, y=labels, th=teacher_hidden, thd=teacher_head, **more):
        return fused_loss(h, hd, y, teacher_hidden=th, teacher_head=thd, shared_rows=17, **arguments, **more).loss

    expected = loss()
    order = torch.randperm(len(labels))
    shifted = Head(teacher_head.weight, torch.full((20,), 4.0, dtype=torch.float64))
    wild = Head(torch.cat([teacher_head.weight[:17], 100 * torch.ones(9, 5, dtype=torch.float64)]))
    for other in (
        loss(block_bytes=1),
        loss(block_bytes=1 << 30),
        loss(thd=shifted),
        loss(thd=wild),
        loss(h=hidden[order], y=labels[order], th=teacher_hidden[order]),
    ):
        torch.testing.assert_close(other, expected, rtol=1e-12, atol=1e-12)


def test_joint_permutation_of_the_vocabulary():
    hidden, head, labels, teacher_hidden, teacher_head = case(vt=17)
    order = torch.randperm(17)
    inverse = torch.argsort(order)
    moved = torch.where(labels == IGNORE, labels, inverse[labels.clamp(min=0)])
    a = fused_loss(hidden, head, labels, teacher_hidden=teacher_hidden, teacher_head=teacher_head, weight=0.5).loss
    b = fused_loss(
        hidden,
        Head(head.weight[order]),
        moved,
        teacher_hidden=teacher_hidden,
        teacher_head=Head(teacher_head.weight[order]),
        weight=0.5,
    ).loss
    torch.testing.assert_close(a, b)


def test_accumulation_is_exact():
    hidden, head, labels, *_ = case()
    x = hidden.requires_grad_()
    items = int((labels != IGNORE).sum())
    whole = fused_loss(x, head, labels).loss
    parts = sum(fused_loss(x[s], head, labels[s], num_items=items).loss for s in (slice(0, 3), slice(3, 13)))
    torch.testing.assert_close(parts, whole)


def test_frozen_head_and_frozen_hidden_states():
    hidden, head, labels, *_ = case()
    x = hidden.requires_grad_()
    fused_loss(x, head, labels).loss.backward()
    assert x.grad is not None and head.weight.grad is None
    weight = head.weight.requires_grad_()
    fused_loss(x.detach(), head, labels).loss.backward()
    assert weight.grad is not None
    with torch.no_grad():
        assert not fused_loss(x, head, labels).loss.requires_grad


def test_everything_masked_is_zero():
    hidden, head, labels, *_ = case()
    x = hidden.requires_grad_()
    loss = fused_loss(x, head, torch.full_like(labels, IGNORE)).loss
    loss.backward()
    assert loss == 0 and not x.grad.any()


def test_bfloat16_is_computed_in_float32():
    hidden, head, labels, *_ = case(n=200, h=32, v=50, dtype=torch.bfloat16)
    exact = fused_loss(hidden.double(), Head(head.weight.double()), labels).loss
    rough = fused_loss(hidden, head, labels).loss
    assert rough.dtype == torch.float32
    assert abs(float(rough) / float(exact) - 1) < 3e-3


def test_memory_does_not_grow_with_positions_times_vocabulary():
    from torch.profiler import ProfilerActivity, profile

    n, v = 2048, 4096
    x, w = torch.randn(n, 16, requires_grad=True), torch.randn(v, 16, requires_grad=True)
    labels = torch.randint(0, v, (n,))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        fused_loss(
            x,
            Head(w),
            labels,
            teacher_hidden=x.detach(),
            teacher_head=Head(w.detach()),
            weight=0.5,
            divergence="jensen-shannon",
        ).loss.backward()
    largest = max(event.cpu_memory_usage for event in record.events())
    assert largest < n * v * 2


@pytest.mark.parametrize(
    "change",
    [
        dict(labels=torch.zeros(4, dtype=torch.int64)),
        dict(divergence="nonsense"),
        dict(weight=0.5),
        dict(labels=torch.full((13,), 17)),
        dict(head=Head(torch.zeros(17, 7, dtype=torch.float64))),
    ],
)
def test_bad_input_is_refused(change):
    hidden, head, labels, *_ = case()
    arguments = {"hidden": hidden, "head": head, "labels": labels, **change}
    with pytest.raises(ValueError):
        fused_loss(**arguments)
