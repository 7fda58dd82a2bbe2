"""Pairs that are known beforehand: tokens with the same bytes, or (as in the papers) the same string."""

from __future__ import annotations

from typing import Literal

import numpy as np

from vocabalign.text.segmentation import idle_ids, ids_in_running_text
from vocabalign.text.vocabulary import Vocabulary

AnchorKind = Literal["bytes", "strings"]


def identical_source(source: Vocabulary, target: Vocabulary, kind: AnchorKind = "bytes") -> np.ndarray:
    """(T,) int64: the source token that is the same as each target token, or -1.

    By bytes, a token that running text uses pairs with what running text uses for these bytes on the other
    side. An idle one (a byte-fallback token whose byte is also an ordinary token; GPT-NeoX's own runs of spaces)
    pairs with its own kind where the source has it: the used token with the same bytes is another row, read in
    other places.
    """
    result = np.full(len(target), -1, dtype=np.int64)
    if kind == "strings":
        by_string = {raw: i for i, raw in reversed(list(enumerate(source.raw_tokens))) if raw}
        for token_id, raw in enumerate(target.raw_tokens):
            if token_id not in target.special_ids:
                result[token_id] = by_string.get(raw, -1)
        return result
    by_bytes, used = ids_in_running_text(source), ids_in_running_text(target)
    idle = idle_ids(source, by_bytes)
    for token_id, token in enumerate(target.token_bytes):
        if not token:
            continue
        twin = by_bytes.get(token, -1)
        result[token_id] = twin if used[token] == token_id else idle.get(token, twin)
    return result


def anchor_pairs(
    identical: np.ndarray, source_counts: np.ndarray, target_counts: np.ndarray, limit: int | None = None
) -> np.ndarray:
    """(A, 2) int64 pairs (source id, target id) of tokens seen on both sides, commonest first.

    Args:
        identical: (T,) as from ``identical_source``.
        source_counts: (S,) how often each token stands in the text.
        target_counts: (T,).
        limit: at most this many.
    """
    targets = np.flatnonzero(identical >= 0)
    pairs = np.stack([identical[targets], targets], axis=1)
    counts = np.minimum(source_counts[pairs[:, 0]], target_counts[pairs[:, 1]])
    order = np.argsort(-counts, kind="stable")
    pairs = pairs[order][counts[order] > 0]
    # A source token that two targets share (a character and its byte-fallback twin) anchors the commoner one.
    _, first = np.unique(pairs[:, 0], return_index=True)
    return pairs[np.sort(first)][:limit]
