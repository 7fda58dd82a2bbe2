"""The label apart from the other tokens."""

import pytest
import torch

from tests.losses.plain import PLAIN, kl, log_probs
from vocabalign.losses.decoupled import LABELLED, Decoupled, NormalisedKD
from vocabalign.losses.divergences import ForwardKL
from vocabalign.losses.pairs import Pair

LABELS = torch.arange(50) % 23


def parts(q, p):
    """The label's binary distribution and the renormalised others, for both."""
    mask = torch.nn.functional.one_hot(LABELS, 23).bool()

    def split(x):
        rest = x.masked_fill(mask, -torch.inf)
        total = rest.logsumexp(-1, keepdim=True)
        at = x.gather(-1, LABELS[:, None])
        return torch.cat([at, total], -1), rest[~mask].reshape(50, 22) - total

    return split(q), split(p)


@pytest.mark.parametrize("target,rest,scaled", [(1.0, 8.0, False), (0.0, 1.0, False), (2.0, 0.5, True)])
def test_decoupled_is_its_formula(target, rest, scaled):
    logits = log_probs(0).requires_grad_()
    q, p = logits.log_softmax(-1), log_probs(1)
    (q_binary, q_others), (p_binary, p_others) = parts(q, p)
    factor = p_binary[:, 1].exp() if scaled else 1
    expected = target * kl(p_binary, q_binary) + rest * factor * kl(p_others, q_others)
    values, gradient = Decoupled(target, rest, scaled)(Pair(q.detach(), p, LABELS))
    torch.testing.assert_close(values, expected.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), logits)[0])


def test_the_exact_split_is_forward_kl():
    pair = Pair(log_probs(0), log_probs(1), LABELS)
    for a, b in zip(Decoupled(scaled=True)(pair), ForwardKL()(pair)):
        torch.testing.assert_close(a, b)


def test_normalised_kd_is_its_formula():
    logits = log_probs(0).requires_grad_()
    q, p = logits.log_softmax(-1), log_probs(1)
    (q_binary, q_others), (p_binary, p_others) = parts(q, p)
    p_y = p_binary[:, 0].exp()
    expected = p_y * (p_binary - q_binary)[:, 0] + 1.5 * PLAIN["forward-kl"](q_others, p_others)
    values, gradient = NormalisedKD()(Pair(q.detach(), p, LABELS))
    torch.testing.assert_close(values, expected.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), logits)[0])


@pytest.mark.parametrize("scaled", [True, False])
def test_equal_distributions_give_exactly_zero(scaled):
    for spread in (0.0, 1.0, 50.0, 300.0):
        q = log_probs(0, spread, dtype=torch.float32)
        values, gradient = Decoupled(2.0, 3.0, scaled)(Pair(q, q.clone(), LABELS))
        assert not values.any() and not gradient.any()


@pytest.mark.parametrize("name", sorted(LABELLED))
def test_extremes_are_finite_and_labels_are_needed(name):
    q, p = log_probs(0, 300.0, dtype=torch.float32), log_probs(1, 300.0, dtype=torch.float32)
    values, gradient = LABELLED[name](Pair(q, p, LABELS))
    assert values.isfinite().all() and gradient.isfinite().all()
    with pytest.raises(ValueError, match="labels"):
        LABELLED[name](Pair(q, p))
