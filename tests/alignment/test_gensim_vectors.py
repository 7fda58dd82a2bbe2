from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.alignment.toy import make_texts, make_vocabulary, word_vocabulary
from vocabalign.alignment import gensim_vectors
from vocabalign.alignment.embeddings import learn_token_embeddings
from vocabalign.alignment.gensim_vectors import words_of_tokens
from vocabalign.stages import EmbeddingOptions

OPTIONS = EmbeddingOptions(method="skip-gram", dimensions=16, epochs=2)


def test_a_long_document_is_not_cut_off(monkeypatch):
    """gensim drops what comes after 10,000 words of a line: a token that stands only there must be learned."""
    vocabulary = word_vocabulary()
    text = " kan" * 25_000 + " tefl" * 50
    embeddings = learn_token_embeddings(vocabulary, [text], OPTIONS, seed=0)
    token = vocabulary.ids_by_bytes()[b" tefl"]
    one_line = learn_token_embeddings(vocabulary, [" kan" * 2], OPTIONS, seed=0)
    assert embeddings.counts[token] == 50 and embeddings.covered[token]
    # It has moved from where it started (starts have components below 1 / 2D).
    assert np.abs(embeddings.vectors[token]).max() > 0.5 / 16
    assert not one_line.covered[token]


def test_words_for_fasttext_are_distinct_and_whole():
    tokens = [None, b" a", b"a", b"\n", b" ", b"\xc2\xa0", b"\xff", b"\xe9", b"a", "\u0436".encode()]
    vocabulary = make_vocabulary(tokens)
    words = words_of_tokens(vocabulary)
    assert len(set(words)) == len(words)
    assert all(len(word.split()) == 1 and word.encode("utf-8") for word in words)
    assert words[2] == "a" and words[9] == "\u0436"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=6) | st.text(min_size=1, max_size=4).map(str.encode), min_size=1))
def test_any_bytes_make_distinct_words_that_one_line_can_hold(tokens):
    words = words_of_tokens(make_vocabulary([None, *tokens]))
    line = " ".join(words)
    assert len(set(words)) == len(words) and line.split() == words and line.encode().decode() == line
    for token, word in zip(tokens, words[1:], strict=True):
        text = token.decode("utf-8", "surrogateescape")
        # Characters keep their places, so n-grams do; a twin gets two more at its end.
        kept = [(a, b) for a, b in zip(text, word) if a.isprintable() and a != " "]
        assert len(word) - len(text) in (0, 2) and all(a == b for a, b in kept)


def test_a_leading_space_is_a_character_of_its_own():
    spaced, bare = words_of_tokens(make_vocabulary([b" the", b"the"]))
    assert bare == "the" and spaced[1:] == "the" and not spaced[0].isspace()


def test_temporary_files_are_where_the_caller_says(tmp_path, monkeypatch):
    seen = []
    write = gensim_vectors._write_tokens
    monkeypatch.setattr(gensim_vectors, "_write_tokens", lambda *args: seen.append(args[2]) or write(*args))
    options = EmbeddingOptions(method="skip-gram", dimensions=4, epochs=1)
    learn_token_embeddings(word_vocabulary(), make_texts(20), options, 0, tmp_path)
    assert [path.parent.parent for path in seen] == [tmp_path] and not list(tmp_path.iterdir())
