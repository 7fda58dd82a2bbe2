"""The losses written out over full logits, for autograd: slow, obvious, and what the streamed ones must equal."""

import dataclasses
import math

import torch
import torch.nn.functional as F

from vocabalign.losses.fused import IGNORE, fused_loss
from vocabalign.losses.logits import Head


def kl(p, q):
    """KL(p || q) of each row, from log-probabilities."""
    return F.kl_div(q, p, log_target=True, reduction="none").sum(-1)


def mixed(p, q, share):
    return torch.logaddexp(p + math.log(share), q + math.log1p(-share))


def jensen_shannon(q, p, beta=0.5):
    m = mixed(p, q, beta)
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


def adaptive(q, p):
    """By sorting, as in the paper; the weights are constants."""
    order = p.argsort(-1)
    cumulated = p.exp().gather(-1, order).cumsum(-1)
    head = torch.zeros_like(p, dtype=torch.bool).scatter(-1, order, cumulated > 0.5)
    gap = (p.exp() - q.exp()).abs().detach()
    in_head, in_tail = (gap * head).sum(-1), (gap * ~head).sum(-1)
    return (in_head * kl(p, q) + in_tail * kl(q, p)) / (in_head + in_tail)


PLAIN = {
    "forward-kl": lambda q, p: kl(p, q),
    "reverse-kl": lambda q, p: kl(q, p),
    "jensen-shannon": jensen_shannon,
    "normalised-jensen-shannon": lambda q, p: jensen_shannon(q, p) * 4,
    "skewed-kl": lambda q, p: kl(p, mixed(p, q, 0.1)),
    "skewed-reverse-kl": lambda q, p: kl(q, mixed(p, q, 0.9)),
    "adaptive-kl": adaptive,
    "total-variation": lambda q, p: (p.exp() - q.exp()).abs().sum(-1) / 2,
}


def logits(x, head):
    z = head.scale * F.linear(x, head.weight, head.bias)
    z = z if head.softcap is None else head.softcap * torch.tanh(z / head.softcap)
    if head.masked is not None:
        z = z.index_fill(-1, head.masked, -math.inf)
    return z[..., : head.num_rows]


def distillation(hidden, head, labels, teacher_hidden, teacher_head, name, weight, temperature, shared, items):
    """``((1 - w) CE + w T^2 D) / items`` over supervised positions."""
    keep = labels != IGNORE
    z = logits(hidden, head)[keep]
    loss = (1 - weight) * F.cross_entropy(z, labels[keep], reduction="sum")
    if weight:
        q = F.log_softmax(z[:, :shared] / temperature, -1)
        p = F.log_softmax(logits(teacher_hidden, teacher_head)[keep][:, :shared] / temperature, -1)
        loss = loss + weight * temperature**2 * PLAIN[name](q, p).sum()
    return loss / items


def case(seed=0, n=13, h=6, ht=5, v=17, vt=20, dtype=torch.float64, bias=False):
    """hidden, head, labels with some ignored, teacher's hidden, teacher's head with rows to spare."""
    g = torch.Generator().manual_seed(seed)
    make = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)  # noqa: E731
    labels = torch.randint(0, v, (n,), generator=g)
    labels[::5] = IGNORE
    head = Head(make(v, h), make(v) if bias else None)
    return make(n, h), head, labels, make(n, ht), Head(make(vt, ht))


def log_probs(seed, spread=3.0, n=50, v=23, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return F.log_softmax((spread * torch.randn(n, v, generator=g, dtype=torch.float64)).to(dtype), -1)


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
