"""What people see of an alignment: a map of both embedding spaces."""

from __future__ import annotations

from typing import Any

import numpy as np

from vocabalign.alignment.mapping import Mapping
from vocabalign.alignment.neighbors import unit_rows
from vocabalign.text.token_text import token_text
from vocabalign.text.vocabulary import Vocabulary
from vocabalign.token_embeddings import TokenEmbeddings


def embedding_map(
    source: Vocabulary,
    target: Vocabulary,
    source_embeddings: TokenEmbeddings,
    target_embeddings: TokenEmbeddings,
    anchors: np.ndarray,
    mapping: Mapping | None,
    size: int = 400,
) -> dict[str, Any]:
    """Two dimensions of a sample of both spaces, before and after mapping, for the report.

    Half the sample are shared tokens, commonest first, on both sides; the rest are the commonest others.
    Both sides are projected together, so before mapping they lie as far apart as they really are.

    Args:
        source: S tokens.
        target: T tokens.
        source_embeddings: (S, D).
        target_embeddings: (T, D).
        anchors: (A, 2) shared tokens (source id, target id), commonest first.
        mapping: None where the spaces were not mapped: ``after`` is null then.
        size: points in all.

    Returns:
        ``{"points": [{"side", "id", "text", "shared", "pair", "before": [x, y], "after": [x, y] | None}]}``;
        ``pair`` is the same number for the two points of a shared token.
    """
    shared = anchors[: size // 4]
    ids_by_side = [
        np.concatenate([shared[:, column], _commonest_others(embeddings, anchors[:, column], size // 4)])
        for column, embeddings in enumerate((source_embeddings, target_embeddings))
    ]
    before = [
        unit_rows(embeddings.vectors[ids])
        for embeddings, ids in zip((source_embeddings, target_embeddings), ids_by_side, strict=True)
    ]
    before_points = _project(np.concatenate(before))
    after_points = None
    if mapping is not None:
        after_points = _project(np.concatenate([mapping.map_source(before[0]), mapping.map_target(before[1])]))
    points: list[dict[str, Any]] = []
    for side, vocabulary, ids in zip(("source", "target"), (source, target), ids_by_side, strict=True):
        for row, token_id in enumerate(ids.tolist()):
            index = len(points)
            points.append(
                {
                    "side": side,
                    "id": token_id,
                    "text": token_text(vocabulary, token_id),
                    "shared": row < len(shared),
                    "pair": row if row < len(shared) else None,
                    "before": _rounded(before_points[index]),
                    "after": None if after_points is None else _rounded(after_points[index]),
                }
            )
    return {"points": points, "dimensions": int(source_embeddings.vectors.shape[1]), "mapped": mapping is not None}


def _commonest_others(embeddings: TokenEmbeddings, shared: np.ndarray, number: int) -> np.ndarray:
    others = np.setdiff1d(np.flatnonzero(embeddings.covered), shared)
    return others[np.argsort(-embeddings.counts[others], kind="stable")[:number]]


def _project(rows: np.ndarray) -> np.ndarray:
    """(N, 2) first two principal components, with a fixed sign so that a rerun draws the same picture."""
    result = np.zeros((len(rows), 2))
    if len(rows) < 2:
        return result
    centred = rows.astype(np.float64) - rows.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    found = min(2, len(singular))
    points = left[:, :found] * singular[:found]
    signs = np.sign(points[np.abs(points).argmax(axis=0), np.arange(found)])
    result[:, :found] = points * np.where(signs == 0, 1, signs)
    return result


def _rounded(point: np.ndarray) -> list[float]:
    return [round(float(value), 5) for value in point]
