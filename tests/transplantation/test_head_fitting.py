import pytest
import torch

from vocabalign.transplantation.expectations import Head
from vocabalign.transplantation.head_fitting import HeadCorrection, fit_head
from vocabalign.transplantation.head_wishes import Wishes

CPU = torch.device("cpu")
PLACES, TOKENS, HIDDEN = 4000, 12, 6


def setting(seed=0):
    """States with a constant part, a head, and followers drawn from what it says."""
    draw = torch.Generator().manual_seed(seed)
    states = torch.randn(PLACES, HIDDEN, generator=draw)
    states[:, 0] = 2 + 0.1 * states[:, 0]
    rows = torch.randn(TOKENS, HIDDEN, generator=draw)
    followers = torch.multinomial((states @ rows.T).softmax(1), 1, generator=draw).flatten()
    return states, rows, followers


def wishes_of(states, followers, ids):
    place = torch.full((TOKENS,), -1)
    place[ids] = torch.arange(len(ids))
    uses = torch.bincount(place[followers], minlength=len(ids)).float()
    return Wishes(ids, uses, torch.zeros(len(ids), HIDDEN).index_add_(0, place[followers], states))


def held_out_of(states, followers):
    return lambda head: head.nats(states, followers) / len(states)


@pytest.mark.parametrize("has_bias", [True, False])
def test_a_head_that_knows_nothing_learns_what_is_said(has_bias):
    states, rows, followers = setting()
    start = Head(torch.zeros(TOKENS, HIDDEN), torch.zeros(TOKENS) if has_bias else None, 1.0, 0.0, CPU)
    half = PLACES // 2
    wishes = wishes_of(states[:half], followers[:half], torch.arange(TOKENS))
    score = held_out_of(states[half:], followers[half:])
    found = fit_head(start, states[:half], wishes, score, priors=[(1.0, 30)])
    fitted, bias = found.apply(start.rows, start.bias)
    best, before = score(Head(rows, None, 1.0, 0.0, CPU)), score(start)
    assert score(Head(fitted, bias, 1.0, 0.0, CPU)) < best + 0.05 * (before - best)
    assert (found.bias is not None) is has_bias
    expected, sums, _ = Head(fitted, bias, 1.0, 0.0, CPU).moments(states[:half])
    torch.testing.assert_close(expected, wishes.uses, rtol=0.1, atol=10)
    assert (sums - wishes.sums).norm() < 0.1 * (start.moments(states[:half])[1] - wishes.sums).norm()


def test_a_head_that_says_just_what_is_wanted_stays():
    states, rows, followers = setting()
    head = Head(rows, None, 1.0, 0.0, CPU)
    expected, sums, _ = head.moments(states)
    found = fit_head(head, states, Wishes(torch.arange(TOKENS), expected, sums), held_out_of(states, followers))
    assert found is None or found.rows.abs().max() < 1e-3


def test_where_held_out_documents_do_not_gain_nothing_is_corrected():
    states, rows, followers = setting()
    wishes = wishes_of(states, (followers + 1) % TOKENS, torch.arange(TOKENS))
    assert fit_head(Head(rows, None, 1.0, 0.0, CPU), states, wishes, held_out_of(states, followers)) is None


def test_what_the_model_multiplies_logits_by_changes_nothing():
    states, rows, followers = setting()
    noisy = rows + 0.5 * torch.randn(TOKENS, HIDDEN, generator=torch.Generator().manual_seed(1))
    wishes = wishes_of(states, followers, torch.arange(TOKENS))
    score = held_out_of(states, followers)
    plain = fit_head(Head(noisy, None, 1.0, 0.0, CPU), states, wishes, score, priors=[(30.0, 3)])
    scaled = fit_head(Head(noisy * 4, None, 0.25, 0.0, CPU), states, wishes, score, priors=[(30.0, 3)])
    torch.testing.assert_close(scaled.rows, 4 * plain.rows, rtol=1e-3, atol=1e-4)


def test_other_tokens_and_the_given_matrices_are_left_alone():
    states, rows, followers = setting()
    ids = torch.tensor([0, 3, 4, 7])
    chosen = torch.isin(followers, ids)
    states, followers = states[chosen], followers[chosen]
    kept = rows.clone()
    place = torch.full((TOKENS,), -1)
    place[ids] = torch.arange(len(ids))
    noisy = rows + 0.5
    noisy[ids] += torch.randn(len(ids), HIDDEN, generator=torch.Generator().manual_seed(1))
    score = held_out_of(states, place[followers])
    found = fit_head(Head(noisy, None, 1.0, 0.0, CPU), states, wishes_of(states, followers, ids), score)
    fitted, bias = found.apply(rows, None)
    changed = (fitted != rows).any(dim=1)
    assert bias is None and changed.nonzero().flatten().tolist() == ids.tolist()
    assert torch.equal(rows, kept)


def test_a_share_of_a_correction():
    correction = HeadCorrection(torch.tensor([1]), torch.full((1, 2), 4.0), torch.tensor([2.0]), share=0.25)
    head, bias = correction.apply(torch.zeros(3, 2), torch.ones(3))
    assert head.tolist() == [[0, 0], [1, 1], [0, 0]] and bias.tolist() == [1, 1.5, 1]
