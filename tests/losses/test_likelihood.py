"""Log-probabilities of observed tokens against log_softmax."""

import pytest
import torch

from tests.losses.toy import LARGE, random_side, vocabulary, without_large_buffers
from vocabalign.losses.likelihood import observed_log_probs, token_log_probs, word_starts
from vocabalign.losses.logits import Head

LABELS = torch.tensor([0, 3, 10, -100, 7])


def test_values_and_gradient():
    hidden, head = random_side(5, 4, 11, 0)
    starts = torch.arange(11) % 3 == 0
    log_q = torch.log_softmax(hidden @ head.weight.T, -1)
    observed = observed_log_probs(hidden, head, LABELS, starts)
    torch.testing.assert_close(observed.tokens[LABELS >= 0], log_q[torch.arange(5), LABELS.clamp(min=0)][LABELS >= 0])
    assert observed.tokens[3] == 0
    torch.testing.assert_close(observed.word_starts, log_q[:, starts].logsumexp(-1))
    assert observed_log_probs(hidden, head, LABELS).word_starts is None


def test_differentiable():
    hidden, head = random_side(4, 4, 11, 0)
    leaves = hidden.requires_grad_(), head.weight.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, w: token_log_probs(x, Head(w), LABELS[:3].repeat(2)[:4]), leaves)


def test_no_rows():
    hidden, head = random_side(0, 4, 11, 0)
    empty = torch.zeros(0, dtype=torch.int64)
    assert len(observed_log_probs(hidden, head, empty).tokens) == len(token_log_probs(hidden, head, empty)) == 0


def test_extreme_logits_stay_finite():
    hidden, head = 1e4 * torch.eye(5, 11), Head(torch.eye(11))
    observed = observed_log_probs(hidden, head, LABELS, torch.arange(11) == 9)
    assert observed.tokens.isfinite().all() and observed.word_starts.isfinite().all()


def test_words_begin_with_white_space_and_end_at_special_tokens():
    v = vocabulary(LARGE)
    expected = [token is None or token.startswith(b" ") for token in v.token_bytes]
    assert word_starts(v).tolist() == expected and word_starts(v, 14).tolist() == [*expected, False, False, False]


def test_memory():
    hidden, head = random_side(1024, 4, 5000, 0, torch.float32)
    labels = torch.zeros(1024, dtype=torch.int64)
    without_large_buffers(lambda: observed_log_probs(hidden, head, labels, block_bytes=2 << 20), 1024 * 5000 * 2)


@pytest.mark.parametrize(
    "labels,starts",
    [(LABELS[:4], None), (LABELS + 1, None), (LABELS, torch.zeros(12, dtype=torch.bool))],
)
def test_bad_input_is_refused(labels, starts):
    hidden, head = random_side(5, 4, 11, 0)
    with pytest.raises(ValueError):
        observed_log_probs(hidden, head, labels, starts)
