"""Byte offsets: ends, chunks, cuts in context."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabalign.text.segmentation import ids_in_running_text
from vocabalign.text.spans import (
    aligned_spans,
    segment_bytes,
    segment_many,
    token_ends,
    token_lengths,
    verified_ends,
)
from vocabalign.text.tokenizers import load_vocabulary

LENGTHS = st.lists(st.integers(0, 4), max_size=30)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2581<"), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def byte_level(byte_level_folder):
    return load_vocabulary(byte_level_folder)


@pytest.fixture(scope="module")
def metaspace(metaspace_folder):
    return load_vocabulary(metaspace_folder)


@settings(max_examples=100, deadline=None)
@given(LENGTHS, LENGTHS)
def test_chunks(first, second):
    total = max(sum(first), sum(second))
    a, b = np.cumsum([*first, total - sum(first)]), np.cumsum([*second, total - sum(second)])
    spans = aligned_spans(a, b)
    common = (set(a.tolist()) & set(b.tolist())) - {0}
    assert spans.byte_ends.tolist() == sorted(common)
    for ends, starts in ((a, spans.a), (b, spans.b)):
        assert starts[0] == 0 and (np.diff(starts) > 0).all() and starts[-1] == (len(ends) if total else 0)
        assert [ends[stop - 1] for stop in starts[1:]] == spans.byte_ends.tolist()
    swapped = aligned_spans(b, a)
    assert (swapped.a == spans.b).all() and (swapped.b == spans.a).all()


def test_identical_sides_give_one_to_one_chunks():
    spans = aligned_spans(np.arange(1, 9), np.arange(1, 9))
    assert spans.a.tolist() == spans.b.tolist() == list(range(9))


def test_different_texts_are_refused():
    assert aligned_spans(np.array([1, 3]), np.array([2, 4])) is None
    assert aligned_spans(np.array([], dtype=np.int64), np.array([1])) is None


@settings(max_examples=60, deadline=None)
@given(text=TEXT)
def test_ends_of_real_text(byte_level, metaspace, text):
    total = len(text.encode())
    ends = [verified_ends(v, v.encode(text), text) for v in (byte_level, metaspace)]
    assert all(e is not None and e[-1] == total and (np.diff(e) >= 0).all() for e in ends)
    assert aligned_spans(*ends).byte_ends[-1] == total
    for vocabulary, expected in zip((byte_level, metaspace), ends):
        assert (token_ends(vocabulary, vocabulary.encode(text)) == expected).all()


def test_dummy_prefix_is_clipped(metaspace):
    ids = metaspace.encode("The cat")
    assert metaspace.token_bytes[ids[0]].startswith(b" ")
    assert token_ends(metaspace, ids)[-1] == 7
    assert token_ends(metaspace, ids[1:])[-1] == 7 - token_lengths(metaspace)[ids[0]] + 1 - (
        metaspace.token_bytes[ids[1]][:1] == b" "
    )


def test_text_that_does_not_come_back_is_refused(byte_level):
    ids = byte_level.encode("The cat")
    assert verified_ends(byte_level, ids, "The cat") is not None
    assert verified_ends(byte_level, ids, "The cut") is None
    assert verified_ends(byte_level, [*ids, 0], "The cat") is None


def test_white_space_that_was_dropped_or_changed():
    pieces = load_vocabulary(([b"the", b"cat", b" cat"], lambda text: []))
    assert verified_ends(pieces, [0, 1], "The cat").tolist() == [3, 7]
    assert verified_ends(pieces, [0, 1], "the \n cat ").tolist() == [3, 10]
    assert verified_ends(pieces, [0, 2], "the\ncat").tolist() == [3, 7]
    assert verified_ends(pieces, [0, 1], "thy cat") is None


@settings(max_examples=80, deadline=None)
@given(token=st.binary(min_size=1, max_size=12))
def test_any_bytes_are_cut_into_themselves(byte_level, metaspace, token):
    for vocabulary in (byte_level, metaspace):
        ids = segment_bytes(vocabulary, token)
        assert b"".join(vocabulary.token_bytes[i] for i in ids) == token


def test_many_are_cut_as_one_by_one(byte_level, metaspace, texts):
    tokens = [word.encode() for text in texts for word in (*text.split(), " " + text[:9], text[3:7])]
    for vocabulary in (byte_level, metaspace):
        many = segment_many(vocabulary, tokens)
        assert many == [segment_bytes(vocabulary, token) for token in tokens]
        assert all(b"".join(vocabulary.token_bytes[i] for i in ids) == t for ids, t in zip(many, tokens, strict=True))


def test_cut_as_in_running_text(byte_level, metaspace):
    # Words are cut apart here, so the last ones of a text are what the word alone must give.
    ids = segment_bytes(byte_level, b" the")
    assert byte_level.encode("sat on the")[-len(ids) :] == ids
    for vocabulary in (byte_level, metaspace):
        assert all(not vocabulary.token_bytes[i].startswith(b" ") for i in segment_bytes(vocabulary, b"the"))


def test_cuts_of_a_real_tokenizer(material):
    vocabulary = load_vocabulary(material / "tokenizers/llama2")
    expected = {b" the": ["\u2581the"], b"ing": ["ing"], b"123": ["1", "2", "3"], b" \xd0": ["\u2581", "<0xD0>"]}
    expected |= {b"\n": ["<0x0A>"], b".": ["."], b"  ": ["\u2581\u2581"], b"Hello": ["Hello"]}
    for token, pieces in expected.items():
        assert [vocabulary.raw_tokens[i] for i in segment_bytes(vocabulary, token)] == pieces


def test_bytes_that_cannot_be_written():
    vocabulary = load_vocabulary(([b"a", b"ab", None], lambda text: [0] * len(text)))
    assert segment_many(vocabulary, [b"aab", b"c", b"", b"ac"]) == [[0, 1], [], [], []]


def test_which_of_two_equal_tokens_text_is_given(material):
    vocabulary = load_vocabulary(material / "tokenizers/pythia-neox")
    spaces = b" " * 24
    used = ids_in_running_text(vocabulary)[spaces]
    assert used in vocabulary.encode("a" + spaces.decode())
    assert vocabulary.ids_by_bytes()[spaces] != used


def test_russian_and_repetition(russian_and_repetition):
    (a, b), texts = russian_and_repetition
    for text in texts:
        ids = a.encode(text), b.encode(text)
        spans = aligned_spans(verified_ends(a, ids[0], text), verified_ends(b, ids[1], text))
        for chunk in range(0, len(spans.byte_ends), 7):
            x = ids[0][spans.a[chunk] : spans.a[chunk + 1]]
            y = ids[1][spans.b[chunk] : spans.b[chunk + 1]]
            joined = [b"".join(v.token_bytes[i] for i in side) for v, side in ((a, x), (b, y))]
            assert joined[0] == joined[1] or (chunk == 0 and b" " + joined[0] == joined[1])
