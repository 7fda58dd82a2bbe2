from __future__ import annotations

import numpy as np

from tests.alignment.toy import make_vocabulary, running_text_uses
from vocabalign.alignment.anchors import anchor_pairs, identical_source


def test_ordinary_tokens_and_byte_tokens_pair_with_their_own_kind():
    source = make_vocabulary([b"a", b"b", b"a", b" x"], byte_ids=frozenset({0, 1}))
    target = make_vocabulary([b"a", b"a", b"b", b"b", b"y", None], byte_ids=frozenset({1, 3}))
    # The source has 'b' only as a byte token: what running text uses for 'b' is that one.
    assert identical_source(source, target).tolist() == [2, 0, 1, 1, -1, -1]


def test_a_byte_token_pairs_with_the_single_byte_token_where_the_source_has_no_byte_tokens():
    source = make_vocabulary([b"a", b"b"])
    target = make_vocabulary([b"b", b"b"], byte_ids=frozenset({0}))
    assert identical_source(source, target).tolist() == [1, 1]


def test_strings_are_compared_as_written():
    source = make_vocabulary([b"a", b"\xe9", None])
    target = make_vocabulary([b"\xe9", b"a", None, b"c"])
    assert identical_source(source, target, "strings").tolist() == [1, 0, -1, -1]


def test_anchors_are_seen_on_both_sides_and_sorted_by_use():
    identical = np.array([0, 1, 2, -1, 0])
    pairs = anchor_pairs(identical, np.array([9, 5, 0]), np.array([3, 8, 7, 9, 4]))
    assert pairs.tolist() == [[1, 1], [0, 4]]
    assert anchor_pairs(identical, np.array([9, 5, 0]), np.array([3, 8, 7, 9, 4]), limit=1).tolist() == [[1, 1]]


def test_what_running_text_uses_pairs_and_idle_tokens_pair():
    source = running_text_uses(make_vocabulary([b"a", b"  ", b"  "]), {1: 2})  # as GPT-NeoX's runs of spaces
    target = make_vocabulary([b"  ", b"a", b"  "])
    assert identical_source(source, target).tolist() == [2, 0, 1]
    assert identical_source(target, source).tolist() == [1, 2, 0]
