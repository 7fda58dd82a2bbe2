"""The fused loss against the loss written out, and everything that must not change it."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from tests.losses.plain import PLAIN, case, distillation, logits
from vocabalign.losses import plan
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


def both(hidden, head, labels, teacher_hidden, teacher_head, **more):
    """Loss and gradients of hidden states and head."""
    x, w = hidden.detach().clone().requires_grad_(), head.weight.detach().clone().requires_grad_()
    result = fused_loss(
        x,
        dataclasses.replace(head, weight=w),
        labels,
        teacher_hidden=teacher_hidden,
        teacher_head=teacher_head,
        **{"weight": 0.5, "shared_rows": 17, **more},
    )
    return (result.loss.detach(), *torch.autograd.grad(result.loss, [x, w]))


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


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


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_tiles_and_blocks_change_nothing(monkeypatch, rows):
    inputs = case(n=40)
    expected = both(*inputs, divergence={"adaptive-kl": 1.0, "skewed-kl": 1.0})
    monkeypatch.setattr(plan, "CPU_TILE_BYTES", rows * 17 * 8)
    monkeypatch.setattr(plan, "CPU_BLOCK_ROWS", 7)
    same(both(*inputs, divergence={"adaptive-kl": 1.0, "skewed-kl": 1.0}), expected)


@pytest.mark.parametrize("name", NAMES)
def test_padding_rows_sliced_or_masked_are_as_if_they_were_not_there(name):
    hidden, head, labels, teacher_hidden, teacher_head = case()
    cut = dataclasses.replace(teacher_head, weight=teacher_head.weight[:17])
    expected = both(hidden, head, labels, teacher_hidden, cut, divergence=name, shared_rows=None)
    padding = 100 * torch.randn(5, 6, dtype=torch.float64)
    padded = torch.cat([head.weight, padding])
    three = torch.arange(17, 20)
    for mine, theirs, shared in (
        (Head(padded, rows=17), teacher_head, None),
        (Head(padded, masked=torch.arange(17, 22)), dataclasses.replace(teacher_head, masked=three), None),
        (Head(padded, masked=torch.arange(17, 22)), teacher_head, None),
        (Head(padded, rows=20, masked=three), teacher_head, 18),
        (Head(padded, rows=17), dataclasses.replace(teacher_head, masked=three), 20),
    ):
        loss, d_hidden, d_weight = both(
            hidden, mine, labels, teacher_hidden, theirs, divergence=name, shared_rows=shared
        )
        same((loss, d_hidden, d_weight[:17]), expected)
        assert not d_weight[17:].any()


def test_rows_that_only_the_teacher_masks_leave_both_sides():
    hidden, head, labels, teacher_hidden, teacher_head = case(vt=17)
    masked = dataclasses.replace(teacher_head, masked=torch.tensor([3, 16]))
    found = both(hidden, head, labels, teacher_hidden, masked, weight=1.0)
    keep = torch.tensor([i for i in range(17) if i not in (3, 16)])
    moved = torch.where(labels == IGNORE, labels, torch.zeros_like(labels))
    mine, theirs = Head(head.weight[keep]), Head(teacher_head.weight[keep])
    loss, d_hidden, d_weight = both(hidden, mine, moved, teacher_hidden, theirs, weight=1.0)
    same((found[0], found[1], found[2][keep]), (loss, d_hidden, d_weight))


def test_weights_and_masks():
    inputs = case()
    hidden, head, labels, teacher_hidden, teacher_head = inputs
    weights = torch.rand(13, dtype=torch.float64)
    weights[3] = 0
    found = both(*inputs, weights=weights)
    supervised = (labels != IGNORE).nonzero().squeeze(1)
    single = [both(*(t if isinstance(t, Head) else t[i : i + 1] for t in inputs), num_items=1) for i in supervised]
    total = weights[supervised].sum()
    same(found[:1], [sum(weights[i] * one[0] for i, one in zip(supervised, single)) / total])
    same(found[2:], [sum(weights[i] * one[2] for i, one in zip(supervised, single)) / total])
    assert not found[1][labels == IGNORE].any() and not found[1][3].any()
    # What a masked position holds does not matter, not even NaN.
    hidden, teacher_hidden = hidden.clone(), teacher_hidden.clone()
    hidden[0] = teacher_hidden[0] = math.nan
    assert labels[0] == IGNORE
    same(both(hidden, head, labels, teacher_hidden, teacher_head, weights=weights)[::2], found[::2])


def test_left_and_right_padding_and_packing_are_one():
    inputs = case(n=12)
    hidden, head, labels, teacher_hidden, teacher_head = inputs
    expected = both(*inputs)

    def laid_out(tensor, value):
        left, right = tensor[:5], tensor[5:]
        rows = torch.full((2, 9, *tensor.shape[1:]), value, dtype=tensor.dtype)
        rows[0, 4:], rows[1, :7] = left, right
        return rows

    batch = laid_out(hidden, 7.0), head, laid_out(labels, IGNORE), laid_out(teacher_hidden, 7.0), teacher_head
    loss, d_hidden, d_weight = both(*batch)
    same((loss, torch.cat([d_hidden[0, 4:], d_hidden[1, :7]]), d_weight), expected)
    assert not d_hidden[0, :4].any() and not d_hidden[1, 7:].any()


@pytest.mark.parametrize(
    "make", [int, float, torch.tensor, lambda n: torch.tensor(float(n)), lambda n: torch.tensor([n])]
)
def test_splits_over_batches_and_ranks_are_exact(make):
    inputs = case(dtype=torch.float32, n=40)
    count = int((inputs[2] != IGNORE).sum())
    whole = both(*inputs)
    parts = [
        both(*(t if isinstance(t, Head) else t[piece] for t in inputs), num_items=make(count))
        for piece in (slice(0, 3), slice(3, 29), slice(29, 40))
    ]
    torch.testing.assert_close(sum(part[0] for part in parts), whole[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), whole[1], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(sum(part[2] for part in parts), whole[2], rtol=1e-5, atol=1e-7)


def test_a_large_integer_count_keeps_all_its_digits():
    hidden, head, labels, *_ = case()
    count = 2**24 + 1
    exact = fused_loss(hidden, head, labels, num_items=count).loss
    assert fused_loss(hidden, head, labels, num_items=torch.tensor(count)).loss == exact
    assert fused_loss(hidden, head, labels, num_items=2**24).loss != exact


def test_tied_embeddings_get_both_gradients():
    hidden, head, labels, *_ = case()
    weight = head.weight.clone().requires_grad_()
    ids = torch.arange(13)
    x = hidden + F.embedding(ids, weight)
    F.cross_entropy(logits(x, Head(weight)), labels).backward()
    expected, weight.grad = weight.grad, None
    fused_loss(hidden + F.embedding(ids, weight), Head(weight), labels).loss.backward()
    torch.testing.assert_close(weight.grad, expected)


def test_a_step_towards_itself_leaves_the_model_as_it_is():
    hidden, head, labels, *_ = case(dtype=torch.float32)
    x, w = hidden.clone().requires_grad_(), head.weight.clone().requires_grad_()
    optimiser = torch.optim.AdamW([x, w], lr=0.1, weight_decay=0.0)
    for name in NAMES:
        optimiser.zero_grad()
        fused_loss(
            x,
            Head(w, softcap=5.0, scale=0.5),
            labels,
            teacher_hidden=hidden,
            teacher_head=Head(head.weight, softcap=5.0, scale=0.5),
            divergence=name,
            weight=1.0,
            temperature=2.0,
        ).loss.backward()
        optimiser.step()
    assert torch.equal(x, hidden) and torch.equal(w, head.weight)


def test_nothing_supervised_with_a_teacher():
    hidden, head, labels, teacher_hidden, teacher_head = case()
    for items in (None, 0, 5, torch.tensor(0)):
        loss, d_hidden, d_weight = both(
            hidden, head, torch.full_like(labels, IGNORE), teacher_hidden, teacher_head, num_items=items
        )
        assert loss == 0 and not d_hidden.any() and not d_weight.any()


def test_one_supervised_position():
    hidden, head, labels, teacher_hidden, teacher_head = case()
    one = torch.full_like(labels, IGNORE)
    one[7] = 3
    loss, d_hidden, _ = both(hidden, head, one, teacher_hidden, teacher_head)
    assert loss > 0 and d_hidden[7].any() and int(d_hidden.any(-1).sum()) == 1


def test_no_gradient_is_made_that_nobody_wants():
    calls = []

    class Products(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm_):
                calls.append(function.overloadpacket)
            return function(*args, **(kwargs or {}))

    def products(x, w, context):
        calls.clear()
        with context, Products():
            fused_loss(x, Head(w), case()[2])
        return len(calls)

    hidden, head, *_ = case()
    x, w = hidden.clone().requires_grad_(), head.weight.clone().requires_grad_()
    assert products(x, w, torch.enable_grad()) == 3
    assert products(x, head.weight, torch.enable_grad()) == 2
    assert products(hidden, w, torch.enable_grad()) == 2
    assert products(x, w, torch.no_grad()) == 1


def test_autocast_does_not_lose_digits_on_the_cpu():
    hidden, head, labels, *_ = case(dtype=torch.float32)
    expected = fused_loss(hidden, head, labels).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fused_loss(hidden, head, labels).loss, expected)


def with_nan(tensor):
    return torch.where(torch.arange(tensor.shape[-1]) == 2, math.nan, tensor)


WITH_TEACHER = dict(weight=0.5, teacher_hidden=case()[3], teacher_head=case()[4])


@pytest.mark.parametrize(
    "change,message",
    [
        (dict(labels=torch.zeros(4, dtype=torch.int64)), "labels"),
        (dict(labels=torch.zeros(13)), "integer"),
        (dict(labels=torch.full((13,), 17)), "outside the vocabulary"),
        (dict(labels=torch.full((13,), -1)), "outside the vocabulary"),
        (dict(head=Head(torch.zeros(17, 7, dtype=torch.float64))), "size 6"),
        (dict(head=Head(torch.zeros(17, 6, dtype=torch.float64), rows=18)), "rows"),
        (dict(head=Head(torch.zeros(17, 6, dtype=torch.float64), bias=torch.zeros(3))), "bias"),
        (dict(head=Head(torch.zeros(17, 6, dtype=torch.float64), softcap=0.0)), "soft cap"),
        (dict(head=Head(torch.zeros(17, 6, dtype=torch.float64), masked=torch.tensor([17]))), "masked row"),
        (dict(head=Head(torch.zeros(17, 6, dtype=torch.float64), masked=torch.arange(17))), "masked in the head"),
        (dict(weights=torch.ones(4)), "weights"),
        (dict(weights=torch.full((13,), -1.0)), "negative"),
        (dict(num_items=-1), "num_items"),
        (dict(num_items=math.nan), "num_items"),
        (dict(num_items=torch.ones(2)), "num_items"),
        (dict(weight=0.5), "teacher"),
        (dict(divergence="nonsense"), "nonsense"),
        (dict(divergence={}), "empty"),
        ({**WITH_TEACHER, "weight": 1.5}, "between 0 and 1"),
        ({**WITH_TEACHER, "temperature": 0.0}, "temperature"),
        ({**WITH_TEACHER, "teacher_hidden": case()[3][:5]}, "teacher's hidden"),
        ({**WITH_TEACHER, "teacher_head": Head(torch.zeros(20, 3, dtype=torch.float64))}, "size 5"),
        ({**WITH_TEACHER, "teacher_hidden": with_nan(case()[3])}, "hidden states hold NaN"),
        ({**WITH_TEACHER, "teacher_head": Head(with_nan(case()[4].weight))}, "head hold NaN"),
        ({**WITH_TEACHER, "divergence": "decoupled", "shared_rows": 2}, "outside the vocabulary"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(change, message):
    hidden, head, labels, *_ = case()
    with pytest.raises(ValueError, match=message):
        fused_loss(**{"hidden": hidden, "head": head, "labels": labels, **change})
