"""The lexicon of ``auto``: every kind of evidence, weighed by what it is worth on text that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from vocabalign.alignment.evidence_layers import (
    Layer,
    Neighbors,
    contained_layer,
    cooccurrence_layer,
    distributional_layer,
    relaxed_layer,
    segmentation_layer,
    share_of_fragments,
)
from vocabalign.alignment.held_out_covers import SplitCovers
from vocabalign.alignment.hubs import hold_hubs_down, rows_of_hubs
from vocabalign.alignment.lexicon_building import (
    LEAST_CONFIDENT,
    MOST_CONFIDENT,
    Roles,
    certain_layers,
    make_lexicon,
)
from vocabalign.alignment.matching import HiddenPairs
from vocabalign.alignment.mixture import MixtureWeights, learn_weights
from vocabalign.alignment.weighing import (
    NUM_SUPPORTS,
    SUPPORT_EDGES,
    Classes,
    background_of,
    beliefs,
    classify,
    events_of_covers,
    joined,
    make_events,
    scripts_of,
)
from vocabalign.alignment.weighing_report import weighing_report
from vocabalign.lexicon import Evidence, Lexicon
from vocabalign.text.covers import CoverCounts
from vocabalign.text.vocabulary import Vocabulary

# Before known pairs are looked at, one list of neighbours in this many is believed to hold the right one.
NEIGHBOR_BELIEF = 0.25
HALF = 0.5
# Of a row's largest weight; what is below is noise that a person would have to read past.
CRUMB = 0.005
# Weight of pieces that are there only to be led by where nothing else has room.
LAST_RESORT, LAST_RESORTS = 1e-6, 4


@dataclass(frozen=True, eq=False)
class Material:
    """What ``auto`` weighs; T targets, S sources.

    Attributes:
        identical: (T,) source id of the identical token, or -1.
        roles: target special id -> source ids.
        covers: which source tokens cover which target tokens, in all text there is.
        split: the same for text in which documents are held out.
        segment: cuts byte strings into source ids.
        neighbors: nearest source tokens among the mapped token embeddings; None without any.
        hidden: what the same search finds of known pairs that were hidden from it; None where that says nothing.
        other_vectors: (T,) bool, target tokens whose vector is of other text too, not of that of ``split`` alone.
    """

    identical: np.ndarray
    roles: Roles
    covers: CoverCounts
    split: SplitCovers
    segment: Callable[[list[bytes]], list[list[int]]]
    neighbors: Neighbors | None = None
    hidden: HiddenPairs | None = None
    other_vectors: np.ndarray | None = None


def build_auto_lexicon(
    source: Vocabulary, target: Vocabulary, material: Material, top_k: int
) -> tuple[Lexicon, dict[str, Any]]:
    """Weigh all that is known of every target token.

    A token with an identical twin is a copy of it, a special token of those with its role. For the others each kind
    of evidence is a guess at which source tokens cover them: the same bytes but for space and case, counted spans,
    the source's own cut, and neighbours. The guess is a mixture of these and of how common source tokens are anyway;
    its weights are those under which the covers in held-out documents are most likely, learned apart for tokens
    that were seen about as often, of which the same kinds of evidence speak, and by script.

    Where the source writes a token in parts of characters, covers say how it is spelt and little else: a letter in
    three bytes. There neighbours may lead. They are judged by known pairs that were hidden from the map, in the same
    way: the share of the background is learned by script. Whichever of the two is expected to tell more bits leads
    (Kullback-Leibler divergence from the background). Tokens of whole pieces keep to what covers them: neighbours that
    led there by the same rule cost bits per byte after a transplant.

    Confidence is the share of the token's own surprisal that its source tokens are expected to tell.

    Args:
        source: S tokens.
        target: T tokens.
        material: what is known.
        top_k: source tokens kept for each target token.

    Returns:
        The lexicon, and for the manifest log-losses and weights by script.
    """
    shape, covers = (len(target), len(source)), material.covers
    certain = certain_layers(shape, material.identical, material.roles)
    settled = certain[0].speaks | certain[1].speaks
    wanted = ~settled & np.array([bool(token) for token in target.token_bytes])
    scripts = scripts_of(target)

    # ---- What is learned from text that the layers have not seen ----
    layers = _layers(source, target, material, wanted)
    kinds = [layer.kind for layer in layers]
    spelt = share_of_fragments(source, layers[kinds.index(Evidence.SEGMENTATION)].weights) > HALF
    seen = material.split.seen
    blind = _for_seen(layers, seen, material.other_vectors)
    background = background_of(seen.source_counts)
    classes = classify(blind, seen.target_counts, spelt, scripts)
    halves = [events_of_covers(half, blind, background, wanted, classes) for half in material.split.held_out]
    learned = learn_weights(joined(halves), beliefs(kinds))
    report = weighing_report(halves, learned, kinds, scripts[1])

    # ---- The guess for every open token ----
    classes = classify(layers, covers.target_counts, spelt, scripts)
    weights = learned.of(classes.cells, classes.scripts)
    background = background_of(covers.source_counts)
    composed = _mixed(layers, weights)
    told = told_bits(composed, weights[:, -1], background)
    blended, leading = composed, _leading_kind(kinds, weights)
    if material.neighbors is not None:
        near = layers[kinds.index(Evidence.DISTRIBUTIONAL)]
        trust = _trust_in_neighbors(material, near, background, scripts, shape)
        by_use = sparse.csr_matrix(sparse.diags(trust) @ near.weights)
        told_by_use = told_bits(by_use, 1 - trust, background)
        leads = near.speaks & spelt & (told_by_use > told)
        blended = sparse.diags((~leads).astype(float)) @ composed + sparse.diags(leads.astype(float)) @ by_use
        told = np.where(leads, told_by_use, told)
        leading = np.where(leads, Evidence.DISTRIBUTIONAL, leading)
    surprisal = -np.log2(background_of(covers.target_counts))
    confidence = np.clip(told / surprisal, LEAST_CONFIDENT, MOST_CONFIDENT)
    free = _without_hubs(source, target, sparse.csr_matrix(sparse.diags(wanted.astype(float)) @ blended))
    for layer in certain:
        leading = np.where(layer.speaks, layer.kind, leading)
    total = certain[0].weights + certain[1].weights + free
    lexicon = make_lexicon(source, target, total, leading, np.where(settled, 1.0, confidence), top_k)
    return replace(lexicon, reverse=counted_reverse(covers)), {"weighing": report}


def _without_hubs(source: Vocabulary, target: Vocabulary, weights: sparse.csr_matrix) -> sparse.csr_matrix:
    """(T, S) weights with hubs held down; what is left without room may be led by any piece that it contains."""
    held = hold_hubs_down(weights)
    stuck = rows_of_hubs(held)
    # Rows that make room may leave others without.
    for _ in range(LAST_RESORTS):
        if not rows_of_hubs(held).any():
            break
        held = hold_hubs_down(weights + LAST_RESORT * contained_layer(source, target, np.flatnonzero(stuck)).weights)
        stuck |= rows_of_hubs(held)
    # What is weak may take the lead from a hub, so crumbs go last.
    return without_crumbs(held)


def without_crumbs(weights: sparse.csr_matrix) -> sparse.csr_matrix:
    """(T, S) weights without those so far below their row's largest that they stand for nothing."""
    largest = weights.max(axis=1).toarray().ravel()
    kept = weights.tocoo()
    kept.data[kept.data < CRUMB * largest[kept.row]] = 0
    kept.eliminate_zeros()
    return sparse.csr_matrix(kept)


def counted_reverse(covers: CoverCounts) -> np.ndarray:
    """(S,) int32: the target token that covers most bytes of each source token in running text, or -1."""
    by_source = covers.overlap.T.tocsr()
    best = np.asarray(by_source.argmax(axis=1)).ravel()
    return np.where(np.diff(by_source.indptr) > 0, best, -1).astype(np.int32)


def _layers(source: Vocabulary, target: Vocabulary, material: Material, wanted: np.ndarray) -> list[Layer]:
    open_ids = np.flatnonzero(wanted)
    layers = [
        relaxed_layer(source, target, open_ids),
        cooccurrence_layer(material.covers.overlap),
        segmentation_layer(source, target, open_ids, material.segment),
    ]
    if material.neighbors is not None:
        layers.append(distributional_layer((len(target), len(source)), material.neighbors))
    return [layer.without(~wanted) for layer in layers]


def _for_seen(layers: Sequence[Layer], seen: CoverCounts, other_vectors: np.ndarray | None) -> list[Layer]:
    """The layers as they would be without the held-out documents."""
    # Learned without these documents, a token that is nowhere else would have no vector.
    blank = seen.target_counts == 0
    if other_vectors is not None:
        blank &= ~other_vectors
    changed: dict[Evidence, Callable[[Layer], Layer]] = {
        Evidence.COOCCURRENCE: lambda layer: cooccurrence_layer(seen.overlap).without(~layer.speaks),
        Evidence.DISTRIBUTIONAL: lambda layer: layer.without(blank),
    }
    return [changed.get(layer.kind, lambda layer: layer)(layer) for layer in layers]


def _mixed(layers: Sequence[Layer], weights: np.ndarray) -> sparse.csr_matrix:
    """(T, S) the layers in their shares, (T, L + 1); the background is left out."""
    total = sparse.csr_matrix(layers[0].weights.shape)
    for place, layer in enumerate(layers):
        total = total + sparse.diags(weights[:, place]) @ layer.weights
    return sparse.csr_matrix(total)


def _leading_kind(kinds: Sequence[Evidence], weights: np.ndarray) -> np.ndarray:
    """(T,) the kind of evidence with the largest share; NONE where none speaks."""
    best = weights[:, :-1].argmax(axis=1)
    return np.where(weights[:, :-1].max(axis=1) > 0, np.array(kinds)[best], Evidence.NONE)


def told_bits(guess: sparse.csr_matrix, rest: np.ndarray, background: np.ndarray) -> np.ndarray:
    """(T,) bits by which a guess is expected to shorten the telling of a source token; never negative.

    The Kullback-Leibler divergence of ``guess + rest * background`` from the background.

    Args:
        guess: (T, S) rows that sum to ``1 - rest``.
        rest: (T,) share of the background.
        background: (S,) probabilities, none 0.
    """
    entries = guess.tocoo()
    common = background[entries.col]
    probability = entries.data + rest[entries.row] * common
    inside = np.bincount(entries.row, probability * np.log2(probability / common), len(rest))
    outside = np.maximum(0.0, 1 - np.bincount(entries.row, common, len(rest)))
    logarithms = np.log2(np.maximum(rest, 1e-300))
    return np.maximum(0.0, inside + rest * outside * logarithms)


def _trust_in_neighbors(
    material: Material,
    near: Layer,
    background: np.ndarray,
    scripts: tuple[np.ndarray, tuple[str, ...]],
    shape: tuple[int, int],
) -> np.ndarray:
    """(T,) probability that a token's list of neighbours is about it, learned on hidden known pairs by script."""
    assert material.neighbors is not None
    prior = np.tile([NEIGHBOR_BELIEF, 1 - NEIGHBOR_BELIEF], (NUM_SUPPORTS, 1))
    learned = MixtureWeights(prior, prior, {})
    if material.hidden is not None:
        found = material.hidden.found
        classes = _by_support(found, shape[0], scripts)
        each = np.ones(len(found.target_ids))
        layer = distributional_layer(shape, found)
        events = make_events(found.target_ids, material.hidden.truth, each, [layer], background, classes)
        learned = learn_weights(events, prior)
    classes = _by_support(material.neighbors, shape[0], scripts)
    return learned.of(classes.cells, classes.scripts)[:, 0] * near.speaks


def _by_support(neighbors: Neighbors, num_targets: int, scripts: tuple[np.ndarray, tuple[str, ...]]) -> Classes:
    support = np.zeros(num_targets)
    support[neighbors.target_ids] = neighbors.support
    return Classes(np.digitize(support, SUPPORT_EDGES), *scripts)
