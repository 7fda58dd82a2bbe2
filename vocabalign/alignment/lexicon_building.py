"""From evidence to the lexicon: which source tokens, with which weights, stand for each target token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse

from vocabalign.alignment.evidence_layers import Layer, Neighbors, layer_of_entries
from vocabalign.lexicon import Evidence, Lexicon
from vocabalign.text.vocabulary import Vocabulary

Roles = Mapping[int, Sequence[int]]
# What is not known to be the same is never as certain as what is.
MOST_CONFIDENT, LEAST_CONFIDENT = 0.99, 1e-4


def certain_layers(shape: tuple[int, int], identical: np.ndarray, roles: Roles) -> list[Layer]:
    """Copies: target tokens with an identical twin, and special tokens with the same role.

    Args:
        shape: (T, S).
        identical: (T,) source id of the identical token, or -1.
        roles: target special id -> source ids.
    """
    copies = [(int(token), int(identical[token]), 1.0) for token in np.flatnonzero(identical >= 0)]
    entries = [(token, s, 1.0) for token, sources in roles.items() if identical[token] < 0 for s in sources]
    return [
        layer_of_entries(Evidence.IDENTICAL, shape, copies),
        layer_of_entries(Evidence.ROLE, shape, entries),
    ]


def nearest_lexicon(
    source: Vocabulary,
    target: Vocabulary,
    identical: np.ndarray,
    roles: Roles,
    neighbors: Neighbors | None,
    top_k: int = 1,
) -> Lexicon:
    """The papers' lexicon: copies, and for every other target token that has a vector its nearest source token.

    The confidence of a neighbour is its cosine. Without a vector the row is empty (-1, weight 0): never a random one.

    Reference:
        TokAlign (2506.03523), TokAlign++ (2605.13429) section 4.3.
    """
    shape = (len(target), len(source))
    layers, confidence = certain_layers(shape, identical, roles), np.zeros(len(target))
    settled = layers[0].speaks | layers[1].speaks
    if neighbors is not None:
        confidence[neighbors.target_ids] = np.clip(neighbors.cosines[:, 0], LEAST_CONFIDENT, MOST_CONFIDENT)
        nearest = zip(neighbors.target_ids, neighbors.source_ids[:, 0], np.ones(len(neighbors.target_ids)), strict=True)
        layers.append(layer_of_entries(Evidence.DISTRIBUTIONAL, shape, nearest).without(settled))
    evidence = np.zeros(len(target), dtype=np.uint8)
    for layer in layers:
        evidence[layer.speaks] = layer.kind
    weights = sum((layer.weights for layer in layers[1:]), layers[0].weights)
    return make_lexicon(source, target, weights, evidence, np.where(settled, 1.0, confidence), top_k)


def make_lexicon(
    source: Vocabulary,
    target: Vocabulary,
    weights: sparse.spmatrix,
    evidence: np.ndarray,
    confidence: np.ndarray,
    top_k: int,
) -> Lexicon:
    """A lexicon of the heaviest source tokens of each target token.

    Args:
        source: S tokens.
        target: T tokens.
        weights: (T, S), not negative.
        evidence: (T,) what each row rests on.
        confidence: (T,) float in [0, 1]; 0 where a row is empty.
        top_k: source tokens kept for each target token.
    """
    source_ids, values = best_of_rows(sparse.csr_matrix(weights), top_k)
    empty = source_ids[:, 0] < 0
    return Lexicon(
        source_ids=source_ids,
        weights=values,
        evidence=np.where(empty, Evidence.NONE, evidence).astype(np.uint8),
        confidence=np.where(empty, 0, confidence).astype(np.float32),
        source_fingerprint=source.fingerprint,
        target_fingerprint=target.fingerprint,
    )


def best_of_rows(matrix: sparse.csr_matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest positive values of each row, made to sum to 1; by descending value, then by column.

    Args:
        matrix: (T, S), non-negative.
        k: columns kept.

    Returns:
        (T, k) int32 columns, -1 where a row has fewer, and (T, k) float32 weights.
    """
    entries = matrix.tocoo()
    positive = entries.data > 0
    rows, columns, values = entries.row[positive], entries.col[positive], entries.data[positive]
    # Rounded first, so that weights which differ by rounding alone tie and the lower id wins.
    order = np.lexsort((columns, -values.astype(np.float32), rows))
    rows, columns, values = rows[order], columns[order], values[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows, side="left")
    kept = rank < k
    ids = np.full((matrix.shape[0], k), -1, dtype=np.int32)
    weights = np.zeros((matrix.shape[0], k))
    ids[rows[kept], rank[kept]] = columns[kept]
    weights[rows[kept], rank[kept]] = values[kept]
    totals = weights.sum(axis=1, keepdims=True)
    weights = np.divide(weights, totals, out=np.zeros_like(weights), where=totals > 0)
    return ids, weights.astype(np.float32)
