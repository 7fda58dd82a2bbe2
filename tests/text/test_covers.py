"""Covering counts against a count by hand and against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.alignment.toy import cover_counts
from vocabalign.text.covers import covering_pieces
from vocabalign.text.tokenizers import load_vocabulary

SOURCE = ([b"a", b"b", b"c", b"abc", None], lambda text: [3] if text == "abc" else ["abc".index(x) for x in text])


def test_by_hand():
    source, target = load_vocabulary(SOURCE), load_vocabulary(([b"ab", b"c"], lambda text: [0, 1] * (len(text) // 3)))
    counts = cover_counts(source, target, ["abc", "abcabc", "abd"[:2] + "c"])
    # "abc" twice as one source token, "abcabc" once letter by letter.
    assert counts.overlap.toarray().tolist() == [[2, 2, 0, 4, 0], [0, 0, 2, 2, 0]]
    assert counts.first.toarray().tolist() == [[2, 0, 0, 2, 0], [0, 0, 2, 2, 0]]
    assert counts.last.toarray().tolist() == [[0, 2, 0, 2, 0], [0, 0, 2, 2, 0]]
    assert counts.target_counts.tolist() == [4, 4] and counts.source_counts.tolist() == [2, 2, 2, 2, 0]
    assert counts.num_bytes == 12 and counts.num_bytes_unaligned == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=20), st.lists(st.integers(0, 4), max_size=20))
def test_pieces_by_brute_force(first, second):
    total = max(sum(first), sum(second))
    first, second = [*first, total - sum(first)], [*second, total - sum(second)]
    s, t, sizes = covering_pieces(np.cumsum(first), np.cumsum(second))
    overlap = {}
    for pair in zip(np.repeat(np.arange(len(first)), first), np.repeat(np.arange(len(second)), second), strict=True):
        overlap[pair] = overlap.get(pair, 0) + 1
    assert dict(zip(zip(s, t, strict=True), sizes, strict=True)) == overlap


def test_invariants_on_text(byte_level_folder, metaspace_folder, texts):
    source, target = load_vocabulary(byte_level_folder), load_vocabulary(metaspace_folder)
    counts = cover_counts(source, target, texts)
    assert counts.num_bytes == sum(len(text.encode()) for text in texts) == counts.overlap.sum()
    rows = np.asarray(counts.first.sum(axis=1)).ravel()
    assert (rows == np.asarray(counts.last.sum(axis=1)).ravel()).all() and (rows <= counts.target_counts).all()
    assert counts.source_counts.sum() == sum(map(len, source.encode_batch(texts)))
    swapped = cover_counts(target, source, texts)
    assert (swapped.overlap.T != counts.overlap).nnz == 0
    same = cover_counts(source, source, texts).overlap
    assert same.nnz == np.count_nonzero(same.diagonal())


@pytest.mark.parametrize("lines", [True, False])
def test_what_does_not_come_back_is_counted(byte_level_folder, lines):
    source = load_vocabulary(byte_level_folder)
    text = "The cat\n<|endoftext|>\nsat" if lines else "The<|endoftext|>cat"
    counts = cover_counts(source, source, [text])
    assert counts.num_bytes == (len("The cat\nsat") if lines else 0)
    assert counts.num_bytes + counts.num_bytes_unaligned == len(text)


def test_no_text():
    source = load_vocabulary(SOURCE)
    counts = cover_counts(source, source, [])
    assert counts.overlap.nnz == 0 and counts.num_bytes == 0 and counts.target_counts.tolist() == [0] * 5
