"""Token embeddings in the files of others: text of word2vec, fastText and GloVe, and gensim's KeyedVectors."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vocabalign.errors import ArtifactError
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.token_embeddings import TokenEmbeddings, load_embeddings

GENSIM_ENDINGS = (".kv", ".keyedvectors")
# A file is GloVe's when its words are not preceded by a line with their number and size.
GLOVE_ENDING = ".glove.txt"


def given_embeddings(path: Path | str, vocabulary: Vocabulary) -> TokenEmbeddings:
    """Token embeddings from an ``embed`` artefact or from a file of word vectors.

    Raises:
        ArtifactError: they cannot be read, or are not this vocabulary's.
    """
    return read_vectors(Path(path), vocabulary) if Path(path).is_file() else load_embeddings(path, vocabulary)


def with_counts(embeddings: TokenEmbeddings, counts: np.ndarray) -> TokenEmbeddings:
    """The same, with these counts (V,) where a file told none."""
    return embeddings if embeddings.counts.any() else replace(embeddings, counts=counts)


def read_vectors(path: Path, vocabulary: Vocabulary) -> TokenEmbeddings:
    """Read word vectors whose words are token ids, or tokens as the tokenizer's files write them (``Ġthe``).

    Tokens that the file lacks are uncovered, words that are no tokens are passed over. Text files tell no counts, so
    all are 0 there.

    Args:
        path: ``.kv`` or ``.keyedvectors`` as saved by gensim, else text: a word and D numbers a line, with or without
            a first line that tells how many.
        vocabulary: V tokens.

    Raises:
        ArtifactError: no word is a token, a line has another length, or a number is not finite.
    """
    words, vectors, counts = _read_gensim(path) if path.name.endswith(GENSIM_ENDINGS) else _read_text(path)
    ids = _ids_of_words(words, vocabulary)
    found = np.flatnonzero(ids >= 0)
    if not len(found):
        shown = ", ".join(repr(word) for word in words[:3])
        raise ArtifactError(
            f"No word in {path} is a token of '{vocabulary.name}' ({shown} ...): its words must be token ids, or "
            "tokens as the tokenizer's files write them."
        )
    bad = found[~np.isfinite(vectors[found]).all(axis=1)]
    if len(bad):
        raise ArtifactError(f"{path} holds a value that is not finite, at the word {words[bad[0]]!r}: mend the file.")
    result = np.zeros((len(vocabulary), vectors.shape[1]), dtype=np.float32)
    result[ids[found]] = vectors[found]
    of_tokens = np.zeros(len(vocabulary), dtype=np.int64)
    of_tokens[ids[found]] = counts[found]
    return TokenEmbeddings(result, of_tokens, vocabulary.fingerprint, "given")


def _ids_of_words(words: Sequence[str], vocabulary: Vocabulary) -> np.ndarray:
    """(N,) int64 token ids, -1 for other words. Numbers are ids where every word but ``<unk>`` and its like is one."""
    named = [word for word in words if not (word.startswith("<") and word.endswith(">"))]
    if named and all(word.isascii() and word.isdigit() for word in named):
        numbers = (int(word) if word.isascii() and word.isdigit() else -1 for word in words)
        return np.array([number if number < len(vocabulary) else -1 for number in numbers], dtype=np.int64)
    by_string = {raw: token_id for token_id, raw in reversed(list(enumerate(vocabulary.raw_tokens))) if raw}
    return np.array([by_string.get(word, -1) for word in words], dtype=np.int64)


class _Stored:
    """Stands for gensim's KeyedVectors: what was stored in it, and none of its code."""


class _ArraysOnly(pickle.Unpickler):
    """A pickle may name any function to be called; this one calls nothing but what arrays are made with."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse everything that vectors do not need."""
        if name == "KeyedVectors" and module.startswith("gensim.models"):
            return _Stored
        known = {"numpy": ("dtype", "ndarray"), "collections": ("defaultdict", "OrderedDict")}
        arrays = module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in ("_reconstruct", "scalar")
        if arrays or name in known.get(module, ()) or (module, name) in (("builtins", "int"), ("builtins", "list")):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it wants to call {module}.{name}, which vectors do not need")


def _read_gensim(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    try:
        with path.open("rb") as file:
            stored = _ArraysOnly(file).load().__dict__
        vectors = stored.get("vectors")
        if vectors is None:  # large arrays lie in files beside
            vectors = np.load(path.with_name(path.name + ".vectors.npy"), allow_pickle=False)
        words = [str(word) for word in stored["index_to_key"]]
        counts = stored.get("expandos", {}).get("count", np.zeros(len(words)))
        return words, np.asarray(vectors, dtype=np.float32), np.asarray(counts, dtype=np.int64)
    except Exception as error:  # a pickle of anything may raise anything
        raise ArtifactError(f"{path} cannot be read as gensim's KeyedVectors: {error}.") from error


def _read_text(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    words: list[str] = []
    rows: list[np.ndarray] = []
    size = 0
    for number, line in _lines(path):
        parts = line.rstrip(" \r\n").split(" ")
        if number == 1 and len(parts) == 2 and all(part.isascii() and part.isdigit() for part in parts):
            size = int(parts[1])
            continue
        size = size or len(parts) - 1
        # A word may hold spaces: the numbers are the last ones.
        word, values = " ".join(parts[:-size]), parts[-size:]
        try:
            row = np.array(values, dtype=np.float32)
        except ValueError:
            row = np.empty(0, dtype=np.float32)
        if len(row) != size or not word:
            raise ArtifactError(
                f"{path}, line {number}: expected a word and {size} numbers as in the lines before it, found "
                f"{len(parts)} parts; all vectors must have one dimension."
            )
        words.append(word)
        rows.append(row)
    if not rows or not size:
        raise ArtifactError(f"{path} holds no word vectors: expected a word and its numbers in each line.")
    return words, np.stack(rows), np.zeros(len(rows), dtype=np.int64)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            yield from enumerate(file, 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read as text: {error}.") from error


def write_vectors(path: Path, embeddings: TokenEmbeddings) -> None:
    """Write the covered tokens' vectors, commonest first, their ids as words.

    Args:
        path: its ending decides: ``.kv`` or ``.keyedvectors`` for gensim, ``.glove.txt`` for GloVe's text, anything
            else for the text of word2vec and fastText (with a first line that tells number and size).
        embeddings: of V tokens.
    """
    covered = np.flatnonzero(embeddings.covered)
    ids = covered[np.argsort(-embeddings.counts[covered], kind="stable")]
    ending = next((ending for ending in WRITERS if path.name.endswith(ending)), "")
    WRITERS[ending](path, ids, embeddings)


def _write_gensim(path: Path, ids: np.ndarray, embeddings: TokenEmbeddings) -> None:
    from gensim.models import KeyedVectors

    result = KeyedVectors(embeddings.vectors.shape[1])
    words = [str(token_id) for token_id in ids.tolist()]
    result.add_vectors(words, embeddings.vectors[ids])
    for word, count in zip(words, embeddings.counts[ids].tolist(), strict=True):
        result.set_vecattr(word, "count", count)
    result.save(str(path))


def _write_word2vec(path: Path, ids: np.ndarray, embeddings: TokenEmbeddings) -> None:
    _write_lines(path, ids, embeddings, f"{len(ids)} {embeddings.vectors.shape[1]}\n")


def _write_glove(path: Path, ids: np.ndarray, embeddings: TokenEmbeddings) -> None:
    _write_lines(path, ids, embeddings, "")


def _write_lines(path: Path, ids: np.ndarray, embeddings: TokenEmbeddings, head: str) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(head)
        for token_id in ids.tolist():
            # The shortest text that gives the float32 back.
            file.write(f"{token_id} {' '.join(map(str, embeddings.vectors[token_id]))}\n")


WRITERS: dict[str, Callable[[Path, np.ndarray, TokenEmbeddings], None]] = {
    **dict.fromkeys(GENSIM_ENDINGS, _write_gensim),
    GLOVE_ENDING: _write_glove,
    "": _write_word2vec,
}
