"""From evidence to the lexicon: which source tokens, with which weights, stand for each target token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from scipy import sparse

from vocabalign.alignment.evidence_layers import (
    Layer,
    Neighbors,
    cooccurrence_layer,
    distributional_layer,
    make_layer,
    relaxed_layer,
    segmentation_layer,
)
from vocabalign.alignment.hubs import hold_hubs_down
from vocabalign.lexicon import Evidence, Lexicon
from vocabalign.text.vocabulary import Vocabulary

Method = Literal["auto", "tokalign", "tokalign++"]
# Evidence that is less than half as good as the best is noise beside it.
BLEND_FROM = 0.5


def build_lexicon(
    source: Vocabulary,
    target: Vocabulary,
    *,
    method: Method,
    top_k: int,
    identical: np.ndarray,
    roles: Mapping[int, Sequence[int]] | None = None,
    overlap: sparse.csr_matrix | None = None,
    target_counts: np.ndarray | None = None,
    segment: Callable[[list[bytes]], list[list[int]]] | None = None,
    neighbors: Neighbors | None = None,
    precision: float | None = None,
) -> Lexicon:
    """Combine what is known about every target token.

    A token with an identical twin is a copy of it, a special token of those with its role. The papers'
    methods take the nearest neighbour for every other token that has a vector. ``auto`` weighs relaxed
    bytes, spans in running text, the source's own segmentation and neighbours by their confidence: the
    best one and those at least half as good are blended in proportion to the square of it. So a token
    that is cut into two common pieces is composed, and one that falls to bytes follows its neighbours.
    Source tokens that would lead very many of the blends are discounted (``hubs``).

    Confidence is the share of the token's part in running text that its source tokens are expected to
    play: 1 for a copy, about 1/n for n equal pieces, measured precision times cosine for neighbours.
    Without any evidence the row is empty (-1, weight 0): never a random one.

    Args:
        source: S tokens.
        target: T tokens.
        method: ``auto``, ``tokalign`` or ``tokalign++``.
        top_k: source tokens kept for each target token.
        identical: (T,) source id of the identical token, or -1.
        roles: target special id -> source ids.
        overlap: (T, S) bytes that tokens cover together in running text.
        target_counts: (T,) how often each target token was seen for ``overlap``.
        segment: cuts byte strings into source ids.
        neighbors: nearest source tokens among the mapped token embeddings.
        precision: of the neighbours on held-out known pairs, see ``distributional_layer``.

    Reference:
        TokAlign (2506.03523), TokAlign++ (2605.13429) section 4.3, for the papers' methods.
    """
    shape = (len(target), len(source))
    certain = _certain_layers(shape, identical, roles or {})
    settled = np.maximum.reduce([layer.confidence for layer in certain]) > 0
    if method != "auto":
        layers = [] if neighbors is None else [_one_best(shape, neighbors)]
    else:
        open_ids = np.flatnonzero(~settled & np.array([bool(token) for token in target.token_bytes]))
        layers = [relaxed_layer(source, target, open_ids)]
        seen = target_counts if overlap is not None else None
        if overlap is not None and target_counts is not None:
            layers.append(cooccurrence_layer(source, target, overlap, target_counts))
        if segment is not None:
            layers.append(segmentation_layer(source, target, open_ids, segment, seen))
        if neighbors is not None:
            layers.append(distributional_layer(shape, neighbors, precision))
    layers = [*certain, *(_without(layer, settled) for layer in layers)]
    blended = _blend(layers, settled if method == "auto" else None)
    return _lexicon(layers, blended, source, target, top_k)


def _certain_layers(shape: tuple[int, int], identical: np.ndarray, roles: Mapping[int, Sequence[int]]) -> list[Layer]:
    same = np.flatnonzero(identical >= 0)
    copies = make_layer(
        Evidence.IDENTICAL,
        shape,
        ((int(token), int(identical[token]), 1.0) for token in same),
        (identical >= 0).astype(float),
    )
    confidence = np.zeros(shape[0])
    confidence[[token for token, sources in roles.items() if sources and identical[token] < 0]] = 1.0
    entries = [(token, s, 1.0) for token, sources in roles.items() if identical[token] < 0 for s in sources]
    return [copies, make_layer(Evidence.ROLE, shape, entries, confidence)]


def _one_best(shape: tuple[int, int], neighbors: Neighbors) -> Layer:
    confidence = np.zeros(shape[0])
    confidence[neighbors.target_ids] = np.clip(neighbors.cosines[:, 0], 1e-6, 1)
    entries = zip(neighbors.target_ids, neighbors.source_ids[:, 0], np.ones(len(neighbors.target_ids)), strict=True)
    return make_layer(Evidence.DISTRIBUTIONAL, shape, entries, confidence)


def _without(layer: Layer, rows: np.ndarray) -> Layer:
    """The layer with these rows emptied."""
    confidence = np.where(rows, 0.0, layer.confidence)
    return Layer(layer.kind, sparse.csr_matrix(sparse.diags(confidence > 0, dtype=float) @ layer.weights), confidence)


def _shares(confidence: np.ndarray) -> np.ndarray:
    """(L, T) how much of each layer goes into a token's blend, from the (L, T) confidence."""
    best = confidence.max(axis=0)
    shares = np.where(confidence >= BLEND_FROM * np.maximum(best, 1e-12), confidence, 0.0) ** 2
    total = shares.sum(axis=0)
    return np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)


def _blend(layers: list[Layer], settled: np.ndarray | None) -> sparse.csr_matrix:
    """(T, S) the layers' weights in their shares, hubs of tokens that are not (T,) settled held down."""
    blended = sparse.csr_matrix(layers[0].weights.shape)
    for layer, share in zip(layers, _shares(np.stack([layer.confidence for layer in layers])), strict=True):
        blended = blended + sparse.diags(share) @ layer.weights
    if settled is None:
        return blended
    fixed, free = (sparse.diags(rows.astype(float)) @ blended for rows in (settled, ~settled))
    return sparse.csr_matrix(fixed + hold_hubs_down(free))


def _lexicon(
    layers: list[Layer], blended: sparse.csr_matrix, source: Vocabulary, target: Vocabulary, top_k: int
) -> Lexicon:
    confidence = np.stack([layer.confidence for layer in layers])
    kinds = np.array([layer.kind for layer in layers], dtype=np.uint8)
    source_ids, weights = best_of_rows(sparse.csr_matrix(blended), top_k)
    return Lexicon(
        source_ids=source_ids,
        weights=weights,
        evidence=np.where(confidence.max(axis=0) > 0, kinds[confidence.argmax(axis=0)], Evidence.NONE).astype(np.uint8),
        confidence=(confidence * _shares(confidence)).sum(axis=0).astype(np.float32),
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
