"""How far each kind of evidence is trusted, script by script, learned from documents that none of them has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vocabalign.alignment.evidence_layers import Layer
from vocabalign.alignment.mixture import Events
from vocabalign.lexicon import Evidence
from vocabalign.text.covers import CoverCounts
from vocabalign.text.scripts import token_script
from vocabalign.text.vocabulary import Vocabulary

# Target tokens seen 0, 1, 2 to 3, 4 to 15, 16 to 127 and more times are trusted apart.
SUPPORT_EDGES = (1, 2, 4, 16, 128)
NUM_SUPPORTS = len(SUPPORT_EDGES) + 1
# What is believed before anything is observed; counting by how often the token was seen. Only ratios matter.
BACKGROUND_BELIEF = 0.5
BELIEFS = {Evidence.RELAXED: 0.2, Evidence.SEGMENTATION: 2.0, Evidence.DISTRIBUTIONAL: 0.05}
COUNTING_BELIEFS = (0.0, 2.0, 4.0, 8.0, 12.0, 16.0)


@dataclass(frozen=True, eq=False)
class Classes:
    """Which target tokens are weighed together; T targets.

    Attributes:
        cells: (T,) int64: how often seen, which layers speak, and whether the source spells it in parts of characters.
        scripts: (T,) int64 index into ``names``.
        names: of the scripts.
    """

    cells: np.ndarray
    scripts: np.ndarray
    names: tuple[str, ...]


def scripts_of(target: Vocabulary) -> tuple[np.ndarray, tuple[str, ...]]:
    """(T,) int64 script of each target token as an index into the names that follow."""
    found = [token_script(token) for token in target.token_bytes]
    names = sorted(set(found))
    places = {name: place for place, name in enumerate(names)}
    return np.array([places[name] for name in found], dtype=np.int64), tuple(names)


def classify(
    layers: Sequence[Layer], counts: np.ndarray, spelt: np.ndarray, scripts: tuple[np.ndarray, tuple[str, ...]]
) -> Classes:
    """Put target tokens into classes.

    Args:
        layers: L kinds of evidence.
        counts: (T,) how often each target token was seen where the layers come from.
        spelt: (T,) bool, whether the source writes the token in parts of characters.
        scripts: as from ``scripts_of``.
    """
    cells = np.digitize(counts, SUPPORT_EDGES)
    for layer in layers:
        cells = cells * 2 + layer.speaks
    return Classes(cells * 2 + spelt, *scripts)


def beliefs(kinds: Sequence[Evidence]) -> np.ndarray:
    """(C, L + 1) weights beforehand of every cell that ``classify`` makes of L kinds of evidence; rows sum to 1."""
    cells = np.arange(NUM_SUPPORTS * 2 ** (len(kinds) + 1))
    support, patterns = cells >> (len(kinds) + 1), cells >> 1
    result = np.full((len(cells), len(kinds) + 1), BACKGROUND_BELIEF)
    for place, kind in enumerate(kinds):
        speaks = patterns >> (len(kinds) - 1 - place) & 1
        belief = np.array(COUNTING_BELIEFS)[support] if kind == Evidence.COOCCURRENCE else BELIEFS[kind]
        result[:, place] = speaks * belief
    return result / result.sum(axis=1, keepdims=True)


def background_of(counts: np.ndarray) -> np.ndarray:
    """(V,) probabilities of tokens in running text, none of them 0; half an occurrence is added to each."""
    smoothed = np.asarray(counts, dtype=np.float64) + 0.5
    return smoothed / smoothed.sum()


def events_of_covers(
    held_out: CoverCounts, layers: Sequence[Layer], background: np.ndarray, wanted: np.ndarray, classes: Classes
) -> Events:
    """Which source tokens cover the (T,) wanted target tokens in held-out text, and what the layers say of them.

    Args:
        held_out: covers of that text.
        layers: L kinds of evidence, which have not seen it.
        background: (S,) how common source tokens are.
        wanted: (T,) bool.
        classes: of the target tokens.
    """
    overlap = held_out.overlap.tocoo()
    chosen = wanted[overlap.row]
    targets, sources = overlap.row[chosen].astype(np.int64), overlap.col[chosen].astype(np.int64)
    shares = overlap.data[chosen] / np.maximum(1, np.asarray(held_out.overlap.sum(axis=1)).ravel()[targets])
    return make_events(targets, sources, shares * held_out.target_counts[targets], layers, background, classes)


def make_events(
    targets: np.ndarray,
    sources: np.ndarray,
    tokens: np.ndarray,
    layers: Sequence[Layer],
    background: np.ndarray,
    classes: Classes,
) -> Events:
    """(E,) pairs of target and source token, each standing for (E,) running tokens, as events."""
    probabilities = np.zeros((len(targets), len(layers) + 1))
    if len(targets):
        for place, layer in enumerate(layers):
            probabilities[:, place] = np.asarray(layer.weights[targets, sources]).ravel()
        probabilities[:, -1] = background[sources]
    return Events(probabilities, tokens, targets, classes.cells[targets], classes.scripts[targets])


def joined(several: Sequence[Events]) -> Events:
    """Events of several texts."""
    names = ("probabilities", "tokens", "targets", "cells", "scripts")
    return Events(*(np.concatenate([getattr(events, name) for events in several]) for name in names))
