"""Kinds of evidence for what a target token is made of, each as weights over source tokens.

Every layer says how far to trust it on one scale, so that layers can be compared token by token:
the share of the target token's part in running text that its source tokens are expected to play.
1 is a copy; n pieces of equal length count 1/n; thin support lowers it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from vocabalign.lexicon import Evidence
from vocabalign.text.segmentation import ids_in_running_text
from vocabalign.text.vocabulary import Vocabulary

# A leading space changes a token's place in a word, a capital its place in a sentence.
SPACE_CONFIDENCE, CASE_CONFIDENCE = 0.6, 0.5
# Seen this often, the kind of evidence is half trusted.
COVER_SUPPORT, VECTOR_SUPPORT = 1.0, 20.0
# The cut of a token by itself stands in for counting; seen this often, it is worth half.
SEGMENTATION_FADES = 3.0
# A piece that is no whole character says little about the character.
FRAGMENT_FACTOR = 0.5
# Without known pairs to measure it on, one neighbour in this many is taken to be right.
DEFAULT_PRECISION = 0.25
TEMPERATURE = 0.1


@dataclass(frozen=True, eq=False)
class Layer:
    """One kind of evidence; T targets, S sources.

    Attributes:
        kind: which evidence.
        weights: (T, S) float64 CSR; each row sums to 1, or is empty.
        confidence: (T,) float64 in [0, 1], 0 where the row is empty.
    """

    kind: Evidence
    weights: sparse.csr_matrix
    confidence: np.ndarray


def make_layer(
    kind: Evidence, shape: tuple[int, int], entries: Iterable[tuple[int, int, float]], confidence: np.ndarray
) -> Layer:
    """A layer from (target id, source id, weight); rows are normalised."""
    rows, columns, values = np.array(list(entries), dtype=np.float64).reshape(-1, 3).T
    index = (rows.astype(np.int64), columns.astype(np.int64))
    return _normalised(kind, sparse.csr_matrix((values, index), shape=shape), confidence)


def _normalised(kind: Evidence, weights: sparse.csr_matrix, confidence: np.ndarray) -> Layer:
    totals = np.asarray(weights.sum(axis=1)).ravel()
    scale = np.divide(1.0, totals, out=np.zeros_like(totals), where=totals > 0)
    weights = sparse.csr_matrix(sparse.diags(scale) @ weights)
    weights.eliminate_zeros()
    return Layer(kind, weights, np.clip(np.where(totals > 0, confidence, 0.0), 0, 1))


def relaxed_layer(source: Vocabulary, target: Vocabulary, wanted: np.ndarray) -> Layer:
    """The same bytes up to a leading space or letter case, for the wanted target ids that running text uses."""
    by_bytes, used = ids_in_running_text(source), ids_in_running_text(target)
    entries, confidence = [], np.zeros(len(target))
    for token_id in wanted:
        token = target.token_bytes[token_id]
        if not token or used[token] != token_id:
            continue
        for value, variants in ((SPACE_CONFIDENCE, _space_variants), (CASE_CONFIDENCE, _case_variants)):
            found = [by_bytes[variant] for variant in variants(token) if variant in by_bytes]
            if found:
                entries.append((token_id, found[0], 1.0))
                confidence[token_id] = value
                break
    return make_layer(Evidence.RELAXED, (len(target), len(source)), entries, confidence)


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


def cooccurrence_layer(
    source: Vocabulary, target: Vocabulary, overlap: sparse.csr_matrix, target_counts: np.ndarray
) -> Layer:
    """Which source tokens cover each target token in running text.

    Args:
        source: S tokens.
        target: T tokens.
        overlap: (T, S) bytes that both cover together, over the whole text.
        target_counts: (T,) how often each target token stands in the text.
    """
    counts = np.asarray(target_counts, dtype=np.float64)
    layer = _normalised(Evidence.COOCCURRENCE, sparse.csr_matrix(overlap, dtype=np.float64), np.ones(len(counts)))
    support = counts / (counts + COVER_SUPPORT)
    return Layer(layer.kind, layer.weights, layer.confidence * support * _concentration(source, target, layer.weights))


def segmentation_layer(
    source: Vocabulary,
    target: Vocabulary,
    wanted: np.ndarray,
    segment: Callable[[list[bytes]], list[list[int]]],
    cover_counts: np.ndarray | None = None,
) -> Layer:
    """The source tokenizer's own cut of each wanted token's bytes, pieces weighted by their bytes.

    It is trusted less the more often the token was seen in running text (``cover_counts``, (T,)), where
    its neighbours decide how it is cut.
    """
    wanted = np.array([token_id for token_id in wanted if target.token_bytes[token_id]], dtype=np.int64)
    pieces = segment([target.token_bytes[token_id] for token_id in wanted])  # type: ignore[misc]
    entries = [
        (int(token_id), piece, float(len(source.token_bytes[piece] or b"")))
        for token_id, ids in zip(wanted, pieces, strict=True)
        for piece in ids
    ]
    layer = make_layer(Evidence.SEGMENTATION, (len(target), len(source)), entries, np.ones(len(target)))
    seen = np.zeros(len(target)) if cover_counts is None else np.asarray(cover_counts, dtype=np.float64)
    faded = SEGMENTATION_FADES / (SEGMENTATION_FADES + seen)
    return Layer(layer.kind, layer.weights, layer.confidence * faded * _concentration(source, target, layer.weights))


def _concentration(source: Vocabulary, target: Vocabulary, weights: sparse.csr_matrix) -> np.ndarray:
    """(T,) 1 for one whole piece, 1/n for n equal ones, less for fragments of characters.

    The sum over source tokens of weight times the part of the target token that one of them can fill: a
    token made of the same piece twice (``..``) is half of it each time, not a copy.
    """
    source_lengths, target_lengths = (
        np.array([len(token or b"") for token in v.token_bytes]) for v in (source, target)
    )
    whole = np.array([1.0 if _is_text(token) else FRAGMENT_FACTOR for token in source.token_bytes])
    entries = weights.tocoo()
    filled = np.minimum(entries.data, source_lengths[entries.col] / np.maximum(1, target_lengths[entries.row]))
    return np.bincount(entries.row, entries.data * filled * whole[entries.col], minlength=weights.shape[0])


def _is_text(token: bytes | None) -> bool:
    try:
        return token is not None and token.decode("utf-8") is not None
    except UnicodeDecodeError:
        return False


@dataclass(frozen=True, eq=False)
class Neighbors:
    """Nearest source tokens among the mapped token embeddings; Q target tokens, K neighbours.

    Attributes:
        target_ids: (Q,) int64.
        source_ids: (Q, K) int64, best first.
        scores: (Q, K) float32, by which they are ordered (CSLS or cosine).
        cosines: (Q, K) float32.
        support: (Q,) the smaller of the counts of the target token and its best neighbour.
    """

    target_ids: np.ndarray
    source_ids: np.ndarray
    scores: np.ndarray
    cosines: np.ndarray
    support: np.ndarray


def distributional_layer(shape: tuple[int, int], neighbors: Neighbors, precision: float | None) -> Layer:
    """Nearest neighbours, weighted by a softmax of their scores.

    Args:
        shape: (T, S).
        neighbors: for the target tokens that have a vector.
        precision: share of held-out known pairs that the same search finds first; it sets the scale.
    """
    confidence = np.zeros(shape[0])
    support = neighbors.support / (neighbors.support + VECTOR_SUPPORT)
    precision = DEFAULT_PRECISION if precision is None else precision
    confidence[neighbors.target_ids] = precision * support * neighbors.cosines[:, :1].max(axis=1, initial=0.0)
    logits = neighbors.scores.astype(np.float64) / TEMPERATURE
    weights = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    rows = np.repeat(neighbors.target_ids, neighbors.source_ids.shape[1])
    matrix = sparse.csr_matrix((weights.ravel(), (rows, neighbors.source_ids.ravel())), shape=shape)
    return _normalised(Evidence.DISTRIBUTIONAL, matrix, confidence)
