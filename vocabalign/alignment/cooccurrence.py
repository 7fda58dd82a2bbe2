"""Which tokens stand near which in running text: exact, distance-weighted counts for GloVe and PPMI."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from scipy import sparse

from vocabalign.text.batches import in_batches
from vocabalign.text.sparse_sums import SparseSum
from vocabalign.text.vocabulary import Vocabulary

# One co-occurrence at distance d counts UNIT / d. The unit is divisible by all distances up to 16, so the weights
# are whole numbers, and sums of them are exact and the same in whatever order and on however many machines they are
# made. A pair would need 10^13 neighbourly co-occurrences to overflow.
UNIT = 720_720
# Tokens in one sparse product: its tables stay in the processor's cache.
CHUNK_TOKENS = 250_000


@dataclass(frozen=True, eq=False)
class Cooccurrence:
    """How often tokens follow each other within a window; V tokens.

    Attributes:
        following: (V, V) int64; entry (a, b) sums ``UNIT // d`` over the places where b stands d tokens after a in the
            same document, d up to the window.
        token_counts: (V,) int64, how often each token stands in the text.
        window: tokens to one side that count.
    """

    following: sparse.csr_matrix
    token_counts: np.ndarray
    window: int

    def symmetric(self, min_count: int = 1) -> sparse.csr_matrix:
        """(V, V) float64: distance-weighted co-occurrences to both sides, ``sum of 1 / d`` (Stanford's symmetric X).

        Args:
            min_count: rows and columns of tokens seen fewer times are empty. Such tokens still take up their places
                in the windows of others.
        """
        both = sparse.csr_matrix(self.following + self.following.T, dtype=np.float64) / UNIT
        if min_count > 1:
            kept = sparse.diags((self.token_counts >= min_count).astype(np.float64))
            both = sparse.csr_matrix(kept @ both @ kept)
        both.sum_duplicates()
        both.eliminate_zeros()
        return both


class CooccurrenceCounter:
    """Counts batch by batch which tokens of one vocabulary (V) follow which within a window."""

    def __init__(self, num_tokens: int, window: int) -> None:
        self.window = window
        self.token_counts = np.zeros(num_tokens, dtype=np.int64)
        self._sum = SparseSum((num_tokens, num_tokens))
        weights = UNIT // np.arange(1, window + 1, dtype=np.int64)
        longest = CHUNK_TOKENS * 2
        self._weights, self._ends = np.tile(weights, longest), np.arange(longest + 1, dtype=np.int64) * window

    def add(self, documents: Sequence[Sequence[int]]) -> None:
        """Count documents of token ids; no pair crosses from one document to the next."""
        lengths = np.array([len(ids) for ids in documents], dtype=np.int64)
        flat = np.fromiter(chain.from_iterable(documents), np.int32, int(lengths.sum()))
        self.token_counts += np.bincount(flat, minlength=len(self.token_counts))
        padded = self._padded(flat, lengths)
        for start in range(0, len(padded) - self.window, CHUNK_TOKENS):
            self._sum.add(self._following(padded[start : start + CHUNK_TOKENS + self.window]))

    def result(self) -> Cooccurrence:
        """All that was counted so far."""
        return Cooccurrence(self._sum.total(), self.token_counts.copy(), self.window)

    def _padded(self, flat: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The documents one after another, a window of the id V behind each: nothing reaches across it."""
        padded = np.full(len(flat) + self.window * len(lengths), len(self.token_counts), dtype=np.int32)
        gaps = np.repeat(np.arange(len(lengths)) * self.window, lengths)
        padded[np.arange(len(flat)) + gaps] = flat
        return padded

    def _following(self, padded: np.ndarray) -> sparse.csr_matrix:
        """The table of one stretch of text, whose last ``window`` places only follow others.

        It is a product of two sparse matrices: places by the token that stands there, transposed, and places by the
        tokens that follow, weighted. That sums each row in a dense buffer, with neither keys nor sorting.
        """
        size, num_tokens = len(padded) - self.window, len(self.token_counts)
        followers = np.lib.stride_tricks.sliding_window_view(padded, self.window + 1)[:, 1:]
        used = size * self.window
        after = sparse.csr_matrix(
            (self._weights[:used], np.ascontiguousarray(followers).reshape(-1), self._ends[: size + 1]),
            shape=(size, num_tokens + 1),
        )
        ones, places = np.ones(size, dtype=np.int64), np.arange(size + 1)
        here = sparse.csr_matrix((ones, padded[:size], places), shape=(size, num_tokens + 1))
        return sparse.csr_matrix((here.T.tocsr() @ after)[:num_tokens, :num_tokens])


def count_cooccurrence(
    vocabulary: Vocabulary, texts: Iterable[str], window: int, max_tokens: int | None = None
) -> Cooccurrence:
    """Cut texts and count which tokens follow which.

    Args:
        vocabulary: V tokens.
        texts: documents; gone through once.
        window: tokens to one side.
        max_tokens: stop after this many tokens.

    Reference:
        Pennington et al. (2014), section 4.2: pairs d tokens apart contribute 1/d.
    """
    counter = CooccurrenceCounter(len(vocabulary), window)
    for documents in encoded_batches(vocabulary, texts, max_tokens):
        counter.add(documents)
    return counter.result()


def encoded_batches(
    vocabulary: Vocabulary, texts: Iterable[str], max_tokens: int | None = None
) -> Iterator[list[list[int]]]:
    """Batches of documents as ids, up to so many tokens in all; the last document is cut there."""
    left = max_tokens if max_tokens is not None else np.iinfo(np.int64).max
    for batch in in_batches(texts):
        documents = []
        for ids in vocabulary.encode_batch(batch):
            documents.append(ids[:left])
            left -= len(documents[-1])
        yield documents
        if left <= 0:
            return
