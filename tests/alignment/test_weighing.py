from __future__ import annotations

import numpy as np
import pytest

from tests.alignment.toy import cover_counts, make_vocabulary
from vocabalign.alignment.evidence_layers import cooccurrence_layer, segmentation_layer
from vocabalign.alignment.weighing import (
    NUM_SUPPORTS,
    background_of,
    beliefs,
    classify,
    events_of_covers,
    joined,
    scripts_of,
)
from vocabalign.lexicon import Evidence

SOURCE = make_vocabulary([b"a", b"b", b"ab", b"c", b" "])
TARGET = make_vocabulary([b"abc", b"bc", "\u0434".encode(), b" ", None, b"a"])
KINDS = [Evidence.COOCCURRENCE, Evidence.SEGMENTATION]


def layers():
    overlap = cover_counts(SOURCE, TARGET, ["abc abc"]).overlap
    cuts = {b"abc": [2, 3], b"bc": [1, 3], "\u0434".encode(): [], b" ": [4], b"a": [0]}
    return [
        cooccurrence_layer(overlap),
        segmentation_layer(SOURCE, TARGET, np.arange(6), lambda tokens: [cuts[token] for token in tokens]),
    ]


def test_beliefs_are_distributions_over_what_speaks():
    table = beliefs(KINDS)
    assert table.shape == (NUM_SUPPORTS * 8, 3) and np.allclose(table.sum(axis=1), 1) and (table[:, -1] > 0).all()
    for cell, row in enumerate(table):
        support, pattern = cell >> 3, cell >> 1 & 3
        assert (row[0] > 0) == bool(pattern & 2 and support) and (row[1] > 0) == bool(pattern & 1)
    # Counting is believed the more, the more often a token was seen.
    assert (np.diff(table[6::8, 0]) > 0).all()


def test_classes_tell_support_layers_and_spelling_apart():
    found = layers()
    counts = np.array([2, 0, 0, 1, 0, 500])
    spelt = np.array([False, False, False, False, False, True])
    classes = classify(found, counts, spelt, scripts_of(TARGET))
    speaks = np.stack([layer.speaks for layer in found])
    for token in range(6):
        support = [0, 1, 2, 4, 16, 128]
        place = max(i for i, edge in enumerate(support) if counts[token] >= edge)
        assert classes.cells[token] == place * 8 + speaks[0, token] * 4 + speaks[1, token] * 2 + spelt[token]
    assert [classes.names[i] for i in classes.scripts] == [
        "Latin", "Latin", "Cyrillic", "white space", "no text", "Latin"
    ]  # fmt: skip


def test_events_are_shares_of_running_tokens():
    found, wanted = layers(), np.array([True, True, True, False, True, False])
    held_out = cover_counts(SOURCE, TARGET, ["abc bc abc"])
    background = background_of(np.array([0, 1, 3, 4, 0]))
    classes = classify(found, np.zeros(6), np.zeros(6, bool), scripts_of(TARGET))
    events = events_of_covers(held_out, found, background, wanted, classes)
    assert events.tokens.sum() == pytest.approx(3) and set(events.targets.tolist()) == {0, 1}
    columns = (events.targets, events.probabilities[:, -1], events.probabilities, events.tokens)
    by_pair = {
        (int(t), round(float(b), 4)): (row[:2].round(4).tolist(), round(float(n), 4))
        for t, b, row, n in zip(*columns, strict=True)
    }
    # "abc" is "ab" and "c" in counting and in the source's cut; "bc" was never counted.
    assert by_pair[0, round(float(background[2]), 4)] == ([0.6667, 0.6667], 1.3333)
    assert by_pair[0, round(float(background[3]), 4)] == ([0.3333, 0.3333], 0.6667)
    assert by_pair[1, round(float(background[1]), 4)] == ([0.0, 0.5], 0.5)
    assert len(joined([events, events])) == 2 * len(events)
    nothing = events_of_covers(held_out, found, background, np.zeros(6, bool), classes)
    assert len(nothing) == 0 and nothing.probabilities.shape == (0, 3)


def test_a_background_leaves_no_token_out():
    found = background_of(np.array([0, 9, 0]))
    assert found.sum() == pytest.approx(1) and (found > 0).all() and found[0] == found[2] < found[1]
