from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.alignment.toy import SINGLE_BYTES, WORDS, cover_counts, make_texts, make_vocabulary, word_vocabulary
from vocabalign.alignment.held_out_covers import split_cover_counts, stretches

SOURCE, TARGET = word_vocabulary(words=WORDS[:30]), word_vocabulary(order_seed=1)


def test_parts_add_up_to_the_whole_text():
    texts = make_texts(103)
    split, whole = split_cover_counts(SOURCE, TARGET, iter(texts)), cover_counts(SOURCE, TARGET, texts)
    total = split.total()
    for name in ("overlap", "first", "last"):
        assert (getattr(total, name) != getattr(whole, name)).nnz == 0
    for name in ("target_counts", "source_counts", "num_bytes", "num_bytes_unaligned"):
        assert np.array_equal(getattr(total, name), getattr(whole, name))


def test_every_fifth_document_is_held_out_in_two_halves():
    texts = make_texts(50)
    split = split_cover_counts(SOURCE, TARGET, texts)
    halves = [texts[4::10], texts[9::10]]
    found = sorted(half.num_bytes for half in split.held_out)
    assert found == sorted(sum(map(len, half)) for half in halves)
    for half in halves:
        expected = cover_counts(SOURCE, TARGET, half)
        assert any((expected.overlap != part.overlap).nnz == 0 for part in split.held_out)
    assert split.seen.num_bytes == sum(map(len, texts)) - sum(found)


def test_one_long_document_is_held_out_in_parts_and_reading_stops_in_time():
    vocabulary = make_vocabulary([b"\n", *SINGLE_BYTES, *(word.encode() for word in WORDS)])
    one_line = "".join(make_texts(1_500))
    for document, is_cut in ((one_line, False), (one_line.replace(".", ".\n"), True)):
        split = split_cover_counts(vocabulary, vocabulary, [document])
        assert split.total().num_bytes == len(document)
        assert (split.held_out[0].num_bytes + split.held_out[1].num_bytes > 0) == is_cut
    some = split_cover_counts(SOURCE, TARGET, iter(make_texts(20_000)), max_characters=1_000)
    assert 0 < some.seen.num_bytes < 2_000_000


@given(st.text("ab\n", max_size=60), st.integers(1, 12))
def test_stretches_are_the_text_cut_behind_line_ends(text, most):
    parts = list(stretches(text, most))
    assert "".join(parts) == text
    assert all(part.endswith("\n") for part in parts[:-1])
    # A part is longer than it may be only where it is one line.
    assert all(len(part) <= most or "\n" not in part[:-1][: len(part)] for part in parts)
