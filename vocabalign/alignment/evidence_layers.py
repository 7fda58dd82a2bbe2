"""Kinds of evidence for what a target token is made of, each as weights over source tokens.

A layer is a guess at the probability with which each source token covers a byte of the target token in running text.
How far to trust which is learned from held-out text (``weighing``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from vocabalign.lexicon import Evidence
from vocabalign.text.segmentation import ids_in_running_text
from vocabalign.text.token_text import is_text
from vocabalign.text.vocabulary import Vocabulary

# Of the softmax that makes neighbours' scores (CSLS or cosine) to weights.
TEMPERATURE = 0.1


@dataclass(frozen=True, eq=False)
class Layer:
    """One kind of evidence; T targets, S sources.

    Attributes:
        kind: which evidence.
        weights: (T, S) float64 CSR; each row sums to 1, or is empty.
    """

    kind: Evidence
    weights: sparse.csr_matrix

    @property
    def speaks(self) -> np.ndarray:
        """(T,) bool, target tokens about which it says something."""
        return np.diff(self.weights.indptr) > 0

    def without(self, rows: np.ndarray) -> Layer:
        """The layer with (T,) these rows emptied."""
        return make_layer(self.kind, sparse.diags((~rows).astype(np.float64)) @ self.weights)


def make_layer(kind: Evidence, weights: sparse.spmatrix) -> Layer:
    """A layer from (T, S) weights that are not negative; rows are normalised."""
    weights = sparse.csr_matrix(weights, dtype=np.float64)
    totals = np.asarray(weights.sum(axis=1)).ravel()
    scale = np.divide(1.0, totals, out=np.zeros_like(totals), where=totals > 0)
    weights = sparse.csr_matrix(sparse.diags(scale) @ weights)
    weights.eliminate_zeros()
    weights.sort_indices()
    return Layer(kind, weights)


def layer_of_entries(kind: Evidence, shape: tuple[int, int], entries: Iterable[tuple[int, int, float]]) -> Layer:
    """A layer from (target id, source id, weight); weights of equal places are added."""
    rows, columns, values = np.array(list(entries), dtype=np.float64).reshape(-1, 3).T
    index = (rows.astype(np.int64), columns.astype(np.int64))
    return make_layer(kind, sparse.csr_matrix((values, index), shape=shape))


def relaxed_layer(source: Vocabulary, target: Vocabulary, wanted: np.ndarray) -> Layer:
    """The same bytes up to a leading space or letter case, for the wanted target ids that running text uses."""
    by_bytes, used = ids_in_running_text(source), ids_in_running_text(target)
    entries = []
    for token_id in wanted:
        token = target.token_bytes[token_id]
        if not token or used[token] != token_id:
            continue
        # A leading space changes a token's place in a word, a capital its place in a sentence: the space goes first.
        variants = [*_space_variants(token), *_case_variants(token)]
        found = [by_bytes[variant] for variant in variants if variant in by_bytes]
        entries += [(int(token_id), found[0], 1.0)] if found else []
    return layer_of_entries(Evidence.RELAXED, (len(target), len(source)), entries)


def _space_variants(token: bytes) -> list[bytes]:
    bare = token.removeprefix(b" ")
    # Digits, marks and single letters change their meaning more than words do.
    if len(bare) < 2 or not bare.decode("utf-8", "replace").isalpha():
        return []
    return [bare if token.startswith(b" ") else b" " + bare]


def _case_variants(token: bytes) -> list[bytes]:
    try:
        text = token.decode("utf-8")
    except UnicodeDecodeError:
        return []
    space, bare = text[: len(text) - len(text.lstrip(" "))], text.lstrip(" ")
    if len(bare) < 2 or not bare.isalpha():
        return []
    variants = [space + bare.lower(), space + bare.capitalize(), space + bare.upper()]
    return [variant.encode() for variant in variants if variant != text]


def cooccurrence_layer(overlap: sparse.csr_matrix) -> Layer:
    """Which source tokens cover each target token in running text, from (T, S) bytes that both cover together."""
    return make_layer(Evidence.COOCCURRENCE, overlap)


def segmentation_layer(
    source: Vocabulary,
    target: Vocabulary,
    wanted: np.ndarray,
    segment: Callable[[list[bytes]], list[list[int]]],
) -> Layer:
    """The source tokenizer's own cut of each wanted token's bytes, pieces weighted by their bytes."""
    wanted = np.array([token_id for token_id in wanted if target.token_bytes[token_id]], dtype=np.int64)
    pieces = segment([target.token_bytes[token_id] for token_id in wanted])  # type: ignore[misc]
    entries = [
        (int(token_id), piece, float(len(source.token_bytes[piece] or b"")))
        for token_id, ids in zip(wanted, pieces, strict=True)
        for piece in ids
    ]
    return layer_of_entries(Evidence.SEGMENTATION, (len(target), len(source)), entries)


def contained_layer(source: Vocabulary, target: Vocabulary, wanted: np.ndarray) -> Layer:
    """All source tokens whose bytes stand in those of the wanted target tokens, weighted by their bytes."""
    ids = ids_in_running_text(source)
    longest = max(map(len, ids), default=0)
    entries = [
        (int(token_id), ids[token[start:end]], float(end - start))
        for token_id in wanted
        if (token := target.token_bytes[token_id])
        for start in range(len(token))
        for end in range(start + 1, min(len(token), start + longest) + 1)
        if token[start:end] in ids
    ]
    return layer_of_entries(Evidence.SEGMENTATION, (len(target), len(source)), entries)


def share_of_fragments(source: Vocabulary, weights: sparse.csr_matrix) -> np.ndarray:
    """(T,) weight that falls on source tokens that are no whole characters."""
    return np.asarray(weights @ np.array([float(not is_text(token)) for token in source.token_bytes])).ravel()


@dataclass(frozen=True, eq=False)
class Neighbors:
    """Nearest source tokens among the mapped token embeddings; Q target tokens, K neighbours.

    Attributes:
        target_ids: (Q,) int64.
        source_ids: (Q, K) int64, best first.
        scores: (Q, K) float32, by which they are ordered (CSLS or cosine), up to a constant of each row.
        cosines: (Q, K) float32.
        support: (Q,) the smaller of the counts of the target token and its best neighbour.
    """

    target_ids: np.ndarray
    source_ids: np.ndarray
    scores: np.ndarray
    cosines: np.ndarray
    support: np.ndarray


def distributional_layer(shape: tuple[int, int], neighbors: Neighbors) -> Layer:
    """Nearest neighbours, weighted by a softmax of their scores; (T, S) is the shape."""
    logits = neighbors.scores.astype(np.float64) / TEMPERATURE
    weights = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    rows = np.repeat(neighbors.target_ids, neighbors.source_ids.shape[1])
    matrix = sparse.csr_matrix((weights.ravel(), (rows, neighbors.source_ids.ravel())), shape=shape)
    return make_layer(Evidence.DISTRIBUTIONAL, matrix)
