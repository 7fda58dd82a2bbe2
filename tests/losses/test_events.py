"""Event-KL against a naive loss, by brute force in a toy world, and everything that must not change it."""

import numpy as np
import pytest
import torch

from tests.losses.toy import (
    LARGE,
    SMALL,
    World,
    check_plain,
    document,
    random_side,
    texts,
    vocabulary,
    without_large_buffers,
)
from vocabalign.losses.aligned import aligned_starts
from vocabalign.losses.classes import EventClasses, common_classes, identity_classes
from vocabalign.losses.divergences import DIVERGENCES
from vocabalign.losses.events import EventMerge, event_loss
from vocabalign.losses.logits import Head
from vocabalign.losses.pairs import Pair

NAMES = sorted(DIVERGENCES)
ROWS, WIDTH = 7, 5


def some_classes(student=23, teacher=19, count=8, seed=0):
    rng = np.random.default_rng(seed)
    sides = []
    for size in (student, teacher):
        side = np.concatenate([np.arange(count), rng.integers(-1, count, size - count)])
        sides.append(rng.permutation(side))
    return EventClasses(*sides, count, None)


def case(classes, dtype=torch.float64, rows=ROWS):
    hidden, head = random_side(rows, WIDTH, len(classes.student), 1, dtype)
    teacher_hidden, teacher_head = random_side(rows, WIDTH + 1, len(classes.teacher), 2, dtype)
    return hidden.requires_grad_(), Head(head.weight.requires_grad_()), teacher_hidden, teacher_head


def class_log_probs(logits, classes, count, temperature=1.0):
    keep = torch.from_numpy(classes >= 0)
    p = torch.softmax(logits[:, keep] / temperature, -1)
    return torch.zeros(len(logits), count, dtype=p.dtype).index_add(1, torch.from_numpy(classes)[keep], p).log()


def naive(name, q, p):
    """Divergences as in the textbook, for autograd."""
    m = torch.logsumexp(torch.stack([p, q]), 0) - np.log(2)
    kl = lambda a, b: (a.exp() * (a - b)).sum()  # noqa: E731
    return {
        "forward-kl": lambda: kl(p, q),
        "reverse-kl": lambda: kl(q, p),
        "jensen-shannon": lambda: 0.5 * kl(p, m) + 0.5 * kl(q, m),
        "total-variation": lambda: 0.5 * (p.exp() - q.exp()).abs().sum(),
    }[name]()


@pytest.mark.parametrize("name", ["forward-kl", "reverse-kl", "jensen-shannon", "total-variation"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_against_the_naive_loss(name, temperature):
    classes = some_classes()
    hidden, head, th, thead = case(classes)
    q = class_log_probs(hidden @ head.weight.T, classes.student, 8, temperature)
    p = class_log_probs(th @ thead.weight.T, classes.teacher, 8, temperature)
    expected = naive(name, q, p) * temperature**2 / 3.5
    loss = event_loss(
        hidden, head, th, thead, EventMerge(classes), divergence=name, temperature=temperature, num_items=3.5
    )
    torch.testing.assert_close(loss, expected)
    leaves = (hidden, head.weight)
    for a, b in zip(torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, leaves)):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name):
    classes = some_classes(9, 8, 4)
    hidden, head, th, thead = case(classes, rows=3)
    merge = EventMerge(classes)

    def loss(x, w):
        return event_loss(x, Head(w, softcap=20.0, scale=0.7), th, thead, merge, divergence=name, temperature=1.3)

    if name == "adaptive-kl":  # its weights are constants for the gradient
        assert loss(hidden, head.weight).isfinite()
    else:
        assert torch.autograd.gradcheck(loss, (hidden, head.weight))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_vocabulary_is_plain_distillation_bit_for_bit(name, dtype):
    classes = identity_classes(31)
    hidden, head, th, thead = case(classes, dtype)
    loss = event_loss(hidden, head, th, thead, EventMerge(classes), divergence=name)
    check_plain(loss, hidden, head, (hidden, th, thead), name)


@pytest.mark.parametrize("name", NAMES)
def test_identity_is_exactly_zero(name):
    classes = some_classes(20, 20)
    classes = EventClasses(classes.student, classes.student, 8, None)
    hidden, head, *_ = case(classes, torch.float32)
    frozen = Head(head.weight.detach())
    loss = event_loss(hidden, head, hidden.detach(), frozen, EventMerge(classes), divergence=name)
    gradients = torch.autograd.grad(loss, (hidden, head.weight))
    assert loss == 0 and not any(g.any() for g in gradients)


def test_shift_permutation_blocks_order_padding_and_packing_change_nothing():
    classes = some_classes()
    hidden, head, th, thead = case(classes)
    merge = EventMerge(classes)
    expected = event_loss(hidden, head, th, thead, merge)
    rng = np.random.default_rng(3)
    s, t = rng.permutation(23), rng.permutation(19)
    moved = EventMerge(EventClasses(classes.student[s], classes.teacher[t], 8, None))
    order = torch.randperm(ROWS)
    wild = torch.cat([head.weight, 100 + torch.zeros(5, WIDTH, dtype=torch.float64)])
    shift = torch.full((19,), 5.0, dtype=torch.float64)
    double = torch.cat([hidden, hidden]), head, torch.cat([th, th]), thead
    weights = torch.tensor([1.0] * ROWS + [0.0] * ROWS)
    for other in (
        event_loss(hidden, Head(head.weight[s]), th, Head(thead.weight[t]), moved),
        event_loss(hidden, head, th, Head(thead.weight, shift), merge),
        event_loss(hidden[order], head, th[order], thead, merge),
        event_loss(hidden, Head(wild), th, thead, merge),
        event_loss(hidden, head, th, thead, merge, block_bytes=1),
        event_loss(*double, merge, weights=weights),
        sum(event_loss(hidden[i], head, th[i], thead, merge, num_items=ROWS) for i in (slice(3), slice(3, None))),
    ):
        torch.testing.assert_close(other, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["forward-kl", "reverse-kl", "jensen-shannon", "total-variation"])
def test_never_more_than_the_plain_divergence(name):
    """Data processing: classes can only lose differences."""
    merged = some_classes(20, 20)
    classes = EventClasses(np.maximum(merged.student, 0), np.maximum(merged.student, 0), 8, None)
    hidden, head, th, thead = case(classes)
    q, p = (torch.log_softmax(x @ h.weight.T, -1) for x, h in ((hidden, head), (th, thead)))
    plain = DIVERGENCES[name](Pair(q, p))[0].sum() / ROWS
    event = event_loss(hidden, head, th, thead, EventMerge(classes), divergence=name)
    assert 0 <= event <= plain


def test_events_of_a_toy_world_by_brute_force():
    """P(c) at every aligned start, counted over whole texts instead of summed over tokens."""
    student, teacher = vocabulary(SMALL), vocabulary(LARGE)
    probabilities = texts()
    worlds = World(student, probabilities), World(teacher, probabilities)
    classes = common_classes(student, teacher)
    merge = EventMerge(classes)
    checked = 0
    for text in list(probabilities)[::7]:
        pairs = aligned_starts([document(student, teacher, text)])
        hidden = [world.hidden(text)[pairs[:, side]] for side, world in enumerate(worlds)]
        divergence = 0.0
        for row in pairs.tolist():
            counted = []
            for world, at, side in zip(worlds, row, (classes.student, classes.teacher), strict=True):
                before, found = world.cut(text)[: at + 1], np.zeros(classes.num_classes)
                for other, cut in world.cuts.items():
                    if cut[: at + 1] == before:
                        found[side[cut[at + 1]]] += probabilities[other]
                counted.append(found / found.sum())
            q, p = counted
            used = p > 0
            divergence += (p[used] * np.log(p[used] / np.maximum(q[used], 1e-300))).sum()
        loss = event_loss(hidden[0], worlds[0].head, hidden[1], worlds[1].head, merge, num_items=1)
        np.testing.assert_allclose(float(loss), divergence, rtol=1e-9, atol=1e-12)
        checked += len(pairs)
    assert checked > 40


def test_perfect_models_of_words_agree():
    """At the starts of independent words, models that know the world by heart have no event loss; tokens differ."""
    student, teacher = vocabulary([b"a", b"b", b"ab"]), vocabulary([b"a", b"b", b"bb"])
    rng = np.random.default_rng(1)
    words = dict(zip(["a", "b", "ab", "bb"], rng.dirichlet(np.ones(4)), strict=True))
    worlds = World(student, words), World(teacher, words)
    classes = common_classes(student, teacher)
    rows = [world.hidden("a")[:1] for world in worlds]
    assert float(event_loss(rows[0], worlds[0].head, rows[1], worlds[1].head, EventMerge(classes))) < 1e-12
    assert not np.allclose(worlds[0].next([4])[2], worlds[1].next([4])[2])


def test_no_rows_and_zero_weights():
    classes = some_classes()
    hidden, head, th, thead = case(classes)
    merge = EventMerge(classes)
    for loss in (
        event_loss(hidden[:0], head, th[:0], thead, merge),
        event_loss(hidden, head, th, thead, merge, weights=torch.zeros(ROWS)),
    ):
        gradients = torch.autograd.grad(loss, (hidden, head.weight), allow_unused=True)
        assert loss == 0 and all(g is None or not g.any() for g in gradients)


def test_frozen_head_and_teacher_without_gradient():
    classes = some_classes()
    hidden, head, th, thead = case(classes)
    th.requires_grad_()
    event_loss(hidden, Head(head.weight.detach()), th, thead, EventMerge(classes)).backward()
    assert hidden.grad.any() and th.grad is None


def test_memory():
    classes = some_classes(6000, 5000, 3000)
    hidden, head, th, thead = case(classes, torch.float32, 1024)
    merge = EventMerge(classes)
    without_large_buffers(
        lambda: event_loss(hidden, head, th, thead, merge, block_bytes=2 << 20).backward(), 1024 * 5000 * 2
    )


@pytest.mark.parametrize(
    "change",
    [
        dict(divergence="nonsense"),
        dict(temperature=0.0),
        dict(weights=torch.ones(3)),
        dict(head=Head(torch.zeros(22, WIDTH, dtype=torch.float64))),
        dict(teacher_hidden=torch.zeros(ROWS - 1, WIDTH + 1, dtype=torch.float64)),
        dict(num_items=-1.0),
        dict(teacher_hidden=torch.full((ROWS, WIDTH + 1), torch.nan).double()),
    ],
)
def test_bad_input_is_refused(change):
    classes = some_classes()
    hidden, head, th, thead = case(classes)
    arguments = dict(hidden=hidden, head=head, teacher_hidden=th, teacher_head=thead, classes=EventMerge(classes))
    with pytest.raises(ValueError):
        event_loss(**arguments | change)
