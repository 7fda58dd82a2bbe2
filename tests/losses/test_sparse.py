"""Top-k with its tail, renormalised top-k, and samples: bounds, limits, gradients, expectations."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.losses.plain import PLAIN, case, logits
from vocabalign.losses.divergences import DIVERGENCES
from vocabalign.losses.fused import IGNORE, Head, fused_loss
from vocabalign.losses.sparse import sampled_loss, top_loss
from vocabalign.losses.targets import SampledTargets, TopTargets, capture_samples, capture_top

NAMES = sorted(DIVERGENCES)


def setting(dtype=torch.float64, v=17):
    hidden, head, labels, teacher_hidden, teacher_head = case(dtype=dtype, v=v, vt=v)
    return hidden, head, labels, teacher_hidden, teacher_head


def with_gradients(loss, hidden, head, *more, **arguments):
    x, w = hidden.clone().requires_grad_(), head.weight.clone().requires_grad_()
    result = loss(x, Head(w), *more, **arguments)
    return (result.loss.detach(), *torch.autograd.grad(result.loss, [x, w]))


def events(log_q, log_p, ids, tail):
    """The k + 1 events written out."""
    chosen = torch.zeros_like(log_p, dtype=torch.bool).scatter(-1, ids, True)

    def of(x):
        at = x.gather(-1, ids)
        if tail == "renormalised":
            return at.log_softmax(-1)
        return torch.cat([at, x.masked_fill(chosen, -math.inf).logsumexp(-1, keepdim=True)], -1)

    return of(log_q), of(log_p)


@pytest.mark.parametrize("name", sorted({*NAMES} - {"adaptive-kl"}))
@pytest.mark.parametrize("tail", ["bucket", "renormalised"])
@pytest.mark.parametrize("temperature,weight", [(1.0, 1.0), (2.0, 0.6)])
def test_the_events_written_out(name, tail, temperature, weight):
    hidden, head, labels, teacher_hidden, teacher_head = setting()
    targets = capture_top(teacher_hidden, teacher_head, 4, temperature=temperature)
    arguments = dict(divergence=name, tail=tail, temperature=temperature, weight=weight)
    found = with_gradients(top_loss, hidden, head, labels, targets, **arguments)
    x, w = hidden.clone().requires_grad_(), head.weight.clone().requires_grad_()
    keep = labels != IGNORE
    z = logits(x, Head(w))[keep]
    log_p = F.log_softmax(logits(teacher_hidden, teacher_head)[keep] / temperature, -1)
    q, p = events(F.log_softmax(z / temperature, -1), log_p, targets.ids[keep], tail)
    loss = (1 - weight) * F.cross_entropy(z, labels[keep])
    loss = loss + weight * temperature**2 * PLAIN[name](q, p).mean()
    for a, b in zip(found, (loss.detach(), *torch.autograd.grad(loss, [x, w]))):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_all_tokens_are_the_full_loss_and_fewer_are_below_it(name):
    hidden, head, labels, teacher_hidden, teacher_head = setting()
    full = with_gradients(
        fused_loss,
        hidden,
        head,
        labels,
        teacher_hidden=teacher_hidden,
        teacher_head=teacher_head,
        divergence=name,
        weight=1.0,
    )
    values = []
    for k in (1, 2, 5, 11, 16, 17):
        targets = capture_top(teacher_hidden, teacher_head, k)
        values.append(with_gradients(top_loss, hidden, head, labels, targets, divergence=name))
    for a, b in zip(values[-1], full):
        torch.testing.assert_close(a, b)
    for a, b in zip(values[-2], full):  # one token alone is its own bucket
        torch.testing.assert_close(a, b)
    if name != "adaptive-kl":  # no f-divergence: its weights change with the events
        assert all(a[0] <= b[0] + 1e-12 for a, b in zip(values, values[1:]))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tail", ["bucket", "renormalised"])
@pytest.mark.parametrize("k", [2, 16, 17])
def test_identity_is_exactly_zero(name, tail, k):
    hidden, head, labels, *_ = setting(torch.float32)
    for temperature in (1.0, 2.0):
        targets = capture_top(hidden, head, k, temperature=temperature)
        loss, *gradients = with_gradients(
            top_loss, hidden, head, labels, targets, divergence=name, tail=tail, temperature=temperature
        )
        assert loss == 0 and not any(g.any() for g in gradients)


def test_a_tail_that_was_not_kept_is_made_from_the_sum():
    hidden, head, labels, teacher_hidden, teacher_head = setting()
    kept = capture_top(teacher_hidden, teacher_head, 6)
    bare = TopTargets(kept.ids, kept.log_probs)
    for a, b in zip(
        with_gradients(top_loss, hidden, head, labels, bare), with_gradients(top_loss, hidden, head, labels, kept)
    ):
        torch.testing.assert_close(a, b)
    # Rounded so that nothing is left for the tail: still finite.
    sure = TopTargets(kept.ids, (kept.log_probs + 1e-3).bfloat16().clamp(max=0))
    sure = TopTargets(sure.ids, sure.log_probs - sure.log_probs.logsumexp(-1, keepdim=True))
    assert top_loss(hidden, head, labels, sure).loss.isfinite()


def test_ids_of_large_vocabularies():
    g = torch.Generator().manual_seed(0)
    v = 2**18 + 40
    weight = torch.randn(v, 2, generator=g)
    weight[v - 1] = 100.0
    hidden = torch.ones(2, 2)
    targets = capture_top(hidden, Head(weight), 3)
    assert (targets.ids[:, 0] == v - 1).all()
    assert top_loss(hidden, Head(weight), torch.zeros(2, dtype=torch.int64), targets).loss == 0


def test_the_temperature_of_the_targets_is_kept_to():
    hidden, head, labels, teacher_hidden, teacher_head = setting()
    targets = capture_top(teacher_hidden, teacher_head, 5)
    with pytest.raises(ValueError, match="temperature"):
        top_loss(hidden, head, labels, targets, temperature=2.0)
    found = top_loss(hidden, head, labels, targets, temperature=2.0, approximate_temperature=True).loss
    exact = top_loss(hidden, head, labels, capture_top(teacher_hidden, teacher_head, 5, temperature=2.0), temperature=2)
    assert found.isfinite() and not torch.isclose(found, exact.loss)


def test_samples_are_right_on_average():
    hidden, head, labels, teacher_hidden, teacher_head = setting()
    keep = labels != IGNORE
    for temperature, power in ((1.0, 1.0), (2.0, 0.7)):
        full = with_gradients(
            fused_loss,
            hidden,
            head,
            labels,
            teacher_hidden=teacher_hidden,
            teacher_head=teacher_head,
            weight=0.8,
            temperature=temperature,
        )
        targets = capture_samples(
            teacher_hidden,
            teacher_head,
            100_000,
            power=power,
            temperature=temperature,
            generator=torch.Generator().manual_seed(0),
        )
        found = with_gradients(sampled_loss, hidden, head, labels, targets, weight=0.8)
        p = F.softmax(logits(teacher_hidden, teacher_head)[keep] / temperature, -1)
        entropy = -(p * p.log()).sum(-1).mean()
        assert abs(float(found[0] - full[0] - 0.8 * temperature**2 * entropy)) < 0.05
        for a, b in zip(found[1:], full[1:]):
            torch.testing.assert_close(a, b, rtol=0.05, atol=5e-3)


def test_the_gradient_of_samples_is_that_of_their_formula():
    hidden, head, labels, teacher_hidden, teacher_head = setting()
    targets = capture_samples(teacher_hidden, teacher_head, 7, power=0.5, temperature=1.5)
    found = with_gradients(sampled_loss, hidden, head, labels, targets)
    x, w = hidden.clone().requires_grad_(), head.weight.clone().requires_grad_()
    keep = labels != IGNORE
    log_q = F.log_softmax(logits(x, Head(w))[keep] / 1.5, -1)
    loss = -(targets.weights[keep] * log_q.gather(1, targets.ids[keep])).sum(-1).mean() * 1.5**2
    for a, b in zip(found, (loss.detach(), *torch.autograd.grad(loss, [x, w]))):
        torch.testing.assert_close(a, b)


def test_capture_agrees_with_the_full_distribution():
    *_, teacher_hidden, teacher_head = setting()
    log_p = F.log_softmax(logits(teacher_hidden, teacher_head) / 2, -1)
    found = capture_top(teacher_hidden.reshape(13, 1, 5), teacher_head, 6, temperature=2.0, block_bytes=1)
    values, ids = log_p.topk(6)
    assert found.ids.shape == (13, 1, 6) and torch.equal(found.ids.squeeze(1), ids)
    torch.testing.assert_close(found.log_probs.squeeze(1), values)
    torch.testing.assert_close(found.log_tail.squeeze(1).exp(), 1 - values.exp().sum(-1))


def test_everything_masked():
    hidden, head, labels, *_ = setting()
    x = hidden.clone().requires_grad_()
    result = top_loss(x, head, torch.full_like(labels, IGNORE), capture_top(hidden, head, 3))
    result.loss.backward()
    assert result.loss == 0 and not x.grad.any()


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda ids, lp: (ids + 20, lp), "outside the head"),
        (lambda ids, lp: (ids - 20, lp), "outside the head"),
        (lambda ids, lp: (ids.clone().fill_(3), lp), "twice"),
        (lambda ids, lp: (ids, lp * math.nan), "NaN"),
        (lambda ids, lp: (ids, -lp), "sum to more than 1"),
        (lambda ids, lp: (ids[:, :2], lp), "numbers"),
        (lambda ids, lp: (ids[:5], lp[:5]), "ids"),
    ],
)
def test_bad_targets_are_refused(change, message):
    hidden, head, labels, *_ = setting()
    targets = capture_top(hidden, head, 4)
    with pytest.raises(ValueError, match=message):
        top_loss(hidden, head, labels, TopTargets(*change(targets.ids, targets.log_probs)))


def test_other_bad_input_is_refused():
    hidden, head, labels, *_ = setting()
    targets = capture_top(hidden, head, 4)
    single = TopTargets(targets.ids[:, :1], targets.log_probs[:, :1])
    for call, message in (
        (lambda: top_loss(hidden, head, labels, targets, tail="none"), "Unknown tail"),
        (lambda: top_loss(hidden, head, labels, single, tail="renormalised"), "One renormalised token"),
        (lambda: capture_top(hidden, head, 18), "k is 18"),
        (lambda: capture_samples(hidden, head, 0), "draws"),
        (lambda: sampled_loss(hidden, head, labels, SampledTargets(targets.ids, targets.ids / 0.0)), "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
