from __future__ import annotations

import numpy as np
import pytest

from tests.alignment.toy import WORDS, make_texts, make_vocabulary, word_vocabulary
from vocabalign.alignment.cooccurrence import count_cooccurrence
from vocabalign.alignment.embeddings import learn_token_embeddings, uncovered_tokens
from vocabalign.errors import ArtifactError, ConfigError, CorpusError
from vocabalign.stages import EmbeddingOptions
from vocabalign.token_embeddings import TokenEmbeddings

OPTIONS = EmbeddingOptions(method="skip-gram", dimensions=16, epochs=2)
METHODS = ["skip-gram", "cbow", "fasttext", "glove", "ppmi"]


@pytest.mark.parametrize("method", METHODS)
def test_two_runs_give_the_same_bits(method):
    options = OPTIONS.model_copy(update={"method": method})
    first, second = (learn_token_embeddings(word_vocabulary(), make_texts(40), options, seed=3) for _ in range(2))
    assert np.array_equal(first.vectors, second.vectors)
    other = learn_token_embeddings(word_vocabulary(), make_texts(40), options, seed=4)
    assert np.array_equal(first.vectors, other.vectors) == (method == "ppmi"), "only PPMI has nothing random"


@pytest.mark.parametrize("method", METHODS)
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


@pytest.mark.parametrize("method", ["glove", "ppmi"])
def test_counts_made_before_give_the_same_vectors(method):
    vocabulary, texts = word_vocabulary(), make_texts(30)
    options = OPTIONS.model_copy(update={"method": method, "min_count": 3})
    counted = count_cooccurrence(vocabulary, texts, options.context_window)
    first = learn_token_embeddings(vocabulary, texts, options, seed=1)
    again = learn_token_embeddings(vocabulary, [], options, seed=1, cooccurrence=counted)
    assert np.array_equal(first.vectors, again.vectors) and np.array_equal(first.counts, again.counts)
    assert np.array_equal(first.covered, first.counts >= 3)
    with pytest.raises(ConfigError, match=f"window of {options.context_window} tokens and 2"):
        learn_token_embeddings(vocabulary, [], options.model_copy(update={"window": 2}), 1, cooccurrence=counted)


def test_words_of_one_topic_are_near_each_other_by_every_method():
    """Texts keep to topics of eight words: the nearest neighbour of a common word must be of its topic."""
    vocabulary, texts = word_vocabulary(), make_texts(300)
    by_bytes = vocabulary.ids_by_bytes()
    topic = {by_bytes[word.encode()]: number // 8 for number, word in enumerate(WORDS)}
    for method in METHODS:
        options = EmbeddingOptions(method=method, dimensions=16, epochs=5, x_max=10)
        embeddings = learn_token_embeddings(vocabulary, texts, options, seed=0)
        common = [token for token in topic if embeddings.counts[token] > 100]
        vectors = embeddings.vectors[common].astype(float)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines = vectors @ vectors.T - 2 * np.eye(len(common))
        nearest = [topic[common[i]] == topic[common[j]] for i, j in enumerate(cosines.argmax(axis=1))]
        assert len(common) > 12 and np.mean(nearest) > 0.6, (method, np.mean(nearest))


def test_defaults_follow_the_method():
    assert (EmbeddingOptions().context_window, EmbeddingOptions().passes) == (5, 5)
    glove = EmbeddingOptions(method="glove")
    assert (glove.context_window, glove.passes) == (15, 15)
    assert EmbeddingOptions(method="glove", window=7, epochs=2).context_window == 7


def test_what_the_text_lacks_is_named():
    vocabulary = make_vocabulary([None, b"a", b"b\n", b"c"])
    assert uncovered_tokens(vocabulary, np.array([0, 1, 0, 1])) == (
        "The text does not hold 1 of the 3 tokens of 'toy' (2 'b\\n'): they have no vector."
    )
    assert uncovered_tokens(vocabulary, np.array([0, 1, 1, 1])) == ""
