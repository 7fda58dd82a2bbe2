"""The loop: sums, values of rows, sides that share a head, and what is refused."""

import ast
import inspect

import pytest
import torch
import torch.nn.functional as F

import vocabalign.losses
from tests.losses.plain import case, logits
from vocabalign.losses.logits import Head
from vocabalign.losses.mixture import CrossEntropyRows
from vocabalign.losses.streaming import Side, pieces, stream, stream_rows


def leaves(*tensors):
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


@pytest.mark.parametrize("softcap,scale", [(None, 1.0), (3.0, 0.5)])
def test_values_of_rows_are_differentiable_in_any_combination(softcap, scale):
    hidden, head, labels, *_ = case(bias=True)
    labels = labels.clamp(min=0)
    x, w, b = leaves(hidden, head.weight, head.bias)
    mine = Head(w, b, scale, softcap)
    found = stream_rows(CrossEntropyRows(labels), [Side(x, mine)], block_bytes=1)
    expected = F.cross_entropy(logits(x, mine), labels, reduction="none")
    torch.testing.assert_close(found, expected)
    mixing = lambda v: (v.cumsum(0).sin() * v).sum()  # noqa: E731 - not a sum over rows
    for a, c in zip(torch.autograd.grad(mixing(found), [x, w, b]), torch.autograd.grad(mixing(expected), [x, w, b])):
        torch.testing.assert_close(a, c)
    assert torch.autograd.gradcheck(lambda x, w: stream_rows(CrossEntropyRows(labels), [Side(x, Head(w))]), (x, w))


def test_a_sum_is_that_of_the_rows():
    hidden, head, labels, *_ = case()
    labels, weights = labels.clamp(min=0), torch.rand(13, dtype=torch.float64)
    loss, parts = stream(CrossEntropyRows(labels), [Side(hidden, head)], weights=weights, num_items=4)
    rows = stream_rows(CrossEntropyRows(labels), [Side(hidden, head)])
    torch.testing.assert_close(loss, (rows * weights).sum() / 4)
    assert loss == parts[0]


class Agreement:
    """<z1, z2>, for two trained sides."""

    def __call__(self, logits, rows, gradient):
        a, b = logits
        values = (a * b).sum(-1)
        if gradient:
            other = a.clone()
            a.copy_(b)
            b.copy_(other)
        return values[None]


def test_sides_that_share_a_head_or_hidden_states_add_their_gradients():
    hidden, head, *_ = case()
    x, y, w, u = leaves(hidden, hidden.flip(0), head.weight, head.weight.flip(0))
    for one, other, wanted in (
        (Side(x, Head(w)), Side(y, Head(w)), [x, y, w]),
        (Side(x, Head(w)), Side(x, Head(u)), [x, w, u]),
        (Side(x, Head(w)), Side(x, Head(w)), [x, w]),
    ):
        expected = (logits(one.hidden, one.head) * logits(other.hidden, other.head)).sum() / 13
        loss, _ = stream(Agreement(), [one, other], block_bytes=1)
        torch.testing.assert_close(loss, expected)
        for a, b in zip(torch.autograd.grad(loss, wanted), torch.autograd.grad(expected, wanted)):
            torch.testing.assert_close(a, b)


def test_only_what_is_trained_gets_a_gradient():
    hidden, head, labels, *_ = case()
    x, w = leaves(hidden, head.weight)
    loss, _ = stream(CrossEntropyRows(labels.clamp(min=0)), [Side(x, Head(w), trained=False)])
    assert not loss.requires_grad


def test_the_backward_pass_may_run_twice_and_scales():
    hidden, head, labels, *_ = case()
    (x,) = leaves(hidden)
    loss, _ = stream(CrossEntropyRows(labels.clamp(min=0)), [Side(x, head)])
    (once,) = torch.autograd.grad(loss, x, retain_graph=True)
    (thrice,) = torch.autograd.grad(3 * loss, x)
    torch.testing.assert_close(thrice, 3 * once)


def test_a_head_changed_before_the_backward_pass_is_noticed():
    hidden, head, labels, *_ = case()
    x, w = leaves(hidden, head.weight)
    values = stream_rows(CrossEntropyRows(labels.clamp(min=0)), [Side(x, Head(w))])
    with torch.no_grad():
        w += 1
    with pytest.raises(RuntimeError, match="inplace"):
        values.sum().backward()


def test_no_rows():
    head = case()[1]
    (x,) = leaves(torch.zeros(0, 6, dtype=torch.float64))
    nothing = torch.zeros(0, dtype=torch.int64)
    loss, _ = stream(CrossEntropyRows(nothing), [Side(x, head)])
    loss.backward()
    assert loss == 0 and x.grad.shape == (0, 6)
    assert stream_rows(CrossEntropyRows(nothing), [Side(x, head)]).shape == (0,)


def test_bfloat16_gets_gradients_of_its_dtype_summed_in_float32():
    hidden, head, labels, *_ = case(n=300, dtype=torch.bfloat16)
    x, w = leaves(hidden, head.weight)
    labels = labels.clamp(min=0)
    loss, _ = stream(CrossEntropyRows(labels), [Side(x, Head(w))], block_bytes=1)
    loss.backward()
    y, u = leaves(hidden.double(), head.weight.double())
    F.cross_entropy(y @ u.T, labels).backward()
    assert loss.dtype == torch.float32 and w.grad.dtype == torch.bfloat16
    for a, b in ((x.grad, y.grad), (w.grad, u.grad)):
        torch.testing.assert_close(a.double(), b, rtol=2**-8, atol=1e-6)
        assert F.cosine_similarity(a.double().flatten(), b.flatten(), 0) > 0.9999


def test_pieces_cover_the_range():
    assert [(p.start, p.stop) for p in pieces(3, 10, 4)] == [(3, 7), (7, 10)]
    assert not list(pieces(3, 3, 4))


def test_sides_that_do_not_fit_are_refused():
    hidden, head, labels, *_ = case()
    rows = CrossEntropyRows(labels.clamp(min=0))
    for sides, message in (
        ([], "at least one side"),
        ([Side(hidden, head), Side(hidden[:4], head)], "same N"),
        ([Side(hidden[None], head)], "same N"),
        ([Side(hidden, Head(head.weight[0]))], r"expected \(V, H\)"),
    ):
        with pytest.raises(ValueError, match=message):
            stream(rows, sides)
    with pytest.raises(ValueError, match="one per row"):
        stream(rows, [Side(hidden, head)], weights=torch.ones(3))


def test_the_example_of_the_package_is_right():
    text = inspect.getdoc(vocabalign.losses).partition("For example::")[2]
    lines = [line for line in text.splitlines() if line.startswith("    ") or not line]
    source = inspect.cleandoc("\n".join(lines))
    ast.parse(source)
    hidden, head, *_ = case()
    (x,) = leaves(hidden)
    names = {"torch": torch, "stream": stream, "Side": Side, "hidden": x, "head": head}
    exec(source, names)
    expected = torch.distributions.Categorical(logits=logits(x, head)).entropy().sum() / 100
    torch.testing.assert_close(names["loss"], expected)
    for a, b in zip(torch.autograd.grad(names["loss"], x), torch.autograd.grad(expected, x)):
        torch.testing.assert_close(a, b)
