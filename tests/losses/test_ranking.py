"""Plackett-Luce over the top of the vocabulary."""

import pytest
import torch
import torch.nn.functional as F

from tests.losses.plain import case, logits
from vocabalign.losses.fused import IGNORE, Head, fused_loss
from vocabalign.losses.ranking import plackett_luce_loss
from vocabalign.losses.targets import TopTargets, capture_ranking


def written_out(z, ids, weights):
    total = 0.0
    for k in range(ids.shape[1]):
        total = total + weights[:, k] * (z.logsumexp(-1) - z.gather(1, ids[:, k : k + 1]).squeeze(1))
        z = z.scatter(1, ids[:, k : k + 1], -torch.inf)
    return total


@pytest.mark.parametrize("k", [1, 4, 16])
def test_choice_by_choice(k):
    hidden, head, labels, teacher_hidden, teacher_head = case(vt=17)
    ranking = capture_ranking(teacher_hidden, teacher_head, labels, k)
    x, w = hidden.clone().requires_grad_(), head.weight.clone().requires_grad_()
    loss = plackett_luce_loss(x, Head(w), labels, ranking, block_bytes=1)
    keep = labels != IGNORE
    expected = written_out(logits(x, Head(w))[keep], ranking.ids[keep], ranking.log_probs[keep].exp()).mean()
    torch.testing.assert_close(loss, expected)
    for a, b in zip(torch.autograd.grad(loss, [x, w]), torch.autograd.grad(expected, [x, w])):
        torch.testing.assert_close(a, b)


def test_one_sure_choice_is_cross_entropy():
    hidden, head, labels, *_ = case()
    sure = TopTargets(labels.clamp(min=0)[:, None], torch.zeros(13, 1))
    torch.testing.assert_close(plackett_luce_loss(hidden, head, labels, sure), fused_loss(hidden, head, labels).loss)


def test_the_label_comes_first_and_the_rest_in_the_teachers_order():
    *_, labels, teacher_hidden, teacher_head = case(vt=17)
    log_p = F.log_softmax(logits(teacher_hidden, teacher_head), -1)
    found = capture_ranking(teacher_hidden, teacher_head, labels, 5)
    for i in range(13):
        order = log_p[i].argsort(descending=True).tolist()
        if labels[i] != IGNORE:
            order = [int(labels[i]), *(t for t in order if t != labels[i])]
        assert found.ids[i].tolist() == order[:5]
    torch.testing.assert_close(found.log_probs, log_p.gather(1, found.ids))


def test_the_list_may_hold_the_whole_vocabulary_or_nearly_all_probability():
    hidden, head, labels, teacher_hidden, teacher_head = case(vt=17)
    ranking = capture_ranking(teacher_hidden, teacher_head, labels, 17)
    loss = plackett_luce_loss(hidden, head, labels, ranking)
    shorter = TopTargets(ranking.ids[:, :16], ranking.log_probs[:, :16])
    torch.testing.assert_close(loss, plackett_luce_loss(hidden, head, labels, shorter))  # the last is no choice
    loud = Head((head.weight * 40).float())
    x = hidden.float().requires_grad_()
    loss = plackett_luce_loss(x, loud, labels, TopTargets(ranking.ids, ranking.log_probs))
    loss.backward()
    assert loss.isfinite() and x.grad.isfinite().all()


def test_rankings_that_do_not_fit_are_refused():
    hidden, head, labels, teacher_hidden, teacher_head = case(vt=17)
    ranking = capture_ranking(teacher_hidden, teacher_head, labels, 3)
    with pytest.raises(ValueError, match="twice"):
        plackett_luce_loss(hidden, head, labels, TopTargets(ranking.ids * 0, ranking.log_probs))
    with pytest.raises(ValueError, match="labels"):
        capture_ranking(teacher_hidden, teacher_head, labels[:3], 3)
