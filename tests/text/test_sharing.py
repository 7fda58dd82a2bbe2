"""What two vocabularies share, against the obvious way to find it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocabalign.text.scripts import token_script
from vocabalign.text.sharing import compare_vocabularies
from vocabalign.text.tokenizers import load_vocabulary

TOKENS = st.lists(st.one_of(st.none(), st.binary(max_size=3), st.sampled_from([b" a", b"a", b"A", b" A"])), min_size=1)


def custom(tokens):
    return load_vocabulary((tokens, lambda text: []))


def keys_of(token):
    """The keys by which a token is compared, strictest first."""
    bare = token[1:] if token[:1] == b" " and len(token) > 1 else token
    try:
        lower = bare.decode().lower().encode()
    except UnicodeDecodeError:
        lower = bare
    return [token, bare, lower]


@given(TOKENS, TOKENS)
def test_as_the_definition_says(a, b):
    sharing = compare_vocabularies(custom(a), custom(b))
    rules = ("bytes", "bytes_up_to_leading_space", "bytes_up_to_leading_space_and_case")
    for number, rule in enumerate(rules):
        for own, other, found in ((a, b, sharing.found[rule][0]), (b, a, sharing.found[rule][1])):
            expected = [bool(t) and any(o and keys_of(t)[number] == keys_of(o)[number] for o in other) for t in own]
            assert found.tolist() == expected


def test_shares_and_scripts(byte_level_folder, metaspace_folder):
    a, b = load_vocabulary(byte_level_folder), load_vocabulary(metaspace_folder)
    sharing = compare_vocabularies(a, b)
    rng = np.random.default_rng(0)
    counts = [rng.integers(0, 9, len(vocabulary)) for vocabulary in (a, b)]
    shares = sharing.shares(counts)
    assert shares["raw_string"]["types_of_b"] < shares["bytes"]["types_of_b"]
    scripts = [[token_script(token) for token in vocabulary.token_bytes] for vocabulary in (a, b)]
    rows = sharing.shares_by_script(scripts, counts)
    for i, side in enumerate("ab"):
        nested = [entry[f"type_share_of_{side}"] for rule, entry in shares.items() if rule != "raw_string"]
        assert nested == sorted(nested) and 0 < nested[0] <= nested[-1] <= 1
        assert sum(row[f"types_of_{side}"] for row in rows) == (len(a), len(b))[i]
        assert sum(row[f"tokens_of_{side}"] for row in rows) == counts[i].sum()
        for rule, entry in shares.items():
            assert sum(row["shared"][rule][f"types_of_{side}"] for row in rows) == entry[f"types_of_{side}"]
        assert sharing.token_shares(counts)["bytes"] == {
            f"token_share_of_{side}": pytest.approx(shares["bytes"][f"token_share_of_{side}"]) for side in "ab"
        }
    assert "token_share_of_a" not in sharing.shares(None)["bytes"]


def test_itself(byte_level_folder):
    vocabulary = load_vocabulary(byte_level_folder)
    same = compare_vocabularies(vocabulary, vocabulary)
    shares = same.shares(None)
    assert shares["raw_string"]["type_share_of_a"] == 1 and shares["bytes"]["types_of_a"] == 399
    assert not same.false_friends


def test_false_friends(byte_level_folder, metaspace_folder):
    a, b = load_vocabulary(byte_level_folder), load_vocabulary(metaspace_folder)
    friends = compare_vocabularies(a, b).false_friends
    # In the byte alphabet "é" stands for the byte 0xE9, which is no letter.
    assert ("é", b"\xe9", "é".encode()) in [(a.raw_tokens[i], a.token_bytes[i], b.token_bytes[j]) for i, j in friends]
    for a_id, b_id in friends:
        assert a.raw_tokens[a_id] == b.raw_tokens[b_id] and a.token_bytes[a_id] != b.token_bytes[b_id]
