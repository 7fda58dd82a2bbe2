"""Skip-gram, CBOW and fastText by gensim, on text written as words of token ids or of token characters."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vocabalign.alignment.cooccurrence import encoded_batches
from vocabalign.errors import CorpusError
from vocabalign.stages import EmbeddingOptions
from vocabalign.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from gensim.models import Word2Vec

# gensim silently drops what comes after this many words of a line.
MAX_LINE_TOKENS = 10_000
# fastText hashes n-grams into this many rows for each token; gensim's default (2 million) takes 2.4 GB at D = 300.
BUCKETS_PER_TOKEN = 8
MIN_NGRAM, MAX_NGRAM = 2, 5
_PRIVATE_USE = 0xF0000


def learn_gensim_vectors(
    vocabulary: Vocabulary, texts: Iterable[str], options: EmbeddingOptions, seed: int, folder: Path | None
) -> tuple[np.ndarray, np.ndarray]:
    """(V,) int64 counts and (V, D) float32 vectors, zero for tokens seen fewer than ``min_count`` times.

    Args:
        vocabulary: V tokens.
        texts: documents; gone through once.
        options: see ``learn_token_embeddings``.
        seed: everything random follows from it, with one worker.
        folder: where the cut text is written while it is needed; None for the system's temporary folder.

    Raises:
        CorpusError: no token is seen often enough.
    """
    words = words_of_tokens(vocabulary) if options.method == "fasttext" else None
    with tempfile.TemporaryDirectory(prefix="vocabalign-", dir=folder) as temporary:
        corpus = Path(temporary) / "tokens.txt"
        counts, num_lines = _write_tokens(vocabulary, texts, corpus, options.max_tokens, words)
        kept = np.flatnonzero(counts >= options.min_count)
        if not len(kept):
            raise CorpusError(
                f"The text holds {counts.sum():,} tokens of '{vocabulary.name}' and none is seen {options.min_count} "
                "times: give more text, or lower min_count."
            )
        names = [words[token] if words is not None else str(token) for token in kept]
        model = _make_model(options, seed, len(kept))
        model.build_vocab_from_freq(dict(zip(names, counts[kept].tolist(), strict=True)), corpus_count=num_lines)
        total = int(counts.sum())
        model.train(corpus_file=str(corpus), total_words=total, total_examples=num_lines, epochs=options.passes)
    vectors = np.zeros((len(vocabulary), options.dimensions), dtype=np.float32)
    vectors[kept] = model.wv.vectors[[model.wv.key_to_index[name] for name in names]]
    return counts, vectors


def _make_model(options: EmbeddingOptions, seed: int, num_tokens: int) -> Word2Vec:
    from gensim.models import FastText, Word2Vec

    common = {
        "vector_size": options.dimensions,
        "window": options.context_window,
        "negative": options.negative,
        "min_count": 1,
        "workers": options.workers,
        "seed": seed,
        "sg": int(options.method != "cbow"),
    }
    if options.method == "fasttext":
        return FastText(**common, min_n=MIN_NGRAM, max_n=MAX_NGRAM, bucket=BUCKETS_PER_TOKEN * num_tokens)
    return Word2Vec(**common)


def _write_tokens(
    vocabulary: Vocabulary, texts: Iterable[str], path: Path, max_tokens: int | None, words: list[str] | None
) -> tuple[np.ndarray, int]:
    """Write ids as words, one document a line; (V,) int64 counts and the number of lines."""
    counts = np.zeros(len(vocabulary), dtype=np.int64)
    names = words if words is not None else [str(token) for token in range(len(vocabulary))]
    num_lines = 0
    with path.open("w", encoding="utf-8") as file:
        for documents in encoded_batches(vocabulary, texts, max_tokens):
            flat = np.fromiter(chain.from_iterable(documents), np.int64)
            counts += np.bincount(flat, minlength=len(counts))
            for ids in documents:
                for start in range(0, len(ids), MAX_LINE_TOKENS):
                    file.write(" ".join([names[token] for token in ids[start : start + MAX_LINE_TOKENS]]) + "\n")
                    num_lines += 1
    return counts, num_lines


def words_of_tokens(vocabulary: Vocabulary) -> list[str]:
    """A word for each id whose characters are the token's own, so that fastText's n-grams mean something.

    White space would split the word and a byte that is no character cannot be written, so both are
    replaced by private-use characters; tokens with the same bytes stay apart by a last character.
    """
    words: list[str] = []
    seen: set[str] = set()
    for token_id, token in enumerate(vocabulary.token_bytes):
        text = "" if token is None else token.decode("utf-8", errors="surrogateescape")
        word = "".join(chr(_PRIVATE_USE + (ord(c) & 0xFFFF)) if _unwritable(c) else c for c in text)
        if not word or word in seen:
            word += chr(_PRIVATE_USE + 0x10000 + token_id % 0xFFFE) + chr(_PRIVATE_USE + token_id // 0xFFFE)
        seen.add(word)
        words.append(word)
    return words


def _unwritable(character: str) -> bool:
    return character.isspace() or not character.isprintable() or 0xDC00 <= ord(character) < 0xE000
