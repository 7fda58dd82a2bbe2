from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.alignment.toy import make_texts, word_vocabulary
from vocabalign.alignment import cooccurrence
from vocabalign.alignment.cooccurrence import UNIT, CooccurrenceCounter, count_cooccurrence

DOCUMENTS = st.lists(st.lists(st.integers(0, 4), max_size=12), max_size=6)


def by_hand(documents, window, num_tokens=5):
    """The published definition, pair by pair, in exact fractions."""
    table = [[Fraction(0)] * num_tokens for _ in range(num_tokens)]
    for ids in documents:
        for i, first in enumerate(ids):
            for j in range(i + 1, min(i + window, len(ids) - 1) + 1):
                table[first][ids[j]] += Fraction(1, j - i)
    return table


@settings(max_examples=80, deadline=None)
@given(DOCUMENTS, st.integers(1, 16))
def test_every_pair_within_the_window_and_the_document_counts_exactly(documents, window):
    counter = CooccurrenceCounter(5, window)
    counter.add(documents)
    found = counter.result()
    expected = by_hand(documents, window)
    table = found.following.toarray()
    assert [[Fraction(int(value), UNIT) for value in row] for row in table] == expected
    both = found.symmetric()
    assert np.allclose(both.toarray(), (table + table.T) / UNIT) and (both != both.T).nnz == 0
    assert found.token_counts.sum() == sum(map(len, documents))


@settings(max_examples=40, deadline=None)
@given(DOCUMENTS, st.integers(0, 6), st.integers(1, 9))
def test_neither_batches_nor_chunks_change_anything(documents, cut, chunk):
    whole, parts = CooccurrenceCounter(5, 3), CooccurrenceCounter(5, 3)
    whole.add(documents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cooccurrence, "CHUNK_TOKENS", chunk)
        parts.add(documents[:cut])
        parts.add(documents[cut:])
    a, b = whole.result(), parts.result()
    for name in ("indptr", "indices", "data"):
        assert np.array_equal(getattr(a.following, name), getattr(b.following, name))
    assert np.array_equal(a.token_counts, b.token_counts)


def test_distances_beyond_sixteen_are_weighed_to_a_few_millionths():
    counter = CooccurrenceCounter(40, 39)
    counter.add([list(range(40))])
    row = counter.result().following.toarray()[0] / UNIT
    assert np.allclose(row[1:], 1 / np.arange(1, 40), rtol=1e-4) and row[0] == 0


def test_rare_tokens_keep_their_places_but_no_row():
    counter = CooccurrenceCounter(3, 2)
    counter.add([[0, 1, 0], [0, 2, 0]])
    both = counter.result().symmetric(min_count=2).toarray()
    assert both[1].sum() == both[:, 2].sum() == 0
    assert both[0, 0] == 2 * 2 * 0.5


def test_text_is_cut_and_stops_after_so_many_tokens():
    vocabulary, texts = word_vocabulary(), make_texts(10)
    found = count_cooccurrence(vocabulary, iter(texts), 5, max_tokens=60)
    expected = CooccurrenceCounter(len(vocabulary), 5)
    ids = vocabulary.encode_batch(texts)
    expected.add([ids[0], ids[1][: 60 - len(ids[0])]])
    assert found.token_counts.sum() == 60
    assert (found.following != expected.result().following).nnz == 0
