"""Byte prefixes: the map and the rows against slow references; the loss by brute force in a toy world."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.losses.toy import LARGE, SMALL, World, document, random_side, texts, vocabulary, without_large_buffers
from vocabalign.losses.divergences import DIVERGENCES
from vocabalign.losses.fused import fused_loss
from vocabalign.losses.likelihood import observed_log_probs
from vocabalign.losses.logits import Head
from vocabalign.losses.marginal import PrefixMerge, prefix_loss
from vocabalign.losses.prefixes import PrefixMap, prefix_rows

FORWARD = sorted(set(DIVERGENCES) - {"reverse-kl", "adaptive-kl"})
PAIRS = [
    (SMALL, LARGE),
    (LARGE, SMALL),
    ([b"a", b"b", b" ", b"ab", b" ab a"], LARGE),
    (SMALL, [b"a", b"b", b" ", b"ab ab"]),
]
TEXTS = ["ab a", "aba bb", "b ab ab", " a", "ab ab"]


def longest(v, token):
    fits = [t for t in v.token_bytes if t and token.startswith(t)]
    return v.token_bytes.index(max(fits, key=len)) if fits else -1


def can_be_written(tokens, text):
    return not text or any(can_be_written(tokens, text[len(t) :]) for t in tokens if text.startswith(t))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ab ", min_size=1, max_size=4).map(str.encode), min_size=1, max_size=8, unique=True))
@pytest.mark.parametrize("letters", [[], [b"a", b"b", b" "]])
def test_map_against_the_reference(letters, tokens):
    tokens = list(dict.fromkeys([*tokens, *letters]))
    student, teacher = vocabulary(tokens), vocabulary(LARGE)
    prefixes = PrefixMap(student, teacher)
    for i, token in enumerate(teacher.token_bytes):
        # With all letters the longest token is what the tokenizer writes first, wherever it stands.
        if token and (letters or not can_be_written(tokens, token)):
            assert prefixes.whole[i] == longest(student, token)
        elif token:
            first = tokens[prefixes.whole[i]]
            assert token.startswith(first) and can_be_written(tokens, token[len(first) :])
    for u in {token[:n] for token in LARGE for n in range(1, len(token) + 1)}:
        ids, rest = prefixes.after(u)
        assert set(ids.tolist()) == {i for i, t in enumerate(teacher.token_bytes) if t and t.startswith(u)}
        for i, s in zip(ids.tolist(), rest.tolist(), strict=True):
            assert s == longest(student, teacher.token_bytes[i][len(u) :])


def test_special_tokens_identity_and_last_bytes():
    student, teacher = vocabulary(SMALL), vocabulary([*LARGE, b"\xff", b"\xffa"])
    prefixes = PrefixMap(student, teacher)
    for role, token_id in teacher.roles.items():
        assert prefixes.whole[token_id] == student.roles[role]
    assert prefixes.whole[len(LARGE)] == -1
    assert len(prefixes.after(b"\xff")[0]) == 2
    assert (PrefixMap(teacher, teacher).whole == np.arange(len(teacher))).all()


def setting(tokens, probabilities):
    student, teacher = (vocabulary(side) for side in tokens)
    worlds = World(student, probabilities), World(teacher, probabilities)
    prefixes = PrefixMap(student, teacher)
    return student, teacher, worlds, prefixes


@pytest.mark.parametrize("tokens", PAIRS)
def test_targets_by_brute_force(tokens):
    """Every probability that the loss uses, counted over whole texts."""
    probabilities = texts()
    student, teacher, worlds, prefixes = setting(tokens, probabilities)
    merge = PrefixMerge(prefixes)
    kinds = set()
    for text in [*list(probabilities)[::9], "ab ab"[:4], " aba", "aba "]:
        rows = prefix_rows([document(student, teacher, text)], prefixes)
        cuts = [world.cut(text) for world in worlds]
        hidden = [world.hidden(text) for world in worlds]
        rest = observed_log_probs(hidden[1][rows.rest], worlds[1].head, rows.rest_labels).tokens
        expected = 0.0
        for row in range(len(rows.pairs)):
            at, to = rows.pairs[row].tolist()
            read = b"".join(student.token_bytes[i] or b"" for i in cuts[0][: at + 1])
            known = b"".join(teacher.token_bytes[i] or b"" for i in cuts[1][: to + 1])
            u = read[len(known) :]
            assert read.startswith(known) and bool(u) == bool(rows.prefix[row] >= 0)
            # The teacher tokens that the student's next token spans, if it ends where one of them does.
            mine, end = student.token_bytes[cuts[0][at + 1]], None
            for k in range(2, len(cuts[1]) - to):
                joined = b"".join(teacher.token_bytes[i] or b"" for i in cuts[1][to + 1 : to + 1 + k])
                if (
                    mine
                    and joined == u + mine
                    and None not in [teacher.token_bytes[i] for i in cuts[1][to + 1 : to + 1 + k]]
                ):
                    end = to + 1 + k
            assert (rows.moved_to[row] >= 0) == (end is not None)
            kinds.add((bool(u), end is not None))
            found, left = np.zeros(len(student)), 0.0
            for other, cut in worlds[1].cuts.items():
                if cut[: to + 1] != cuts[1][: to + 1] or len(cut) <= to + 1:
                    continue
                token = teacher.token_bytes[cut[to + 1]]
                if token is None:
                    s = student.roles["eos"] if not u else None
                elif token.startswith(u):
                    s = longest(student, token[len(u) :]) if token != u else -1
                else:
                    continue
                if s is None:
                    continue
                if end is not None and cut[:end] == cuts[1][:end]:
                    s = cuts[0][at + 1]
                if s < 0:
                    left += probabilities[other]
                else:
                    found[s] += probabilities[other]
            total = found.sum() + left
            if found.sum() > 0:
                p, resolved = found / found.sum(), found.sum() / total
                q, used = worlds[0].next(cuts[0][: at + 1]), found > 0
                expected += resolved * (p[used] * (np.log(p[used]) - np.log(np.maximum(q[used], 1e-300)))).sum()
        loss = prefix_loss(
            hidden[0][rows.pairs[:, 0]],
            worlds[0].head,
            hidden[1][rows.pairs[:, 1]],
            worlds[1].head,
            rows,
            merge,
            rest,
            num_items=1,
        )
        np.testing.assert_allclose(float(loss), expected, rtol=1e-7, atol=1e-9)
    assert (False, False) in kinds


def test_all_kinds_of_rows_are_met():
    kinds = set()
    for tokens in PAIRS:
        student, teacher = (vocabulary(side) for side in tokens)
        rows = prefix_rows([document(student, teacher, text) for text in TEXTS], PrefixMap(student, teacher))
        kinds |= set(zip((rows.prefix >= 0).tolist(), (rows.moved_to >= 0).tolist(), strict=True))
        assert (rows.prefix[:-1] <= -1).logical_or(rows.prefix[1:] >= 0).all()  # aligned ones first
    assert len(kinds) >= 3


def case(tokens, dtype=torch.float64):
    student, teacher = (vocabulary(side) for side in tokens)
    prefixes = PrefixMap(student, teacher)
    made, at = [], [0, 0]
    for text in TEXTS:
        d = document(student, teacher, text)
        made.append(replace(d, student_at=at[0], teacher_at=at[1]))
        at = [at[0] + len(d.student_ids), at[1] + len(d.teacher_ids)]
    rows = prefix_rows(made, prefixes)
    hidden, head = random_side(at[0], 5, len(student), 1, dtype)
    th, thead = random_side(at[1], 4, len(teacher), 2, dtype)
    rest = observed_log_probs(th[rows.rest], thead, rows.rest_labels).tokens
    x = hidden[rows.pairs[:, 0]].requires_grad_()
    return [x, Head(head.weight.requires_grad_()), th[rows.pairs[:, 1]], thead, rows, PrefixMerge(prefixes), rest]


@pytest.mark.parametrize("name", FORWARD)
@pytest.mark.parametrize("tokens", PAIRS[:2])
def test_gradcheck(name, tokens):
    x, head, *others = case(tokens)
    assert torch.autograd.gradcheck(lambda h, w: prefix_loss(h, Head(w), *others, divergence=name), (x, head.weight))


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_vocabulary_is_plain_distillation_bit_for_bit(name, dtype):
    x, head, th, thead, *others = case((LARGE, LARGE), dtype)
    loss = prefix_loss(x, head, th, thead, *others, divergence=name)
    labels = torch.zeros(len(x), dtype=torch.int64)
    plain = fused_loss(x, head, labels, teacher_hidden=th, teacher_head=thead, divergence=name, weight=1.0).loss
    assert loss == plain and len(x) == sum(len(vocabulary(LARGE).encode(text)) + 1 for text in TEXTS)
    for a, b in zip(*(torch.autograd.grad(value, (x, head.weight)) for value in (loss, plain))):
        assert torch.equal(a, b)


def test_blocks_and_shifts_change_nothing():
    x, head, th, thead, *others = case(PAIRS[0])
    expected = prefix_loss(x, head, th, thead, *others)
    shifted = Head(thead.weight, torch.full((len(thead.weight),), 9.0, dtype=torch.float64))
    padded = Head(torch.cat([head.weight, 50 * torch.ones(3, 5, dtype=torch.float64)]))
    for other in (
        prefix_loss(x, head, th, shifted, *others),
        prefix_loss(x, padded, th, thead, *others),
        prefix_loss(x, head, th, thead, *others, block_bytes=1),
    ):
        torch.testing.assert_close(other, expected, rtol=1e-12, atol=1e-12)


def test_bytes_that_the_student_cannot_write_are_left_open():
    student, teacher = vocabulary([b"a", b"b", b" "]), vocabulary([b"a", b"b", b" ", b"c", b"ca"])
    prefixes = PrefixMap(student, teacher)
    rows = prefix_rows([document(student, teacher, "ab")], prefixes)
    x, head = random_side(len(rows.pairs), 6, len(student), 0)
    th, thead = random_side(len(rows.pairs), 6, len(teacher), 1)
    loss = prefix_loss(x, head, th, thead, rows, PrefixMerge(prefixes), torch.zeros(0).double(), num_items=1)
    log_p = torch.log_softmax(th @ thead.weight.T, -1)
    kept = torch.tensor([0, 1, 2, 5, 6, 7])
    resolved = log_p[:, kept].logsumexp(-1)
    target = log_p[:, kept] - resolved[:, None]
    expected = (resolved.exp()[:, None] * target.exp() * (target - torch.log_softmax(x @ head.weight.T, -1))).sum()
    torch.testing.assert_close(loss, expected)


def test_no_rows():
    x, head, th, thead, rows, merge, rest = case(PAIRS[0])
    none = prefix_rows([], PrefixMap(vocabulary(SMALL), vocabulary(LARGE)))
    loss = prefix_loss(x[:0], head, th[:0], thead, none, merge, rest[:0])
    gradients = torch.autograd.grad(loss, (x, head.weight), allow_unused=True)
    assert loss == 0 and all(g is None or not g.any() for g in gradients)


def test_memory():
    tokens = [bytes([a, b]) for a in range(97, 123) for b in range(97, 123)]
    student, teacher = vocabulary(tokens + [bytes([a]) for a in range(97, 123)]), vocabulary(tokens)
    prefixes = PrefixMap(student, teacher)
    text = "abcdefgh" * 150
    rows = prefix_rows([document(student, teacher, text)], prefixes)
    x, head = random_side(len(rows.pairs), 4, len(student), 0, torch.float32)
    th, thead = random_side(len(rows.pairs), 4, len(teacher), 1, torch.float32)
    x.requires_grad_()
    rest, merge = torch.zeros(len(rows.rest)), PrefixMerge(prefixes)
    without_large_buffers(
        lambda: prefix_loss(x, head, th, thead, rows, merge, rest, block_bytes=1 << 17).backward(),
        len(x) * len(student) * 2,
    )


@pytest.mark.parametrize(
    "position,value", [(0, torch.zeros(3, 5).double()), (2, None), (6, torch.zeros(99)), (6, None)]
)
def test_bad_input_is_refused(position, value):
    arguments = case(PAIRS[0])
    arguments[position] = torch.full_like(arguments[position], torch.nan) if value is None else value
    with pytest.raises(ValueError):
        prefix_loss(*arguments)
