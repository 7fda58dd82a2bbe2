"""Cross-entropy and prefixes together: a dense reference, and no bias in a world in which all can be counted."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.losses.test_prefixes import PAIRS, TEXTS
from tests.losses.toy import LARGE, World, document, random_side, texts, vocabulary
from vocabalign.losses.aligned import aligned_starts
from vocabalign.losses.class_sums import ClassSums
from vocabalign.losses.classes import common_classes
from vocabalign.losses.completed_events import completed_event_loss
from vocabalign.losses.divergences import DIVERGENCES
from vocabalign.losses.events import EventMerge, event_loss
from vocabalign.losses.fused import fused_loss
from vocabalign.losses.likelihood import observed_log_probs
from vocabalign.losses.logits import Head
from vocabalign.losses.marginal import PrefixMerge, PrefixTargets
from vocabalign.losses.prefix_mixture import LEAST_KNOWN, prefix_mixture_loss
from vocabalign.losses.prefixes import PrefixMap, prefix_rows

LETTERS = [b"a", b"b", b" "]


def case(tokens, dtype=torch.float64, padding=0):
    student, teacher = (vocabulary(side) for side in tokens)
    prefixes = PrefixMap(student, teacher)
    made, at, labels = [], [0, 0], []
    for text in TEXTS:
        d = document(student, teacher, text)
        made.append(replace(d, student_at=at[0], teacher_at=at[1]))
        at = [at[0] + len(d.student_ids), at[1] + len(d.teacher_ids)]
        labels += [*d.student_ids[1:].tolist(), -100]
    rows = prefix_rows(made, prefixes)
    hidden, head = random_side(at[0], 5, len(student) + padding, 1, dtype)
    th, thead = random_side(at[1], 4, len(teacher), 2, dtype)
    rest = observed_log_probs(th[rows.rest], thead, rows.rest_labels).tokens
    labels = torch.tensor(labels)
    labels[3] = -100
    inputs = [hidden.requires_grad_(), Head(head.weight.requires_grad_()), labels, th[rows.pairs[:, 1]], thead, rows]
    return [*inputs, PrefixMerge(prefixes), rest], len(student)


def dense(inputs, width, name, weights):
    hidden, head, labels, th, thead, rows, merge, rest = inputs
    target, known = PrefixTargets(rows, merge, rest)(th @ thead.weight.T, slice(0, len(th)))
    p = torch.softmax(target, -1)
    logits = hidden @ head.weight.T
    entropy = torch.nn.functional.cross_entropy(logits, labels.clamp(min=0), reduction="none") * (labels >= 0)
    taught = entropy.clone()
    for row, at in enumerate(rows.pairs[:, 0].tolist()):
        if labels[at] >= 0 and (known is None or known[row] > LEAST_KNOWN):
            log_q = torch.log_softmax(logits[at, :width], -1)
            if name == "forward-kl":
                used = p[row] > 0
                taught[at] = (p[row] * (p[row].log() - log_q))[used].sum()
            else:
                taught[at] = 0.5 * (log_q.exp() - p[row]).abs().sum()
    return weights[0] * entropy.sum() + weights[1] * taught.sum(), entropy.sum(), taught.sum()


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.0, 1.0), (0.3, 2.0)])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("name", ["forward-kl", "total-variation"])
@pytest.mark.parametrize("tokens", PAIRS)
def test_against_a_dense_reference(weights, padding, name, tokens):
    inputs, width = case(tokens, padding=padding)
    expected = dense(inputs, width, name, weights)
    options = dict(cross_entropy=weights[0], prefix=weights[1], divergence=name, num_items=4.0)
    for block_bytes in (None, 500):
        found = prefix_mixture_loss(*inputs, **options, block_bytes=block_bytes)
        for value, other in zip(found, expected, strict=True):
            assert float(4 * value.detach()) == pytest.approx(float(other.detach()), rel=1e-9)
        parameters = (inputs[0], inputs[1].weight)
        wanted = torch.autograd.grad(expected[0], parameters, retain_graph=True)
        for gradient, other in zip(torch.autograd.grad(found[0], parameters), wanted, strict=True):
            torch.testing.assert_close(4 * gradient, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
def test_one_vocabulary_is_the_unified_mixture(name):
    inputs, width = case((LARGE, LARGE))
    hidden, head, labels, th, thead, rows, *_ = inputs
    covered = rows.pairs[:, 0][labels[rows.pairs[:, 0]] >= 0]
    teacher = torch.zeros(len(hidden), th.shape[1], dtype=th.dtype).index_copy(0, rows.pairs[:, 0], th)
    assert len(covered) == int((labels >= 0).sum())
    unified = fused_loss(
        hidden, head, labels, teacher_hidden=teacher, teacher_head=thead, weight=0.7, divergence=name, num_items=1.0
    )
    found = prefix_mixture_loss(*inputs, cross_entropy=0.3, prefix=0.7, divergence=name, num_items=1.0)
    assert float(found[0].detach()) == pytest.approx(float(unified.loss.detach()), rel=1e-9)
    assert float(found[1]) == pytest.approx(float(unified.cross_entropy), rel=1e-9)


def test_nothing_supervised_and_no_rows():
    inputs, _ = case(PAIRS[0])
    nothing = [*inputs]
    nothing[2] = torch.full_like(inputs[2], -100)
    loss, entropy, value = prefix_mixture_loss(*nothing, num_items=1.0)
    loss.backward()
    assert loss == entropy == value == 0 and not inputs[0].grad.any()
    student, teacher = vocabulary(PAIRS[0][0]), vocabulary(PAIRS[0][1])
    empty = [*inputs]
    empty[3], empty[5] = inputs[3][:0], prefix_rows([], PrefixMap(student, teacher))
    empty[7] = inputs[7][:0]
    loss, entropy, value = prefix_mixture_loss(*empty, num_items=1.0)
    assert float(entropy) == float(value) and float(loss.detach()) == pytest.approx(2 * float(entropy))


@pytest.mark.parametrize("position", [3, 7])
def test_numbers_that_are_none_are_refused(position):
    inputs, _ = case(PAIRS[0])
    inputs[position] = torch.full_like(inputs[position], torch.nan)
    with pytest.raises(ValueError):
        prefix_mixture_loss(*inputs, num_items=1.0)


def expected_gradients(loss):
    """Gradient at each context of the student that knows every probability, in the mean over all texts."""
    probabilities = texts()
    student, teacher = vocabulary(LETTERS), vocabulary(LARGE)
    worlds = World(student, probabilities), World(teacher, probabilities)
    found, mass = defaultdict(lambda: torch.zeros(len(student), dtype=torch.float64)), defaultdict(float)
    for text, probability in probabilities.items():
        made = document(student, teacher, text)
        hidden, theirs = (world.hidden(text) for world in worlds)
        hidden = hidden.clamp(min=-60).requires_grad_()
        labels = torch.tensor([*made.student_ids[1:].tolist(), -100])
        loss(student, teacher, made, hidden, worlds[0].head, labels, theirs, worlds[1].head).backward()
        for row in range(len(labels) - 1):
            context = tuple(made.student_ids[: row + 1].tolist())
            found[context] += probability * hidden.grad[row]
            mass[context] += probability
    return max(float((gradient / mass[context]).abs().max()) for context, gradient in found.items())


def by_prefixes(student, teacher, made, hidden, head, labels, theirs, their_head):
    prefixes = PrefixMap(student, teacher)
    rows = prefix_rows([made], prefixes)
    rest = observed_log_probs(theirs[rows.rest], their_head, rows.rest_labels).tokens
    merge = PrefixMerge(prefixes)
    return prefix_mixture_loss(
        hidden, head, labels, theirs[rows.pairs[:, 1]], their_head, rows, merge, rest,
        cross_entropy=0.0, prefix=1.0, num_items=1.0,
    )[0]  # fmt: skip


def by_events(student, teacher, made, hidden, head, labels, theirs, their_head):
    sums = ClassSums(common_classes(student, teacher), len(student))
    return completed_event_loss(
        hidden, head, labels, theirs, their_head, aligned_starts([made]), sums,
        cross_entropy=0.0, events=1.0, num_items=1.0,
    )[0]  # fmt: skip


def by_events_alone(student, teacher, made, hidden, head, labels, theirs, their_head):
    pairs = aligned_starts([made])
    merge = EventMerge(common_classes(student, teacher))
    return event_loss(hidden[pairs[:, 0]], head, theirs[pairs[:, 1]], their_head, merge, num_items=1.0)


def test_a_student_that_knows_everything_has_nothing_to_learn():
    """The completed losses have no bias where the student's tokens are the shorter ones; aligned starts alone have."""
    assert expected_gradients(by_prefixes) < 1e-9
    assert expected_gradients(by_events) < 1e-9
    assert expected_gradients(by_events_alone) > 0.05


def test_the_students_own_cut_and_not_the_longest_prefix():
    """`` look`` is ``l oo k`` for a tokenizer that joins o and o first, though ``lo`` is a token."""
    student, teacher = vocabulary([b"l", b"o", b"k", b"oo", b"lo"]), vocabulary([b"l", b"o", b"k", b"look", b"lok"])

    def encode(text):
        names, at, ids = {"l": 0, "o": 1, "k": 2, "oo": 3, "lo": 4}, 0, []
        while at < len(text):
            size = 2 if text[at : at + 2] == "oo" or (text[at : at + 2] == "lo" and text[at + 2 : at + 3] != "o") else 1
            ids.append(names.get(text[at : at + size], 5))
            at += size
        return ids

    from vocabalign.text.tokenizers import load_vocabulary

    roles = student.roles
    student = replace(load_vocabulary(([b"l", b"o", b"k", b"oo", b"lo", None, None, None], encode)), roles=roles)
    prefixes = PrefixMap(student, teacher)
    assert prefixes.whole[3] == 0 and prefixes.whole[4] == 4
    rows = prefix_rows([document(student, teacher, "look")], prefixes)
    # Behind l the teacher's token is l or look, and then oo follows; lok begins with another token of the student.
    inside = (rows.prefix >= 0).nonzero().squeeze(1)
    first = int(rows.prefix[inside[0]])
    low, high = rows.offsets[first : first + 2].tolist()
    found = zip(rows.candidates[low:high].tolist(), rows.continuations[low:high].tolist(), strict=True)
    assert sorted(found) == [(0, -1), (3, 3)]
    assert np.all(rows.observed[inside].numpy() == 3)
