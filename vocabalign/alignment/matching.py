"""The distributional layer: carry both token embeddings into one space, and find neighbours there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vocabalign.alignment.anchors import anchor_pairs
from vocabalign.alignment.evidence_layers import Neighbors
from vocabalign.alignment.mapping import Mapping, learn_mapping
from vocabalign.alignment.mapping_options import MappingOptions
from vocabalign.alignment.neighbors import csls_top_k, top_k, unit_rows
from vocabalign.alignment.relative import relative_representations
from vocabalign.alignment.scores import precision_at
from vocabalign.alignment.search import SearchOptions
from vocabalign.errors import TooFewAnchorsError
from vocabalign.token_embeddings import TokenEmbeddings

HELD_OUT_SHARE, HELD_OUT_MOST = 0.2, 1_000
# Fewer pairs than this say nothing about a search.
HELD_OUT_LEAST = 20
# A search cannot be trusted that was fitted to fewer known pairs.
FEWEST_ANCHORS = 16


@dataclass(frozen=True, kw_only=True)
class MatchOptions:
    """How spaces are made comparable and searched.

    Attributes:
        space: ``mapped`` (orthogonal map and CSLS, TokAlign++), ``relative`` (anchors and cosine, TokAlign) or
            ``given`` (vectors as they are, and CSLS).
        mapping: choices of the map.
        scale_relative: compare ``relative`` representations by cosine, as the paper says; without it by the product of
            unscaled ones, as its public code does (a few source tokens are then nearest to almost everything).
        csls_neighbors: neighbourhood size of CSLS in the final search; 0 for cosine.
        search: device, memory, library and precision of all searches.
    """

    space: Literal["mapped", "relative", "given"] = "mapped"
    mapping: MappingOptions = MappingOptions()
    scale_relative: bool = True
    csls_neighbors: int = 10
    search: SearchOptions = SearchOptions()

    @property
    def needs_anchors(self) -> bool:
        """Whether the space is made from known pairs."""
        return self.space == "relative" or (self.space == "mapped" and self.mapping.start == "anchors")


@dataclass(frozen=True, eq=False)
class CommonSpace:
    """Both vocabularies' vectors in one space; zero rows for tokens without a vector.

    Attributes:
        source: (S, E) float32 rows, of length 1 but for relative representations that are not scaled.
        target: (T, E) float32 rows of length 1.
        mapping: the map that led there; None for relative representations and given vectors.
    """

    source: np.ndarray
    target: np.ndarray
    mapping: Mapping | None


def make_common_space(
    source: TokenEmbeddings, target: TokenEmbeddings, anchors: np.ndarray, options: MatchOptions
) -> CommonSpace:
    """Carry both sides into a common space that the anchors determine.

    Args:
        source: vectors of S tokens.
        target: vectors of T tokens, of the same dimension for ``mapped``.
        anchors: (A, 2) int64 pairs (source id, target id).
        options: see ``MatchOptions``.

    Raises:
        TooFewAnchorsError: the anchors do not determine the space.
    """
    if options.needs_anchors and len(anchors) < FEWEST_ANCHORS:
        raise TooFewAnchorsError(
            f"The two vocabularies share {len(anchors)} tokens that the text uses; at least {FEWEST_ANCHORS} are "
            "needed to compare embeddings: give more text, anchor by bytes (anchors: bytes), start without anchors "
            "(start: unsupervised), or use method auto, which then goes by spans and segmentation alone."
        )
    if options.space == "relative":
        reps = [
            relative_representations(
                side.vectors, side.vectors[anchors[:, column]], scaled=column == 1 or options.scale_relative
            )
            for column, side in enumerate((source, target))
        ]
        return CommonSpace(reps[0], reps[1], None)
    if options.space == "given":
        return CommonSpace(unit_rows(source.vectors), unit_rows(target.vectors), None)
    mapping = learn_mapping(
        source.vectors,
        target.vectors,
        anchors,
        source_counts=source.counts,
        target_counts=target.counts,
        options=options.mapping,
        search=options.search,
    )
    return CommonSpace(mapping.map_source(source.vectors), mapping.map_target(target.vectors), mapping)


def find_neighbors(
    space: CommonSpace,
    source_counts: np.ndarray,
    target_counts: np.ndarray,
    wanted: np.ndarray,
    k: int,
    options: MatchOptions,
    allowed: np.ndarray | None = None,
) -> Neighbors:
    """The k nearest source tokens of each wanted target token that has a vector.

    Args:
        space: from ``make_common_space``.
        source_counts: (S,) how often each token stands in the text.
        target_counts: (T,).
        wanted: (Q,) int64 target ids.
        k: neighbours.
        options: CSLS, but products in a ``relative`` space and where ``csls_neighbors`` is 0.
        allowed: (S,) bool, source tokens that may be found: an unknown token stands for nothing. By default all.
    """
    has_vector = space.source.any(axis=1)
    sources = np.flatnonzero(has_vector if allowed is None else has_vector & allowed)
    targets = np.flatnonzero(space.target.any(axis=1))
    asked = wanted[np.isin(wanted, targets)]
    keys, queries = space.source[sources], space.target[targets]
    if options.space != "relative" and options.csls_neighbors:
        rows = np.searchsorted(targets, asked)
        # Scores are compared within a token's neighbours only, so its own mean does not matter.
        neighbors, search = options.csls_neighbors, options.search
        scores, found = csls_top_k(keys, queries, k, neighbors, search, queries=rows, own_mean=False)
    else:
        scores, found = top_k(space.target[asked], keys, k, options.search)
    keys, cosines = unit_rows(keys), np.empty_like(scores)
    for column in range(scores.shape[1]):
        cosines[:, column] = np.einsum("qd,qd->q", space.target[asked], keys[found[:, column]])
    ids = sources[found]
    support = np.minimum(target_counts[asked], source_counts[ids[:, 0]]) if ids.size else np.zeros(len(asked))
    return Neighbors(asked, ids, scores, cosines, support)


def shared_vectors(identical: np.ndarray, source: TokenEmbeddings, target: TokenEmbeddings) -> np.ndarray:
    """(A, 2) int64 shared tokens (source id, target id) that have a vector on both sides, commonest first."""
    pairs = anchor_pairs(identical, source.counts, target.counts)
    return pairs[source.covered[pairs[:, 0]] & target.covered[pairs[:, 1]]]


@dataclass(frozen=True, eq=False)
class HiddenPairs:
    """What a search finds of known pairs that its map has not seen; Q pairs.

    Attributes:
        found: neighbours of the Q target tokens.
        truth: (Q,) int64 their source tokens.
    """

    found: Neighbors
    truth: np.ndarray

    def precision(self, target_counts: np.ndarray) -> dict[str, Any]:
        """Precision at 1 and 5, in all and by how common the target token is, of (T,) counts.

        Returns:
            ``known_pair_precision_at_1``, ``_at_5``, both ``_by_frequency`` (the rarest, middle and commonest third of
            the hidden target tokens), and ``known_pairs_held_out``.
        """
        thirds = np.array_split(np.argsort(target_counts[self.found.target_ids], kind="stable"), 3)
        result: dict[str, Any] = {}
        for k in (1, 5):
            name = f"known_pair_precision_at_{k}"
            result[name] = precision_at(self.found.source_ids, self.truth, k)
            result[f"{name}_by_frequency"] = [
                precision_at(self.found.source_ids[part], self.truth[part], k) for part in thirds
            ]
        return result | {"known_pairs_held_out": len(self.truth)}


def find_hidden_pairs(
    source: TokenEmbeddings,
    target: TokenEmbeddings,
    anchors: np.ndarray,
    options: MatchOptions,
    seed: int,
    limit: int | None = None,
    used: np.ndarray | None = None,
    width: int = 5,
) -> HiddenPairs | None:
    """Hide a fifth of the anchors (at most 1,000), make the space from the rest (the first ``limit``), look for them.

    An honest check of the distributional layer: the hidden pairs take part in no dictionary, and each is
    looked for among all source tokens that have a vector.

    Args:
        source: vectors of S tokens.
        target: vectors of T tokens.
        anchors: (A, 2) int64 known pairs, commonest first.
        options: see ``MatchOptions``.
        seed: of the choice.
        limit: anchors that the space is made from.
        used: (B, 2) pairs that the space may be made from, hidden tokens apart; by default the anchors.
        width: neighbours of each, at least 5.

    Returns:
        What was found; None with too few anchors.
    """
    num_held_out = min(int(HELD_OUT_SHARE * len(anchors)), HELD_OUT_MOST)
    if num_held_out < HELD_OUT_LEAST:
        return None
    hidden = np.zeros(len(anchors), dtype=bool)
    hidden[np.random.default_rng(seed).permutation(len(anchors))[:num_held_out]] = True
    held_out = anchors[hidden]
    held_out = held_out[np.argsort(held_out[:, 1])]
    left = anchors[~hidden]
    if used is not None:
        left = used[~np.isin(used[:, 0], held_out[:, 0]) & ~np.isin(used[:, 1], held_out[:, 1])]
    try:
        space = make_common_space(source, target, left[:limit], options)
    except TooFewAnchorsError:
        return None
    found = find_neighbors(space, source.counts, target.counts, held_out[:, 1], max(5, width), options)
    return HiddenPairs(found, held_out[np.isin(held_out[:, 1], found.target_ids), 0])
