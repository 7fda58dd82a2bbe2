"""The fused loss at its edges: tied and frozen heads, nothing to supervise, input that is refused."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.losses.plain import both, case, logits
from vocabalign.losses.divergences import DIVERGENCES
from vocabalign.losses.fused import IGNORE, Head, fused_loss

NAMES = sorted(DIVERGENCES)


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
