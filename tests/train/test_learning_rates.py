"""The course of the learning rate: where it begins and ends, that it never jumps up, and what each schedule is for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocabalign.train.learning_rates import SCHEDULES, learning_rate_factor

SHARES = st.floats(0, 0.9)


def course(schedule, steps, warmup=0.0, decay=0.2, final=0.1):
    return [
        learning_rate_factor(schedule, step, steps, warmup_share=warmup, decay_share=decay, final_share=final)
        for step in range(steps)
    ]


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 300), SHARES, SHARES, st.floats(0, 1))
def test_it_rises_once_falls_once_and_stays_in_bounds(schedule, steps, warmup, decay, final):
    factors = course(schedule, steps, warmup, decay, final)
    assert all(0 <= factor <= 1 + 1e-12 for factor in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert all(b <= a + 1e-12 for a, b in zip(factors[top:], factors[top + 1 :]))


@pytest.mark.parametrize("schedule", ["cosine", "linear", "warmup-stable-decay"])
def test_it_ends_where_it_should(schedule):
    assert course(schedule, 100, warmup=0.05)[-1] == pytest.approx(0.1)
    assert max(course(schedule, 100, warmup=0.05)) == pytest.approx(1.0)


def test_warmup_stable_decay_stays_at_the_peak_and_then_falls_in_a_line():
    factors = course("warmup-stable-decay", 100, warmup=0.1, decay=0.25, final=0.0)
    assert factors[10:75] == [1.0] * 65
    falls = [a - b for a, b in zip(factors[76:], factors[77:])]
    assert min(falls) == pytest.approx(max(falls))


def test_a_longer_run_begins_like_a_shorter_one_under_warmup_stable_decay():
    assert course("warmup-stable-decay", 200)[:80] == course("warmup-stable-decay", 100)[:80]
    assert course("cosine", 200)[:80] != course("cosine", 100)[:80]
