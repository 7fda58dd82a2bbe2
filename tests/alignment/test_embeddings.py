from __future__ import annotations

import numpy as np
import pytest

from tests.alignment.toy import make_texts, make_vocabulary, word_vocabulary
from vocabalign.alignment.embeddings import _words_of_tokens, learn_token_embeddings
from vocabalign.errors import ArtifactError, CorpusError
from vocabalign.stages import EmbeddingOptions
from vocabalign.token_embeddings import TokenEmbeddings

OPTIONS = EmbeddingOptions(dimensions=16, epochs=2)


@pytest.mark.parametrize("method", ["skip-gram", "cbow", "fasttext"])
def test_two_runs_give_the_same_bits(method):
    options = OPTIONS.model_copy(update={"method": method})
    first, second = (learn_token_embeddings(word_vocabulary(), make_texts(40), options, seed=3) for _ in range(2))
    assert np.array_equal(first.vectors, second.vectors)
    other = learn_token_embeddings(word_vocabulary(), make_texts(40), options, seed=4)
    assert not np.array_equal(first.vectors, other.vectors)


@pytest.mark.parametrize("method", ["skip-gram", "cbow", "fasttext"])
def test_unseen_tokens_are_zero_and_counted(method):
    vocabulary = word_vocabulary()
    texts = make_texts(40)
    options = OPTIONS.model_copy(update={"method": method})
    embeddings = learn_token_embeddings(vocabulary, iter(texts), options, seed=0)
    ids = np.concatenate([vocabulary.encode(text) for text in texts])
    assert np.array_equal(embeddings.counts, np.bincount(ids, minlength=len(vocabulary)))
    assert np.array_equal(embeddings.covered, embeddings.counts > 0)
    assert not embeddings.covered.all()
    assert embeddings.vectors.dtype == np.float32 and embeddings.counts.dtype == np.int64


def test_rare_tokens_and_the_limit_of_tokens():
    vocabulary = word_vocabulary()
    options = OPTIONS.model_copy(update={"min_count": 5, "max_tokens": 500})
    embeddings = learn_token_embeddings(vocabulary, make_texts(40), options, seed=0)
    assert embeddings.counts.sum() == 500
    assert np.array_equal(embeddings.covered, embeddings.counts >= 5)


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
    words = _words_of_tokens(vocabulary)
    assert len(set(words)) == len(words)
    assert all(len(word.split()) == 1 and word.encode("utf-8") for word in words)
    assert words[2] == "a" and words[9] == "\u0436"


def test_no_text_is_an_error():
    with pytest.raises(CorpusError, match="0 tokens"):
        learn_token_embeddings(word_vocabulary(), [], OPTIONS, seed=0)


def test_what_is_saved_is_loaded(tmp_path):
    embeddings = learn_token_embeddings(word_vocabulary(), make_texts(5), OPTIONS, seed=0)
    embeddings.save(tmp_path)
    loaded = TokenEmbeddings.load(tmp_path)
    assert np.array_equal(loaded.vectors, embeddings.vectors) and np.array_equal(loaded.counts, embeddings.counts)
    assert loaded.fingerprint == embeddings.fingerprint == word_vocabulary().fingerprint


def test_broken_files_are_told(tmp_path):
    with pytest.raises(ArtifactError, match="vocabalign embed"):
        TokenEmbeddings.load(tmp_path)
    vectors = np.full((3, 2), np.nan, dtype=np.float32)
    TokenEmbeddings(vectors, np.zeros(3, dtype=np.int64), "x").save(tmp_path)
    with pytest.raises(ArtifactError, match="not finite"):
        TokenEmbeddings.load(tmp_path)
    np.save(tmp_path / "counts.npy", np.zeros(4, dtype=np.int64))
    with pytest.raises(ArtifactError, match="fit together"):
        TokenEmbeddings.load(tmp_path)
    (tmp_path / "embeddings.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ArtifactError, match="cannot be read"):
        TokenEmbeddings.load(tmp_path)


def test_temporary_files_are_where_the_caller_says(tmp_path, monkeypatch):
    from vocabalign.alignment import embeddings

    seen = []
    write = embeddings._write_tokens
    monkeypatch.setattr(embeddings, "_write_tokens", lambda *args: seen.append(args[2]) or write(*args))
    learn_token_embeddings(word_vocabulary(), make_texts(20), EmbeddingOptions(dimensions=4, epochs=1), 0, tmp_path)
    assert [path.parent.parent for path in seen] == [tmp_path] and not list(tmp_path.iterdir())
