"""Batches of texts."""

from hypothesis import given, settings
from hypothesis import strategies as st

from vocabalign.text.batches import in_batches


@given(st.lists(st.text(max_size=12), max_size=30), st.integers(1, 20))
@settings(deadline=None, max_examples=60)
def test_batches_lose_nothing_and_stay_small(texts, limit):
    batches = list(in_batches(texts, limit))
    assert [text for batch in batches for text in batch] == texts
    assert all(len(batch) == 1 or sum(map(len, batch)) <= limit for batch in batches)
    full = zip(batches, batches[1:], strict=False)
    assert all(sum(map(len, batch)) + len(following[0]) > limit for batch, following in full)
