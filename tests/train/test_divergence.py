"""What counts as diverged."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocabalign.train.divergence import FEWEST, LAST, Diverged, find_divergence, give_up


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_named_at_once(value):
    assert find_divergence([value], [1.0], 2.0, 10.0) == f"the loss is {value}"
    assert find_divergence([1.0, 2.0], [1.0, value], None, None) == f"the norm of the gradient is {value}"


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10), st.floats(0, 0.2))
def test_noise_and_a_falling_loss_are_no_spike(seed, level, noise):
    random = np.random.default_rng(seed)
    losses = level * (1 + np.exp(-np.arange(200) / 30)) * (1 + noise * random.uniform(-1, 1, 200))
    for end in range(1, 200, 7):
        assert find_divergence(losses[:end].tolist(), [1.0] * end, 2.0, 1000.0) is None


def test_one_odd_batch_is_no_spike_but_a_loss_that_stays_up_is():
    steady = [1.0] * FEWEST
    assert find_divergence([*steady, *[1.0] * LAST, 9.0], [1.0] * (FEWEST + LAST + 1), 2.0, None) is None
    risen = [*steady, *[9.0] * LAST]
    assert find_divergence(risen, [1.0] * len(risen), 2.0, None) == "the loss rose from 1 to 9"
    assert find_divergence(risen, [1.0] * len(risen), None, None) is None
    assert find_divergence(risen[1:], [1.0] * len(risen[1:]), 2.0, None) is None  # too few before


def test_a_gradient_that_explodes():
    norms = [*[0.5] * FEWEST, 600.0]
    assert "from 0.5 to 600" in find_divergence([1.0] * len(norms), norms, None, 1000.0)
    assert find_divergence([1.0] * len(norms), norms, None, 2000.0) is None


def test_many_documents_are_counted_and_giving_up_says_what_to_do():
    error = Diverged(7, "the loss is nan", [f"a.jsonl:{i}" for i in range(9)])
    assert str(error).endswith(
        "at step 7 (documents a.jsonl:0, a.jsonl:1, a.jsonl:2, a.jsonl:3, a.jsonl:4, a.jsonl:5 and 3 more)"
    )
    assert "after going back 3 times" in str(give_up(error, 3, 4)) and "step 4 is kept" in str(give_up(error, 3, 4))
    assert "no checkpoint had been written yet" in str(give_up(error, 0, 0))
