"""How many rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.transplantation.builders import build
from vocabalign.errors import ConfigError
from vocabalign.transplantation.row_counts import count_rows, exact_rows


@given(st.integers(1, 10**6), st.integers(1, 512))
def test_multiples_are_the_least_that_hold_every_token(tokens, multiple):
    rows = count_rows(tokens, None, None, multiple)
    assert rows % multiple == 0 and tokens <= rows < tokens + multiple


def test_a_vocabulary_that_stays_keeps_its_padding():
    assert count_rows(100, 128, None, None) == 128
    assert count_rows(100, 128, None, 64) == 128
    assert count_rows(100, 130, None, 64) == 128
    assert count_rows(100, None, None, None) == 100


def test_exact_numbers(tmp_path):
    assert count_rows(100, 90, 120, None) == 120
    assert exact_rows("512") == exact_rows(512) == 512 and exact_rows(None) is None
    assert exact_rows(str(build("llama", tmp_path / "m"))) == 400
    with pytest.raises(ConfigError, match="100 tokens"):
        count_rows(100, None, 99, None)
    with pytest.raises(ConfigError, match="leave out one"):
        count_rows(100, None, 128, 64)
