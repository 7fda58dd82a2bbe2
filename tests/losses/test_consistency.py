"""Two trained sides."""

import pytest
import torch
import torch.nn.functional as F

from tests.losses.plain import case, kl, logits
from vocabalign.losses.consistency import consistency_loss
from vocabalign.losses.fused import IGNORE, Head, fused_loss


@pytest.mark.parametrize("shared", [True, False])
def test_r_drop_is_its_formula(shared):
    hidden, head, labels, other_hidden, other_head = case(ht=6, vt=17)
    x, y, w, u = (t.clone().requires_grad_() for t in (hidden, other_hidden, head.weight, other_head.weight))
    one, other = Head(w, softcap=4.0), Head(w if shared else u, softcap=4.0)
    loss = consistency_loss(x, one, y, other, labels, alpha=3.0, block_bytes=1)
    keep = labels != IGNORE
    a, b = (F.log_softmax(logits(h, hd), -1)[keep] for h, hd in ((x, one), (y, other)))
    entropy = F.nll_loss(a, labels[keep]) + F.nll_loss(b, labels[keep])
    expected = entropy + 1.5 * (kl(a, b) + kl(b, a)).mean()
    torch.testing.assert_close(loss, expected)
    wanted = [x, y, w] if shared else [x, y, w, u]
    for found, right in zip(torch.autograd.grad(loss, wanted), torch.autograd.grad(expected, wanted)):
        torch.testing.assert_close(found, right)


def test_without_dropout_it_is_twice_the_cross_entropy():
    hidden, head, labels, *_ = case()
    x = hidden.clone().requires_grad_()
    torch.testing.assert_close(
        consistency_loss(x, head, hidden, head, labels), 2 * fused_loss(hidden, head, labels).loss
    )


def test_heads_of_different_vocabularies_are_refused():
    hidden, head, labels, other_hidden, other_head = case(ht=6)
    with pytest.raises(ValueError, match="17 and 20 rows"):
        consistency_loss(hidden, head, other_hidden, other_head, labels)
