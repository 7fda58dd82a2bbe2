"""Continuations in the stream of event-KL: against a loop over tokens, the chain rule, what the teacher is ahead by."""

import numpy as np
import pytest
import torch

from tests.losses.test_continuations import STUDENT, TEACHER, TRIE, cuts, prefixes
from tests.losses.toy import random_side
from vocabalign.losses.class_sums import ClassSums
from vocabalign.losses.classes import common_classes
from vocabalign.losses.continuations import END, Continuations
from vocabalign.losses.event_mixture import event_mixture_loss
from vocabalign.losses.logits import Head

WIDTH = 5


def mixture(
    hidden, head, teacher_hidden, teacher_head, entries, *, trie=TRIE, weights=(0.0, 0.0, 1.0), labels=None, **more
):
    """The loss with a start at each of the student's rows."""
    count = len(hidden)
    pairs = torch.stack([torch.arange(count)] * 2, 1)
    return event_mixture_loss(
        hidden,
        head,
        torch.full((count,), -100) if labels is None else labels,
        teacher_hidden,
        teacher_head,
        pairs,
        ClassSums(common_classes(STUDENT, TEACHER), head.num_rows),
        cross_entropy=weights[0],
        events=weights[1],
        continuations=weights[2],
        inside=(entries, trie),
        **{"num_items": 1.0, **more},
    )


def naive(hidden, head, teacher_hidden, teacher_head, nodes, prefix_of):
    """Token by token, for autograd."""
    table, total = cuts(), 0.0
    for x, y, node in zip(hidden, teacher_hidden, nodes.tolist(), strict=True):
        prefix = list(prefix_of[node])
        z = x @ head.weight[: len(STUDENT)].T
        z = z if head.bias is None else z + head.bias[: len(STUDENT)]
        z = z * head.scale
        z = z if head.softcap is None else head.softcap * torch.tanh(z / head.softcap)
        p = torch.softmax(y @ teacher_head.weight.T, -1)
        members = [i for i, cut in table.items() if cut[: len(prefix)] == prefix]
        ends = {i: table[i][len(prefix)] if len(table[i]) > len(prefix) else END for i in members}
        q = torch.softmax(z[members], 0)
        by_piece = {}
        for place, i in enumerate(members):
            by_piece[ends[i]] = by_piece.get(ends[i], 0) + q[place]
        mass = {piece: p[piece] for piece in by_piece if piece != END}
        if END in by_piece:
            mass[END] = 1 - sum(mass.values())
        whole = sum(mass.values())
        total = total + sum(m * ((m / whole).log() - by_piece[piece].log()) for piece, m in mass.items())
    return total


def some_rows(kind="plain", seed=1):
    """Two entries at each row of the student but the last, in no order; hidden states and heads of both sides."""
    nodes = torch.arange(2 * len(TRIE)) % len(TRIE)
    count = len(nodes) // 2 + 1
    extra = 3 if kind == "padded" else 0
    hidden, head = random_side(count, WIDTH, len(STUDENT) + extra, seed)
    teacher_hidden, teacher_head = random_side(len(nodes) + 1, WIDTH + 1, len(TEACHER), seed + 1)
    bias = torch.randn(len(STUDENT) + extra, dtype=torch.float64) if kind == "bias" else None
    head = Head(head.weight, bias, 0.7, 2.0 if kind == "softcap" else None)
    order = torch.randperm(len(nodes), generator=torch.Generator().manual_seed(seed))
    entries = torch.stack([torch.arange(len(nodes)) // 2, torch.arange(len(nodes)), nodes], 1)[order]
    return hidden, head, teacher_hidden, teacher_head, entries


@pytest.mark.parametrize("kind", ["plain", "bias", "softcap", "padded"])
@pytest.mark.parametrize("block_bytes", [1, 2000, None])
def test_against_a_loop_over_tokens(kind, block_bytes):
    prefix_of = {node: sorted(found)[0] for node, found in prefixes().items()}
    hidden, head, teacher_hidden, teacher_head, entries = some_rows(kind)
    wanted = [t.requires_grad_() for t in (hidden, head.weight, *([] if head.bias is None else [head.bias]))]
    mine, theirs, nodes = entries.unbind(1)
    expected = naive(hidden[mine], head, teacher_hidden[theirs], teacher_head, nodes, prefix_of) / 3.5
    gradients = torch.autograd.grad(expected, wanted)
    found = mixture(hidden, head, teacher_hidden, teacher_head, entries, num_items=3.5, block_bytes=block_bytes)
    assert float(found.loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-9)
    assert float(found.continuations) == pytest.approx(float(expected.detach()), rel=1e-9)
    for gradient, other in zip(torch.autograd.grad(2 * found.loss, wanted), gradients, strict=True):
        assert torch.allclose(gradient, 2 * other, atol=1e-9)


def test_its_weight_and_those_of_the_others_add_up():
    hidden, head, teacher_hidden, teacher_head, entries = some_rows()
    hidden.requires_grad_()
    labels = torch.randint(0, len(STUDENT), (len(hidden),), generator=torch.Generator().manual_seed(0))
    weights = [(0.7, 0.0, 0.0), (0.0, 1.3, 0.0), (0.0, 0.0, 0.4), (0.7, 1.3, 0.4)]
    inputs = hidden, head, teacher_hidden, teacher_head, entries
    losses = [mixture(*inputs, weights=each, labels=labels).loss for each in weights]
    gradients = [torch.autograd.grad(loss, hidden)[0] for loss in losses]
    assert float(losses[3].detach()) == pytest.approx(float(sum(losses[:3]).detach()), rel=1e-9)
    assert torch.allclose(gradients[3], sum(gradients[:3]), atol=1e-9)


def test_entries_at_rows_that_are_not_streamed_are_passed_over():
    hidden, head, teacher_hidden, teacher_head, entries = some_rows()
    elsewhere = entries + torch.tensor([len(hidden), 0, 0])
    inputs = hidden, head, teacher_hidden, teacher_head
    alone, both = mixture(*inputs, entries), mixture(*inputs, torch.cat([elsewhere, entries]))
    assert float(both.loss) == pytest.approx(float(alone.loss), rel=1e-12)
    assert float(mixture(*inputs, elsewhere).loss) == 0


@pytest.mark.parametrize("pieces", [1, 2])
def test_lead_is_what_the_teacher_gives_to_the_token_that_follows_beyond_the_student(pieces):
    """Of its pieces, given those before; of its end, where longer tokens begin with it."""
    table, found = cuts(), prefixes()
    inner = {prefix: node for node, some in found.items() for prefix in some}
    token, cut = next(
        (i, cut) for i, cut in table.items() if len(cut) == pieces and (tuple(cut) in inner) == (pieces == 1)
    )
    sizes = [size for size in range(1, len(cut) + 1) if tuple(cut[:size]) in inner]
    hidden, head, teacher_hidden, teacher_head, _ = some_rows()
    entries = torch.tensor([[0, size, inner[tuple(cut[:size])]] for size in sizes])
    labels = torch.full((len(hidden),), -100)
    labels[0] = token
    inputs = hidden, head, teacher_hidden, teacher_head
    with_them = mixture(*inputs, entries, labels=labels).lead
    at_the_start = mixture(*inputs, entries[:0], labels=labels).lead
    z, expected = hidden[0] @ head.weight.T * head.scale, 0.0
    for size, node in entries[:, 1:].tolist():
        members = TRIE.members[TRIE.members_at[node] : TRIE.members_at[node + 1]].tolist()
        follows = [table[i][size] if len(table[i]) > size else END for i in members]
        p = torch.softmax(teacher_hidden[size] @ teacher_head.weight.T, -1)
        mass = {piece: float(p[piece]) for piece in follows if piece != END}
        if END in follows:
            mass[END] = 1 - sum(mass.values())
        observed = cut[size] if size < len(cut) else END
        q = torch.softmax(z[members], 0)
        mine = sum(float(q[place]) for place, piece in enumerate(follows) if piece == observed)
        expected += np.log(mass[observed] / sum(mass.values()) / mine)
    assert float(with_them - at_the_start) == pytest.approx(expected, rel=1e-9)


def test_lead_at_starts_is_that_of_the_classes_of_the_tokens_that_follow():
    classes = common_classes(STUDENT, TEACHER)
    hidden, head, teacher_hidden, teacher_head, entries = some_rows()
    labels = torch.randint(0, len(STUDENT), (len(hidden),), generator=torch.Generator().manual_seed(4))
    labels[2] = -100
    found = mixture(hidden, head, teacher_hidden, teacher_head, entries[:0], labels=labels).lead
    expected = 0.0
    for place, label in enumerate(labels.tolist()):
        if label < 0 or classes.student[label] < 0:
            continue
        sums = []
        for z, side in (
            (hidden[place] @ head.weight.T * head.scale, classes.student),
            (teacher_hidden[place] @ teacher_head.weight.T, classes.teacher),
        ):
            q = torch.softmax(z, -1).numpy()
            sums.append(q[side == classes.student[label]].sum() / q[side >= 0].sum())
        expected += np.log(sums[1] / sums[0])
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_chain_rule():
    """KL over tokens = KL over first pieces + sum over nodes of P(node) KL at the node."""
    random = np.random.default_rng(0)
    table = cuts()
    ids = sorted(table)
    p, q = (random.dirichlet(np.ones(len(ids))) for _ in range(2))
    whole = float((p * np.log(p / q)).sum())

    def share(weights, prefix):
        return sum(w for i, w in zip(ids, weights, strict=True) if tuple(table[i][: len(prefix)]) == prefix)

    firsts = {(table[i][0],) for i in ids}
    total = sum(share(p, first) * np.log(share(p, first) / share(q, first)) for first in firsts)
    logits = np.full(len(STUDENT), -30.0)
    logits[ids] = np.log(q)
    for node, found in prefixes().items():
        prefix = sorted(found)[0]
        at = share(p, prefix)
        # What the teacher says there: the next pieces of P, and something else where the token ends.
        teacher = np.zeros(len(TEACHER))
        for piece in range(len(TEACHER)):
            teacher[piece] = share(p, (*prefix, piece)) / at
        ends = sum(w for i, w in zip(ids, p, strict=True) if tuple(table[i]) == prefix) / at
        teacher[TEACHER.roles["eos"]] += ends
        loss = mixture(
            torch.tensor(logits)[None],
            Head(torch.eye(len(STUDENT), dtype=torch.float64)),
            torch.tensor(np.log(np.maximum(teacher, 1e-300)))[None].clamp(min=-700),
            Head(torch.eye(len(TEACHER), dtype=torch.float64)),
            torch.tensor([[0, 0, node]]),
        ).continuations
        total += at * float(loss)
    assert total == pytest.approx(whole, abs=1e-5)


def test_nothing_to_compare_costs_nothing():
    trie = Continuations(TEACHER, TEACHER)
    hidden, head = random_side(0, WIDTH, len(STUDENT), 1)
    hidden.requires_grad_()
    teacher_hidden, teacher_head = random_side(0, WIDTH, len(TEACHER), 2)
    nothing = torch.zeros(0, 3, dtype=torch.int64)
    found = mixture(hidden, head, teacher_hidden, teacher_head, nothing, trie=trie)
    found.loss.backward()
    assert float(found.loss.detach()) == float(found.lead) == 0 and hidden.grad.shape == (0, WIDTH)
