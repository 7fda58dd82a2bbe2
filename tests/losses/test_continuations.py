"""Continuations against a loop over tokens, the chain rule, and rows against the bytes that were read."""

import numpy as np
import pytest
import torch

from tests.losses.toy import LARGE, SMALL, document, random_side, texts, vocabulary
from vocabalign.losses.continuations import END, Continuations, continuation_loss
from vocabalign.losses.logits import Head
from vocabalign.text.segmentation import segment_many

STUDENT, TEACHER = vocabulary([*LARGE, b"abab"]), vocabulary(SMALL)
TRIE = Continuations(STUDENT, TEACHER)
WIDTH = 5


def cuts():
    """Student id -> the teacher's pieces."""
    tokens = [(i, token) for i, token in enumerate(STUDENT.token_bytes) if token]
    return {i: cut for (i, _), cut in zip(tokens, segment_many(TEACHER, [token for _, token in tokens]), strict=True)}


def prefixes():
    """Node -> prefix, by what is below each: the longest prefix that all members have in common and that is inside."""
    table, found = cuts(), {}
    for node in range(len(TRIE)):
        members = [table[int(i)] for i in TRIE.members[TRIE.members_at[node] : TRIE.members_at[node + 1]]]
        wanted = [
            tuple(member[:size])
            for member in members
            for size in range(1, len(member))
            if sorted(i for i, cut in table.items() if cut[:size] == member[:size])
            == sorted(TRIE.members[TRIE.members_at[node] : TRIE.members_at[node + 1]].tolist())
        ]
        found[node] = set(wanted)
    return found


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


@pytest.mark.parametrize("kind", ["plain", "bias", "softcap", "padded"])
@pytest.mark.parametrize("block_bytes", [1, 200, 1 << 20])
def test_against_a_loop_over_tokens(kind, block_bytes):
    prefix_of = {node: sorted(found)[0] for node, found in prefixes().items()}
    nodes = torch.arange(2 * len(TRIE)) % len(TRIE)
    extra = 3 if kind == "padded" else 0
    hidden, head = random_side(len(nodes), WIDTH, len(STUDENT) + extra, 1)
    teacher_hidden, teacher_head = random_side(len(nodes), WIDTH + 1, len(TEACHER), 2)
    bias = torch.randn(len(STUDENT) + extra, dtype=torch.float64) if kind == "bias" else None
    head = Head(head.weight, bias, 0.7, 2.0 if kind == "softcap" else None)
    wanted = [t.requires_grad_() for t in (hidden, head.weight, *([] if bias is None else [bias]))]
    expected = naive(hidden, head, teacher_hidden, teacher_head, nodes, prefix_of) / 3.5
    gradients = torch.autograd.grad(expected, wanted)
    loss = continuation_loss(
        hidden, head, teacher_hidden, teacher_head, nodes, TRIE, num_items=3.5, block_bytes=block_bytes
    )
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    for found, gradient in zip(torch.autograd.grad(2 * loss, wanted), gradients, strict=True):
        assert torch.allclose(found, 2 * gradient, atol=1e-6)


def test_every_inner_node_is_there_once():
    table = cuts()
    inner = {tuple(cut[:size]) for cut in table.values() for size in range(1, len(cut))}
    assert len(TRIE) == len(inner)
    assert all(found <= inner and found for found in prefixes().values())


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
        loss = continuation_loss(
            torch.tensor(logits)[None],
            Head(torch.eye(len(STUDENT), dtype=torch.float64)),
            torch.tensor(np.log(np.maximum(teacher, 1e-300)))[None].clamp(min=-700),
            Head(torch.eye(len(TEACHER), dtype=torch.float64)),
            torch.tensor([node]),
            TRIE,
        )
        total += at * float(loss)
    assert total == pytest.approx(whole, abs=1e-5)


def test_rows_are_where_the_teacher_is_inside_a_token():
    documents, expected = [], 0
    for text in texts(5):
        if len(documents) < 200:
            found = document(STUDENT, TEACHER, text)
            documents.append(found)
            expected += int(((found.alignment.ct_end - found.alignment.ct_start) > 1).sum())
            rows = TRIE.rows([found])
            for mine, theirs, node in rows.tolist():
                token = int(found.student_ids[mine + 1])
                before = b"".join(STUDENT.token_bytes[i] or b"" for i in found.student_ids[: mine + 1].tolist())
                read = b"".join(TEACHER.token_bytes[i] or b"" for i in found.teacher_ids[: theirs + 1].tolist())
                inside = read[len(before) :]
                assert 0 < len(inside) < len(STUDENT.token_bytes[token])
                assert STUDENT.token_bytes[token].startswith(inside)
                pieces = [int(i) for i in TRIE.members[TRIE.members_at[node] : TRIE.members_at[node + 1]]]
                assert token in pieces
                assert all(STUDENT.token_bytes[i].startswith(inside) for i in pieces)
    assert 0 < len(TRIE.rows(documents))


def test_rows_of_a_batch_are_those_of_its_documents_where_they_are():
    one, two = (document(STUDENT, TEACHER, text) for text in ("abab", " ab"))
    from dataclasses import replace

    moved = replace(two, student_at=10, teacher_at=20)
    rows = TRIE.rows([one, moved])
    assert torch.equal(rows, torch.cat([TRIE.rows([one]), TRIE.rows([two]) + torch.tensor([10, 20, 0])]))


def test_one_vocabulary_has_no_continuations_and_nothing_costs_nothing():
    trie = Continuations(TEACHER, TEACHER)
    assert len(trie) == 0 and len(trie.rows([document(TEACHER, TEACHER, "ab a")])) == 0
    hidden, head = random_side(0, WIDTH, len(STUDENT), 1)
    hidden.requires_grad_()
    teacher_hidden, teacher_head = random_side(0, WIDTH, len(TEACHER), 2)
    nodes = torch.zeros(0, dtype=torch.int64)
    loss = continuation_loss(hidden, head, teacher_hidden, teacher_head, nodes, TRIE)
    loss.backward()
    assert float(loss.detach()) == 0 and hidden.grad.shape == (0, WIDTH)


def test_what_does_not_fit_is_refused():
    hidden, head = random_side(2, WIDTH, len(STUDENT), 1)
    teacher_hidden, teacher_head = random_side(2, WIDTH, len(TEACHER), 2)
    with pytest.raises(ValueError, match="one node"):
        continuation_loss(hidden, head, teacher_hidden, teacher_head, torch.zeros(3, dtype=torch.int64), TRIE)
    with pytest.raises(ValueError, match="student's head"):
        short = Head(head.weight[:4])
        continuation_loss(hidden, short, teacher_hidden, teacher_head, torch.zeros(2, dtype=torch.int64), TRIE)
