"""Faults of published losses across tokenizers, each shown where it can be, and that it is not here."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.losses.toy import LARGE, SMALL, World, document, random_side, texts, vocabulary
from vocabalign.losses.aligned import aligned_chunks, aligned_starts, observed_at
from vocabalign.losses.chunks import chunk_loss, chunk_surprisals
from vocabalign.losses.classes import EventClasses, common_classes, identity_classes, shared_token_classes
from vocabalign.losses.events import EventMerge, event_loss
from vocabalign.losses.likelihood import observed_log_probs
from vocabalign.losses.logits import Head
from vocabalign.losses.projection import LexiconProjection, projection_loss
from vocabalign.losses.uld import uld_loss


def merged_by_gold(probabilities, ids, first, last):
    """TRL's default merge: row k predicts token k + 1, and is asked for token k."""
    result = probabilities[first].clone()
    for k in range(first, last + 1):
        result = result * probabilities[k, ids[k]]
    return result


def test_gold_merge_is_off_by_one_and_no_chain_rule():
    world = World(vocabulary(SMALL), texts())
    text = "aba "
    cut = world.cut(text)
    d = document(world.vocabulary, vocabulary(LARGE), text)
    chunks = aligned_chunks([d])
    rows = chunks.student
    observed = observed_log_probs(world.hidden(text)[rows.positions], world.head, rows.labels)
    ours = (-chunk_surprisals(observed.tokens, rows)).exp()
    several = int((rows.stops - rows.starts > 1).nonzero()[0])
    first, end = int(rows.positions[rows.starts[several]]), int(rows.positions[rows.stops[several] - 1]) + 1
    counted = [
        sum(p for other, p in world.probabilities.items() if world.cuts[other][: n + 1] == cut[: n + 1])
        for n in (first, end)
    ]
    assert float(ours[several]) == pytest.approx(counted[1] / counted[0])
    theirs = merged_by_gold(world.hidden(text).exp(), cut[1:] + [0], first, end - 1)
    right = world.next(cut[: first + 1])[cut[first + 1]]
    assert float(theirs.sum()) != pytest.approx(1)  # no distribution
    assert float(theirs[cut[first + 1]]) != pytest.approx(right)


@pytest.mark.parametrize("loss", ["event", "chunk"])
def test_gold_skips_eos_so_that_stopping_is_never_learned(loss):
    student, teacher = vocabulary(SMALL), vocabulary(LARGE)
    d = document(student, teacher, "ab a")
    eos = student.roles["eos"]
    x, head = random_side(len(d.student_ids), 5, len(student), 0)
    th, thead = random_side(len(d.teacher_ids), 5, len(teacher), 1)
    weight = head.weight.requires_grad_()
    if loss == "event":
        assert observed_at([d])[-1].tolist() == [eos, teacher.roles["eos"]]
        last = aligned_starts([d])[-1:]
        value = event_loss(
            x[last[:, 0]], Head(weight), th[last[:, 1]], thead, EventMerge(common_classes(student, teacher))
        )
    else:
        chunks = aligned_chunks([d])
        observed = observed_log_probs(th[chunks.teacher.positions], thead, chunks.teacher.labels)
        only = (chunks.num_bytes == 0).double()
        value = chunk_loss(x[chunks.student.positions], Head(weight), chunks, observed, weights=only)
    value.backward()
    assert weight.grad[eos].any()


def nemo_projection(q, p, chunk):
    """NeMo-RL's P-KL on one chunk: arithmetic mean of the student against geometric mean of the teacher."""
    log_q = q[chunk].exp().mean(0).log()
    log_p = p[chunk].mean(0)
    return float((log_p.exp() * (log_p - log_q)).sum())


def test_nemo_projection_of_equal_models_is_not_zero():
    x, head = random_side(2, 5, 7, 0)
    log_q = torch.log_softmax(x @ head.weight.T, -1)
    assert nemo_projection(log_q, log_q, slice(0, 2)) < -0.01
    same = LexiconProjection(np.arange(7)[:, None], np.ones((7, 1)), 7)
    assert projection_loss(x, head, x, head, same) == 0
    moved = LexiconProjection(np.arange(7)[::-1][:, None], np.ones((7, 1)), 7)
    assert abs(float(projection_loss(x, head, x, Head(head.weight.flip(0)), moved))) < 1e-12


def test_sub_vocabulary_kl_is_negative():
    """GOLD and NeMo sum p log(p / q) over shared tokens alone; with everything else as one event it is a divergence."""
    student, teacher = vocabulary(SMALL), vocabulary(LARGE)
    classes = shared_token_classes(student, teacher)
    p, q = torch.full((len(teacher),), 1e-3), torch.full((len(student),), 1e-3)
    p[teacher.token_bytes.index(b"bb")] = 1.0  # the teacher means a token that the student does not have
    q[student.token_bytes.index(b"a")] = 1.0
    p, q = (side.double() / side.sum() for side in (p, q))
    shared = [
        (i, teacher.token_bytes.index(t)) for i, t in enumerate(student.token_bytes) if t and t in teacher.token_bytes
    ]
    theirs = sum(float(p[j] * (p[j] / q[i]).log()) for i, j in shared)
    ours = event_loss(
        q.log()[None],
        Head(torch.eye(len(q)).double()),
        p.log()[None],
        Head(torch.eye(len(p)).double()),
        EventMerge(classes),
    )
    assert theirs < 0 < float(ours)


def test_simct_and_liger_change_under_a_constant_shift_of_logits():
    """A span's mean raw logit, or zeros for missing columns, stand on the arbitrary zero of the logits."""
    z = torch.randn(2, 6).double()
    span = lambda a, b: torch.softmax(torch.cat([a[:3], (a[3:4] + b[4:5]) / 2]), 0)[-1]  # noqa: E731
    assert abs(float(span(z[0], z[1]) - span(z[0], z[1] + 5))) > 0.05
    padded = lambda a: torch.softmax(torch.cat([a, torch.zeros(2)]), 0)[:6]  # noqa: E731
    assert not torch.allclose(padded(z[0]), padded(z[0] + 5))
    student, teacher = vocabulary(SMALL), vocabulary(LARGE)
    x, head = random_side(5, 4, len(student), 0)
    th, thead = random_side(5, 4, len(teacher), 1)
    merge = EventMerge(common_classes(student, teacher))
    shifts = [torch.full((len(v),), 5.0).double() for v in (student, teacher)]
    for loss in (
        lambda a, b: event_loss(x, a, th, b, merge),
        lambda a, b: uld_loss(x, a, th, b, top=4),
    ):
        torch.testing.assert_close(
            loss(Head(head.weight, shifts[0]), Head(thead.weight, shifts[1])), loss(head, thead), rtol=1e-12, atol=1e-12
        )


def test_padded_rows_are_left_out_and_not_zero():
    """Rows beyond the vocabulary (151,936 against 152,064) take no probability, whatever they hold."""
    x, head = random_side(5, 4, 9, 0)
    th, thead = random_side(5, 4, 9, 1)
    merge = EventMerge(identity_classes(9))
    expected = event_loss(x, head, th, thead, merge)
    for fill in (0.0, 100.0):
        more = torch.full((3, 4), fill).double()
        padded = [Head(torch.cat([side.weight, more])) for side in (head, thead)]
        assert event_loss(x, padded[0], th, padded[1], merge) == expected


def test_tokens_that_differ_only_in_how_the_space_is_written_are_one_event():
    student, teacher = vocabulary([*SMALL, b" ab"]), vocabulary(LARGE)
    # As two kinds of tokenizers write them in their files.
    student = replace(student, raw_tokens=tuple(raw.replace(" ", "Ġ") for raw in student.raw_tokens))
    teacher = replace(teacher, raw_tokens=tuple(raw.replace(" ", "\u2581") for raw in teacher.raw_tokens))
    assert not {raw for raw in student.raw_tokens if "Ġ" in raw} & set(teacher.raw_tokens)
    classes = common_classes(student, teacher)
    mine, theirs = student.token_bytes.index(b" ab"), teacher.token_bytes.index(b" ab")
    assert classes.student[mine] == classes.teacher[theirs]
    assert (classes.student == classes.student[mine]).sum() == 1


def test_uld_sees_no_tokens():
    """A property of the method, not a fault of the code: the right probabilities on the wrong tokens cost nothing."""
    logits = torch.randn(4, 12, generator=torch.Generator().manual_seed(0)).double()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    eye = Head(torch.eye(12).double())
    assert float(uld_loss(logits, eye, logits[:, order], eye)) < 1e-12
    assert float(event_loss(logits, eye, logits[:, order], eye, EventMerge(identity_classes(12)))) > 0.5


def test_long_tokens_share_the_gradient_of_their_class():
    """Matching whole tokens unlearns the student's long tokens; as members of a class they keep their share."""
    classes = EventClasses(np.array([0, 0, 1]), np.array([0, 1]), 2, None)
    q, p = torch.tensor([[0.1, 0.6, 0.3]]).double().log(), torch.tensor([[0.9, 0.1]]).double().log()
    x = q.clone().requires_grad_()
    event_loss(x, Head(torch.eye(3).double()), p, Head(torch.eye(2).double()), EventMerge(classes)).backward()
    torch.testing.assert_close(x.grad, torch.tensor([[-0.2 / 7, -0.2 * 6 / 7, 0.2]]).double())
