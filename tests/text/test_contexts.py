"""Cuts behind a neighbour, and at the pre-tokenizer's boundaries."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocabalign.text.contexts import CONTEXTS, segment_in_context, word_ends
from vocabalign.text.spans import verified_ends
from vocabalign.text.tokenizers import load_vocabulary

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\u2581<"), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def pair(byte_level_folder, metaspace_folder):
    return load_vocabulary(byte_level_folder), load_vocabulary(metaspace_folder)


@settings(max_examples=100, deadline=None)
@given(word=WORDS, context=st.sampled_from(sorted(CONTEXTS)))
def test_the_cut_is_that_of_the_text(pair, word, context):
    for vocabulary in pair:
        whole = vocabulary.encode(CONTEXTS[context] + word)
        (cut,) = segment_in_context(vocabulary, [word.encode()], context)
        if cut is None:
            assert context != "start"
            continue
        joined = b"".join(vocabulary.token_bytes[i] for i in cut)
        assert whole[len(whole) - len(cut) :] == cut
        assert joined == word.encode() or (context == "start" and joined == b" " + word.encode())


@settings(max_examples=100, deadline=None)
@given(token=st.binary(min_size=1, max_size=8), context=st.sampled_from(sorted(CONTEXTS)))
def test_any_bytes(pair, token, context):
    for vocabulary in pair:
        (cut,) = segment_in_context(vocabulary, [token], context)
        joined = b"".join(vocabulary.token_bytes[i] for i in cut or [])
        assert cut is None or joined == token or (context == "start" and joined == b" " + token)


def test_contexts_differ(material):
    llama = load_vocabulary(material / "tokenizers/llama2")
    raw = {c: [llama.raw_tokens[i] for i in segment_in_context(llama, [b"the"], c)[0] or []] for c in CONTEXTS}
    assert raw["start"] == ["\u2581the"] and raw["line"] == ["the"] and raw["space"] == []


@settings(max_examples=100, deadline=None)
@given(text=WORDS)
def test_no_token_reaches_across_a_word_end(pair, text):
    for vocabulary in pair:
        ends = word_ends(vocabulary, text)
        assert ends[-1] == len(text.encode())
        assert set(ends.tolist()) <= set(verified_ends(vocabulary, vocabulary.encode(text), text).tolist())


def test_words(pair):
    assert word_ends(pair[0], "The cat's 12\n").tolist() == [3, 7, 9, 12, 13]
    assert word_ends(pair[1], "The cat").tolist() == [7]
    assert word_ends(load_vocabulary(([b"a"], lambda text: [0])), "a") is None
