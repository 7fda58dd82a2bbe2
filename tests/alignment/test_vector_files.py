from __future__ import annotations

import pickle

import numpy as np
import pytest

from tests.alignment.toy import make_vocabulary
from vocabalign.alignment.vector_files import (
    given_embeddings,
    read_vectors,
    with_counts,
    write_vectors,
)
from vocabalign.errors import ArtifactError
from vocabalign.token_embeddings import TokenEmbeddings

VOCABULARY = make_vocabulary([None, b"a", b" b", b"7", b"\n"])
ENDINGS = ["vec", "kv", "keyedvectors", "glove.txt", "txt"]


def embeddings(counts=(0, 5, 9, 0, 1)):
    vectors = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32) * np.float32(1e-3)
    vectors[[0, 3]] = 0
    return TokenEmbeddings(vectors, np.array(counts), VOCABULARY.fingerprint, "glove")


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_is_read_to_the_last_bit(tmp_path, ending):
    path = tmp_path / f"vectors.{ending}"
    write_vectors(path, embeddings())
    again = read_vectors(path, VOCABULARY)
    assert np.array_equal(again.vectors, embeddings().vectors) and again.fingerprint == VOCABULARY.fingerprint
    if ending in ("kv", "keyedvectors"):
        assert np.array_equal(again.counts, embeddings().counts)
    else:
        assert not again.counts.any()
        counted = with_counts(again, np.arange(5))
        assert counted.counts.tolist() == [0, 1, 2, 3, 4] and np.array_equal(counted.vectors, again.vectors)
    assert np.array_equal(given_embeddings(path, VOCABULARY).vectors, again.vectors)
    assert with_counts(embeddings(), np.arange(5)).counts.tolist() == embeddings().counts.tolist()


def test_gensim_reads_what_is_written(tmp_path):
    from gensim.models import KeyedVectors

    for name, header in (("v.vec", False), ("v.glove.txt", True)):
        write_vectors(tmp_path / name, embeddings())
        loaded = KeyedVectors.load_word2vec_format(str(tmp_path / name), no_header=header)
        assert loaded.index_to_key == ["2", "1", "4"], "commonest first"
        assert np.array_equal(loaded["1"], embeddings().vectors[1])
    write_vectors(tmp_path / "v.kv", embeddings())
    loaded = KeyedVectors.load(str(tmp_path / "v.kv"))
    assert loaded.index_to_key == ["2", "1", "4"] and loaded.get_vecattr("2", "count") == 9
    assert np.array_equal(loaded["1"], embeddings().vectors[1])


def test_words_may_be_tokens_as_the_tokenizer_writes_them(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("a 1 2\n b 3 4\nelse 5 6\n7 8 9\n", encoding="utf-8")
    found = read_vectors(path, VOCABULARY)
    assert found.vectors.tolist() == [[0, 0], [1, 2], [3, 4], [8, 9], [0, 0]]
    # Where every word is a number, numbers are ids; GloVe's <unk> at the end does not count.
    path.write_text("3 1 2\n<unk> 3 4\n9 5 6\n")
    assert read_vectors(path, VOCABULARY).vectors.tolist() == [[0, 0]] * 3 + [[1, 2], [0, 0]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a 1 2\n7 1 nan\n", "not finite, at the word '7'"),
        ("a 1 2\n7 inf 1\n", "not finite"),
        ("a 1 2\n7 1\n", "line 2: expected a word and 2 numbers"),
        ("a 1 2\n7 x 1\n", "line 2"),
        ("2 3\na 1 2 3\n7 1 2\n", "line 3: expected a word and 3 numbers"),
        ("x 1 2\ny 1 2\n", "No word in .* is a token of 'toy'"),
        ("", "holds no word vectors"),
        ("a\n", "line 1|no word vectors"),
    ],
)
def test_bad_files_are_refused_with_the_reason(tmp_path, text, reason):
    path = tmp_path / "own.vec"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=reason):
        read_vectors(path, VOCABULARY)


def test_files_that_are_nothing_of_the_kind(tmp_path):
    (tmp_path / "x.kv").write_bytes(b"nonsense")
    with pytest.raises(ArtifactError, match="KeyedVectors"):
        read_vectors(tmp_path / "x.kv", VOCABULARY)
    (tmp_path / "x.vec").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtifactError, match="cannot be read as text"):
        read_vectors(tmp_path / "x.vec", VOCABULARY)
    with pytest.raises(ArtifactError, match="not a vocabalign artefact"):
        given_embeddings(tmp_path, VOCABULARY)


class Wicked:
    def __reduce__(self):
        return (print, ("code from a file was run",))


def test_a_pickle_that_would_run_code_is_refused(tmp_path, capsys):
    (tmp_path / "x.kv").write_bytes(pickle.dumps(Wicked()))
    with pytest.raises(ArtifactError, match="wants to call builtins.print"):
        read_vectors(tmp_path / "x.kv", VOCABULARY)
    assert capsys.readouterr().out == ""


def test_arrays_that_gensim_stores_beside_are_found(tmp_path):
    from gensim.models import KeyedVectors

    write_vectors(tmp_path / "small.kv", embeddings())
    KeyedVectors.load(str(tmp_path / "small.kv")).save(str(tmp_path / "large.kv"), sep_limit=1)
    assert list(tmp_path.glob("large.kv.*.npy"))
    assert np.array_equal(read_vectors(tmp_path / "large.kv", VOCABULARY).vectors, embeddings().vectors)
