"""Acceptance, the best length of drafts, and what is said about them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocabalign.evaluation.draft_records import LONGEST_DRAFT, Tally, acceptance_of, best_draft, draft_record


@given(acceptance=st.floats(0.01, 0.99), length=st.integers(1, 10))
def test_acceptance_is_the_inverse_of_tokens_per_pass(acceptance, length):
    tokens = sum(acceptance**n for n in range(length + 1))
    assert acceptance_of(tokens, length) == pytest.approx(acceptance, abs=1e-6)


@given(acceptance=st.floats(0, 1), cost=st.floats(0.001, 2))
def test_no_other_length_is_better(acceptance, cost):
    length, gain = best_draft(acceptance, cost)
    gains = [sum(acceptance**k for k in range(n + 1)) / (1 + n * cost) for n in range(LONGEST_DRAFT + 1)]
    assert gain == pytest.approx(max(gains))
    assert gains[length] == pytest.approx(gain)


def test_a_free_and_perfect_draft_is_as_long_as_it_can_be():
    assert best_draft(1.0, 0.0) == (LONGEST_DRAFT, LONGEST_DRAFT + 1)
    assert best_draft(0.5, 1.0) == (0, 1.0)


def tally(seconds: float, passes: int = 40) -> Tally:
    return Tally(100, passes, 5 * passes, seconds, (100, 10.0), (100, 4.0), 2, 2)


def test_a_slow_draft_says_why():
    record = draft_record(tally(20.0), 0.1, 5)
    assert record["draft_acceptance_rate"] == pytest.approx(60 / 200)
    assert record["draft_tokens_per_teacher_pass"] == pytest.approx(2.5)
    assert record["draft_speed_up"] == pytest.approx(0.5)
    assert record["draft_cost_ratio"] == pytest.approx(0.4)
    assert "takes 0.40 of the time" in record["draft_note"] and "2.50 tokens for 5" in record["draft_note"]
    assert f"{record['draft_best_speed_up_by_parameters']:.2f} times" in record["draft_note"]


def test_a_draft_that_is_never_accepted_needs_training():
    record = draft_record(tally(20.0, passes=100), 0.1, 5)
    assert record["draft_acceptance_rate"] == 0
    assert "train the draft longer" in record["draft_note"]
    assert "no length of drafts pays" in record["draft_note"]


def test_a_fast_draft_needs_no_excuse():
    assert "draft_note" not in draft_record(tally(5.0), 0.1, 5)


def test_nothing_written_at_all():
    record = draft_record(Tally(prompts=1, same=1), 0.5, 5)
    assert record["draft_acceptance_rate"] == 0
    assert record["draft_speed_up"] is None


def test_checking_costs_what_a_wider_pass_takes_longer():
    one = Tally(single=[1.0, 1.1, 0.9], checks=[(4, 3.0), (0, 9.0), (4, 3.0)])
    assert one.checking_cost == pytest.approx(0.5)
    assert Tally(single=[1.0], checks=[(4, 0.8)]).checking_cost == 0
    assert Tally().checking_cost == 0


def test_checking_counts_against_the_best_length():
    free, dear = tally(20.0), tally(20.0)
    dear.single, dear.checks = [1.0], [(5, 6.0)]
    records = [draft_record(one, 0.1, 5, 0.5) for one in (free, dear)]
    gains = [record["draft_best_speed_up_by_cost"] for record in records]
    assert gains[0] > gains[1] == 1.0
    assert "1.00 to check" in records[1]["draft_note"] and "0.50 of them" in records[1]["draft_note"]
